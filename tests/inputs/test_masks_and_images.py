"""Images and masks in the forms that people have: the same numbers, or a message that names the form and the fix."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from segrobust.inputs import as_class_indices, as_image

H, W, K = 4, 5, 3
INDICES = (torch.arange(H * W) % K).view(H, W)
ONE_HOT = F.one_hot(INDICES, K)
BYTES = torch.randint(0, 256, (H, W, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
FLOATS = BYTES.permute(2, 0, 1).float() / 255


@pytest.mark.parametrize(
    "mask",
    [
        *(INDICES.to(dtype) for dtype in (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)),
        *(INDICES.to(dtype) for dtype in (torch.uint16, torch.uint32, torch.float16, torch.float32, torch.float64)),
        INDICES[None],
        INDICES[..., None],
        ONE_HOT,
        ONE_HOT.permute(2, 0, 1).float(),
        ONE_HOT.bool(),
        *(INDICES.numpy().astype(dtype) for dtype in ("uint8", ">u2", "uint32", "int64", "float32")),
        INDICES.numpy()[::-1][::-1],
        Image.fromarray(INDICES.numpy().astype(np.uint8)),
        Image.fromarray(INDICES.numpy().astype(np.int32)),
        Image.fromarray(INDICES.numpy().astype(np.uint16)),
        Image.fromarray(INDICES.numpy().astype(np.uint8), mode=None).convert("P"),
    ],
)
def test_masks_of_every_form_are_the_same_indices(mask):
    found = as_class_indices(mask, "mask", 2)
    assert found.dtype == torch.int64
    assert found.shape == (H, W)
    if getattr(mask, "mode", "") != "P":  # conversion to a palette renumbers
        assert found.equal(INDICES)


def test_indices_of_a_palette_are_taken_as_they_are():
    picture = Image.new("P", (W, H))
    picture.putdata(INDICES.flatten().tolist())
    assert as_class_indices(picture, "mask", 2).equal(INDICES)


def test_masks_of_two_classes_may_be_bool():
    assert as_class_indices(INDICES > 0, "mask", 2).equal((INDICES > 0).long())
    assert as_class_indices(Image.fromarray((INDICES > 0).numpy()), "mask", 2).equal((INDICES > 0).long())


@pytest.mark.parametrize(
    "labels",
    [
        INDICES[None].repeat(2, 1, 1, 1),
        ONE_HOT[None].repeat(2, 1, 1, 1),
        ONE_HOT.permute(2, 0, 1)[None].repeat(2, 1, 1, 1),
    ],
)
def test_masks_of_a_batch_may_have_a_dimension_of_classes(labels):
    labels = labels if labels.shape[1] != 1 else labels.view(2, 1, H, W)
    assert as_class_indices(labels, "labels", 3).equal(INDICES[None].repeat(2, 1, 1))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (INDICES / 255, TypeError, "fractions, such as 0.0039.*ToTensor divides"),
        (INDICES.float() + float("nan"), TypeError, "fractions, such as nan"),
        (F.one_hot(INDICES, K).permute(2, 0, 1) + 0.1, TypeError, "argmax of probabilities"),
        (BYTES, ValueError, "not one-hot"),
        ((ONE_HOT.sum(-1, keepdim=True) + 0 * ONE_HOT), ValueError, "classes overlap"),
        (Image.new("RGB", (W, H)), TypeError, "mode RGB: colours"),
        (3, TypeError, "class index for every pixel, got int"),
        (torch.tensor(3), ValueError, r"\(H, W\), a class for each pixel, got \(\)"),
        (np.array([["a"]]), TypeError, "numbers, got an array of <U1"),
        (INDICES.to(torch.complex64), TypeError, "complex64"),
        ([[0, 1]], TypeError, r"got list: write np.asarray\(mask\)"),
        ("mask.png", TypeError, "got str: read the file, such as by PIL.Image.open"),
        (Path("mask.png"), TypeError, "PosixPath: read the file"),
        ({"masks": INDICES}, TypeError, r"got dict: name the mask .* mask=lambda sample: sample\[1\]"),
        (
            np.ma.masked_equal(INDICES.numpy(), 0),
            TypeError,
            r"hidden values are not known: write array.filled\(value\)",
        ),
        (INDICES.to_sparse(), TypeError, r"sparse_coo torch.int64: write .to_dense\(\)"),
        (INDICES.to("meta"), TypeError, r"without values \(device meta\)"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_masks_that_can_mean_several_things_are_refused(mask, error, message):
    with pytest.raises(error, match=message):
        as_class_indices(mask, "mask", 2)


@pytest.mark.parametrize(
    "image",
    [
        FLOATS,
        FLOATS.numpy(),
        BYTES,
        BYTES.numpy(),
        BYTES.permute(2, 0, 1),
        BYTES.numpy().transpose(2, 0, 1),
        BYTES.numpy().astype(np.float32) / 255,
        Image.fromarray(BYTES.numpy()),
    ],
)
def test_images_of_every_form_are_the_same_tensor(image):
    assert as_image(image, (H, W)).equal(FLOATS)


def test_grey_images_have_one_channel():
    assert as_image(FLOATS[0], (H, W)).equal(FLOATS[:1])
    assert as_image(Image.fromarray(BYTES.numpy()).convert("L"), (H, W)).shape == (1, H, W)


def test_channels_are_first_where_both_can_be():
    cube = torch.rand(4, 4, 4)
    assert as_image(cube, (4, 4)).equal(cube)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (BYTES.numpy().astype(np.uint16), TypeError, "array of uint16.*image / 65535"),
        (INDICES, TypeError, r"int64 \(4, 5\).*in this order"),
        (Image.new("RGBA", (W, H)), TypeError, r'mode RGBA; write image.convert\("RGB"\)'),
        (Image.new("P", (W, H)), TypeError, r'convert\("RGB"\)'),
        (Image.new("I;16", (W, H)), TypeError, "np.float32.*65535"),
        ("image.png", TypeError, "got str"),
        (FLOATS[None], ValueError, "do not fit"),
        (torch.rand(3, W, H), ValueError, r"\(3, 5, 4\) and \(4, 5\)"),
    ],
)
def test_images_of_unknown_range_or_shape_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        as_image(image, (H, W))
