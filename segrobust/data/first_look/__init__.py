"""A first look at a folder of unknown layout: where images and masks lie, and what the masks hold."""
