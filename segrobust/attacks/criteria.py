"""When a pixel is broken, and when an image is."""

import abc
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from segrobust.attacks.problem import Problem
from segrobust.functional.margins import margin


@dataclass(frozen=True, kw_only=True)
class Criterion(abc.ABC):
    """Maps logits to broken pixels, and their number to the success of an image.

    Args:
        apsr: attack pixel success rate in (0, 1] that makes an attack a success: at most the share `1 - apsr` of the
            valid pixels may stay unbroken. Taken as the decimal fraction that is written, not as its binary neighbour.
    """

    apsr: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.apsr <= 1:
            raise ValueError(f"apsr is a share of pixels in (0, 1], got {self.apsr}; the field's standard is 0.99")

    @property
    @abc.abstractmethod
    def sign(self) -> int:
        """1 where the reference class must lose (untargeted), -1 where it must win (targeted)."""

    @abc.abstractmethod
    def reference(self, problem: Problem) -> Tensor:
        """Class that each pixel is pushed from (untargeted) or to (targeted): `(B, H, W)` int64."""

    @abc.abstractmethod
    def broken(self, logits: Tensor, problem: Problem) -> Tensor:
        """Valid pixels whose signed margin is strictly negative; a tie is not: `(B, K, H, W) -> (B, H, W)` bool."""

    def num_unbroken_allowed(self, num_valid: Tensor) -> Tensor:
        """`floor((1 - apsr) n)` in exact arithmetic: `(B,) -> (B,)` int64."""
        share = 1 - Fraction(str(self.apsr))
        return torch.div(num_valid * share.numerator, share.denominator, rounding_mode="floor")

    def success(self, num_broken: Tensor, num_valid: Tensor) -> Tensor:
        """`n_broken >= n - floor((1 - apsr) n)` and n > 0: `(B,), (B,) -> (B,)` bool."""
        return (num_broken >= num_valid - self.num_unbroken_allowed(num_valid)) & (num_valid > 0)


@dataclass(frozen=True, kw_only=True)
class Untargeted(Criterion):
    """A pixel is broken when another class beats its true class."""

    @property
    def sign(self) -> int:
        """1: the true class must lose."""
        return 1

    def reference(self, problem: Problem) -> Tensor:
        """The true classes `(B, H, W)`."""
        return problem.labels

    def broken(self, logits: Tensor, problem: Problem) -> Tensor:
        """`z_y < max_c z_c` on valid pixels."""
        own = logits.gather(1, problem.labels[:, None])[:, 0]
        return (own < logits.amax(1)) & problem.valid_mask


@dataclass(frozen=True, kw_only=True)
class Targeted(Criterion):
    """A pixel is broken when its target class beats all others."""

    @property
    def sign(self) -> int:
        """-1: the target class must win."""
        return -1

    def reference(self, problem: Problem) -> Tensor:
        """The target classes `(B, H, W)`."""
        if problem.targets is None:
            raise ValueError(
                "criterion Targeted needs targets: pass targets=(B, H, W) int64 class indices to the attack"
            )
        return problem.targets

    def broken(self, logits: Tensor, problem: Problem) -> Tensor:
        """`z_t > max_{c != t} z_c` on valid pixels."""
        return (margin(logits, self.reference(problem)) > 0) & problem.valid_mask
