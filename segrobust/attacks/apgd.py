"""Auto-PGD: projected ascent with momentum whose step halves when progress stalls.

Source: F. Croce, M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020 (arXiv 2003.01690), Algorithm 1; for segmentation F. Croce, N. Singh, M. Hein, "Towards Reliable
Evaluation and Fast Training of Robust Semantic Segmentation Models", ECCV 2024 (arXiv 2306.12941), section 3.

| paper              | here                         | meaning                                                     |
|--------------------|------------------------------|-------------------------------------------------------------|
| N_iter             | `num_steps`                  | iterations                                                  |
| eta, eta^(0)       | `APGDState.step`, 2 eps      | step of each image                                          |
| alpha              | `MOMENTUM`                   | weight of the projected step; the rest is inertia           |
| rho                | `SUFFICIENT`                 | share of a window's steps that must have raised the loss    |
| w_j, W             | `checkpoints`                | steps at which progress is looked at                        |
| x_max, f_max       | `best_delta`, `best_loss`    | where the loss was largest: restart point of halved steps   |
"""

import functools
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from segrobust.attacks.core.ball import BallAttack
from segrobust.attacks.core.losses import CrossEntropy, PixelLoss, Pixels
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.norms import per_image
from segrobust.functional.steps import steepest_ascent

MOMENTUM = 0.75
SUFFICIENT = 0.75
FIRST_WINDOW, LEAST_WINDOW, SHRINKAGE = 0.22, 0.06, 0.03  # of the windows between checkpoints, in shares of N


@dataclass
class APGDState:
    """State of APGD; the image comes first in every tensor."""

    step: Tensor  # (B,) eta
    previous: Tensor  # (B, C, H, W) perturbation before the current one
    loss: Tensor  # (B,) tracked loss of the current iterate
    last_loss: Tensor  # (B,) of the one before
    num_rises: Tensor  # (B,) steps of this window that raised it
    best_loss: Tensor  # (B,)
    best_delta: Tensor  # (B, C, H, W)
    best_gradient: Tensor  # (B, C, H, W) at `best_delta`
    loss_at_check: Tensor  # (B,) best loss at the last checkpoint
    halved_at_check: Tensor  # (B,) bool


@dataclass(frozen=True, kw_only=True)
class APGD(BallAttack[APGDState]):
    """APGD, fixed-budget, l_inf or l2, untargeted or targeted, with any pixel loss (Croce and Hein, ICML 2020).

    Starts with steps of twice the radius. At checkpoints, whose distance shrinks from 22 to 6 % of the steps, an image
    halves its step and returns to the point of its largest loss, if at most three quarters of the steps since the last
    checkpoint raised the loss, or if neither the largest loss nor the step has changed since. Progress is measured by
    the `tracked` loss of the loss (SEA: masked losses drop as pixels break). Of all iterates the one that breaks most
    pixels is returned.

    The first window compares its first step with the start (released code: with an empty entry).

    Args:
        num_steps: gradient steps.
        eps: radius, image units; None if each call passes its own.
        norm: `"linf"` or `"l2"`.
        loss: the `PixelLoss` to maximise.
        random_start: start at a random point of the ball (uniform for l_inf; uniform direction and radius for l2).
        seed: of the random start, together with the sample id.
        criterion: when a pixel, and when an image, is broken.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> result = APGD(num_steps=10, eps=0.1)(network, images, labels)
        >>> result.adv.shape, result.success.tolist()
        (torch.Size([2, 3, 8, 8]), [True, True])
    """

    loss: PixelLoss = field(default_factory=CrossEntropy)
    num_steps: int = 100
    random_start: bool = False
    seed: int = 0

    def init(self, problem: Problem) -> tuple[Tensor, APGDState]:
        """The first point and the full step."""
        delta = self.first(problem)
        eps = self.radius(problem)
        lowest = torch.full_like(eps, -torch.inf)
        return delta, APGDState(
            step=2 * eps,
            previous=delta,
            loss=lowest,
            last_loss=lowest,
            num_rises=torch.zeros_like(eps),
            best_loss=lowest,
            best_delta=delta,
            best_gradient=torch.zeros_like(delta),
            loss_at_check=lowest,
            halved_at_check=torch.ones_like(eps, dtype=torch.bool),
        )

    def observe(self, problem: Problem, iterate: Iterate, state: APGDState) -> APGDState:
        """The tracked loss of the iterate."""
        pixels = Pixels.of(problem, iterate, self.criterion, self.num_steps)
        return replace(state, last_loss=state.loss, loss=(self.loss.tracked(pixels) * pixels.valid).sum((1, 2)))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: APGDState) -> Tensor:
        """Stores the best point, checks the progress at checkpoints, and takes a step with momentum."""
        self._keep_best(iterate, gradient, state)
        delta = iterate.delta
        window = checkpoints(self.num_steps).get(iterate.step)
        if window is not None:
            halved = per_image(self._halve_steps(window, state), delta)
            delta = torch.where(halved, state.best_delta, delta)
            gradient = torch.where(halved, state.best_gradient, gradient)
        ascent = per_image(state.step, delta) * steepest_ascent(gradient, self.norm)
        target = self.project(problem, delta + ascent)
        if iterate.step > 0:
            target = self.project(problem, torch.lerp(delta + (delta - state.previous), target, MOMENTUM))
        state.previous = delta
        return target

    def _keep_best(self, iterate: Iterate, gradient: Tensor, state: APGDState) -> None:
        better = state.loss > state.best_loss
        state.best_loss = torch.where(better, state.loss, state.best_loss)
        state.best_delta = torch.where(per_image(better, gradient), iterate.delta, state.best_delta)
        state.best_gradient = torch.where(per_image(better, gradient), gradient, state.best_gradient)
        if iterate.step == 0:
            state.loss_at_check = state.best_loss
        else:
            state.num_rises = state.num_rises + (state.loss > state.last_loss)

    def _halve_steps(self, window: int, state: APGDState) -> Tensor:
        """Halves the steps of images `(B,)` that oscillate or have stalled; bool."""
        oscillates = state.num_rises <= SUFFICIENT * window
        stalled = ~state.halved_at_check & (state.best_loss <= state.loss_at_check)
        halved = oscillates | stalled
        state.step = torch.where(halved, state.step / 2, state.step)
        state.halved_at_check = halved
        state.loss_at_check = state.best_loss
        state.num_rises = torch.zeros_like(state.num_rises)
        return halved


@functools.cache
def checkpoints(num_steps: int) -> dict[int, int]:
    """Steps at which the progress is checked, and the number of steps since the check before.

    Windows begin at 22 % of the steps and shrink by 3 % of them each time, down to 6 %, rounded down, at least 1.
    """
    window, least = max(int(FIRST_WINDOW * num_steps), 1), max(int(LEAST_WINDOW * num_steps), 1)
    shrinkage = max(int(SHRINKAGE * num_steps), 1)
    found, step = {}, 0
    while step + window <= num_steps:
        step += window
        found[step] = window
        window = max(window - shrinkage, least)
    return found
