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
    """A set of valid pixels of which a share must be broken.

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

    Attacks and losses get margins from it, and never compare classes themselves. All margins are `(B, H, W)`, also for
    void pixels, differentiable, and negative if the pixel is broken.

    Args:
        apsr: attack pixel success rate in (0, 1] that makes an attack a success: at most the share `1 - apsr` of the
            valid pixels may stay unbroken. It is read as an exact decimal fraction, not as a binary float.
    """

    localized: ClassVar[bool] = False  # whether a call passes `keep_mask`, pixels that must keep their class

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
        """Whether the number of classes is large enough for `ratios`."""
        return num_classes >= MIN_CLASSES["dlr"][must_win(self.signs(problem))]

    def predict(self, logits: Tensor) -> Tensor:
        """Classes `(B, H, W)` int64; the lower one of a tie."""
        return logits.argmax(1)

    def broken(self, logits: Tensor, problem: Problem) -> Tensor:
        """Valid pixels whose margin is strictly negative; a tie is not: `(B, K, H, W) -> (B, H, W)` bool."""
        return (self.margins(logits, problem) < 0) & problem.valid_mask

    def parts(self, problem: Problem) -> tuple[Part, ...]:
        """The valid pixels as parts, of each of which a share must be broken."""
        return (Part(problem.valid_mask, _rest(self.apsr)),)

    def outcome(self, broken: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """Number of broken pixels and success of each image: `(B, H, W) -> (B,) int64, (B,) bool`."""
        num_broken = broken.sum((1, 2))
        return num_broken, self.success(num_broken, problem.num_valid)

    def shortfall(self, broken: Tensor, problem: Problem) -> Tensor:
        """How far an image is from success: the share of pixels that lack in each part, summed: `(B,)` float64.

        It is 0 for a success. With one part it falls as the number of broken pixels grows.
        """
        lacks = torch.zeros(len(broken), dtype=torch.float64, device=broken.device)
        for part in self.parts(problem):
            count = part.pixels.sum((1, 2))
            unbroken = (part.pixels & ~broken).sum((1, 2))
            lacks = lacks + (unbroken - part.num_allowed()).clamp_min(0) / count.clamp_min(1).double()
        return lacks

    def shares(self, broken: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """Shares of broken pixels among the attacked ones, of kept ones among those to keep: `(B,)`, nan of none."""
        apsr = broken.sum((1, 2)).float() / problem.num_valid  # not in the default dtype
        return apsr, torch.full_like(apsr, torch.nan)

    def num_unbroken_allowed(self, num_valid: Tensor) -> Tensor:
        """`floor((1 - apsr) n)` in exact arithmetic: `(B,) -> (B,)` int64."""
        return _floor(num_valid, _rest(self.apsr))

    def success(self, num_broken: Tensor, num_valid: Tensor) -> Tensor:
        """`n_broken >= n - floor((1 - apsr) n)` and n > 0: `(B,), (B,) -> (B,)` bool."""
        return (num_broken >= num_valid - self.num_unbroken_allowed(num_valid)) & (num_valid > 0)


@dataclass(frozen=True, kw_only=True)
class Untargeted(Criterion):
    """A pixel is broken when another class beats its true class.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> result = PGD(num_steps=10, eps=0.1, criterion=Untargeted(apsr=0.5))(network, images, labels)
        >>> result.success.tolist(), bool((result.prediction != labels).float().mean() >= 0.5)
        ([True, True], True)
    """

    @property
    def sign(self) -> int:
        """1: the true class must lose."""
        return 1

    def reference(self, problem: Problem) -> Tensor:
        """The true classes `(B, H, W)`."""
        return problem.labels

    def broken(self, logits: Tensor, problem: Problem) -> Tensor:
        """`z_y < max_c z_c` on valid pixels: as by margins, without the copy of the logits that they need."""
        own = logits.gather(1, problem.labels[:, None])[:, 0]
        return (own < logits.amax(1)) & problem.valid_mask


@dataclass(frozen=True, kw_only=True)
class Targeted(Criterion):
    """A pixel is broken when its target class beats all others.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> attack, targets = PGD(num_steps=10, eps=0.2, criterion=Targeted(apsr=0.5)), (labels + 1) % 4
        >>> result = attack(network, images, labels, targets=targets)
        >>> result.success.tolist(), bool((result.prediction == targets).float().mean() >= 0.5)
        ([True, True], True)
    """

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

    A call marks the latter by `keep_mask`. For attacks, a pixel to keep is another pixel with a target, the class that
    it must keep: it counts as broken, in the sense of `broken`, if that class beats all others. An image is a success
    if enough attacked pixels are broken and enough pixels to keep have kept their class; the two shares are counted
    separately, because attacked pixels are often few. An image without attacked pixels cannot be attacked, like one
    without valid pixels.

    Args:
        apsr: share of the attacked pixels that must be broken.
        keep: share of the pixels to keep that must keep their class. Like `apsr`, an exact decimal fraction.
        targeted: whether attacked pixels must reach their target, or only leave their true class.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> keep = torch.arange(8).expand(2, 8, 8) < 4  # the left half keeps its class
        >>> result = PGD(num_steps=10, eps=0.1, criterion=Localized())(network, images, labels, keep_mask=keep)
        >>> result.success.tolist(), result.kept_share.tolist()
        ([True, True], [1.0, 1.0])
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
        """Number of attacked and kept pixels that meet the criterion, and success."""
        success = problem.num_valid > 0
        for part in self.parts(problem):
            success = success & ((part.pixels & ~broken).sum((1, 2)) <= part.num_allowed())
        return broken.sum((1, 2)), success

    def shares(self, broken: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
        """See `Criterion`."""
        attacked, kept = ((broken & p.pixels).sum((1, 2)).float() / p.pixels.sum((1, 2)) for p in self.parts(problem))
        return attacked, kept


def _check_share(name: str, share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"{name} is a share of pixels in (0, 1], got {share}; the field's standard is 0.99")


def _rest(share: float) -> Fraction:
    """One minus an exact decimal fraction."""
    return 1 - Fraction(str(share))


def _floor(count: Tensor, share: Fraction) -> Tensor:
    """`floor(share * n)` in integers."""
    return torch.div(count * share.numerator, share.denominator, rounding_mode="floor")
