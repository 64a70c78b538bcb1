"""Functions with a branch of their own for a CUDA device, against sorting and against the CPU."""

import numpy as np
import pytest
import torch
from functional import test_prox, test_prox_l1_l2
from oracles import prox_linf_sorted

from segrobust.functional.margins import dlr, margin, top_classes
from segrobust.functional.prox import prox
from segrobust.functional.prox_linf import prox_linf

DEVICE = "cuda"
KINDS = ["plain", "saturated", "dark", "tight", "wild"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 2, 7, 500, 20_000])
@pytest.mark.parametrize("shares", [(1e-4, 0.01, 0.1), (0.3, 0.6, 0.9)])
def test_prox_linf_equals_the_sorted_solution(kind, size, shares):
    for seed in range(1 if size > 1000 else 8):
        v, metric, lower, upper = test_prox.problem(seed, size, kind)
        weight = test_prox.weights_between(v, metric, shares)
        z, t = (x.cpu() for x in prox_linf(*(x.to(DEVICE) for x in (v, metric, weight, lower, upper))))
        for i in range(len(v)):
            expected, bound = prox_linf_sorted(v[i], metric[i], weight[i].item(), lower[i], upper[i])
            assert t[i].item() == pytest.approx(bound, rel=1e-9, abs=1e-13)
            np.testing.assert_allclose(z[i].numpy(), expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_prox_is_that_of_the_cpu(name, kind, dtype):
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-9}[dtype]
    for size in (7, 30_000):
        v, metric, lower, upper = test_prox_l1_l2.problem(0, size, kind, batch_size=3, dtype=dtype)
        least = test_prox_l1_l2.critical_weight(name if name != "linf" else "l2", v, metric, lower, upper)
        for share in (1e-2, 0.3, 0.9):
            given = (v, metric, share * least, lower, upper)
            expected, _ = prox(name, *given)
            found, _ = prox(name, *(x.to(DEVICE) for x in given))
            scale = expected.abs().max().item()
            torch.testing.assert_close(found.cpu(), expected, rtol=tolerance, atol=tolerance * scale)


def logits_with_ties():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 4, (2, 6, 30, 40), generator=generator).double()


def test_top_classes_of_equal_logits():
    """Which of two equal logits is named first may differ; that each is named once may not."""
    logits = logits_with_ties()
    found = top_classes(logits.to(DEVICE), 3).cpu()
    assert torch.equal(logits.gather(1, found), logits.gather(1, top_classes(logits, 3)))
    assert (found.sort(1).values.diff(dim=1) > 0).all()


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("function", [margin, dlr])
def test_margins_of_the_cpu_with_ties(function, differentiable):
    logits = logits_with_ties().requires_grad_(differentiable)
    labels = torch.randint(0, 6, (2, 30, 40), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        function(logits.to(DEVICE), labels.to(DEVICE)).cpu(), function(logits, labels), rtol=1e-12, atol=1e-12
    )
