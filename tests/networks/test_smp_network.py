"""Networks of Segmentation Models PyTorch from what it saved."""

import json

import albumentations
import pytest
import segmentation_models_pytorch as smp
import torch
from networks.saved import as_tensor, assert_has_gradient, photograph, save_smp

from segrobust.networks import NormalizationWarning, Normalized, Preprocessing, SMPNetwork

AS_IT_IS = {"mean": [0, 0, 0], "std": [1, 1, 1]}


@pytest.mark.parametrize("architecture", ["FPN", "Unet", "DeepLabV3Plus", "Segformer"])
def test_logits_are_those_of_the_library(tmp_path, architecture):
    save_smp(tmp_path, architecture)
    theirs = smp.from_pretrained(str(tmp_path)).eval()
    ours = SMPNetwork(str(tmp_path), **AS_IT_IS).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(images)
        torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert_has_gradient(ours, torch.rand(1, 3, 50, 70))


def test_normalisation_of_a_saved_pipeline_is_the_one_of_albumentations(tmp_path):
    save_smp(tmp_path)
    normalize = albumentations.Normalize(mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3), max_pixel_value=200.0)
    pipeline = albumentations.Compose([albumentations.Sequential([albumentations.HorizontalFlip(p=0), normalize], p=1)])
    pipeline.save_pretrained(tmp_path)
    photo = photograph(64, 64)
    prepared = torch.from_numpy(pipeline(image=photo)["image"]).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = smp.from_pretrained(str(tmp_path)).eval()(prepared)
        found = SMPNetwork(str(tmp_path)).eval()(as_tensor(photo))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_without_a_pipeline_the_encoder_tells(tmp_path):
    save_smp(tmp_path)
    rewrite(tmp_path, encoder_weights="imagenet")
    recorded = smp.encoders.get_preprocessing_params("tu-test_byobnet")
    found = Preprocessing.of(SMPNetwork(str(tmp_path)))
    assert found.mean == pytest.approx(recorded["mean"])
    assert found.std == pytest.approx(recorded["std"])


def test_a_normalisation_that_nobody_recorded_is_asked_for(tmp_path):
    save_smp(tmp_path)
    with pytest.raises(ValueError, match=r"records no normalisation.*0\.485"):
        SMPNetwork(str(tmp_path))
    with pytest.raises(ValueError, match="come together"):
        SMPNetwork(str(tmp_path), mean=[0.5] * 3)


def test_a_contradiction_of_the_record_is_refused_or_warned_of(tmp_path):
    save_smp(tmp_path)
    rewrite(tmp_path, encoder_weights="imagenet")
    other = {"mean": [0.5] * 3, "std": [0.5] * 3}
    both = r"0\.485, 0\.456, 0\.406.*0\.5, 0\.5, 0\.5"
    with pytest.raises(ValueError, match=f"(?s){both}.*override_normalization"):
        SMPNetwork(str(tmp_path), **other)
    with pytest.warns(NormalizationWarning, match=both):
        network = SMPNetwork(str(tmp_path), **other, override_normalization=True)
    assert Preprocessing.of(network).mean == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="no effect"):
        SMPNetwork(str(tmp_path), override_normalization=True)
    with pytest.raises(ValueError, match="normalises its images already"):
        Normalized(SMPNetwork(str(tmp_path)))


def test_one_sigmoid_logit_becomes_two_classes(tmp_path):
    theirs = save_smp(tmp_path, classes=1, aux_params={"classes": 4})
    ours = SMPNetwork(str(tmp_path), **AS_IT_IS).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        mask, _ = theirs(images)
        torch.testing.assert_close(ours(images).softmax(1)[:, 1:], mask.sigmoid())
    assert ours.record.num_classes == 2


def test_the_activation_is_left_out(tmp_path):
    plain = save_smp(tmp_path)
    rewrite(tmp_path, activation="softmax2d")
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(SMPNetwork(str(tmp_path), **AS_IT_IS).eval()(images), plain(images))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_model_class": "os"}, r"architecture 'os', known are Unet"),
        ({"encoder_name": "tu-hf_hub:someone/something"}, "read from elsewhere"),
        ({"decoder_colour": 3}, "decoder_colour"),
        ({"encoder_name": "tu-resnet18"}, "another architecture"),
        ({"classes": 5}, "another architecture"),
    ],
)
def test_settings_that_do_not_fit_are_named(tmp_path, changes, message):
    save_smp(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        SMPNetwork(str(tmp_path), **AS_IT_IS)


@pytest.mark.parametrize("step", [{"normalization": "image"}, {"mean": None}])
def test_a_pipeline_that_is_no_mean_and_std_is_refused(tmp_path, step):
    save_smp(tmp_path)
    name = "albumentations.augmentations.transforms.Normalize"
    normalize = {"__class_fullname__": name, "mean": [0.5] * 3, "std": [0.5] * 3, "max_pixel_value": 255.0} | step
    steps = {"transform": {"__class_fullname__": "Compose", "transforms": [normalize]}}
    (tmp_path / "albumentations_config_eval.json").write_text(json.dumps(steps))
    with pytest.raises(ValueError, match="not one mean and one std"):
        SMPNetwork(str(tmp_path))
