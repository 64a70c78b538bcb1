"""Radii that grow during training."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Radius that grows linearly to its full value, so that a network first learns from small perturbations.

    Args:
        until: share of the optimiser steps after which the radius has its full value, in (0, 1].
        first: share of the radius at the first step, in (0, 1].

    Raises:
        ValueError: a share outside of its range.
    """

    until: float = 0.5
    first: float = 0.1

    def __post_init__(self) -> None:
        for name in ("until", "first"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in (0, 1], got {getattr(self, name)}")

    def __call__(self, progress: float) -> float:
        """Share of the radius at a share of the training, both in [0, 1]."""
        return min(1.0, self.first + (1 - self.first) * progress / self.until)
