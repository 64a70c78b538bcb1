"""One call of `evaluate`: its steps, processes, signals and progress."""
