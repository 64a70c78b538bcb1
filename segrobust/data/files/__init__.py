"""Files of images and masks: what is read, and what is refused."""
