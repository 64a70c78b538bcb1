"""A given perturbation, evaluated by one forward pass without a search."""

from dataclasses import dataclass, field, replace

import torch

from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Candidates, Observer, Tracker
from segrobust.functional.norms import NormName, norm


@dataclass(frozen=True, kw_only=True)
class Stored(Attack):
    """Evaluates the perturbation `start` of the call, by default zero: one forward pass per image.

    To evaluate a stored adversarial image to the last bit, pass it as `images` and no `start`: `images + (adv -
    images)` may differ from `adv` by rounding.

    Args:
        source: digest of the attack that made the perturbation, as part of the repr; empty if unknown.
        norm: of that attack.
        minimal_norm: whether that attack minimises the norm; then `norm` of a failure is inf. Else a call needs `eps`,
            which is not checked.
        criterion: when a pixel, and when an image, is broken.
    """

    source: str = ""
    norm: NormName = "linf"
    minimal_norm: bool = True
    criterion: Criterion = field(default_factory=Untargeted)

    @property
    def max_passes(self) -> tuple[float, float]:
        """None besides the evaluation of the result."""
        return 0.0, 0.0

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """The perturbation as the only candidate, not evaluated yet; `observer` is never called."""
        del oracle, observer
        tracker, unknown = Tracker(problem.images, self.minimal_norm), Candidates.none(problem.images)
        delta = unknown.delta if problem.start is None else problem.start
        only = replace(
            unknown,
            delta=delta,
            num_broken=torch.zeros_like(unknown.num_broken),
            norm=norm(delta, self.norm),
            shortfall=torch.zeros_like(unknown.shortfall),
        )
        tracker.offer(torch.arange(problem.batch_size), only)
        return tracker
