"""Networks of libraries that take images of other than three channels."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from networks.saved import assert_has_gradient, enliven
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from segrobust.networks import HuggingFaceNetwork, Preprocessing, SMPNetwork, TimmNetwork, TorchvisionNetwork

CHANNELS = (1, 2, 4, 13)


def save_smp(folder, channels):
    network = enliven(smp.Unet("resnet18", encoder_weights=None, in_channels=channels, classes=3))
    network.save_pretrained(folder)
    return network


def save_segformer(folder, channels):
    small = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
    network = enliven(SegformerForSemanticSegmentation(SegformerConfig(num_channels=channels, num_labels=3, **small)))
    network.save_pretrained(folder)
    return network


def constants(channels):
    return {"mean": [0.1 + 0.01 * c for c in range(channels)], "std": [0.2 + 0.01 * c for c in range(channels)]}


def normalized(images, channels):
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in constants(channels).values())
    return (images - mean) / std


@pytest.mark.parametrize("channels", CHANNELS)
def test_smp_networks(tmp_path, channels):
    theirs = save_smp(tmp_path, channels)
    ours, images = SMPNetwork(str(tmp_path), **constants(channels)).eval(), torch.rand(1, channels, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(normalized(images, channels)))
    assert_has_gradient(ours, images)


@pytest.mark.parametrize("channels", CHANNELS)
def test_segformers(tmp_path, channels):
    theirs = save_segformer(tmp_path, channels)
    ours, images = HuggingFaceNetwork(str(tmp_path), **constants(channels)).eval(), torch.rand(1, channels, 64, 64)
    with torch.no_grad():
        logits = theirs(normalized(images, channels)).logits
    expected = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours(images), expected)
    assert_has_gradient(ours, images)


@pytest.mark.parametrize("channels", CHANNELS)
def test_timm_networks_repeat_the_first_weights(tmp_path, channels):
    theirs = enliven(timm.create_model("test_byobnet", pretrained=False))
    torch.save(theirs.state_dict(), tmp_path / "backbone.pth")
    settings = {"channels": 8, "in_channels": channels, **constants(channels)}
    ours = TimmNetwork("test_byobnet", 3, backbone_file=str(tmp_path / "backbone.pth"), **settings).eval()
    assert_has_gradient(ours, torch.rand(1, channels, 50, 70))
    first = next(weight for weight in ours.parameters() if weight.ndim == 4)
    source = next(weight for weight in theirs.parameters() if weight.ndim == 4)
    if channels == 1:
        torch.testing.assert_close(first, source.sum(1, keepdim=True))
    else:
        repeated = source[:, torch.arange(channels) % 3] * 3 / channels
        torch.testing.assert_close(first, repeated)


def test_a_record_for_three_channels_says_nothing_about_four(tmp_path):
    save_segformer(tmp_path, 4)
    SegformerImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"records no normalisation of 4 channels: give mean and std"):
        HuggingFaceNetwork(str(tmp_path))
    found = Preprocessing.of(HuggingFaceNetwork(str(tmp_path), **constants(4)))
    assert found is not None
    assert found.mean == pytest.approx(constants(4)["mean"])


def test_a_processor_that_does_not_normalise_is_a_record_of_any_number_of_channels(tmp_path):
    save_segformer(tmp_path, 4)
    SegformerImageProcessor(do_normalize=False).save_pretrained(tmp_path)
    assert Preprocessing.of(HuggingFaceNetwork(str(tmp_path))) == Preprocessing(mean=(0.0,) * 4, std=(1.0,) * 4)


def test_constants_of_another_number_of_channels_are_named(tmp_path):
    save_smp(tmp_path, 4)
    with pytest.raises(ValueError, match=r"takes images of 4 channels, got mean of 3 and std of 3 values"):
        SMPNetwork(str(tmp_path), **constants(3))
    with pytest.raises(ValueError, match=r"takes images of 13 channels, got mean of 4 and std of 4"):
        TimmNetwork("test_byobnet", 3, in_channels=13, **constants(4))
    with pytest.raises(ValueError, match=r"takes images of 3 channels, got mean of 4 and std of 4"):
        TorchvisionNetwork("lraspp_mobilenet_v3_large", num_classes=3, **constants(4))
