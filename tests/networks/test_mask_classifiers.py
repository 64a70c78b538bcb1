"""Networks of transformers that classify masks, against its own post-processing; and CLIPSeg, against its own call."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from networks import mask_classifiers
from networks.mask_classifiers import CLASSES, SIDE, blobs, contrasted
from networks.saved import save_segformer, transformers

from segrobust.networks import HuggingFaceNetwork, Preprocessing

hf = transformers()

FAMILIES = ("mask2former", "maskformer", "oneformer", "eomt", "eomt_dinov3", "detr")
PADDED = ("mask2former", "maskformer", "oneformer")
LIBRARY_SIZE = {"mask2former": (384, 384), "eomt": (SIDE, SIDE), "eomt_dinov3": (SIDE, SIDE)}
"""Where transformers multiplies probabilities; at the masks' own size for the others."""


class Saved:
    """A network of a family as transformers saved it, and as it calls it itself."""

    def __init__(self, family, folder) -> None:
        self.folder = str(folder)
        self.network, self.processor = getattr(mask_classifiers, family)()
        if family == "oneformer":
            tokens = self.processor._preprocess_text(["the task is semantic"], max_length=77)
            self.beside = lambda images: {"task_inputs": tokens.expand(len(images), -1)}
        else:
            self.beside = lambda images: {}
        contrasted(self.network, lambda _: self.call(blobs(SIDE, SIDE)))
        self.network.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def call(self, images):
        """The library's output for images in [0, 1]."""
        processor = getattr(self.processor, "image_processor", self.processor)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
        with torch.no_grad():
            return self.network((images - mean) / std, **self.beside(images))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    found = {}

    def get(family):
        if family not in found:
            found[family] = Saved(family, tmp_path_factory.mktemp(family))
        return found[family]

    return get


def parts(output):
    if "class_queries_logits" in output:
        return output.class_queries_logits, output.masks_queries_logits
    return output.logits, output.pred_masks


def published(output, size):
    """The scores of the original code: mask logits at the size of the image, then the product."""
    classes, masks = (part.double() for part in parts(output))
    masks = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return torch.einsum("bqk,bqhw->bkhw", classes.softmax(-1)[..., :-1], masks.sigmoid())


def assert_same_classes(logits, predicted, scores):
    """Equal at every pixel but near-ties of the published scores; and several classes occur."""
    first, second = scores.topk(2, dim=1).values.unbind(1)
    near = (first - second) <= 1e-5 * first
    assert near.double().mean() < 0.01
    assert logits.argmax(1)[~near].equal(predicted[~near])
    assert len(predicted.unique()) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_are_those_of_the_librarys_post_processing(saved, family):
    theirs = saved(family)
    images = blobs(SIDE, SIDE)
    processor = getattr(theirs.processor, "image_processor", theirs.processor)
    found = processor.post_process_semantic_segmentation(
        theirs.call(images), target_sizes=[(SIDE, SIDE)] * 2, return_segmentation_scores=True
    )
    predicted, scores = (
        torch.stack([entry[key] for entry in found]) for key in ("segmentation", "segmentation_scores")
    )
    ours = HuggingFaceNetwork(theirs.folder, product_size=LIBRARY_SIZE.get(family, "masks")).eval()
    with torch.no_grad():
        assert_same_classes(ours(images), predicted, scores)


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_are_those_of_the_published_order_of_resizing(saved, family):
    theirs = saved(family)
    size, padded = ((45, 61), (64, 64)) if family in PADDED else ((SIDE, SIDE), (SIDE, SIDE))
    images = blobs(*size)
    whole = F.pad(images, (0, padded[1] - size[1], 0, padded[0] - size[0]), mode="replicate")
    scores = published(theirs.call(whole), padded)[..., : size[0], : size[1]]
    ours = HuggingFaceNetwork(theirs.folder).eval()
    images.requires_grad_()
    logits = ours(images)
    assert_same_classes(logits, scores.argmax(1), scores)
    first, second = logits.topk(2, dim=1).values.unbind(1)
    (gradient,) = torch.autograd.grad((first - second).sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).double().mean() > 0.9


def test_the_published_order_at_the_size_of_the_librarys_post_processing(saved):
    """Mask2Former's masks are resized to 384x384 by transformers: with images of this size the orders are one."""
    theirs = saved("mask2former")
    images = blobs(384, 384, count=1)
    found = theirs.processor.post_process_semantic_segmentation(theirs.call(images), return_segmentation_scores=True)
    with torch.no_grad():
        logits = HuggingFaceNetwork(theirs.folder).eval()(images)
    assert_same_classes(logits, found[0]["segmentation"][None], found[0]["segmentation_scores"][None])


