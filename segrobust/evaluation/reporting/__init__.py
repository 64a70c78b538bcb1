"""Output of an evaluation: tables, curves, panels, and the report page."""
