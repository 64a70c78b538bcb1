from dataclasses import InitVar, dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from conformance import BATTERY

from segrobust.attacks import Untargeted
from segrobust.attacks.core.identity import identity


@dataclass(frozen=True)
class Settings:
    value: object
    hidden: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Derived:
    scale: InitVar[float]

    def __post_init__(self, scale):
        object.__setattr__(self, "kept", scale * 2)


class Plain:
    def __init__(self, power):
        self.power = power


class Saying(Plain):
    def identity(self):
        return f"Saying(power={self.power})"


@pytest.mark.parametrize("contestant", BATTERY, ids=lambda contestant: contestant.name)
def test_the_identity_of_a_shipped_attack_is_its_repr(contestant):
    assert identity(contestant.attack).removeprefix("conformance.") == repr(contestant.attack)


@pytest.mark.parametrize(
    "value",
    [None, True, 3, 0.1, "a", (1,), (), [1, (2.5, "b")], {"a": 1, 2: (3,)}, Fraction(1, 3), Untargeted(apsr=0.5)],
)
def test_plain_values_are_told_as_their_repr_tells_them(value):
    assert identity(value) == repr(value)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (torch.zeros(2000), torch.zeros(2000).index_fill(0, torch.tensor([999]), 1e-9)),
        (torch.tensor([1.0]), torch.tensor([1.0000001])),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (np.arange(3000), np.arange(3000) + (np.arange(3000) == 1500)),
        (tuple(range(5000)), (*range(4999), 0)),
        (Saying(1), Saying(2)),
        (Settings(1, hidden=1), Settings(1, hidden=2)),
        (Settings(1, hidden=torch.zeros(3)), Settings(1, hidden=torch.ones(3))),
    ],
)
def test_values_that_differ_are_told_apart_and_equal_ones_are_not(one, two):
    assert identity(Settings(one)) != identity(Settings(two))
    assert identity(Settings([one, two])) == identity(Settings([one, two]))


def test_views_of_one_content_are_the_same():
    tensor = torch.arange(6.0).view(2, 3)
    assert identity(tensor.T.contiguous()) == identity(tensor.T)


def test_classes_of_one_name_in_two_packages_differ():
    other = dataclass(frozen=True)(type("Settings", (), {"__annotations__": {"value": object}, "__module__": "other"}))
    assert identity(other(1)) == "other.Settings(value=1)"
    assert identity(Settings(1)) == f"{__name__}.Settings(value=1, hidden=None)"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Settings(Plain(1)), r"Settings.value: .*Plain does not give its own .*frozen dataclass .*method identity\(\)"),
        (Settings(lambda x: x), "function does not give its own"),
        (Settings(1, hidden=partial(max, 1)), "Settings.hidden: .*partial does not give its own"),
        (Settings(torch.nn.ReLU()), "ReLU does not give its own"),
        (Derived(1.0), "Derived has attributes that are no fields: kept"),
    ],
)
def test_what_does_not_tell_its_settings_is_refused_with_the_way_out(value, message):
    with pytest.raises(ValueError, match=message):
        identity(value)
