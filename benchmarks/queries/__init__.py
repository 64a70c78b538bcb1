"""A mask-classification network, trained on drawn scenes, and attacks through its logs and through its scores."""
