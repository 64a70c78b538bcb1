"""A first look at a whole data set: what is in it, and what is wrong with it."""
