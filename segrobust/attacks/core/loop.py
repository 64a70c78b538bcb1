"""The loop of all iterative attacks: it owns the passes, judges every iterate, and drops finished images."""

import abc
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from segrobust.attacks.core.attack import NAN_MESSAGE, Attack
from segrobust.attacks.core.oracle import GradientOracle
from segrobust.attacks.core.problem import Problem, check_classes
from segrobust.attacks.core.tracker import Iterate, Observer, Tracker

State = TypeVar("State")


class IterativeAttack(Attack, Generic[State]):
    """An attack that follows gradients for a number of steps.

    What the loop does with each iterate, in this order:

    1. judges it: which pixels are broken, which images are successes; the tracker stores the best;
    2. `done`: finished images leave the batch, with their rows of every tensor of the state;
    3. `observe`: updates the state with the iterate, such as multipliers, weights, or radii that depend on success;
    4. `objective`: one number per image, a function of logits and state;
    5. the pullback: the gradient of the objective in the perturbation, by one backward pass through the network;
    6. `update`: the next perturbation, from that gradient.

    N steps judge N + 1 iterates, the start and the last one included: N + 1 forward and N backward passes, and one
    forward to judge the result, unless `max_passes` says otherwise.

    A state is a dataclass of numbers, and of tensors and lists that all have the image first. `observe` returns a new
    state (`dataclasses.replace`) and does not change the given one; `update` assigns to fields of the state;
    `objective` and `done` change nothing. No method writes into a tensor of the state.

    Every iterative attack has `num_steps`, its number of gradient steps N.
    """

    if TYPE_CHECKING:  # a field of most attacks, a constant of one-step attacks

        @property
        def num_steps(self) -> int: ...  # noqa: D102

    @property
    def max_passes(self) -> tuple[float, float]:
        """N + 1 forwards and N backwards."""
        return self.num_steps + 1, self.num_steps

    @property
    def step_budget(self) -> int | None:
        """The field `num_steps`."""
        return self.num_steps if self.has_field("num_steps") else None

    def with_step_budget(self, steps: int) -> Attack:
        """The same attack with another `num_steps`."""
        changes: dict[str, Any] = {"num_steps": steps}
        return replace(self, **changes)

    @abc.abstractmethod
    def init(self, problem: Problem) -> tuple[Tensor, State]:
        """First perturbation `(B, C, H, W)` inside box and ball, and the state that belongs to it."""

    def observe(self, problem: Problem, iterate: Iterate, state: State) -> State:
        """The state updated with a judged iterate, whose logits are detached; by default unchanged."""
        del problem, iterate
        return state

    @abc.abstractmethod
    def objective(self, problem: Problem, iterate: Iterate, state: State) -> Tensor:
        """The number that a step increases: `(B,)`, a differentiable function of `iterate.logits`; changes nothing."""

    @abc.abstractmethod
    def update(self, problem: Problem, iterate: Iterate, gradient: Tensor, state: State) -> Tensor:
        """The next perturbation, inside box and ball, from the gradient of the objective: both `(B, C, H, W)`."""

    def done(self, problem: Problem, iterate: Iterate, state: State) -> Tensor | None:
        """Images `(B,)` that need no further step; None if there never are any, which avoids a synchronisation."""
        del problem, iterate, state
        return None

    def begin(self, oracle: GradientOracle, problem: Problem) -> tuple[Tensor, State]:
        """`init`, and passes before the first iterate, which most attacks do not need.

        An attack that overrides this to make such passes overrides `max_passes` too.
        """
        del oracle
        return self.init(problem)

    def step(self, oracle: GradientOracle, problem: Problem, iterate: Iterate, state: State) -> tuple[Tensor, State]:
        """From a judged iterate to the next perturbation: `observe`, `objective`, pullback, `update`.

        An attack with further passes overrides this and `max_passes`. It calls `super().step` first, because the next
        `logits` of the oracle discards the pending pullback.
        """
        state = self.observe(problem, iterate, state)
        # The logits are a leaf: autograd differentiates the objective up to the logits, the oracle through the network.
        leaf = iterate.logits.requires_grad_()
        with torch.enable_grad():
            objective = self.objective(problem, iterate, state)
        (cotangent,) = torch.autograd.grad(objective.sum(), leaf)
        leaf.requires_grad_(False)  # observers and trackers hold these logits too
        gradient = oracle.pullback(cotangent)
        del cotangent  # as large as the logits
        return self.update(problem, iterate, gradient, state), state

    def run(self, oracle: GradientOracle, problem: Problem, observer: Observer | None) -> Tracker:
        """Runs the loop on all images and tracks the best iterate of each."""
        return run_loop(self, oracle, problem, observer, num_steps=self.num_steps)

    def last_iterate(self, oracle: GradientOracle, problem: Problem) -> Tensor:
        """The perturbation after N steps, without judging: N forward and N backward passes."""
        delta, state = self.begin(oracle, problem)
        rows = torch.arange(problem.batch_size, device=delta.device)
        # Without a tracker, and no image leaves the batch: training uses the last iterate of all images.
        for step in range(self.num_steps):
            logits = oracle.logits(delta)
            if step == 0:
                check_classes(problem, logits.shape[1])
            iterate = self.iterate(problem, step, rows, delta, logits)
            delta, state = self.step(oracle, problem, iterate, state)
            del logits, iterate
        return delta


