"""Evaluations that are disturbed in many ways must end with the records of one that was not."""
