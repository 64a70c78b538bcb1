"""The Square attack: random search with squares, which uses logits alone.

Source: M. Andriushchenko, F. Croce, N. Flammarion, M. Hein, "Square Attack: a query-efficient black-box adversarial
attack via random search", ECCV 2020 (arXiv 1912.00049), section 3: Algorithm 1 (search), 2 (l_inf), 3 (l2).

| paper         | here             | meaning                                                            |
|---------------|------------------|--------------------------------------------------------------------|
| N             | `num_queries`    | queries of the network                                             |
| x_hat - x, nu | `delta`          | best perturbation so far                                           |
| L             | minus `loss`     | minimised; here the sum over the valid pixels                      |
| p             | `p_init`, halved | area of a square over that of the image                            |
| h             | `side`           | side of a square, `round(sqrt(p H W))`                             |
| rho           | `signs`          | one sign of each channel of a square                               |
| eta           | `_two_bumps`     | shape of an l2 square: a positive and a negative half, each peaked |
| W_1, W_2      | `gains`, `gives` | l2: the window that takes the mass of both, and the one that loses |
"""

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import Attack, check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import run_loop
from segrobust.attacks.core.losses import Margin, PixelLoss, Pixels, check_loss
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.random_start import image_generators
from segrobust.attacks.core.tracker import Iterate, Observer, Tracker
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName
from segrobust.functional.projections import project

HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries after which p is halved: 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10000."""

Search = Generator[Tensor, Tensor, None]
"""The search on one image: yields perturbations `(C, H, W)`, and is sent the loss of every pixel at each: `(H, W)`."""


@dataclass
class SquareState:
    """State of Square."""

    searches: list[Search]  # one for each image


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Square attack, fixed-budget, l_inf or l2, untargeted or targeted, without gradients (ECCV 2020).

    A square of random place and sign is added to the perturbation, and stays if the loss of the image grows. Squares
    shrink over the attack. If this attack breaks a network that gradient attacks do not break, the gradient is masked.

    Segmentation needs larger squares than classification: on two CamVid training images at 8/255, the accuracy after
    1000 queries is 22 and 20 % for a standard network and 77 and 88 % for a robust one; with the paper's `p_init` it is
    57 and 69 %, 89 and 89 %.

    The first query is the clean image (or the warm start, which replaces the random one too), so that the result is
    never worse. The paper's random start is the second query, and must increase the loss like any other (paper: it is
    always accepted). An image whose valid pixels are all broken stops. The attack costs at most `num_queries` forwards,
    no backwards.

    Args:
        num_queries: forwards for each image, at least 2; must be given.
        eps: radius, image units; None if each call passes its own.
        norm: `"linf"` or `"l2"`.
        p_init: first area of a square over that of the image, in (0, 1]; the paper's is 0.05 in l_inf and 0.1 in l2.
        loss: the `PixelLoss` to maximise.
        seed: of all random numbers, together with the sample id.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = False
    norms: ClassVar[tuple[NormName, ...]] = ("linf", "l2")

    num_queries: int | None = None
    eps: Length | None = None
    norm: NormName = "linf"
    p_init: float = 0.8
    loss: PixelLoss = field(default_factory=Margin)
    seed: int = 0
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        if self.num_queries is None or self.num_queries < 2:
            raise ValueError(
                f"Square needs a query limit: num_queries=1000 for a quick look, 10000 as in the paper, at least 2; "
                f"got {self.num_queries}"
            )
        check_attack_fields(self.norms, self.norm, self.eps, num_steps=1)
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init is a share of the image in (0, 1], got {self.p_init}; the paper's is 0.05")
        check_loss(self.loss)
        if self.loss.tracked != self.loss:
            raise ValueError(
                f"Square follows the value of its loss, and that of {type(self.loss).__name__} may drop when pixels "
                f"break; use loss={self.loss.tracked!r}"
            )

    @property
    def max_passes(self) -> tuple[float, float]:
        """The queries, no backwards."""
        return self._limit, 0

    @property
    def _limit(self) -> int:
        assert self.num_queries is not None, "checked at construction"
        return self.num_queries

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """The searches of all images side by side: each query takes one perturbation from each."""
        return run_loop(self, oracle, problem, observer, num_steps=self._limit - 1, differentiable=False)

    def begin(self, oracle: GradientOracle, problem: Problem) -> tuple[Tensor, SquareState]:
        """The first query of each search."""
        searches = self._searches(problem)
        return torch.stack([next(search) for search in searches]), SquareState(searches)

    def done(self, problem: Problem, iterate: Iterate, state: SquareState) -> Tensor:
        """Images whose valid pixels are all broken."""
        return iterate.num_broken == problem.num_valid

    def step(
        self, oracle: GradientOracle, problem: Problem, iterate: Iterate, state: SquareState
    ) -> tuple[Tensor, SquareState]:
        """Sends each search the loss of its pixels, 0 for void ones, and takes its next query."""
        pixels = Pixels.of(problem, iterate, self.criterion, self._limit)
        losses = self.loss(pixels).masked_fill(~problem.valid_mask, 0)
        return torch.stack([search.send(loss) for search, loss in zip(state.searches, losses, strict=True)]), state

    def _searches(self, problem: Problem) -> list[Search]:
        """One independent search per image."""
        eps = problem.required_eps(type(self).__name__)
        searches = []
        for i, generator in enumerate(image_generators(problem, self.seed)):
            ball = _Ball(self.norm, eps[i : i + 1], problem.lower[i], problem.upper[i])
            start = None if problem.start is None else problem.start[i]
            searches.append(self._search(ball, _Dice(generator, problem.images), start))
        return searches

    def _search(self, ball: "_Ball", dice: "_Dice", start: Tensor | None) -> Search:
        """Algorithm 1 on one image."""
        if self.norm == "linf":
            random_start, lay_square = _stripes, _lay_linf
        else:
            random_start, lay_square = _tiles, _lay_l2
        delta = torch.zeros_like(ball.lower) if start is None else ball.project(start)
        loss = yield delta
        for queries in range(1, self._limit):
            if queries == 1 and start is None:
                candidate = random_start(ball, dice)
            else:
                candidate = lay_square(delta, self._side(queries, *delta.shape[1:]), ball, dice)
            candidate = ball.project(candidate)
            tried = yield candidate
            if (tried - loss).sum() > 0:  # differences first: float32 sums over a large image would lose small changes
                delta, loss = candidate, tried

    def _side(self, queries: int, height: int, width: int) -> int:
        """Side of the squares after so many queries: h."""
        halvings = sum(queries > share * self._limit for share in HALVINGS)
        side = round(math.sqrt(self.p_init * 0.5**halvings * height * width))
        smallest = 1 if self.norm == "linf" else 3  # an l2 square has two halves and a middle
        return min(max(side, smallest), height, width)


@dataclass(frozen=True)
class _Ball:
    """The set of allowed perturbations of one image.

    Attributes:
        norm: of the ball.
        eps: `(1,)` radius.
        lower: `(C, H, W)` lower bounds of the box.
        upper: `(C, H, W)` upper bounds of the box.
    """

    norm: NormName
    eps: Tensor
    lower: Tensor
    upper: Tensor

    def project(self, delta: Tensor) -> Tensor:
        """The projection into ball and box."""
        return project(delta[None], self.eps, self.norm, self.lower[None], self.upper[None])[0]


@dataclass(frozen=True)
class _Dice:
    """Random numbers of one image, drawn on CPU, so that they do not depend on the device.

    Attributes:
        generator: their source.
        like: a tensor of the type and device that signs get.
    """

    generator: torch.Generator
    like: Tensor

    def below(self, end: int) -> int:
        """Uniform in 0, ..., end - 1."""
        return int(torch.randint(end, (), generator=self.generator))

    def signs(self, *shape: int) -> Tensor:
        """-1 or 1."""
        return torch.randint(2, shape, generator=self.generator).to(self.like) * 2 - 1

    def window(self, delta: Tensor, side: int) -> tuple[slice, slice, slice]:
        """A square window at a random place of an image, all channels."""
        top, left = (self.below(length - side + 1) for length in delta.shape[1:])
        return slice(None), slice(top, top + side), slice(left, left + side)


def _stripes(ball: _Ball, dice: _Dice) -> Tensor:
    """First perturbation in l_inf: vertical stripes of width 1, of eps with a sign of each channel: `(C, H, W)`."""
    channels, _, width = ball.lower.shape
    return (ball.eps * dice.signs(channels, 1, width)).expand_as(ball.lower)


def _lay_linf(delta: Tensor, side: int, ball: _Ball, dice: _Dice) -> Tensor:
    """Algorithm 2: a square of eps, with a sign of each channel."""
    delta = delta.clone()
    delta[dice.window(delta, side)] = ball.eps * dice.signs(len(delta), 1, 1)
    return delta


def _tiles(ball: _Ball, dice: _Dice) -> Tensor:
    """First perturbation in l2: the shape of an l2 square, tile by tile, of length eps: `(C, H, W)`.

    Five tiles along the shorter side, as many as have room along the other; what they leave free is around them.
    """
    delta = torch.zeros_like(ball.lower)
    channels, height, width = delta.shape
    side = max(min(height, width) // 5, 1)
    patterns = _two_bumps(side, delta)
    for top in range(height % side // 2, height - side + 1, side):
        for left in range(width % side // 2, width - side + 1, side):
            tile = patterns[dice.below(2)] * dice.signs(channels, 1, 1)
            delta[:, top : top + side, left : left + side] = tile
    return delta * (ball.eps / _length(delta, (0, 1, 2)))


def _lay_l2(delta: Tensor, side: int, ball: _Ball, dice: _Dice) -> Tensor:
    """Algorithm 3: the mass of two windows, and what is unused of the radius, moves into the first.

    There it lies in the direction of what was there and of the shape, half and half. Every channel keeps its own mass.
    """
    gains, gives = dice.window(delta, side), dice.window(delta, side)
    shape = _two_bumps(side, delta)[dice.below(2)] * dice.signs(len(delta), 1, 1)
    there = delta[gains]
    mixed = shape + there / _length(there, (1, 2))
    taken = torch.zeros_like(delta)
    taken[gains], taken[gives] = delta[gains], delta[gives]
    unused = (ball.eps.square() - delta.square().sum()).clamp_min(0) / len(delta)
    available = (taken.square().sum((1, 2), keepdim=True) + unused).sqrt()
    delta = delta.clone()
    delta[gives] = 0
    delta[gains] = mixed / _length(mixed, (1, 2)) * available
    return delta


def _two_bumps(side: int, like: Tensor) -> Tensor:
    """Eta of an l2 square, of length 1: its two halves one above the other, and side by side: `(2, side, side)`."""
    upper = side // 2
    eta = torch.cat((_bump(upper, side), -_bump(side - upper, side))).to(like)
    patterns: Tensor = torch.stack((eta, eta.T)) / eta.norm()
    return patterns


def _bump(height: int, width: int) -> Tensor:
    """`sum_{k=d..n} 1 / (k + 1)^2`, d the larger of the two distances to the middle, n half of the longer side."""
    rows, columns = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    furthest = max(height, width) // 2
    terms = 1 / torch.arange(1, furthest + 2, dtype=torch.float64).square()
    sums = terms.flip(0).cumsum(0).flip(0)
    bump: Tensor = sums[torch.maximum(rows[:, None], columns)]
    return bump


def _length(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Euclidean length over some dimensions, which are kept; positive even where all is zero."""
    length: Tensor = torch.linalg.vector_norm(values, dim=dims, keepdim=True)
    return length.clamp_min(1e-30)
