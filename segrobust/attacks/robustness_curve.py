r"""A robustness curve: annealed PGD at several radii in one search, each image's best perturbation at each of them.

The radii are attacked in ascending order, each by a stage of `AnnealedPGD` with an equal share of the passes:

- A perturbation inside one ball is inside all larger ones. What a stage finds is therefore a candidate at all larger
  radii, and the number of broken pixels never falls with the radius.
- An image whose pixels are all broken needs no stage at larger radii.
- A stage starts from the best perturbation of the one before, lengthened by the ratio of the radii: what breaks a pixel
  at a small radius mostly breaks it at a larger one, and more steps are left for the others. The other way round, from
  the largest radius to the smallest, it is worse than starting from the image: what breaks an image as a whole is not
  the way to the pixels that can be broken within less (`benchmarks/curve`).

A curve of one radius is `AnnealedPGD` with all passes.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.annealed_pgd import AnnealedPGD
from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.losses import PixelLoss
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem, check_eps
from segrobust.attacks.core.soft_count import SoftCount
from segrobust.attacks.core.tracker import Observer, Tracker
from segrobust.attacks.ensemble import renumbered
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName

FEWEST = 2  # passes of a stage: one to step, and one to judge


@dataclass(frozen=True, kw_only=True)
class RobustnessCurve(Attack):
    """A robustness curve, fixed-budget, l_inf or l2, untargeted or targeted: all radii in one search.

    Only the number of passes has to be chosen: 45 for monitoring during training, 180 in general, 300 to 900 for the
    lowest accuracy. They are divided equally among the radii, so that fewer radii cost less at the same strength with
    fewer passes. See the module's docstring.

    `at_radii` gives a result for each radius, and an evaluation a record. A call gives that of the largest, and its
    `eps` replaces the largest radius and scales the others. An evaluation sets the radii of a curve that has none.

    Args:
        num_passes: (forwards + backwards) / 2 that an image may cost at all radii together, judging each included; at
            least 2 for each radius.
        loss: the `PixelLoss` to maximise; `Balanced(loss=SoftCount())` for a low mIoU.
        radii: image units, in any order; None if each call passes its own.
        norm: `"linf"` or `"l2"`.
        criterion: when a pixel, and when an image, is broken.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> results = RobustnessCurve(num_passes=20, radii=(0.01, 0.1)).at_radii(network, images, labels)
        >>> [result.success.tolist() for result in results]
        [[False, False], [True, True]]
    """

    minimal_norm: ClassVar[bool] = False

    loss: PixelLoss = field(default_factory=SoftCount)
    num_passes: int = 180
    radii: tuple[Length, ...] | None = None
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        stage = AnnealedPGD(norm=self.norm, criterion=self.criterion)
        for radius in self.radii or ():
            check_eps(radius, stage.norm)
        if self.radii is not None and (not self.radii or len(set(self.radii)) < len(self.radii)):
            raise ValueError(f"radii must differ, and there must be one, got {self.radii}; None if calls pass eps=")
        if self.num_passes < FEWEST * self._num_stages:
            raise ValueError(
                f"num_passes must be at least {FEWEST} for each of {self._num_stages} radii, one to step and one to "
                f"judge, got {self.num_passes}"
            )

    @property
    def default_eps(self) -> float | None:
        """The largest radius."""
        return None if self.radii is None else max(self.radii)

    @property
    def own_radii(self) -> tuple[float, ...]:
        """The field `radii`."""
        return self.radii or ()

    @property
    def stages(self) -> tuple[AnnealedPGD, ...]:
        """The attack at each radius, in ascending order; the larger radii get the remainder."""
        share, left = divmod(self.num_passes, self._num_stages)
        passes = [share + (i >= self._num_stages - left) for i in range(self._num_stages)]
        return tuple(
            AnnealedPGD(num_passes=n, loss=self.loss, norm=self.norm, criterion=self.criterion) for n in passes
        )

    @property
    def max_passes(self) -> tuple[float, float]:
        """The sum over all radii."""
        forwards, backwards = zip(*(stage.max_passes for stage in self.stages), strict=True)
        return sum(forwards), sum(backwards)

    @property
    def step_budget(self) -> int:
        """The field `num_passes`."""
        return self.num_passes

    def with_step_budget(self, steps: int) -> Attack:
        """The same attack with another `num_passes`."""
        return replace(self, num_passes=steps)

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """All stages; what they found at the largest radius."""
        return self._ascend(oracle, problem, observer)[-1]

    def run_at_radii(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> tuple[Tracker, ...]:
        """All stages; what they found at each radius, in the order of the field."""
        found = self._ascend(oracle, problem, observer)
        ascending = sorted(self.own_radii)
        return tuple(found[ascending.index(radius)] for radius in self.own_radii) or tuple(found)

    def _ascend(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> list[Tracker]:
        """The trackers of all radii in ascending order."""
        every = torch.arange(problem.batch_size)
        rows = problem.num_valid.cpu().nonzero()[:, 0]
        found: list[Tracker] = []
        factors = sorted(self.radii or (1.0,))
        ratios = (1.0, *(larger / smaller for smaller, larger in pairwise(factors)))
        for stage, radii, ratio in zip(self.stages, self._radii(problem), ratios, strict=True):
            tracker = Tracker(problem.images, minimal_norm=False)
            if found:
                tracker.merge(every, found[-1])
            if len(rows):
                inner = replace(problem, eps=radii, start=self._start(problem, found, ratio)).select(rows)
                tracker.merge(rows, stage.run(oracle.select(rows), inner, renumbered(observer, rows)))
            found.append(tracker)
            won = tracker.best.num_broken == problem.num_valid
            if problem.stop_on_success:
                won = won | tracker.best.success
            rows = rows[~won.cpu()[rows]]
        return found

    def _start(self, problem: Problem, found: list[Tracker], ratio: float) -> Tensor | None:
        """The start of the call, or the best perturbation so far times the ratio of the radii, in the box."""
        if not found:
            return problem.start
        return (ratio * found[-1].best.delta).clamp(problem.lower, problem.upper)

    def _radii(self, problem: Problem) -> list[Tensor]:
        """The radii of every stage `(B,)`: those of the field, times what the call's `eps` is to the largest."""
        largest = problem.required_eps(type(self).__name__)
        if self.radii is None:
            return [largest]
        share = largest / torch.full_like(largest, max(self.radii))  # exactly 1 unless the call passed another
        return [share * radius for radius in sorted(self.radii)]

    @property
    def _num_stages(self) -> int:
        return len(self.radii or (None,))
