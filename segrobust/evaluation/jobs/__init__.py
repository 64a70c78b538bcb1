"""One call of `evaluate`: its order, its processes, its signals, its progress."""
