"""Attacks against what adv-lib 0.2.8 did, step by step; recorded by `benchmarks/make_attack_fixtures.py`.

Segmentation attacks run on a 3x3 convolution with void pixels, PDPGD on one with steep logits; attacks that adv-lib has
for classification only run on images of one pixel, of which a segmentation network is a classifier. On the saturated
images, nearly black or white in one channel, the box binds from the first steps on.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from segrobust.attacks import Targeted
from segrobust.attacks.dag import DAG
from segrobust.attacks.ddn import DDN
from segrobust.attacks.fmn import FMN
from segrobust.attacks.pdpgd import PDPGD
from segrobust.functional.norms import norm

FOLDER = Path(__file__).parents[1] / "fixtures" / "attacks_advlib"
NETWORKS = {
    "segmentation": lambda: nn.Conv2d(3, 6, 3, padding=1),
    "saturated": lambda: nn.Conv2d(3, 6, 3, padding=1),
    "steep": lambda: nn.Conv2d(3, 6, 3, padding=1),
    "classification": lambda: nn.Sequential(nn.Conv2d(48, 16, 1), nn.Tanh(), nn.Conv2d(16, 6, 1)),
}
NUM_STEPS = 40
RTOL = 1e-6  # float64 on both sides; adv-lib keeps the radius of DDN's first step in float32
PUBLISHED_FMN = FMN(num_steps=NUM_STEPS, margin="mean", step_size=1.0)
PUBLISHED_DDN = DDN(num_steps=NUM_STEPS)
PUBLISHED_PDPGD = PDPGD(num_steps=NUM_STEPS, published=True)
SHORT = 0.01  # step that ends inside the ball
TARGETED = {"criterion": Targeted()}

SAME = {
    "segmentation": {
        "dag_linf": DAG(num_steps=NUM_STEPS),
        "dag_l2": DAG(num_steps=NUM_STEPS, norm="l2", step_size=0.015),
        "dag_l2_stops": DAG(num_steps=NUM_STEPS, norm="l2", step_size=0.05),
        "dag_linf_targeted": DAG(num_steps=NUM_STEPS, **TARGETED),
    },
    "saturated": {
        "dag_linf": DAG(num_steps=NUM_STEPS),
        "dag_l2": DAG(num_steps=NUM_STEPS, norm="l2", step_size=0.015),
        "dag_l2_stops": DAG(num_steps=NUM_STEPS, norm="l2", step_size=0.05),
    },
    "steep": {
        "pdpgd_linf": PUBLISHED_PDPGD,
        "pdpgd_l2": replace(PUBLISHED_PDPGD, norm="l2"),
        "pdpgd_l1": replace(PUBLISHED_PDPGD, norm="l1"),
        "pdpgd_l2_targeted": replace(PUBLISHED_PDPGD, norm="l2", **TARGETED),
    },
    "classification": {
        "fmn_linf": replace(PUBLISHED_FMN, step_size=10.0),
        "fmn_l2": replace(PUBLISHED_FMN, norm="l2"),
        "fmn_l1": replace(PUBLISHED_FMN, norm="l1"),
        "fmn_linf_targeted": replace(PUBLISHED_FMN, step_size=10.0, **TARGETED),
        "ddn": PUBLISHED_DDN,
        "ddn_8_bits": replace(PUBLISHED_DDN, levels=256),
        "ddn_targeted": replace(PUBLISHED_DDN, initial_radius=0.0625, **TARGETED),
    },
}
CASES = [pytest.param(kind, name, id=f"{kind}-{name}") for kind, attacks in SAME.items() for name in attacks]


@dataclass(frozen=True)
class Recorded:
    """A network, what was attacked, and the norms of every recorded attack."""

    network: nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor
    norms: dict[str, torch.Tensor]


@cache
def recorded(kind):
    path = FOLDER / f"{kind}.safetensors"
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["adv-lib"] == "0.2.8"
        assert int(file.metadata()["num_steps"]) == NUM_STEPS
    tensors = load_file(path)
    network = NETWORKS[kind]().double()
    network.load_state_dict({name[8:]: x for name, x in tensors.items() if name.startswith("network.")})
    return Recorded(
        network,
        tensors["images"].double() / 255,
        tensors["labels"].long(),
        tensors["targets"].long(),
        {name[6:]: x for name, x in tensors.items() if name.startswith("norms.")},
    )


def first_norms(attack, case):
    """l1 and l2 norms of the first iterates, nan once an image has stopped."""
    norms = torch.full_like(next(iter(case.norms.values())), torch.nan)

    def record(iterate):
        if iterate.step < norms.shape[1]:
            norms[iterate.rows, iterate.step] = torch.stack([norm(iterate.delta, name) for name in ("l1", "l2")], 1)

    targets = {"targets": case.targets} if attack.criterion.sign < 0 else {}
    attack(case.network, case.images, case.labels, observer=record, **targets)
    return norms


def test_every_recording_is_compared():
    for kind, attacks in SAME.items():
        assert set(recorded(kind).norms) == {*attacks, *(["fmn_l2_short_steps"] if kind == "classification" else [])}


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_first_steps_follow_the_released_code(kind, name):
    case = recorded(kind)
    expected = case.norms[name]
    assert expected.shape == (8, 20, 2)
    torch.testing.assert_close(first_norms(SAME[kind][name], case), expected, rtol=RTOL, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "name", "changes"),
    [
        ("segmentation", "dag_linf", {"step_size": 2.9e-3}),
        ("steep", "pdpgd_linf", {"published": False}),
        ("steep", "pdpgd_l2", {"num_steps": 60}),
        ("classification", "fmn_l2", {"margin": "masked"}),
        ("classification", "fmn_l1", {"gamma": 0.04}),
        ("classification", "fmn_linf", {"num_steps": 60}),
        ("classification", "ddn_8_bits", {"levels": None}),
        ("classification", "ddn", {"num_steps": 60}),
    ],
)
def test_the_recorded_steps_tell_variants_apart(kind, name, changes):
    case = recorded(kind)
    norms = first_norms(replace(SAME[kind][name], **changes), case)
    assert not torch.allclose(norms, case.norms[name], rtol=100 * RTOL, equal_nan=True)


def test_the_released_l2_projection_leaves_no_point_inside_the_ball():
    """Its clamp is on the product and not on the ratio: a short step is stretched to the sphere.

    Ours is the projection, so a step that ends inside the ball stays there.
    """
    case = recorded("classification")
    released = case.norms["fmn_l2_short_steps"][:, 1, 1]
    ours = first_norms(replace(PUBLISHED_FMN, norm="l2", step_size=SHORT), case)[:, 1, 1]
    torch.testing.assert_close(released, case.norms["fmn_l2"][:, 1, 1], rtol=RTOL, atol=0)  # whatever the step
    assert (released > 2 * SHORT).any()
    assert (ours <= SHORT * (1 + RTOL)).all()  # shorter where the box binds
