"""When a pixel is broken, and when an image is."""

import abc
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.problem import Problem
from segrobust.functional.margins import MIN_CLASSES, Sign, dlr, margin, must_win, smooth_margin


@dataclass(frozen=True)
class Part:
    """Valid pixels of which a share must be broken.

    Attributes:
        pixels: `(B, H, W)` bool.
        allowed: exact share of them that may stay unbroken.
    """

    pixels: Tensor
    allowed: Fraction

    def num_allowed(self) -> Tensor:
        """`floor(allowed * n)` in exact arithmetic: `(B,)` int64."""
        return _floor(self.pixels.sum((1, 2)), self.allowed)


@dataclass(frozen=True, kw_only=True)
class Criterion(abc.ABC):
    """Maps logits to margins of pixels, to broken pixels, and their number to the success of an image.

    Attacks and losses ask it for margins, and never which class competes with which. All margins are `(B, H, W)`, of
    void pixels too, differentiable, and negative where a pixel is broken.

    Args:
        apsr: attack pixel success rate in (0, 1] that makes an attack a success: at most the share `1 - apsr` of the
            valid pixels may stay unbroken. Taken as the decimal fraction that is written, not as its binary neighbour.
    """

    localized: ClassVar[bool] = False  # whether a call says by `keep_mask` which pixels must not change

    apsr: float = 0.99

    def __post_init__(self) -> None:
        _check_share("apsr", self.apsr)

    @property
    @abc.abstractmethod
    def sign(self) -> int:
        """Of attacked pixels: 1 if the reference class must lose (untargeted), -1 if it must win (targeted)."""

    def signs(self, problem: Problem) -> Sign:
        """The sign of every pixel: one for all, or `(B, H, W)` int64."""
        del problem
        return self.sign

    @abc.abstractmethod
    def reference(self, problem: Problem) -> Tensor:
        """Class that each pixel is pushed from (untargeted) or to (targeted): `(B, H, W)` int64."""

    def margins(self, logits: Tensor, problem: Problem) -> Tensor:
        """Differences of logits of the reference class and its strongest competitor, times the sign."""
        return self.signs(problem) * margin(logits, self.reference(problem))

    def smooth_margins(self, logits: Tensor, problem: Problem, temperature: Tensor) -> Tensor:
        """Margins against a smooth maximum of the competitors, of temperature `(B,)` in logits."""
        return self.signs(problem) * smooth_margin(logits, self.reference(problem), temperature)

    def ratios(
        self, logits: Tensor, problem: Problem, *, tolerance: float = 0.0, full_denominator_gradient: bool = False
    ) -> Tensor:
        """Difference-of-logits ratios, see `segrobust.functional.margins.dlr`; an error where `has_ratios` is False."""
        return dlr(
            logits,
            self.reference(problem),
            sign=self.signs(problem),
            tolerance=tolerance,
            full_denominator_gradient=full_denominator_gradient,
        )

    def has_ratios(self, num_classes: int, problem: Problem) -> bool:
        """Whether so many classes are enough for `ratios`."""
        return num_classes >= MIN_CLASSES["dlr"][must_win(self.signs(problem))]

    def predict(self, logits: Tensor) -> Tensor:
        """Classes `(B, H, W)` int64; the lower one of a tie."""
        return logits.argmax(1)

    def broken(self, logits: Tensor, problem: Problem) -> Tensor:
        """Valid pixels whose margin is strictly negative; a tie is not: `(B, K, H, W) -> (B, H, W)` bool."""
        return (self.margins(logits, problem) < 0) & problem.valid_mask

    def parts(self, problem: Problem) -> tuple[Part, ...]:
        """The valid pixels, in parts that must each be broken but for a share."""
        return (Part(problem.valid_mask, _rest(self.apsr)),)

    def outcome(self, broken: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """Number of broken pixels and success of each image: `(B, H, W) -> (B,) int64, (B,) bool`."""
        num_broken = broken.sum((1, 2))
        return num_broken, self.success(num_broken, problem.num_valid)

    def shares(self, broken: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """Shares of broken pixels among the attacked ones, of kept ones among those to keep: `(B,)`, nan of none."""
        apsr = broken.sum((1, 2)) / problem.num_valid
        return apsr, torch.full_like(apsr, torch.nan)

    def num_unbroken_allowed(self, num_valid: Tensor) -> Tensor:
        """`floor((1 - apsr) n)` in exact arithmetic: `(B,) -> (B,)` int64."""
        return _floor(num_valid, _rest(self.apsr))

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
        """`z_y < max_c z_c` on valid pixels: what margins say, without the copy of the logits that they need."""
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


@dataclass(frozen=True, kw_only=True)
class Localized(Criterion):
    """Some pixels must break while others keep their class.

    A call tells the two apart by `keep_mask`. For attacks, a pixel to keep is one more pixel with a target, the class
    that it must keep: it counts as broken, in the sense of `broken`, where that class beats all others. An image is a
    success if enough attacked pixels are broken and enough pixels to keep are kept; the two shares are counted apart,
    because attacked pixels are often few. An image without attacked pixels cannot be attacked, like one without valid
    pixels.

    Args:
        apsr: share of the attacked pixels that must be broken.
        keep: share of the pixels to keep that must keep their class. As `apsr`, the decimal fraction that is written.
        targeted: whether attacked pixels must reach their target, or only leave their true class.
    """

    localized: ClassVar[bool] = True

    keep: float = 0.99
    targeted: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("keep", self.keep)

    @property
    def sign(self) -> int:
        """1 if the true class of attacked pixels must lose, -1 if their target must win."""
        return -1 if self.targeted else 1

    def signs(self, problem: Problem) -> Sign:
        """-1 where a class must win: on pixels to keep, and where there is a target."""
        return -1 if self.targeted else 1 - 2 * problem.required_keep_mask.long()

    def reference(self, problem: Problem) -> Tensor:
        """The class to keep, the target, or the true class: `(B, H, W)`."""
        if problem.targets is None:
            return problem.labels
        return problem.targets if self.targeted else problem.labels.where(~problem.required_keep_mask, problem.targets)

    def parts(self, problem: Problem) -> tuple[Part, ...]:
        """Pixels to attack and pixels to keep."""
        keep_mask = problem.required_keep_mask
        return Part(problem.valid_mask & ~keep_mask, _rest(self.apsr)), Part(keep_mask, _rest(self.keep))

    def outcome(self, broken: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """Number of pixels to attack and to keep that are as they must be, and success."""
        success = problem.num_valid > 0
        for part in self.parts(problem):
            success = success & ((part.pixels & ~broken).sum((1, 2)) <= part.num_allowed())
        return broken.sum((1, 2)), success

    def shares(self, broken: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `Criterion`."""
        attacked, kept = ((broken & p.pixels).sum((1, 2)) / p.pixels.sum((1, 2)) for p in self.parts(problem))
        return attacked, kept


def _check_share(name: str, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"{name} is a share of pixels in (0, 1], got {share}; the field's standard is 0.99")


def _rest(share: float) -> Fraction:
    """One minus a decimal fraction as it is written."""
    return 1 - Fraction(str(share))


def _floor(count: Tensor, share: Fraction) -> Tensor:
    """`floor(share * n)` in integers."""
    return torch.div(count * share.numerator, share.denominator, rounding_mode="floor")
