"""The report as one page for the browser."""
