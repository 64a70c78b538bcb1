"""What the loop asks of an attack, in which order, and who may change the state."""

from dataclasses import dataclass, field, fields, is_dataclass

import pytest
import torch
from conformance import BATTERY, ConvNetwork, call, make_batch
from torch import Tensor

from segrobust.attacks import Attack, Criterion, Untargeted
from segrobust.attacks.core.loop import IterativeAttack

PURE = ("done", "observe", "objective")


def snapshot(value):
    """Every leaf of a state by identity and value, so that neither an assignment nor a write in place goes unseen."""
    if is_dataclass(value):
        return [leaf for f in fields(value) for leaf in snapshot(getattr(value, f.name))]
    if isinstance(value, Tensor):
        return [(id(value), value.detach().nan_to_num(-7).flatten().tolist())]
    return [value]


def subclasses(cls):
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


@pytest.mark.parametrize("contestant", BATTERY, ids=lambda contestant: contestant.name)
def test_only_update_changes_a_state(contestant, monkeypatch):
    """Of every attack of the battery, and of those inside its wrappers."""
    checked = []

    def watched(method):
        def watching(self, *arguments):
            state = arguments[-1]
            before = snapshot(state)
            result = method(self, *arguments)
            assert snapshot(state) == before, f"{method.__qualname__} changed the state"
            checked.append(method.__name__)
            return result

        return watching

    for cls in subclasses(IterativeAttack):
        for name in PURE:
            if name in vars(cls):
                monkeypatch.setattr(cls, name, watched(vars(cls)[name]))
    network = ConvNetwork()
    call(contestant, network, make_batch(network))
    assert "objective" in checked or contestant.attack.max_passes[1] == 0


@dataclass
class Steps:
    steps: Tensor  # (B,) iterates seen


@dataclass(frozen=True, kw_only=True)
class Diary(IterativeAttack[Steps]):
    """Writes down what it is asked."""

    minimal_norm = False
    num_steps: int = 2
    eps: float = 0.1
    norm: str = "linf"
    criterion: Criterion = field(default_factory=Untargeted)
    told: list[str] = field(default_factory=list)

    @property
    def default_eps(self):
        return self.eps

    def init(self, problem):
        self.told.append("init")
        return torch.zeros_like(problem.images), Steps(torch.zeros(problem.batch_size))

    def begin(self, oracle, problem):
        self.told.append("begin")
        delta, state = super().begin(oracle, problem)
        return delta, Steps(state.steps + 10)

    def done(self, problem, iterate, state):
        self.told.append("done")
        assert (state.steps == 10 + iterate.step).all()

    def observe(self, problem, iterate, state):
        self.told.append("observe")
        assert not iterate.logits.requires_grad
        return Steps(state.steps + 1)

    def objective(self, problem, iterate, state):
        self.told.append("objective")
        assert iterate.logits.requires_grad
        assert (state.steps == 11 + iterate.step).all()
        return iterate.logits.sum((1, 2, 3))

    def update(self, problem, iterate, gradient, state):
        self.told.append("update")
        assert gradient.shape == iterate.delta.shape
        return iterate.delta


@pytest.mark.parametrize("last_iterate", [False, True])
def test_the_loop_asks_in_its_order(last_iterate):
    network, diary = ConvNetwork(), Diary()
    batch = make_batch(network)
    (diary.perturb if last_iterate else diary)(network, batch.images, batch.labels)
    asked = ["observe", "objective", "update"] if last_iterate else ["done", "observe", "objective", "update"]
    assert diary.told == ["begin", "init", *asked, *asked]


@pytest.mark.parametrize(
    "cls", sorted({type(contestant.attack) for contestant in BATTERY}, key=repr), ids=lambda cls: cls.__name__
)
def test_few_classes_lie_between_an_attack_and_its_base(cls):
    def depth(cls):
        return 1 + max(depth(base) for base in cls.__bases__) if issubclass(cls, Attack) else 0

    assert depth(cls) <= 5
