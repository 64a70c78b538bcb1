"""Logarithms of sums over queries against the direct form in float64, and where the direct form has no digits left."""

import pytest
import torch
import torch.nn.functional as F

from segrobust.functional.query_logits import query_logits, resize_exponentials


def draw(seed=0, queries=7, classes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    class_logits = 2 * torch.randn(2, queries, classes + 1, generator=generator, dtype=dtype)
    mask_logits = 4 * torch.randn(2, queries, 3, 5, generator=generator, dtype=dtype)
    return class_logits.requires_grad_(), mask_logits.requires_grad_()


def scores(class_logits, mask_logits, size):
    masks = F.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False).sigmoid()
    return torch.einsum("bqk,bqhw->bkhw", class_logits.softmax(-1)[..., :-1], masks)


@pytest.mark.parametrize("size", [(3, 5), (12, 20), (7, 9)])
@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_values_and_gradients_are_those_of_the_direct_form(size, block):
    inputs = draw()
    found, expected = query_logits(*inputs, size, block=block), scores(*inputs, size).log()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    cotangent = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = zip(*(torch.autograd.grad(value, inputs, cotangent) for value in (found, expected)), strict=True)
    for own, direct in pairs:
        torch.testing.assert_close(own, direct, rtol=1e-11, atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    class_logits, mask_logits = draw(queries=3, classes=2)
    assert torch.autograd.gradcheck(lambda c, m: query_logits(c, m, (4, 6), block=2), (class_logits, mask_logits))


def test_nothing_ties_where_all_masks_are_off():
    """In float32 the scores are 0 for every class; the logs keep order and gradient."""
    class_logits, mask_logits = draw(dtype=torch.float32)
    off = (mask_logits.detach() - 500).requires_grad_()
    assert not scores(class_logits, off, (3, 5)).any()
    logits = query_logits(class_logits, off, (3, 5), block=2)
    first, second = logits.topk(2, dim=1).values.unbind(1)
    assert logits.isfinite().all()
    assert (first > second).all()
    exact = query_logits(class_logits.double(), off.double(), (3, 5), block=2)
    assert logits.argmax(1).equal(exact.argmax(1))
    (gradient,) = torch.autograd.grad((first - second).sum(), off)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_class_that_no_query_may_have_is_excluded():
    class_logits, mask_logits = draw()
    excluded = class_logits.detach().clone()
    excluded[..., 2] = -torch.inf
    excluded.requires_grad_()
    logits = query_logits(excluded, mask_logits, (3, 5), block=3)
    assert (logits[:, 2] == -torch.inf).all()
    rest = logits[:, [0, 1, 3, 4]]
    for gradient in torch.autograd.grad(rest.square().sum(), (excluded, mask_logits)):
        assert gradient.isfinite().all()


def test_no_term_is_kept_for_the_backward_pass():
    """What the graph holds does not grow with Q * K * H * W."""
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: held.append(x.numel()) or x, lambda x: x):
        query_logits(*draw(queries=40), (30, 50), block=8)
    assert max(held) <= max(2 * 5 * 30 * 50, 2 * 40 * 3 * 5)


@pytest.mark.parametrize("size", [(10, 14), (3, 20), (5, 7), (4, 5), (13, 7)])
def test_exponentials_are_resized_as_pytorch_resizes(size):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 7, generator=generator, dtype=torch.float64).requires_grad_()
    expected = F.interpolate(logits.exp(), size=size, mode="bilinear", align_corners=False).log()
    found = resize_exponentials(logits, size)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    own, direct = (torch.autograd.grad(value.square().sum(), logits)[0] for value in (found, expected))
    torch.testing.assert_close(own, direct, rtol=1e-11, atol=1e-11)
