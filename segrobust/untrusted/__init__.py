"""Files and text that somebody else wrote: how they are read, and how they reach a terminal, a page or a table."""
