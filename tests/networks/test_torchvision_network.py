"""Networks of torchvision from files in its format, against torchvision's own inference."""

import pytest
import torch
from networks.saved import as_tensor, assert_has_gradient, enliven, photograph
from PIL import Image
from torchvision import models
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from segrobust.networks import NormalizationWarning, Preprocessing, TorchvisionNetwork

LRASPP = "lraspp_mobilenet_v3_large"
DEEPLAB = "deeplabv3_mobilenet_v3_large"


def made(name, num_classes, **options):
    return enliven(models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **options))


def own_inference(network, photo):
    """Logits as torchvision's documentation has them, at the size of the image."""
    preset = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.transforms(resize_size=None)
    with torch.no_grad():
        return network(preset(Image.fromarray(photo))[None])["out"]


@pytest.mark.parametrize(
    ("name", "options", "wrap"),
    [
        (LRASPP, {}, lambda state: state),
        (DEEPLAB, {"aux_loss": False}, lambda state: state),
        (DEEPLAB, {"aux_loss": True}, lambda state: {"model": state, "epoch": 3, "optimizer": {"state": {}}}),
    ],
)
def test_logits_are_those_of_the_library(tmp_path, name, options, wrap):
    theirs = made(name, 5, **options)
    torch.save(wrap(theirs.state_dict()), tmp_path / "weights.pth")
    ours = TorchvisionNetwork(name, file=str(tmp_path / "weights.pth")).eval()
    photo = photograph(65, 90)
    expected = own_inference(theirs, photo)
    tolerance = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(ours(as_tensor(photo)), expected, rtol=0, atol=tolerance)
    assert_has_gradient(ours, as_tensor(photo))
    assert not any("aux" in key for key in ours.state_dict())
    assert (ours.record.num_classes, ours.record.class_names, ours.record.pretrained) == (5, None, True)


def test_weights_by_name_come_from_torchvision_s_folder(tmp_path, monkeypatch):
    """A file of that name in the folder of torch's hub is taken for an earlier download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1
    theirs = made(LRASPP, 21)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(theirs.state_dict(), folder / weights.url.rpartition("/")[2])
    ours = TorchvisionNetwork(LRASPP, weights="COCO_WITH_VOC_LABELS_V1").eval()
    photo = photograph(64, 64)
    torch.testing.assert_close(ours(as_tensor(photo)), own_inference(theirs, photo), rtol=1e-4, atol=1e-4)
    assert ours.record.class_names == tuple(weights.meta["categories"])
    assert ours.record.class_names[0] == "__background__"


def test_random_weights_are_for_training():
    network = TorchvisionNetwork(LRASPP, num_classes=4)
    assert not network.record.pretrained
    assert network(torch.rand(2, 3, 40, 56)).shape == (2, 4, 40, 56)
    assert Preprocessing.of(network) == Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def test_a_contradiction_is_refused_or_warned_of():
    given = {"mean": [0.5] * 3, "std": [0.5] * 3}
    with pytest.raises(ValueError, match=r"0\.485.*0\.5, 0\.5, 0\.5"):
        TorchvisionNetwork(LRASPP, num_classes=4, **given)
    with pytest.warns(NormalizationWarning, match=r"0\.485.*0\.5, 0\.5, 0\.5"):
        TorchvisionNetwork(LRASPP, num_classes=4, **given, override_normalization=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet18", "num_classes": 3}, "no segmentation network 'resnet18', known are .*deeplabv3"),
        ({"name": LRASPP}, "give num_classes"),
        ({"name": LRASPP, "weights": "IMAGENET1K_V1"}, "known are COCO_WITH_VOC_LABELS_V1, DEFAULT"),
        ({"name": LRASPP, "weights": "DEFAULT", "file": "weights.pth"}, "one place"),
        ({"name": LRASPP, "file": "weights.pth", "num_classes": 4}, "5 classes, got num_classes=4"),
        ({"name": DEEPLAB, "file": "weights.pth"}, "another architecture"),
        ({"name": LRASPP, "file": "backbone.pth"}, "no segmentation network of torchvision"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    network = made(LRASPP, 5)
    torch.save(network.state_dict(), "weights.pth")
    torch.save(network.backbone.state_dict(), "backbone.pth")
    with pytest.raises(ValueError, match=message):
        TorchvisionNetwork(**arguments)


def test_one_of_several_copies_of_a_file_is_chosen(tmp_path):
    raw, averages = made(LRASPP, 5), models.get_model(LRASPP, weights=None, weights_backbone=None, num_classes=5)
    file = tmp_path / "last.pth"
    torch.save({"state_dict": raw.state_dict(), "state_dict_ema": averages.state_dict()}, file)
    with pytest.raises(ValueError, match=r"several copies.*'state_dict_ema'"):
        TorchvisionNetwork(LRASPP, file=str(file))
    network = TorchvisionNetwork(LRASPP, file=str(file), part="state_dict_ema")
    assert network.record.num_classes == 5
    (inner,) = (module for module in network.modules() if isinstance(module, type(raw)))
    weight = "classifier.low_classifier.weight"
    assert inner.state_dict()[weight].equal(averages.state_dict()[weight])
    with pytest.raises(ValueError, match="no effect without file"):
        TorchvisionNetwork(LRASPP, num_classes=5, part="state_dict_ema")
