"""Norms found against exact optima on networks whose logits are affine in each pixel."""

import pytest
import torch
from oracles import linear_case
from tolerances import FAST_L2_RATIO, FAST_LINF_RATIO, LINEAR_L2_RATIO, LINEAR_LINF_RATIO

from segrobust.attacks import PGD, AlmaProx, LagrangianFMN, Margin, MinimalNormSearch

SEARCH = MinimalNormSearch(attack=PGD(num_steps=20, loss=Margin()))
SEARCH_L2 = MinimalNormSearch(attack=PGD(num_steps=20, norm="l2"), initial_eps=0.25, max_eps=20.0)


def ratios(attack, norm, seed, void=False):
    case = linear_case(seed, batch_size=2)
    valid = torch.ones_like(case.labels, dtype=torch.bool)
    if void:
        valid[1, :, ::2] = False
    result = attack(case.network, case.images, case.labels, valid_mask=valid)
    assert result.success.all()
    return result.norm / case.minimal_norms(norm, valid)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("attack", [AlmaProx(num_steps=200), SEARCH], ids=["alma_prox", "search"])
def test_linf_norms_are_close_to_the_optimum(attack, seed):
    found = ratios(attack, "linf", seed, void=seed == 1)
    assert (found >= 1 - 1e-5).all()
    assert (found <= LINEAR_LINF_RATIO).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_l2_norms_of_the_search_are_bounds(seed):
    """PGD pulls at broken pixels too, which the optimum leaves alone: in l2 that costs a factor."""
    found = ratios(SEARCH_L2, "l2", seed, void=seed == 1)
    assert (found >= 1 - 1e-5).all()
    assert (found <= LINEAR_L2_RATIO).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("norm", "bound"), [("linf", FAST_LINF_RATIO), ("l2", FAST_L2_RATIO)])
@pytest.mark.parametrize("num_passes", [25, 50])
def test_few_passes_of_lagrangian_fmn_are_close_to_the_optimum(num_passes, norm, bound, seed):
    found = ratios(LagrangianFMN(num_passes=num_passes, norm=norm), norm, seed, void=seed == 1)
    assert (found >= 1 - 1e-5).all()
    assert (found <= bound).all()
