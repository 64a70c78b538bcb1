"""Backbones of timm with a light head."""

import pytest
import timm
import torch
from networks.saved import assert_has_gradient, enliven
from versions import older

from segrobust.networks import LightHead, NormalizationWarning, Preprocessing, TimmNetwork

PATCHES = {"vit_tiny_patch16_224": 16, "test_vit": 16, "test_byobnet": 32, "swin_tiny_patch4_window7_224": 32}


@pytest.mark.parametrize("name", ["test_vit", "test_byobnet", "test_convnext"])
def test_backbone_is_the_one_of_the_file(tmp_path, name):
    theirs = enliven(timm.create_model(name, pretrained=False))
    torch.save(theirs.state_dict(), tmp_path / "backbone.pth")
    ours = TimmNetwork(name, 5, backbone_file=str(tmp_path / "backbone.pth"), channels=16).eval()
    settings = timm.get_pretrained_cfg(name)
    images = torch.rand(2, 3, 160, 160)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (settings.mean, settings.std))
    seen = []
    head = next(module for module in ours.modules() if isinstance(module, LightHead))
    head.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    with torch.no_grad():
        ours(images)
        expected = theirs.forward_intermediates((images - mean) / std, intermediates_only=True)
    (levels,) = seen
    for found, wanted in zip(levels, expected[-len(levels) :], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", PATCHES)
def test_images_of_any_size_give_logits_and_gradients(name):
    if name.startswith("swin") and older("timm", "1.0.31"):
        pytest.skip("a Swin transformer of timm takes images of one size only before 1.0.31")
    network = TimmNetwork(name, 5, channels=16).eval()
    assert_has_gradient(network, torch.rand(2, 3, 50, 70))
    assert network(torch.rand(1, 3, 50, 70)).shape == (1, 5, 50, 70)
    assert not network.record.pretrained


def test_head_is_the_sum_of_its_levels():
    head = enliven(LightHead([4, 6], 8, 3))
    fine, coarse = torch.rand(2, 4, 8, 12), torch.rand(2, 6, 4, 6)
    upsampled = torch.nn.functional.interpolate(
        torch.einsum("oi,bihw->bohw", head.lateral[1].weight[:, :, 0, 0], coarse), size=(8, 12), mode="bilinear"
    )
    total = torch.einsum("oi,bihw->bohw", head.lateral[0].weight[:, :, 0, 0], fine) + upsampled
    expected = head.classifier(head.norm(total).clamp(min=0))
    torch.testing.assert_close(head([fine, coarse]), expected)


def test_head_and_backbone_are_trained():
    network = TimmNetwork("test_byobnet", 3, channels=16)
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_normalisation_is_the_one_that_timm_records():
    assert Preprocessing.of(TimmNetwork("test_vit", 3)) == Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    given = {"mean": [0.1] * 3, "std": [0.2] * 3}
    with pytest.raises(ValueError, match=r"0\.5, 0\.5, 0\.5.*0\.1, 0\.1, 0\.1"):
        TimmNetwork("test_vit", 3, **given)
    with pytest.warns(NormalizationWarning, match=r"0\.5, 0\.5, 0\.5.*0\.1, 0\.1, 0\.1"):
        TimmNetwork("test_vit", 3, **given, override_normalization=True)


def test_a_file_that_lacks_a_layer_is_refused(tmp_path):
    state = timm.create_model("test_vit", pretrained=False).state_dict()
    del state["blocks.1.attn.qkv.weight"]
    torch.save(state, tmp_path / "backbone.pth")
    with pytest.raises(ValueError, match=r"lacks 1 weights.*blocks\.1\.attn\.qkv\.weight"):
        TimmNetwork("test_vit", 3, backbone_file=str(tmp_path / "backbone.pth"))
    with pytest.raises(ValueError, match=r"does not hold weights of test_byobnet|lacks"):
        TimmNetwork("test_byobnet", 3, backbone_file=str(tmp_path / "backbone.pth"))


def test_reading_weights_leaves_the_random_numbers_to_the_seed(tmp_path):
    """The head starts from what the seed says, whether or not the backbone was built twice before."""
    torch.save(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "backbone.pth")
    heads = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        network = TimmNetwork("test_vit", 3, backbone_file=str(tmp_path / "backbone.pth"), channels=8)
        heads.append(next(m for m in network.modules() if isinstance(m, LightHead)).classifier.weight)
    assert heads[0].equal(heads[1])
    assert not heads[0].equal(heads[2])


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"no network 'resnet17'; names like it"):
        TimmNetwork("resnet17", 3)
    with pytest.raises(ValueError, match="no network 'hf_hub:someone/network'"):
        TimmNetwork("hf_hub:someone/network", 3)
    with pytest.raises(ValueError, match="one place"):
        TimmNetwork("test_vit", 3, backbone_file="a", revision="b")
