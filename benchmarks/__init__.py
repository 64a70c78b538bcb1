"""Side-by-side measurements of the toolkit; run from the project's root as `python -m benchmarks.<name>`."""
