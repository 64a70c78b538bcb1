"""What people look at: tables, curves, panels, and the report that holds them."""
