"""Normalisations in the units of their sources, and what is done where two disagree."""

import json

import pytest
import torch
from torch import nn

from segrobust.networks import FullResolution, NormalizationWarning, Normalized, Preprocessing
from segrobust.networks.preprocessing import choose_preprocessing

HALF = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
OTHER = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))


@pytest.mark.parametrize("blue_first", [False, True])
@pytest.mark.parametrize("scale", [1.0, 255.0, 2.0])
def test_scaled_is_the_formula_of_the_source(scale, blue_first):
    mean, std = [0.1 * scale, 0.2 * scale, 0.3 * scale], [0.5 * scale, 0.4 * scale, 0.3 * scale]
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    seen = images.flip(1) if blue_first else images
    expected = (scale * seen - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(3, 1, 1)
    found = Preprocessing.scaled(mean, std, scale, blue_first=blue_first).around(nn.Identity()).double()(images)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("blue_first", [False, True])
def test_constants_are_read_off_a_network(blue_first):
    given = Preprocessing(mean=OTHER.mean, std=OTHER.std, blue_first=blue_first)
    network = FullResolution(given.around(nn.Conv2d(3, 2, 1)))
    assert Preprocessing.of(network) == given
    assert Preprocessing.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_none_or_several_that_differ_are_not_read():
    assert Preprocessing.of(nn.Conv2d(3, 2, 1)) is None
    two = nn.ModuleList([HALF.around(nn.Identity()), OTHER.around(nn.Identity())])
    assert Preprocessing.of(two) is None


@pytest.mark.parametrize(
    "data",
    [
        {"mean": [0.5], "std": [0.5]},
        {"mean": ["a"], "std": [0.5], "blue_first": False},
        {"mean": [0.5], "std": 0.5, "blue_first": False},
        {"mean": [0.5], "std": [0.5], "blue_first": 1},
    ],
)
def test_foreign_records_are_refused(data):
    with pytest.raises(ValueError, match="mean"):
        Preprocessing.from_dict(data)


def test_rounding_is_no_contradiction():
    rounded = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    in_bytes = Preprocessing.scaled((123.68, 116.28, 103.53), (58.4, 57.12, 57.38), 255)
    assert rounded.agrees_with(in_bytes)
    assert not rounded.agrees_with(HALF)
    assert not HALF.agrees_with(Preprocessing(mean=HALF.mean, std=HALF.std, blue_first=True))
    assert not HALF.agrees_with(Preprocessing(mean=(0.5,), std=(0.5,)))


def choose(recorded, given, *, override=False):
    mean, std = (None, None) if given is None else (given.mean, given.std)
    return choose_preprocessing(recorded, mean, std, override=override, source="the file")


def test_what_is_recorded_or_given_is_taken(recwarn):
    assert choose(HALF, None) == HALF
    assert choose(None, OTHER) == OTHER
    assert choose(HALF, HALF) == HALF
    assert not recwarn


def test_both_sides_of_a_contradiction_are_shown():
    both = r"the file records .*0\.5, 0\.5, 0\.5.*given is .*0\.1, 0\.2, 0\.3"
    with pytest.raises(ValueError, match=both):
        choose(HALF, OTHER)
    with pytest.warns(NormalizationWarning, match=both):
        assert choose(HALF, OTHER, override=True) == OTHER


@pytest.mark.parametrize(("recorded", "given"), [(HALF, None), (HALF, HALF), (None, OTHER)])
def test_an_override_without_effect_is_refused(recorded, given):
    with pytest.raises(ValueError, match="no effect"):
        choose(recorded, given, override=True)


def test_a_second_normalisation_is_refused():
    inner = FullResolution(OTHER.around(nn.Identity()))
    with pytest.raises(ValueError, match=r"already, by mean=\(0\.1, 0\.2, 0\.3\).*mean=\(0\.485"):
        Normalized(inner)
