"""The base class of attacks: a frozen set of numbers that maps a network and a batch to a result, which it judges."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Unpack

import torch
from torch import Tensor, nn

from segrobust.attacks.core.criteria import Criterion
from segrobust.attacks.core.oracle import GradientOracle, NetworkOracle
from segrobust.attacks.core.problem import BatchInputs, Problem, check_classes, check_eps, make_problem
from segrobust.attacks.core.result_table import result_table
from segrobust.attacks.core.tracker import Iterate, Observer, Tracker
from segrobust.functional.modes import attackable
from segrobust.functional.norms import NormName, norm
from segrobust.inputs import require_network

NAN_MESSAGE = (
    "the network returned NaN or infinite logits: its robustness cannot be measured; check its weights, "
    "its normalisation layers and its precision"
)


@dataclass(frozen=True, repr=False)
class AttackResult:
    """The result of an attack, per image, judged on the tensor `adv` itself by one last forward pass.

    Attributes:
        adv: `(B, C, H, W)` in [0, 1]; for a failed minimal-norm attack, the iterate that is nearest to success.
        success: `(B,)` bool.
        norm: `(B,)` measured norm of `adv - images`, image units; minimal-norm attacks: inf where `success` is False.
        apsr: `(B,)` share of valid pixels that are broken (with a `Localized` criterion, of those that are attacked);
            nan if there are none.
        kept_share: `(B,)` share of the pixels to keep that keep their class; nan if there are none.
        prediction: `(B, H, W)` int64, classes predicted for `adv`.
        first_success: `(B,)` int64, index of the first successful iterate, over all rounds of a wrapper; -1 if none. 0
            for a success that the search never evaluated.
        num_forwards: `(B,)` int64 on CPU, forward passes spent on each image, judging included.
        num_backwards: `(B,)` int64 on CPU, backward passes spent on each image.
        num_classes: classes K of the network.
    """

    adv: Tensor
    success: Tensor
    norm: Tensor
    apsr: Tensor
    kept_share: Tensor
    prediction: Tensor
    first_success: Tensor
    num_forwards: Tensor
    num_backwards: Tensor
    num_classes: int

    def __repr__(self) -> str:
        shape, broken = tuple(self.adv.shape), int(self.success.sum())
        return f"AttackResult(adv={shape} on {self.adv.device}, {broken} of {len(self.success)} images broken)"

    def _repr_html_(self) -> str:
        """A row per image, for notebooks."""
        return result_table(self)


@dataclass(frozen=True, kw_only=True)
class Attack(abc.ABC):
    """A frozen, keyword-only dataclass of numbers; reusable, without tensors or state.

    An attack either minimises the norm of a successful perturbation (`minimal_norm`), or breaks as many pixels as it
    can inside a ball of given radius (fixed-budget).

    Results are identified by all fields: see `segrobust.attacks.core.identity`.

    Every attack has a `norm`, which it minimises or bounds, and a `criterion`: when a pixel, and when an image, is
    broken.
    """

    if TYPE_CHECKING:  # fields or constants of most attacks, properties of wrappers

        @property
        def minimal_norm(self) -> bool: ...  # noqa: D102

        @property
        def norm(self) -> NormName: ...  # noqa: D102

        @property
        def criterion(self) -> Criterion: ...  # noqa: D102

    accepts_initial_eps: ClassVar[bool] = False  # whether a minimal-norm attack accepts an initial radius

    @property
    def default_eps(self) -> float | None:
        """Radius of a fixed-budget attack when a call gives none: its field `eps`."""
        eps: float | None = getattr(self, "eps", None)
        return eps

    @property
    def own_radii(self) -> tuple[float, ...]:
        """Radii at which one search gives results when a call gives none: `default_eps`, if there is one."""
        return () if self.default_eps is None else (self.default_eps,)

    @property
    def max_passes(self) -> tuple[float, float]:
        """Largest numbers of forwards and backwards per image, without judging the result; nan if not known."""
        return math.nan, math.nan

    @property
    def step_budget(self) -> int | None:
        """The number of steps; None if the attack has no such field."""
        return None

    def with_step_budget(self, steps: int) -> "Attack":
        """The same attack with another `step_budget`, which must not be None."""
        raise TypeError(f"{type(self).__name__} has no number of steps to choose, got {steps}")

    @property
    def start_seed(self) -> int | None:
        """Seed that a restart changes; None if there is none."""
        return None

    def with_start_seed(self, seed: int) -> "Attack":
        """The same attack from a random start with another seed; `start_seed` must not be None."""
        raise TypeError(f"{type(self).__name__} cannot start at random, got seed {seed}")

    def has_field(self, name: str) -> bool:
        """Whether a setting is a field of this attack, not a constant of its class."""
        return any(f.name == name for f in fields(self))

    @abc.abstractmethod
    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """Searches without the final judgement; wrappers call it on the attack that they contain."""

    def run_at_radii(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> tuple[Tracker, ...]:
        """Searches at all `own_radii` together, in their order; most attacks have one radius, and `run` searches it."""
        return (self.run(oracle, problem, observer),)

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        surrogate: nn.Module | None = None,
        observer: Observer | None = None,
        **inputs: Unpack[BatchInputs],
    ) -> AttackResult:
        """Attacks one batch.

        The network runs in evaluation mode and float32, whatever the settings of the caller, which are restored.

        Args:
            network: maps images in [0, 1] to logits `(B, K, H, W)`; see `segrobust.networks` for wrappers.
            images: `(B, C, H, W)` in [0, 1].
            labels: `(B, H, W)` int64 ground truth.
            surrogate: another network for the same classes, for a transfer attack: the search uses its logits and
                gradients alone, and the result is judged on `network`, which the search never queries.
            observer: called with every judged iterate.
            **inputs: see `BatchInputs`.

        Returns:
            The result, one entry per image.

        Raises:
            TypeError: an argument of the wrong type, or an unknown one.
            ValueError: an argument outside its range, or a combination without meaning; the message says how to
                fix it.
            FloatingPointError: the network returned NaN.
        """

        def search(oracle: GradientOracle, problem: Problem) -> tuple[Tracker, ...]:
            return (self.run(oracle, problem, observer),)

        (result,) = self._attack(network, images, labels, surrogate, inputs, search)
        return result

    def at_radii(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        surrogate: nn.Module | None = None,
        observer: Observer | None = None,
        **inputs: Unpack[BatchInputs],
    ) -> tuple[AttackResult, ...]:
        """Attacks one batch at all `own_radii` in one search: a result per radius, in their order.

        An attack over several radii (`RobustnessCurve`) gives several results, all others the one of a call. Each
        result counts the passes of the whole search. Args and errors as in `__call__`.
        """

        def search(oracle: GradientOracle, problem: Problem) -> tuple[Tracker, ...]:
            return self.run_at_radii(oracle, problem, observer)

        return self._attack(network, images, labels, surrogate, inputs, search)

    def _attack(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        surrogate: nn.Module | None,
        inputs: BatchInputs,
        search: Callable[[GradientOracle, Problem], tuple[Tracker, ...]],
    ) -> tuple[AttackResult, ...]:
        """The judged results of a search on the network, or on the surrogate."""
        self._require(network, by_gradients=surrogate is None)
        if surrogate is not None:
            self._require(surrogate)
        with attackable(network), attackable(network if surrogate is None else surrogate):
            problem = self._problem(images, labels, inputs)
            oracle = NetworkOracle(network, problem.images)
            if surrogate is None:
                trackers = search(oracle, problem)
            else:
                trackers = search(NetworkOracle(surrogate, problem.images, counter=oracle.counter), problem)
                for tracker in trackers:
                    tracker.forget_runner_up()  # a second try would be a query of the network under attack
            return tuple(self._judge(oracle, problem, tracker) for tracker in trackers)

    def adversarial_images(
        self, network: nn.Module, images: Tensor, labels: Tensor, **inputs: Unpack[BatchInputs]
    ) -> Tensor:
        """The adversarial images alone: `attack(network, images, labels, **inputs).adv`.

        Args as in `__call__`, without `surrogate` and `observer`.

        Returns:
            `(B, C, H, W)` in [0, 1], detached; also for images on which the attack failed, which the full result shows.
        """
        return self(network, images, labels, **inputs).adv

    def perturb(self, network: nn.Module, images: Tensor, labels: Tensor, **inputs: Unpack[BatchInputs]) -> Tensor:
        """Perturbed images for adversarial training: the last iterate, unjudged, without a forward pass for judging.

        Args as in `__call__`, without `surrogate` and `observer`.

        Returns:
            `(B, C, H, W)` in [0, 1], detached.
        """
        self._require(network)
        with attackable(network):
            problem = self._problem(images, labels, inputs)
            return problem.images + self.last_iterate(NetworkOracle(network, problem.images), problem)

    def last_iterate(self, oracle: GradientOracle, problem: Problem) -> Tensor:
        """Perturbation of the last iterate without judging; attacks without iterates return the best perturbation."""
        return self.run(oracle, problem, None).best.delta

    @property
    def follows_gradients(self) -> bool:
        """Whether the attack makes backward passes."""
        return self.max_passes[1] != 0

    def _require(self, network: nn.Module, by_gradients: bool = True) -> None:
        """Refuses a network that cannot be attacked."""
        require_network(network, by_gradients=by_gradients and self.follows_gradients)

    def _problem(self, images: Tensor, labels: Tensor, inputs: BatchInputs) -> Problem:
        """The checked batch, with the radius of the attack if the call passes none."""
        name, given = type(self).__name__, {key for key, value in inputs.items() if value is not None}
        targeted, localized = self.criterion.sign < 0, self.criterion.localized
        if targeted and "targets" not in given:
            raise ValueError(f"{name} has a targeted criterion: pass targets=(B, H, W) class indices")
        if not targeted and not localized and "targets" in given:
            raise ValueError(f"targets have no effect on {self.criterion!r}; use criterion=Targeted(...)")
        if localized and "keep_mask" not in given:
            raise ValueError(f"{name} has a localised criterion: pass keep_mask=(B, H, W) bool")
        if not localized and "keep_mask" in given:
            raise ValueError(f"keep_mask has no effect on {self.criterion!r}; use criterion=Localized(...)")
        if self.minimal_norm and "eps" in given and not self.accepts_initial_eps:
            raise ValueError(f"{name} searches for the smallest norm; eps={inputs['eps']} would have no effect")
        if "eps" not in given:
            inputs = {**inputs, "eps": self.default_eps}
        problem = make_problem(images, labels, norm=self.norm, **inputs)
        if not self.minimal_norm:
            problem.required_eps(name)
        return problem

    def judging_oracle(self, oracle: GradientOracle, problem: Problem) -> GradientOracle:
        """The oracle by which the result is judged; by default that of the network."""
        del problem
        return oracle

    def _judge(self, oracle: GradientOracle, problem: Problem, tracker: Tracker) -> AttackResult:
        """One last forward over the whole batch, and a second one if it contradicts the loop about a success."""
        oracle = self.judging_oracle(oracle, problem)
        delta = tracker.best.delta
        logits = oracle.logits(delta, differentiable=False)
        check_classes(problem, logits.shape[1])
        broken = self.criterion.broken(logits, problem)
        _, success = self.criterion.outcome(broken, problem)
        doubted = tracker.best.success & ~success & tracker.runner_up.success
        if doubted.any():
            # Kernels may differ with the batch size in a last bit. Therefore all images are evaluated again, so that
            # judging `adv` once more in the same batch gives the same numbers.
            delta = torch.where(doubted[:, None, None, None], tracker.runner_up.delta, delta)
            logits = oracle.logits(delta, differentiable=False)
            broken = self.criterion.broken(logits, problem)
            _, success = self.criterion.outcome(broken, problem)
        if not logits.sum().isfinite():
            raise FloatingPointError(NAN_MESSAGE)
        adv = problem.images + delta
        length = norm(adv - problem.images, self.norm)
        apsr, kept_share = self.criterion.shares(broken, problem)
        return AttackResult(
            adv=adv,
            success=success,
            norm=length.masked_fill(~success, torch.inf) if self.minimal_norm else length,
            apsr=apsr,
            kept_share=kept_share,
            prediction=self.criterion.predict(logits),
            first_success=torch.where(success & (tracker.num_judged == 0), 0, tracker.first_success),
            num_forwards=oracle.counter.forwards,
            num_backwards=oracle.counter.backwards,
            num_classes=logits.shape[1],
        )

    def iterate(self, problem: Problem, step: int, rows: Tensor, delta: Tensor, logits: Tensor) -> Iterate:
        """The iterate of a perturbation, judged by its logits; `rows` are positions in the whole batch."""
        broken = self.criterion.broken(logits, problem)
        num_broken, success = self.criterion.outcome(broken, problem)
        shortfall = self.criterion.shortfall(broken, problem)
        return Iterate(step, rows, delta, logits, broken, num_broken, success, norm(delta, self.norm), shortfall)


def check_attack_fields(norms: tuple[NormName, ...], norm: NormName, eps: float | None, num_steps: int) -> None:
    """Checks the fields that attacks have in common, for their `__post_init__`.

    Raises:
        ValueError: an unavailable norm, an invalid radius, or fewer than one step.
    """
    if norm not in norms:
        raise ValueError(f"norm must be one of {', '.join(norms)} for this attack, got {norm!r}")
    if eps is not None:
        check_eps(eps, norm)
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")


def check_step_size(step_size: float, published: str) -> None:
    """Raises ValueError unless a step is in image units; the message gives the published value."""
    if not 0 < step_size <= 1:
        raise ValueError(f"step_size is in image units (0, 1], got {step_size}; {published}")


def check_choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless a field has one of its choices, so that a typo selects no other branch."""
    if value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(choices)}, got {value!r}")
