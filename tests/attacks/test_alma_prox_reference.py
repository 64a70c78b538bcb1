"""ALMA-prox against what the released code did: adv-lib 0.2.8, recorded by `benchmarks/make_alma_prox_fixture.py`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from segrobust.attacks import AlmaProx

FIXTURE = Path(__file__).parents[1] / "fixtures" / "alma_prox_advlib" / "small_network.safetensors"
PUBLISHED = AlmaProx(penalty_derivative="published", full_denominator_gradient=True)

STEP_RTOL = 1e-3  # the released prox ends its search 1e-6 from the bound, a thousandth of the first step
FINAL_RTOL = 0.1  # of the geometric mean: 500 steps amplify a last bit to 11 % of an image's norm, on another CPU too


@pytest.fixture(scope="module")
def recorded():
    with safe_open(FIXTURE, framework="pt") as file:
        assert file.metadata()["adv-lib"] == "0.2.8"
        assert int(file.metadata()["num_steps"]) == PUBLISHED.num_steps
    tensors = load_file(FIXTURE)
    network = nn.Conv2d(3, 6, 3, padding=1)
    network.load_state_dict({name[8:]: x for name, x in tensors.items() if name.startswith("network.")})
    return network, tensors["images"].float() / 255, tensors["labels"].long(), tensors


@pytest.fixture(scope="module")
def ours(recorded):
    network, images, labels, _ = recorded
    norms = []
    result = PUBLISHED(network, images, labels, observer=lambda iterate: norms.append(iterate.norm))
    return torch.stack(norms, 1), result


def test_the_first_steps_follow_the_released_code(recorded, ours):
    expected, (norms, _) = recorded[3]["norms"], ours
    assert expected.shape == (8, 20)
    torch.testing.assert_close(norms[:, :20], expected, rtol=STEP_RTOL, atol=1e-7)


def test_the_recorded_steps_tell_variants_apart(recorded):
    """The fixture reaches into the steps where derivative and denominator matter."""
    network, images, labels, tensors = recorded
    for variant in (
        replace(PUBLISHED, penalty_derivative="exact"),
        replace(PUBLISHED, full_denominator_gradient=False),
    ):
        norms = first_norms(variant, network, images, labels)
        difference = (norms - tensors["norms"]).abs() / tensors["norms"].clamp_min(1e-3)
        assert difference.amax() > 10 * STEP_RTOL


def first_norms(attack, network, images, labels):
    norms = []

    def record(iterate):
        norms.append(iterate.norm)
        if iterate.step == 19:
            raise StopIteration

    with pytest.raises(StopIteration):
        attack(network, images, labels, observer=record)
    return torch.stack(norms, 1)


def test_final_norms_agree_with_the_released_code(recorded, ours):
    final, (_, result) = recorded[3]["final_norms"], ours
    assert result.success.tolist() == final.isfinite().tolist()
    assert (result.norm / final).log().mean().exp().item() == pytest.approx(1, rel=FINAL_RTOL)
