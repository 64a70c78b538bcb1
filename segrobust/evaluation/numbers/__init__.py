"""From records to numbers: pure functions, so that every number can be recomputed from the files."""
