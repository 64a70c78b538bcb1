"""The engine: batches of images in, records out."""
