r"""ALMA-prox: proximal splitting on an augmented Lagrangian with one multiplier per pixel.

Source: J. Rony, J.-C. Pesquet, I. Ben Ayed, "Proximal Splitting Adversarial Attacks for Semantic Segmentation",
CVPR 2023 (arXiv 2206.07179).

    minimise ||delta||_p / D^(1/p)   subject to   DLR_i(x + delta) <= 0 for 99 % of the valid pixels i,
                                                  x + delta in [0, 1]

with p infinite in the paper, and 2 or 1 here too. D is the number of values of an image: over D^(1/p) all norms of a
perturbation of equal values are the same, so that steps, multipliers and the norm's weight keep their scale.

| paper            | here                                | meaning                                              |
|------------------|-------------------------------------|------------------------------------------------------|
| N                | `num_steps`                         | iterations                                           |
| lambda^(t)       | `step_size`, `final_step_ratio`     | step size, hyperbolic decay after the first success  |
| mu^(0)           | `initial_multiplier`                | multiplier of each pixel                             |
| rho^(0)          | `initial_penalty`                   | penalty parameter of each pixel                      |
| M, tau, gamma    | `check_every`, `improvement`, `penalty_growth` | rho grows by gamma, see `_grow_penalties` |
| alpha            | `multiplier_smoothing`              | moving average of the multipliers                    |
| w, w_min         | `initial_scale`, `scale_bounds`, `scale_rate`  | scale of the constraints of an image      |
| H                | `rms_smoothing`                     | diagonal metric: root of the averaged squared gradient |
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_attack_fields, check_choice
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.constraints import discard_hardest
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName, per_image
from segrobust.functional.penalties import Derivative, penalty_derivative
from segrobust.functional.prox import norm_of_ones, prox
from segrobust.functional.schedules import hyperbolic_decay

Discard = Literal["growing", "constant", "never"]

DEFAULTS: dict[NormName, dict[str, float]] = {
    "linf": {"initial_multiplier": 1.0, "initial_penalty": 0.01, "tolerance": 1e-4},
    "l2": {"initial_multiplier": 0.01, "initial_penalty": 0.1, "tolerance": 1e-3},
    "l1": {"initial_multiplier": 0.01, "initial_penalty": 0.1, "tolerance": 1e-3},
}
MULTIPLIER_BOUNDS = (1e-12, 1.0)
MAX_GRADIENT = 1e18  # whose square is finite in float32; it occurs if a target is out of reach and logits tie
MAX_PENALTY = 1e7  # keeps squared gradients finite in float32; 30 doublings from the default


@dataclass
class AlmaProxState:
    """State of ALMA-prox; the image comes first in every tensor."""

    multipliers: Tensor  # (B, H, W) mu
    penalties: Tensor  # (B, H, W) rho
    scale: Tensor  # (B,) w
    slope: Tensor  # (B, H, W) of the penalty in the constraints of the current iterate; 0 of inactive ones
    constraints: Tensor  # (B, H, W) at the last check of the penalties
    broken_since_check: Tensor  # (B, H, W) bool
    decay_start: Tensor  # (B,) step at which the step size begins to fall
    square: Tensor  # (B, C, H, W) moving average of the squared gradient
    guess: Tensor  # (B,) norm found by the last prox, where the next one starts looking


@dataclass(frozen=True, kw_only=True)
class AlmaProx(IterativeAttack[AlmaProxState]):
    """ALMA-prox, minimal-norm, l_inf, l2 or l1, untargeted or targeted (Rony et al., CVPR 2023).

    Defaults are the paper's, which has l_inf only. In l2 and l1 every pixel adds to the norm, and multipliers oscillate
    about their optimum unless the penalty is curved enough, so the penalty parameter starts larger. Untargeted DLR
    needs 3 classes and targeted DLR 4; with fewer, the plain margin `z_y - max z` replaces it.

    `AlmaProx(penalty_derivative="published", full_denominator_gradient=True)` follows the released code. By default two
    things differ. The derivative of the penalty is the true one: the published one is near zero for barely violated
    constraints. The denominator of the DLR is held constant in the gradient of unbroken pixels: otherwise an attack can
    lower the ratio without limit by increasing the denominator, and pixels stay unbroken at any norm (see
    `segrobust.functional.margins.dlr`). In either form: the prox is exact; the targeted constraint is `(-m + tolerance)
    / denominator`, feasible only where the target class wins (published: `-(m + tolerance)`); multipliers and penalty
    parameters are float32, the latter at most 1e7; the last iterate is judged too.

    Args:
        num_steps: iterations.
        norm: `"linf"`, `"l2"` or `"l1"`.
        criterion: when a pixel, and when an image, is broken.
        step_size: first step size, image units: the change of one value, in every norm.
        final_step_ratio: step size at the end over the first one.
        initial_multiplier: multiplier of every pixel at the start; None for 1 in l_inf and 0.01 in l2 and l1.
        initial_penalty: penalty parameter of every pixel at the start; None for 0.01 in l_inf and 0.1 in l2 and l1.
        penalty_growth: factor on the penalty parameter of a constraint that does not improve.
        check_every: steps between two checks of the improvement.
        improvement: a constraint has improved if it fell to this share of its value at the last check.
        multiplier_smoothing: weight of the old multiplier in its moving average.
        rms_smoothing: weight of the old squared gradient in its moving average.
        initial_scale: first scale of the constraints.
        scale_bounds: smallest and largest scale.
        scale_rate: relative change of the scale per step: down on success, up on failure.
        tolerance: margin in logits by which a pixel must be broken to satisfy its constraint; None for 1e-4 in l_inf
            and 1e-3 in l2 and l1.
        discard: share of the hardest pixels whose constraints are dropped: from 0 growing to `1 - apsr` at the end
            ("growing"), `1 - apsr` from the start ("constant"), or none ("never").
        penalty_derivative: `"exact"`, or `"published"` for that of the released code.
        full_denominator_gradient: whether the gradient of the DLR includes that of its denominator.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> network = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), torch.nn.Conv2d(3, 4, 1))
        >>> images = 0.5 + 0.1 * torch.rand(2, 3, 8, 8)
        >>> labels = network(images).argmax(1)
        >>> result = AlmaProx(num_steps=80)(network, images, labels)
        >>> result.success.tolist(), bool((result.norm < 0.1).all())
        ([True, True], True)
    """

    minimal_norm: ClassVar[bool] = True

    num_steps: int = 500
    norm: NormName = "linf"
    criterion: Criterion = field(default_factory=Untargeted)
    step_size: Length = 1e-3
    final_step_ratio: float = 0.1
    initial_multiplier: float | None = None
    initial_penalty: float | None = None
    penalty_growth: float = 2.0
    check_every: int = 10
    improvement: float = 0.95
    multiplier_smoothing: float = 0.8
    rms_smoothing: float = 0.8
    initial_scale: float = 1.0
    scale_bounds: tuple[float, float] = (0.1, 1.0)
    scale_rate: float = 0.02
    tolerance: float | None = None
    discard: Discard = "growing"
    penalty_derivative: Derivative = "exact"
    full_denominator_gradient: bool = False

    def __post_init__(self) -> None:
        check_attack_fields(("linf", "l2", "l1"), self.norm, None, self.num_steps)
        for name in ("step_size", "initial_multiplier", "initial_penalty", "check_every"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if self.step_size > 1:
            raise ValueError(f"step_size is in image units [0, 1], got {self.step_size}; divide by 255")
        for name in ("multiplier_smoothing", "rms_smoothing", "scale_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 < self.final_step_ratio <= 1:
            raise ValueError(f"final_step_ratio must lie in (0, 1], got {self.final_step_ratio}")
        if not 0 < self.scale_bounds[0] <= self.scale_bounds[1]:
            raise ValueError(f"scale_bounds must be positive and increasing, got {self.scale_bounds}")
        check_choice("discard", self.discard, get_args(Discard))
        check_choice("penalty_derivative", self.penalty_derivative, get_args(Derivative))

    def init(self, problem: Problem) -> tuple[Tensor, AlmaProxState]:
        """Starts at zero, or at the warm start, with equal multipliers."""
        delta = problem.start_or_zero
        pixels = torch.zeros_like(problem.images[:, 0])
        ones = torch.ones_like(problem.images[:, 0, 0, 0])
        return delta, AlmaProxState(
            multipliers=pixels + self._setting("initial_multiplier"),
            penalties=pixels + self._setting("initial_penalty"),
            scale=ones * self.initial_scale,
            slope=pixels,
            constraints=pixels,
            broken_since_check=torch.zeros_like(problem.valid_mask),
            decay_start=torch.full_like(ones, self.num_steps / 2),
            square=torch.zeros_like(problem.images),
            guess=torch.zeros_like(ones),
        )

    def observe(self, problem: Problem, iterate: Iterate, state: AlmaProxState) -> AlmaProxState:
        """Scale, penalty parameters, multipliers, and the slope of the penalty that they make."""
        scale = torch.where(
            iterate.success, state.scale / (1 + self.scale_rate), state.scale / (1 - self.scale_rate)
        ).clamp(*self.scale_bounds)
        values = self._constraint(problem, iterate.logits, scale)
        active = self._active(problem, iterate.step, values)
        state = replace(
            state,
            scale=scale,
            decay_start=self._decay_start(iterate, state.decay_start),
            broken_since_check=state.broken_since_check | iterate.broken,
        )
        if iterate.step == 0:
            return replace(state, constraints=values, slope=self._slope(values, active, state))
        state = self._grow_penalties(iterate.step, values, active, state)
        average = torch.lerp(self._slope(values, active, state), state.multipliers, self.multiplier_smoothing)
        state = replace(state, multipliers=average.clamp(*MULTIPLIER_BOUNDS))
        return replace(state, slope=self._slope(values, active, state))

    def objective(self, problem: Problem, iterate: Iterate, state: AlmaProxState) -> Tensor:
        """Minus the penalty of the active constraints."""
        # The penalty enters by its slope only, because the published slope is not the derivative of any function.
        return -(state.slope * self._constraint(problem, iterate.logits, state.scale)).sum((1, 2))

    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: AlmaProxState) -> Tensor:
        """Forward step against the penalty's gradient in the metric H, then the prox of the norm in the same metric."""
        step = hyperbolic_decay(self.step_size, self.final_step_ratio, iterate.step, state.decay_start, self.num_steps)
        gradient = gradient.clamp(-MAX_GRADIENT, MAX_GRADIENT)
        state.square = torch.lerp(gradient.square(), state.square, self.rms_smoothing)
        metric = (state.square / (1 - self.rms_smoothing ** (iterate.step + 1))).sqrt_().clamp_min_(1e-8)
        # `gradient` is that of minus the penalty: going down the penalty adds it.
        target = torch.addcdiv(iterate.delta, per_image(step, gradient) * gradient, metric)
        weight = step / norm_of_ones(gradient[0].numel(), self.norm)
        delta, state.guess = prox(self.norm, target, metric, weight, problem.lower, problem.upper, state.guess)
        return delta

    def _setting(self, name: str) -> float:
        """A field whose default depends on the norm."""
        value: float | None = getattr(self, name)
        return DEFAULTS[self.norm][name] if value is None else value

    def _decay_start(self, iterate: Iterate, known: Tensor) -> Tensor:
        """The step size begins to fall at the first success, at half the steps at the latest: `(B,)`."""
        first = iterate.success & (known == self.num_steps / 2) & (iterate.step < self.num_steps / 2)
        return torch.where(first, float(iterate.step), known)

    def _slope(self, constraints: Tensor, active: Tensor, state: AlmaProxState) -> Tensor:
        """Derivative of the penalty in each constraint: `(B, H, W)`."""
        return penalty_derivative(constraints, state.penalties, state.multipliers, self.penalty_derivative) * active

    def _constraint(self, problem: Problem, logits: Tensor, scale: Tensor) -> Tensor:
        """Scaled signed DLR of every pixel (margin where classes are too few); satisfied where not positive."""
        tolerance = self._setting("tolerance")
        if self.criterion.has_ratios(logits.shape[1], problem):
            value = self.criterion.ratios(
                logits, problem, tolerance=tolerance, full_denominator_gradient=self.full_denominator_gradient
            )
        else:
            value = self.criterion.margins(logits, problem) + tolerance
        return scale[:, None, None] * value

    def _active(self, problem: Problem, step: int, constraints: Tensor) -> Tensor:
        """Valid pixels without the hardest ones; how many are dropped depends on the step."""
        if self.discard == "never":
            return problem.valid_mask
        last = max(self.num_steps - 1, 1)
        reached = last if self.discard == "constant" else step
        active = torch.zeros_like(problem.valid_mask)
        for part in self.criterion.parts(problem):
            # Floored once, in integers: with rounded progress, an image could differ from the bound of the batch.
            numerator, denominator = part.allowed.numerator * reached, part.allowed.denominator * last
            allowed = torch.div(part.pixels.sum((1, 2)) * numerator, denominator, rounding_mode="floor")
            bound = constraints[0].numel() * numerator // denominator
            active = active | discard_hardest(constraints, part.pixels, allowed, bound)
        return active

    def _grow_penalties(self, step: int, constraints: Tensor, active: Tensor, state: AlmaProxState) -> AlmaProxState:
        """Every M steps, rho grows where a pixel has been unbroken since the last check and has not improved by tau."""
        if (step + 1) % self.check_every:
            return state
        improved = constraints * active <= self.improvement * state.constraints
        grown = (state.penalties * self.penalty_growth).clamp_max(MAX_PENALTY)
        return replace(
            state,
            penalties=torch.where(state.broken_since_check | improved, state.penalties, grown),
            constraints=constraints,
            broken_since_check=torch.zeros_like(state.broken_since_check),
        )
