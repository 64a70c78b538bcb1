"""Networks of transformers from what it saved, against its own inference."""

import json

import pytest
import torch
from networks.saved import as_tensor, assert_has_gradient, enliven, photograph, save_segformer, transformers
from PIL import Image
from versions import older

from segrobust.networks import HuggingFaceNetwork, NormalizationWarning, Preprocessing

hf = transformers()


def own_inference(folder, network, photo):
    """Logits as the library's documentation has them: image processor, network, bilinear upsampling."""
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        logits = network(**processor(images=Image.fromarray(photo), return_tensors="pt")).logits
    return torch.nn.functional.interpolate(logits, size=photo.shape[:2], mode="bilinear", align_corners=False)


def upernet():
    backbone = hf.ConvNextConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, out_features=["stage1", "stage2", "stage3", "stage4"]
    )
    config = hf.UperNetConfig(
        backbone_config=backbone, hidden_size=16, num_labels=5, auxiliary_in_channels=24, auxiliary_channels=8
    )
    return hf.UperNetForSemanticSegmentation(config), hf.SegformerImageProcessor(
        do_resize=False, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.4, 0.3]
    )


def beit():
    config = hf.BeitConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=64,
        num_labels=4,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
    )
    return hf.BeitForSemanticSegmentation(config), hf.BeitImageProcessor(
        do_resize=False, do_center_crop=False, rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3
    )


def mobilevit():
    config = hf.MobileViTConfig(
        hidden_sizes=[8] * 3, neck_hidden_sizes=[8] * 7, num_attention_heads=2, aspp_out_channels=16, num_labels=4
    )
    return hf.MobileViTForSemanticSegmentation(config), hf.MobileViTImageProcessor(
        do_resize=False, do_center_crop=False
    )


@pytest.mark.parametrize("make", [upernet, beit, mobilevit])
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_logits_are_those_of_the_library(tmp_path, make, size):
    if make is beit and size == (64, 96) and older("transformers", "5.10"):
        pytest.skip("BEiT of transformers takes square images only before 5.10")
    network, processor = make()
    enliven(network).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    photo = photograph(*size)
    expected = own_inference(tmp_path, network, photo)
    ours = HuggingFaceNetwork(str(tmp_path)).eval()
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(ours(as_tensor(photo)), expected, rtol=1e-4, atol=1e-4)
    assert_has_gradient(ours, as_tensor(photo))


def test_segformer_of_odd_size(tmp_path):
    network = save_segformer(tmp_path)
    photo = photograph(45, 61)
    ours = HuggingFaceNetwork(str(tmp_path)).eval()
    torch.testing.assert_close(ours(as_tensor(photo)), own_inference(tmp_path, network, photo), rtol=1e-4, atol=1e-4)
    assert_has_gradient(ours, as_tensor(photo))


def test_names_and_normalisation_are_those_of_the_files(tmp_path):
    save_segformer(tmp_path, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.4, 0.3])
    network = HuggingFaceNetwork(str(tmp_path))
    assert network.record.class_names == ("road", "sky", "car")
    assert Preprocessing.of(network) == Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.4, 0.3))
    given = {"mean": [0.5] * 3, "std": [0.5] * 3}
    with pytest.raises(ValueError, match=r"0\.1, 0\.2, 0\.3.*0\.5, 0\.5, 0\.5"):
        HuggingFaceNetwork(str(tmp_path), **given)
    with pytest.warns(NormalizationWarning, match=r"0\.1, 0\.2, 0\.3.*0\.5, 0\.5, 0\.5"):
        HuggingFaceNetwork(str(tmp_path), **given, override_normalization=True)


def test_blue_first_is_kept_by_an_override(tmp_path):
    network, processor = mobilevit()
    enliven(network).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert Preprocessing.of(HuggingFaceNetwork(str(tmp_path))) == Preprocessing(
        mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), blue_first=True
    )


def test_names_that_the_library_made_up_are_no_names(tmp_path):
    save_segformer(tmp_path, names=("LABEL_0", "LABEL_1"))
    assert HuggingFaceNetwork(str(tmp_path)).record.class_names is None


def test_without_a_processor_the_normalisation_is_asked_for(tmp_path):
    save_segformer(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="records no normalisation"):
        HuggingFaceNetwork(str(tmp_path))
    HuggingFaceNetwork(str(tmp_path), mean=[0.5] * 3, std=[0.5] * 3)


def test_a_backbone_alone_is_refused(tmp_path):
    network = save_segformer(tmp_path)
    network.segformer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks \d+ weights of SegformerForSemanticSegmentation.*decode_head"):
        HuggingFaceNetwork(str(tmp_path))


def test_weights_of_another_shape_are_refused(tmp_path):
    save_segformer(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"decoder_hidden_size": 8}))
    with pytest.raises(ValueError, match="another shape"):
        HuggingFaceNetwork(str(tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "someone/backbone", "backbone_config": None},
        {"backbone_config": {"model_type": "timm_backbone", "backbone": "hf_hub:someone/backbone"}},
    ],
)
def test_a_backbone_that_lies_elsewhere_is_refused(tmp_path, settings):
    save_segformer(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "upernet"} | settings))
    with pytest.raises(ValueError, match=r"someone/backbone.*backbone_config"):
        HuggingFaceNetwork(str(tmp_path))


def test_pickled_weights_are_read_without_code(tmp_path):
    network = save_segformer(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    photo = photograph(32, 32)
    ours = HuggingFaceNetwork(str(tmp_path)).eval()
    torch.testing.assert_close(ours(as_tensor(photo)), own_inference(tmp_path, network, photo))


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a weights file was run')",)


def test_pickled_code_is_refused(tmp_path):
    save_segformer(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="code that would run"):
        HuggingFaceNetwork(str(tmp_path))


def test_a_folder_of_something_else_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        HuggingFaceNetwork(str(tmp_path))
    hf.ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="ViT"):
        HuggingFaceNetwork(str(tmp_path))
