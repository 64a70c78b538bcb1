"""Fixed transforms against torchvision on Pillow images, and padding of batches."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize
from trees import stripes, write_image, write_mask

from segrobust.attacks import PGD
from segrobust.data import EvalTransform, Folder, SegmentationDataModule, pad_collate

SIZES = [(9, 13), (13, 9), (11, 11), (375, 500), (7, 30), (30, 7)]


def pixels(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8), rng.integers(0, 21, size, dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shorter_side", [5, 11, 24])
def test_resizing_is_torchvisions_on_pillow_images(size, shorter_side):
    image, mask = pixels(size)
    got, labels = EvalTransform(shorter_side=shorter_side)(image, mask, ignore_index=255)
    nearest = InterpolationMode.NEAREST
    assert np.array_equal(got, resize(Image.fromarray(image), shorter_side))
    assert np.array_equal(labels, resize(Image.fromarray(mask), shorter_side, interpolation=nearest))
    assert min(labels.shape) == shorter_side


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [(7, 7), (6, 9), (10, 10), (40, 8)])
def test_cropping_and_padding_are_torchvisions(size, crop):
    image, mask = pixels(size)
    mask += 1  # 0 is then padding of torchvision, and no label
    got, labels = EvalTransform(crop=crop)(image, mask, ignore_index=255)
    expected = np.asarray(center_crop(Image.fromarray(mask), list(crop)))
    assert labels.shape == crop
    assert np.array_equal(np.where(labels == 255, 0, labels), expected)
    inside = expected > 0
    assert np.array_equal(got[inside], np.asarray(center_crop(Image.fromarray(image), list(crop)))[inside])
    assert (got[~inside] == 128).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [12, 13])
def test_a_crop_of_the_shorter_side_needs_no_padding(size, side):
    _, labels = EvalTransform(shorter_side=side, crop=(side, side))(*pixels(size), ignore_index=255)
    assert labels.shape == (side, side)
    assert (labels != 255).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "set shorter_side, crop, or both"),
        ({"shorter_side": 0}, "at least 1, got 0"),
        ({"crop": (0, 3)}, "height, width"),
    ],
)
def test_transforms_that_do_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EvalTransform(**settings)


def test_the_transform_is_part_of_the_fingerprint(root):
    plain, cut = Folder(root, "val"), Folder(root, "val", transform=EvalTransform(crop=(8, 8)))
    assert plain.fingerprint() != cut.fingerprint()
    assert cut[0]["image"].shape == (3, 8, 8)


@pytest.fixture
def root(tmp_path):
    for index, size in enumerate([(9, 13), (12, 7), (10, 10)]):
        write_image(tmp_path / "images" / "val" / f"{index}.png", size, seed=index)
        write_mask(tmp_path / "masks" / "val" / f"{index}.png", stripes(size, (0, 1)))
    (tmp_path / "classes.yaml").write_text("names: [water, quay]\nignore_index: 9\n")
    return tmp_path


def test_padding_is_void_and_not_for_the_adversary(root):
    data = Folder(root, "val")
    samples = [data[index] for index in range(3)]
    batch = pad_collate(samples, ignore_index=9)
    assert batch["image"].shape == (3, 3, 12, 13)
    for index, sample in enumerate(samples):
        height, width = sample["mask"].shape
        assert torch.equal(batch["image"][index, :, :height, :width], sample["image"])
        assert torch.equal(batch["mask"][index, :height, :width], sample["mask"])
        padding = torch.ones(12, 13, dtype=torch.bool)
        padding[:height, :width] = False
        assert (batch["mask"][index][padding] == 9).all()
        assert (batch["image"][index][:, padding] == 0.5).all()
        assert torch.equal(batch["perturbable_mask"][index], ~padding)
    assert batch["sample_id"].tolist() == [0, 1, 2]
    assert batch["mask"].dtype == torch.int64
    assert batch["image"].dtype == torch.float32


def test_an_attack_leaves_padding_as_it_is(root):
    data = Folder(root, "val")
    batch = pad_collate([data[0], data[1]], ignore_index=9)
    torch.manual_seed(0)
    adv = PGD(num_steps=3, eps=0.1).perturb(
        nn.Conv2d(3, 2, 3, padding=1),
        batch["image"],
        batch["mask"],
        ignore_index=9,
        perturbable_mask=batch["perturbable_mask"],
    )
    changed = (adv != batch["image"]).any(1)
    assert changed[batch["perturbable_mask"]].any()
    assert not changed[~batch["perturbable_mask"]].any()


def test_training_batches_are_padded_on_request(root):
    data = Folder(root, "val")
    settings = {"train": data, "val": data, "batch_size": 3, "num_workers": 0}
    (batch,) = SegmentationDataModule(**settings, pad=True).train_dataloader()
    assert batch["image"].shape == (3, 3, 12, 13)
    assert (batch["mask"] == 9).any()
    with pytest.raises(ValueError, match="or pad training batches by pad=True of the data module"):
        next(iter(SegmentationDataModule(**settings).train_dataloader()))
    with pytest.raises(ValueError, match="different sizes"):
        next(iter(SegmentationDataModule(**settings, pad=True).val_dataloader()))
    with pytest.raises(ValueError, match="there is no training data"):
        SegmentationDataModule(val=data, pad=True)
