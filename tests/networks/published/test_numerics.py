"""Logits and gradients of networks loaded from files in the original format, against the references."""

import pytest
import torch
from networks.published.cases import CASES

from segrobust.networks import load_weights, save_weights


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_logits_are_those_of_the_reference(case, tmp_path):
    expected, weights = case.expected()
    network = case.build(case.write(tmp_path / "a.pth", weights)).eval()
    with torch.no_grad():
        single = network(case.images())
    assert single.dtype == torch.float32
    assert single.shape == (2, 5, *case.size)
    assert expected.std() > 0.05  # else any network would do
    assert (single - expected).abs().max() < 1e-3 * expected.abs().max()
    with torch.no_grad():
        double = network.double()(case.images().double())
    torch.testing.assert_close(double, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_images_have_a_gradient(case, tmp_path):
    network = case.build(case.write(tmp_path / "a.pth", case.expected()[1])).eval()
    images = case.images()[:1].requires_grad_()
    network(images).square().mean().backward()
    assert images.grad.isfinite().all()
    assert (images.grad != 0).float().mean() > 0.9


@pytest.mark.parametrize("name", ["mmseg pspnet r50", "pirat upernet convnext t", "pirat segmenter vit s"])
def test_our_own_files_keep_the_original_names(name, tmp_path):
    case = CASES[name]
    _, weights = case.expected()
    network = case.build(case.write(tmp_path / "a.pth", weights))
    save_weights(network, tmp_path / "b.safetensors")
    again, other = case.build().eval(), case.build(tmp_path / "b.safetensors").eval()
    load_weights(again, tmp_path / "b.safetensors")
    expected = network.eval()(case.images())
    assert expected.equal(again(case.images()))
    assert expected.equal(other(case.images()))
    assert other.left_out == ()
