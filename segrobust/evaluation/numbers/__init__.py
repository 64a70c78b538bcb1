"""From records to numbers: pure functions, so that every number can be made again from the files."""