class Stepwise(Protocol[State]):
    """The interface of an attack for the loop: it goes from one judged perturbation to the next."""

    @property
    def minimal_norm(self) -> bool: ...  # noqa: D102

    def begin(self, oracle: GradientOracle, problem: Problem) -> tuple[Tensor, State]:
        """First perturbation `(B, C, H, W)` inside box and ball, and the state that belongs to it."""
        ...

    def iterate(self, problem: Problem, step: int, rows: Tensor, delta: Tensor, logits: Tensor) -> Iterate:
        """See `Attack.iterate`."""
        ...

    def done(self, problem: Problem, iterate: Iterate, state: State) -> Tensor | None:
        """See `IterativeAttack.done`."""
        ...

    def step(self, oracle: GradientOracle, problem: Problem, iterate: Iterate, state: State) -> tuple[Tensor, State]:
        """The next perturbation, inside box and ball, and the state that belongs to it."""
        ...


def run_loop(
    attack: Stepwise[State],
    oracle: GradientOracle,
    problem: Problem,
    observer: Observer | None,
    *,
    num_steps: int,
    differentiable: bool = True,
) -> Tracker:
    """Judges the first perturbation and the one after each step, drops finished images, and tracks the best of each.

    Args:
        attack: takes the steps.
        oracle: of the network.
        problem: the batch.
        observer: called with every judged iterate.
        num_steps: largest number of steps; one more perturbation is judged.
        differentiable: whether steps call the oracle's pullback.

    Raises:
        FloatingPointError: the network returned NaN.
        ValueError: labels that the network does not know.
    """
    tracker = Tracker(problem.images, attack.minimal_norm, observer)
    rows = problem.num_valid.cpu().nonzero()[:, 0]  # an image without a valid pixel cannot be attacked
    if len(rows) == 0:
        return tracker
    if len(rows) < problem.batch_size:
        problem, oracle = problem.select(rows), oracle.select(rows)
    delta, state = attack.begin(oracle, problem)
    rows = rows.to(delta.device)
    poisoned = torch.zeros((), dtype=torch.bool, device=delta.device)
    for step in range(num_steps + 1):
        # No step follows the last perturbation: its pass needs no graph.
        logits = oracle.logits(delta, differentiable=differentiable and step < num_steps)
        if step == 0:
            check_classes(problem, logits.shape[1])
        iterate = attack.iterate(problem, step, rows, delta, logits)
        # NaN compares false everywhere, so that images would count as unbroken, that is, as robust. A sum of finite
        # logits is finite; -inf of excluded classes does not come through the oracle.
        poisoned |= ~logits.sum().isfinite()
        if step == 0 and poisoned.item():  # checked again at the end, so that steps in between need no synchronisation
            raise FloatingPointError(NAN_MESSAGE)
        tracker.update(iterate)
        if step == num_steps:
            break
        unfinished = _unfinished(problem, iterate, attack.done(problem, iterate, state))
        if unfinished is not None:
            if len(unfinished) == 0:
                break
            # The pullback of this iterate is pending: the selected oracle computes it for the remaining rows alone.
            oracle, problem = oracle.select(unfinished), problem.select(unfinished)
            state, iterate = select_rows(state, unfinished), select_rows(iterate, unfinished)
            rows = iterate.rows  # one row per remaining image, with its position in the whole batch
        delta, state = attack.step(oracle, problem, iterate, state)
        del logits, iterate  # of full size, and not needed during the next pass
    if poisoned.item():
        raise FloatingPointError(NAN_MESSAGE)
    return tracker


def _unfinished(problem: Problem, iterate: Iterate, done: Tensor | None) -> Tensor | None:
    """Indices of the unfinished images; None if no image is finished."""
    if problem.stop_on_success:
        done = iterate.success if done is None else done | iterate.success
    if done is None or not done.any():  # waits for the device, once per step
        return None
    return (~done).cpu().nonzero()[:, 0]


def select_rows(value: Any, rows: Tensor) -> Any:
    """The rows of a tensor or list, or of every tensor and list in a dataclass."""
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.dim() else value
    if isinstance(value, list):
        return [value[i] for i in rows.tolist()]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: select_rows(getattr(value, f.name), rows) for f in fields(value) if f.init})
    return value
