"""Lengths in image units as configurations write them."""

import json

import pytest
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from segrobust.attacks import (
    DAG,
    DDN,
    FMN,
    KLPGD,
    PDPGD,
    PGD,
    RSE,
    SEA,
    AlmaProx,
    Attack,
    Clipped,
    LagrangianFMN,
    MinimalNormSearch,
    PAdam,
    RegionPGD,
    Square,
)
from segrobust.functional.lengths import Length, read_length


@pytest.fixture
def parser():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--attack", type=Attack)
    parser.add_argument("--eps", type=list[Length] | Length | None)
    return parser


@pytest.mark.parametrize("numerator", range(1, 256))
def test_a_fraction_is_the_float_of_the_division(numerator):
    assert read_length(f"{numerator}/255") == numerator / 255
    assert read_length(repr(numerator / 255)) == numerator / 255


@pytest.mark.parametrize(
    "attack",
    [
        PGD(eps=8 / 255, step_size=2 / 255),
        SEA(eps=8 / 255),
        RSE(eps=8 / 255),
        Square(num_queries=9, eps=8 / 255),
        Clipped(attack=LagrangianFMN(), eps=8 / 255),
        MinimalNormSearch(attack=PGD(), initial_eps=4 / 255, max_eps=32 / 255),
        *(made(step_size=3 / 255) for made in (AlmaProx, DAG, FMN, PDPGD, PAdam, KLPGD, RegionPGD)),
        DDN(initial_radius=80 / 255),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_fields_of_attacks_may_be_fractions(parser, attack):
    """The same attack, and the same saved settings, as of the floats: digests and continued runs rest on both."""
    floats = parser.parse_args(["--attack", json.dumps(settings(attack, float))])
    fractions = parser.parse_args(["--attack", json.dumps(settings(attack, lambda value: f"{255 * value:.0f}/255"))])
    assert repr(parser.instantiate(fractions).attack) == repr(attack)
    assert parser.dump(fractions) == parser.dump(floats)
    again = parser.parse_string(parser.dump(fractions))
    assert repr(parser.instantiate(again).attack) == repr(attack)


def settings(attack, write):
    """Class path and lengths of an attack; the attack inside by its class alone."""
    names = ("eps", "step_size", "initial_eps", "max_eps", "initial_radius")
    given = {name: write(value) for name in names if (value := getattr(attack, name, None)) is not None}
    if isinstance(attack, Square):
        given["num_queries"] = attack.num_queries
    if hasattr(attack, "attack"):
        given["attack"] = {"class_path": f"segrobust.attacks.{type(attack.attack).__name__}"}
    return {"class_path": f"segrobust.attacks.{type(attack).__name__}", "init_args": given}


@pytest.mark.parametrize(
    ("written", "radii"),
    [("[4/255, 8/255]", [4 / 255, 8 / 255]), ("8/255", 8 / 255), ("0.03", 0.03), ("[1, 0.5/255]", [1.0, 0.5 / 255])],
)
def test_radii_of_the_command_line_may_be_fractions(parser, written, radii):
    options = parser.parse_args(["--eps", written])
    assert options.eps == radii
    assert yaml.safe_load(parser.dump(options))["eps"] == radii


@pytest.mark.parametrize("written", ["8/0", "8/", "/255", "a/255", "8/255/2", "eight", "nan", "inf/255", True, [8]])
def test_what_is_no_length_is_refused_by_name(parser, written):
    with pytest.raises(ValueError, match="a number or a fraction such as 8/255, got ") as refused:
        read_length(written)
    assert repr(written) in str(refused.value)
    attack = {"class_path": "segrobust.attacks.PGD", "init_args": {"eps": written}}
    with pytest.raises(ArgumentError, match="a number or a fraction such as 8/255, got "):
        parser.parse_args(["--attack", json.dumps(attack)])
