"""The worst of several attacks, per image."""

import abc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.criteria import Criterion
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate, Observer, Tracker
from segrobust.functional.norms import NormName


def run_in_turn(
    attacks: Iterable[Attack],
    oracle: GradientOracle,
    problem: Problem,
    observer: Observer | None,
    *,
    minimal_norm: bool,
) -> Tracker:
    """Runs attacks one after the other, and tracks the best result of each image.

    An image is left out of further attacks if they cannot improve its result: all its valid pixels are broken within
    the radius, or by a perturbation of norm 0; or, with `stop_on_success`, it is a success.
    """
    tracker = Tracker(problem.images, minimal_norm=minimal_norm)
    rows = problem.num_valid.cpu().nonzero()[:, 0]
    for attack in attacks:
        if len(rows) == 0:
            break
        inner = attack.run(oracle.select(rows), problem.select(rows), renumbered(observer, rows))
        tracker.merge(rows, inner)
        best = tracker.best
        won = best.success & (best.norm == 0) if minimal_norm else best.num_broken == problem.num_valid
        if problem.stop_on_success:
            won = won | best.success
        rows = rows[~won.cpu()[rows]]
    return tracker


def renumbered(observer: Observer | None, rows: torch.Tensor) -> Observer | None:
    """An observer for some images of a batch, which gets their positions in the batch."""
    if observer is None:
        return None

    def observe(iterate: Iterate) -> None:
        observer(replace(iterate, rows=rows.to(iterate.rows.device)[iterate.rows]))

    return observe


class Ensemble(Attack):
    """Several attacks of one norm, criterion and kind: per image the one that breaks most pixels, or by least norm.

    An evaluation runs the members of a fixed-budget ensemble as separate attacks, so that it can also choose the worst
    result per image for the mIoU of the data set.
    """

    @property
    @abc.abstractmethod
    def members(self) -> Mapping[str, Attack]:
        """The attacks by name, in the order in which they run."""

    @property
    def max_passes(self) -> tuple[float, float]:
        """The sum over all members."""
        forwards, backwards = zip(*(attack.max_passes for attack in self.members.values()), strict=True)
        return sum(forwards), sum(backwards)

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """Runs all members, each on the images that it may still improve."""
        return run_in_turn(self.members.values(), oracle, problem, observer, minimal_norm=self.minimal_norm)


@dataclass(frozen=True, kw_only=True)
class WorstOf(Ensemble):
    """The worst of several attacks with the same norm, criterion, kind, and own radius if any.

    Args:
        attacks: at least two.
    """

    attacks: tuple[Attack, ...]

    def __post_init__(self) -> None:
        if len(self.attacks) < 2:
            raise ValueError(f"the worst of several needs at least two attacks, got {self.attacks}")
        for trait in ("minimal_norm", "norm", "criterion", "default_eps"):
            values = [getattr(attack, trait) for attack in self.attacks]
            if any(value != values[0] for value in values):
                raise ValueError(f"attacks of an ensemble must have the same {trait}, got {values}")

    @property
    def members(self) -> Mapping[str, Attack]:
        """The attacks, named by position and class."""
        return {f"{i}_{type(attack).__name__}": attack for i, attack in enumerate(self.attacks)}

    @property
    def minimal_norm(self) -> bool:
        """Whether the members search for minimal norms."""
        return self.attacks[0].minimal_norm

    @property
    def norm(self) -> NormName:
        """The norm of the members."""
        return self.attacks[0].norm

    @property
    def criterion(self) -> Criterion:
        """The criterion of the members."""
        return self.attacks[0].criterion

    @property
    def default_eps(self) -> float | None:
        """The radius of the members."""
        return self.attacks[0].default_eps
