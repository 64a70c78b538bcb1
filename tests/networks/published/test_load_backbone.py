"""Classifiers' weights as initial weights: what fits, what is left out, and what is refused."""

import hashlib

import pytest
import timm
import torch
from torch import nn

from segrobust.networks import FullResolution, SlidingWindow, load_backbone
from segrobust.networks.published import MMSegPSPNet, PIRATSegmenter, PIRATUPerNet, SemsegPSPNet


@pytest.fixture(scope="module")
def weights():
    return timm.create_model("resnet50", num_classes=3).state_dict()


def test_names_of_the_robustness_library_are_understood(weights, tmp_path):
    """`MadryLab/robustness` keeps the model twice, and its normalisation."""
    model = {f"module.model.{name}": weight for name, weight in weights.items()}
    model |= {f"module.attacker.model.{name}": weight for name, weight in weights.items()}
    model |= {"module.normalizer.new_mean": torch.zeros(3, 1, 1), "module.normalizer.new_std": torch.ones(3, 1, 1)}
    torch.save({"model": model, "epoch": 89, "optimizer": {}}, tmp_path / "resnet50_linf_eps4.0.ckpt")
    network = SemsegPSPNet(5, stem="plain", normalized=False, channels=4)
    head = network.core.cls[4].weight.clone()
    report = load_backbone(network, tmp_path / "resnet50_linf_eps4.0.ckpt")
    assert network.core.layer0[0].weight.equal(weights["conv1.weight"])
    assert network.core.layer0[1].running_var.equal(weights["bn1.running_var"])
    assert network.core.layer4[2].conv3.weight.equal(weights["layer4.2.conv3.weight"])
    assert network.core.cls[4].weight.equal(head)
    assert set(report.loaded) == {name for name in weights if not name.startswith("fc.")}
    assert {"epoch", "optimizer", "model.fc.weight", "normalizer.new_mean"} < set(report.left_out)


def test_wrappers_around_the_network_do_not_matter(weights, tmp_path):
    torch.save(weights, tmp_path / "a.pth")
    network = MMSegPSPNet(5, stem="plain", channels=4)
    load_backbone(SlidingWindow(FullResolution(network)), tmp_path / "a.pth")
    assert network.core.backbone.conv1.weight.equal(weights["conv1.weight"])


def test_a_deep_stem_comes_from_the_classifier_of_semseg(tmp_path):
    network, source = SemsegPSPNet(5, width=4, channels=4), SemsegPSPNet(5, width=4, channels=4)
    file = source.backbone_state() | {"fc.weight": torch.zeros(3, 128), "fc.bias": torch.zeros(3)}
    assert {"conv1.weight", "bn3.running_mean", "conv3.weight"} < set(file)
    torch.save(file, tmp_path / "resnet50_v2.pth")
    load_backbone(network, tmp_path / "resnet50_v2.pth")
    for i in range(5):
        found, wanted = (getattr(n.core, f"layer{i}").state_dict() for n in (network, source))
        assert all(weight.equal(wanted[name]) for name, weight in found.items())


def test_a_bare_backbone_takes_all_but_its_classifier(tmp_path):
    source, target = (timm.create_model("test_convnext", num_classes=k) for k in (3, 9))
    torch.save(source.state_dict(), tmp_path / "a.pth")
    report = load_backbone(target, tmp_path / "a.pth")
    assert target.stem[0].weight.equal(source.stem[0].weight)
    assert report.initial == tuple(name for name in target.state_dict() if name.startswith("head."))
    assert report.left_out == report.initial
    assert set(report.loaded) | set(report.initial) == set(target.state_dict())


def test_trained_weights_move_as_parameters(weights, tmp_path):
    torch.save(weights, tmp_path / "a.pth")
    network = MMSegPSPNet(5, stem="plain", channels=4)
    before = network.core.backbone.conv1.weight
    load_backbone(network, tmp_path / "a.pth")
    assert network.core.backbone.conv1.weight is before
    assert before.requires_grad


@pytest.mark.parametrize("victim", ["conv1.weight", "layer3.4.bn2.running_mean", "layer4.2.conv3.weight"])
def test_one_missing_or_renamed_weight_is_refused(weights, victim, tmp_path):
    network = MMSegPSPNet(5, stem="plain", channels=4)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    less = {name: weight for name, weight in weights.items() if name != victim}
    torch.save(less, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=f"does not fit the backbone of MMSegPSPNet: 1 missing: {victim}"):
        load_backbone(network, tmp_path / "less.pth")
    torch.save(less | {f"{victim}_": weights[victim]}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=f"1 missing: {victim}; 1 unexpected: {victim}_"):
        load_backbone(network, tmp_path / "other.pth")
    assert all(weight.equal(before[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "source"),
    [
        (lambda: MMSegPSPNet(5, width=4, channels=4), lambda: timm.create_model("resnet50")),
        (lambda: PIRATUPerNet(5, width=8, channels=4), lambda: timm.create_model("test_convnext")),
        (lambda: PIRATSegmenter(5, width=64, depth=1), lambda: timm.create_model("test_vit")),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3)), lambda: timm.create_model("test_vit")),
    ],
)
def test_another_backbone_is_refused(network, source, tmp_path):
    torch.save(source().state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"does not fit the backbone of \w+: \d+ (missing|unexpected)"):
        load_backbone(network(), tmp_path / "a.pth")


def test_positions_that_are_no_grid_are_refused(tmp_path):
    vit = timm.models.VisionTransformer(img_size=(32, 48), embed_dim=64, depth=1, num_heads=1, num_classes=7)
    torch.save(vit.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="pos_embed has 7 positions, the network 17: both must be a square grid"):
        load_backbone(PIRATSegmenter(5, image_size=64, width=64, depth=1), tmp_path / "a.pth")


def test_the_hash_is_compared(weights, tmp_path):
    torch.save(weights, tmp_path / "a.pth")
    digest = hashlib.sha256((tmp_path / "a.pth").read_bytes()).hexdigest()
    load_backbone(MMSegPSPNet(5, stem="plain", channels=4), tmp_path / "a.pth", sha256=digest[:12])
    with pytest.raises(ValueError, match="expected 01234567"):
        load_backbone(MMSegPSPNet(5, stem="plain", channels=4), tmp_path / "a.pth", sha256="01234567")
