"""Adversarial evaluation and training of semantic segmentation networks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segrobust.evaluation import evaluate

__version__ = "0.1.0"

__all__ = ["__version__", "evaluate"]


def __getattr__(name: str) -> object:
    """Imports `evaluate` when it is first asked for: its dependencies are slow to import, and often not needed."""
    if name == "evaluate":
        from segrobust.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
