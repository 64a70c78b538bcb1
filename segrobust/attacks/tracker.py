"""Best perturbation so far, compared in one place."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Iterate:
    """One judged perturbation of the images still under attack.

    Attributes:
        step: index of the iterate, 0 for the start.
        rows: `(B',)` int64 on CPU, positions of these images in the tracker's batch.
        delta: `(B', C, H, W)`.
        logits: `(B', K, H, W)` at `delta`.
        num_broken: `(B',)` int64, broken valid pixels.
        success: `(B',)` bool.
        norm: `(B',)` norm of `delta`.
    """

    step: int
    rows: Tensor
    delta: Tensor
    logits: Tensor
    num_broken: Tensor
    success: Tensor
    norm: Tensor


@dataclass
class Candidates:
    """One perturbation per image with what decides its rank; all tensors have the image first.

    Attributes:
        delta: `(B, C, H, W)`.
        num_broken: `(B,)` int64; -1 where there is no candidate.
        success: `(B,)` bool.
        norm: `(B,)`, inf where there is no candidate.
    """

    delta: Tensor
    num_broken: Tensor
    success: Tensor
    norm: Tensor

    @classmethod
    def none(cls, images: Tensor) -> "Candidates":
        """No candidate yet: zero perturbation, ranked below everything."""
        count = images.shape[0]
        return cls(
            delta=torch.zeros_like(images),
            num_broken=torch.full((count,), -1, dtype=torch.int64, device=images.device),
            success=torch.zeros(count, dtype=torch.bool, device=images.device),
            norm=torch.full((count,), torch.inf, dtype=images.dtype, device=images.device),
        )

    def put(self, rows: Tensor, other: "Candidates", other_rows: Tensor) -> None:
        """Copies the candidates `other_rows` of `other` to the places `rows`."""
        for mine, theirs in (
            (self.delta, other.delta),
            (self.num_broken, other.num_broken),
            (self.success, other.success),
            (self.norm, other.norm),
        ):
            mine[rows] = theirs[other_rows]


@dataclass
class Tracker:
    """Best and second-best perturbation of each image over everything that was judged.

    Minimal-norm: a success beats a failure, among successes the smaller norm wins, among failures the larger number of
    broken pixels, then the smaller norm. Fixed-budget: a success beats a failure, then the larger number of broken
    pixels wins; the former says more only where pixels to keep count as broken too. The earlier one wins ties.

    The second best is kept for the final judgement: if the network, run once more on the whole batch, disagrees about
    the best one in a last bit, the second is taken rather than a failure reported.

    Args:
        images: `(B, C, H, W)`, for shapes.
        minimal_norm: which of the two orders.
    """

    images: Tensor
    minimal_norm: bool
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
        self.offer(iterate.rows, Candidates(iterate.delta, iterate.num_broken, iterate.success, iterate.norm))

    def offer(self, rows: Tensor, new: Candidates) -> None:
        """Ranks one new candidate for each image of `rows` (int64) against the two that are kept."""
        rows = rows.to(new.norm.device)
        better = self._beats(new, self.best, rows)
        second = ~better & self._beats(new, self.runner_up, rows)
        for won, place in ((second, self.runner_up), (better, self.best)):
            chosen = won.nonzero()[:, 0]
            if place is self.best:
                self.runner_up.put(rows[chosen], self.best, rows[chosen])
            place.put(rows[chosen], new, chosen)

    def merge(self, rows: Tensor, other: "Tracker") -> None:
        """Takes over what an inner attack on the images `rows` found; its iterates count after those seen so far."""
        places = rows.to(self.first_success.device)
        first = (self.first_success[places] < 0) & (other.first_success >= 0)
        counted = self.num_judged[places] + other.first_success
        self.first_success[places] = torch.where(first, counted, self.first_success[places])
        self.num_judged[places] += other.num_judged
        self.offer(rows, other.best)
        self.offer(rows, other.runner_up)

    def forget_runner_up(self) -> None:
        """Leaves the final judgement the best perturbations alone."""
        self.runner_up = Candidates.none(self.images)

    def _beats(self, new: Candidates, kept: Candidates, rows: Tensor) -> Tensor:
        """Whether each new candidate ranks above the kept one of its image: `(B',)` bool."""
        num_broken, success, norm = kept.num_broken[rows], kept.success[rows], kept.norm[rows]
        exists = new.num_broken >= 0
        if not self.minimal_norm:
            more = new.num_broken > num_broken
            return exists & torch.where(new.success, ~success | more, ~success & more)
        smaller = new.norm < norm
        among_failures = (new.num_broken > num_broken) | ((new.num_broken == num_broken) & smaller)
        return exists & torch.where(new.success, ~success | smaller, ~success & among_failures)
