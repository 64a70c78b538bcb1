"""Pictures: curves, and panels of images under attack."""
