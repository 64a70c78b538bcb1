"""The attack suite: every attack beside its authors' code or a port of it, and the ensemble SEA."""
