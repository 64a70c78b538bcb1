"""Colours of all figures and pages."""

from typing import Final

COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito, 2008, without yellow, which is too pale for a line."""

BLACK: Final = "#000000"
"""Of the worst case, the smallest of several norms, and scores without attack."""
