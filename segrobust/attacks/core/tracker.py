"""The best perturbation so far; the only place where perturbations are compared."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Iterate:
    """One judged perturbation of the images still under attack.

    Attributes:
        step: index of the iterate, 0 for the start.
        rows: `(B',)` int64, ascending positions of these images in the tracker's batch.
        delta: `(B', C, H, W)`.
        logits: `(B', K, H, W)` at `delta`.
        broken: `(B', H, W)` bool, valid pixels that are broken.
        num_broken: `(B',)` int64, their number; -1 where `delta` lies outside the ball and is no candidate.
        success: `(B',)` bool.
        norm: `(B',)` norm of `delta`.
        shortfall: `(B',)` float64, share of pixels that lack for success, see `Criterion.shortfall`.
    """

    step: int
    rows: Tensor
    delta: Tensor
    logits: Tensor
    broken: Tensor
    num_broken: Tensor
    success: Tensor
    norm: Tensor
    shortfall: Tensor


Observer = Callable[[Iterate], None]
"""Called with each judged iterate of an attack; must not change it."""


@dataclass
class Candidates:
    """One perturbation per image, with the values that decide its rank; all tensors have the image first.

    Attributes:
        delta: `(B, C, H, W)`.
        num_broken: `(B,)` int64; -1 without a candidate.
        success: `(B,)` bool.
        norm: `(B,)`, inf without a candidate.
        shortfall: `(B,)` float64, inf without a candidate.
    """

    delta: Tensor
    num_broken: Tensor
    success: Tensor
    norm: Tensor
    shortfall: Tensor

    @classmethod
    def none(cls, images: Tensor) -> "Candidates":
        """No candidate yet: zero perturbation, ranked below everything."""
        count = images.shape[0]
        return cls(
            delta=torch.zeros_like(images),
            num_broken=torch.full((count,), -1, dtype=torch.int64, device=images.device),
            success=torch.zeros(count, dtype=torch.bool, device=images.device),
            norm=torch.full((count,), torch.inf, dtype=images.dtype, device=images.device),
            shortfall=torch.full((count,), torch.inf, dtype=torch.float64, device=images.device),
        )

    def put(self, rows: Tensor, other: "Candidates") -> None:
        """Copies the candidates of another to the places `rows`."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)

    def take(self, rows: Tensor | None) -> "Candidates":
        """The candidates at the places `rows`; None for all, not copied."""
        if rows is None:
            return self
        return Candidates(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def replaced(self, where: Tensor, other: "Candidates") -> "Candidates":
        """The candidates of another where `(B,)` bool says so, and these elsewhere."""
        chosen = {}
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            chosen[f.name] = torch.where(where.view(-1, *[1] * (mine.dim() - 1)), theirs, mine)
        return Candidates(**chosen)


@dataclass
class Tracker:
    """Best and second-best perturbation of each image over all judged iterates.

    Minimal-norm: a success beats a failure, among successes the smaller norm wins, among failures the smaller
    shortfall, then the smaller norm. Fixed-budget: a success beats a failure, among successes the larger number of
    broken pixels wins, among failures the smaller shortfall. The earlier one wins ties. The shortfall counts attacked
    pixels and those to keep as shares: by numbers, a clean image that keeps everything would beat most perturbations.

    The second best is for the final judgement: if the forward pass over the whole batch disagrees about the best one in
    a last bit, the second best is returned instead of a failure.

    Args:
        images: `(B, C, H, W)`, for shapes.
        minimal_norm: whether the first of the two orders is used.
        observer: called with each iterate.
    """

    images: Tensor
    minimal_norm: bool
    observer: Observer | None = None
    best: Candidates = field(init=False)
    runner_up: Candidates = field(init=False)
    first_success: Tensor = field(init=False)
    num_judged: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.best = Candidates.none(self.images)
        self.runner_up = Candidates.none(self.images)
        self.first_success = torch.full((self.images.shape[0],), -1, dtype=torch.int64, device=self.images.device)
        self.num_judged = torch.zeros_like(self.first_success)

    def update(self, iterate: Iterate) -> None:
        """Takes an iterate of some of the images into account."""
        rows = iterate.rows.to(iterate.norm.device)
        first = iterate.success & (self.first_success[rows] < 0)
        self.first_success[rows] = torch.where(first, iterate.step, self.first_success[rows])
        self.num_judged[rows] += 1
        self.offer(iterate.rows, Candidates(*(getattr(iterate, f.name) for f in fields(Candidates))))
        if self.observer is not None:
            self.observer(iterate)

    def offer(self, rows: Tensor, new: Candidates) -> None:
        """Ranks one new candidate for each image of `rows` (int64, ascending) against the two that it has."""
        if new.norm.device.type == "cpu":
            self._copy_winners(rows, new)
        else:
            self._write_all(rows, new)

    def _copy_winners(self, rows: Tensor, new: Candidates) -> None:
        better = self._beats(new, self.best, rows)
        second = (~better & self._beats(new, self.runner_up, rows)).nonzero()[:, 0]
        first = better.nonzero()[:, 0]
        # In this order: a best that is beaten moves to the second place before it is overwritten.
        self.runner_up.put(rows[second], new.take(second))
        self.runner_up.put(rows[first], self.best.take(rows[first]))
        self.best.put(rows[first], new.take(first))

    def _write_all(self, rows: Tensor, new: Candidates) -> None:
        """The same without reading results from the device: winners are selected by `torch.where`."""
        every = len(rows) == len(self.images)
        places = None if every else rows.to(new.norm.device)
        best, runner_up = self.best.take(places), self.runner_up.take(places)
        better = self._beats(new, best)
        second = ~better & self._beats(new, runner_up)
        runner_up = runner_up.replaced(second, new).replaced(better, best)
        best = best.replaced(better, new)
        if places is None:
            self.best, self.runner_up = best, runner_up
        else:
            self.best.put(places, best)
            self.runner_up.put(places, runner_up)

    def merge(self, rows: Tensor, other: "Tracker") -> None:
        """Merges the tracker of an inner attack on the images `rows`; its iterates are counted after those so far."""
        places = rows.to(self.first_success.device)
        first = (self.first_success[places] < 0) & (other.first_success >= 0)
        counted = self.num_judged[places] + other.first_success
        self.first_success[places] = torch.where(first, counted, self.first_success[places])
        self.num_judged[places] += other.num_judged
        # Both, so that the second place survives a merge: the final judgement may need it.
        self.offer(rows, other.best)
        self.offer(rows, other.runner_up)

    def forget_runner_up(self) -> None:
        """Drops the second-best perturbations."""
        self.runner_up = Candidates.none(self.images)

    def _beats(self, new: Candidates, incumbent: Candidates, rows: Tensor | None = None) -> Tensor:
        """Whether each new candidate ranks above the present one of its image: `(B',)` bool."""
        num_broken, success, norm, shortfall = (
            value if rows is None else value[rows]
            for value in (incumbent.num_broken, incumbent.success, incumbent.norm, incumbent.shortfall)
        )
        exists = new.num_broken >= 0  # -1: an inner attack judged nothing, or it lies outside the ball
        nearer = new.shortfall < shortfall
        if not self.minimal_norm:
            more = new.num_broken > num_broken
            return exists & torch.where(new.success, ~success | more, ~success & nearer)
        smaller = new.norm < norm
        among_failures = nearer | ((new.shortfall == shortfall) & smaller)
        return exists & torch.where(new.success, ~success | smaller, ~success & among_failures)