def test_classes_and_normalisation_are_recorded(saved):
    network = HuggingFaceNetwork(saved("oneformer").folder)
    assert (network.record.num_classes, network.record.class_names) == (CLASSES, None)
    assert network.record.pretrained
    mean, std = (
        saved("oneformer").processor.image_processor.image_mean,
        saved("oneformer").processor.image_processor.image_std,
    )
    assert Preprocessing.of(network) == Preprocessing(mean=tuple(mean), std=tuple(std))


@pytest.mark.parametrize("family", ["eomt", "eomt_dinov3"])
def test_a_network_of_one_size_says_so(saved, family):
    network = HuggingFaceNetwork(saved(family).folder)
    with pytest.raises(ValueError, match=r"64x64 pixels only, got 64x96.*SlidingWindow\(network, window=\(64, 64\)\)"):
        network(torch.rand(1, 3, 64, 96))


def test_oneformer_without_a_tokenizer_says_what_is_missing(saved, tmp_path):
    folder = Path(shutil.copytree(saved("oneformer").folder, tmp_path / "copy"))
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="reads text and has no tokenizer"):
        HuggingFaceNetwork(str(folder))


def test_oneformers_table_of_classes_is_not_fetched_from_another_repository(saved, tmp_path, monkeypatch):
    import transformers.models.oneformer.image_processing_oneformer as theirs

    monkeypatch.setattr(theirs, "load_metadata", lambda *args: pytest.fail(f"another repository was asked: {args}"))
    folder = Path(shutil.copytree(saved("oneformer").folder, tmp_path / "copy"))
    for path in (folder / "processor_config.json", folder / "preprocessor_config.json"):
        if path.exists():
            settings = json.loads(path.read_text())
            settings.get("image_processor", settings)["class_info_file"] = "ade20k_panoptic.json"
            path.write_text(json.dumps(settings))
    assert HuggingFaceNetwork(str(folder)).record.num_classes == CLASSES


def test_settings_without_effect_are_refused(saved, tmp_path):
    save_segformer(tmp_path)
    with pytest.raises(ValueError, match=r"product_size='masks' has no effect.*does not classify masks"):
        HuggingFaceNetwork(str(tmp_path), product_size="masks")
    for folder in (str(tmp_path), saved("eomt").folder):
        with pytest.raises(ValueError, match="prompts have no effect"):
            HuggingFaceNetwork(folder, prompts=["road", "sky"])
    with pytest.raises(ValueError, match="product_size must be"):
        HuggingFaceNetwork(saved("eomt").folder, product_size="image_size")


def test_a_network_of_videos_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "videomt"}))
    with pytest.raises(ValueError, match="segment videos"):
        HuggingFaceNetwork(str(tmp_path))


def test_a_universal_network_that_lacks_its_head_is_refused(saved, tmp_path):
    saved("mask2former").network.model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lacks \d+ weights of Mask2FormerForUniversalSegmentation.*class_predictor"):
        HuggingFaceNetwork(str(tmp_path))


TEXTS = ("a road", "the sky above", "car")


@pytest.fixture(scope="module")
def clipseg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clipseg")
    torch.manual_seed(0)
    network, processor = mask_classifiers.clipseg()
    with torch.no_grad():
        for weight in (*network.decoder.film_mul.parameters(), *network.decoder.film_add.parameters()):
            weight.mul_(5)
    network.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return network, processor, str(folder)


def test_logits_of_texts_are_those_of_the_library(clipseg):
    network, processor, folder = clipseg
    images = blobs(SIDE, SIDE)
    ours = HuggingFaceNetwork(folder, prompts=TEXTS).eval()
    tokens = processor.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    expected = torch.stack(
        [network(pixel_values=((image - mean) / std).expand(3, -1, -1, -1), **tokens).logits for image in images]
    )
    images.requires_grad_()
    logits = ours(images)
    assert expected.std(1).max() > 1e-3  # texts differ
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits.square().sum(), images)
    assert gradient.isfinite().all()
    assert (gradient != 0).double().mean() > 0.9
    assert ours.record.class_names == TEXTS


def test_images_of_any_size_are_resized_to_the_square_and_back(clipseg):
    ours = HuggingFaceNetwork(clipseg[2], prompts={"road": "a road", "sky": "the sky"}).eval()
    assert ours.record.class_names == ("road", "sky")
    images = blobs(48, 80)
    square = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    expected = F.interpolate(ours(square), size=(48, 80), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)


def test_one_text_makes_two_classes(clipseg):
    images = blobs(SIDE, SIDE)
    alone = HuggingFaceNetwork(clipseg[2], prompts=["a road"]).eval()(images)
    among = HuggingFaceNetwork(clipseg[2], prompts=TEXTS).eval()(images)
    assert not alone[:, 0].any()
    torch.testing.assert_close(alone[:, 1], among[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompts", [None, [], "road", ["road", "road"], ["road", " "]])
def test_texts_are_asked_for(clipseg, prompts):
    with pytest.raises(ValueError, match=r"give prompts, one for each class and none twice, such as prompts="):
        HuggingFaceNetwork(clipseg[2], prompts=prompts)
