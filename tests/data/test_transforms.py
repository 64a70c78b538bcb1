import numpy as np
import pytest
import torch
from PIL import Image

from segrobust.data import TrainTransform


def labelled_image(height=40, width=56):
    """An image whose red channel is the label, in blocks that survive scaling, and a mask with the same labels."""
    labels = np.kron(np.random.default_rng(0).integers(0, 5, (height // 8, width // 8)), np.ones((8, 8))).astype(
        np.uint8
    )
    return np.stack([labels * 40] * 3, axis=-1), labels


def block_interior(mask):
    """Pixels whose 3x3 neighbourhood has one label: interpolation cannot mix classes there."""
    same = np.ones(mask.shape, dtype=bool)
    for rows in (-1, 0, 1):
        for columns in (-1, 0, 1):
            same &= np.roll(mask, (rows, columns), (0, 1)) == mask
    same[[0, -1]] = same[:, [0, -1]] = False
    return same


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.6, 0.9), (1.2, 2.0), (0.5, 2.0)])
def test_image_and_mask_move_together(scale):
    image, mask = labelled_image()
    transform = TrainTransform(size=(32, 48), scale=scale, color_jitter=0)
    torch.manual_seed(0)
    checked = 0
    for _ in range(30):
        moved, labels = transform(image, mask, ignore_index=255)
        assert moved.shape == (32, 48, 3)
        assert labels.shape == (32, 48)
        inside = block_interior(labels) & (labels != 255)
        assert np.array_equal(np.rint(moved[inside][:, 0] / 40), labels[inside])
        checked += inside.sum()
    assert checked > 5000


@pytest.mark.parametrize("zoom", [0.625, 0.75, 1.25, 1.75])
def test_labels_are_picked_at_pixel_centres(zoom):
    """As Pillow does; picking at corners shifts the mask against the image by up to half a pixel."""
    mask = np.random.default_rng(0).integers(0, 200, (40, 56), dtype=np.uint8)
    height, width = int(40 * zoom), int(56 * zoom)
    transform = TrainTransform(size=(height, width), scale=(zoom, zoom), flip=0, color_jitter=0)
    _, labels = transform(np.zeros((40, 56, 3), dtype=np.uint8), mask, ignore_index=255)
    expected = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    decided = np.ix_(*((np.arange(round(size * zoom)) + 0.5) / zoom % 1 != 0 for size in mask.shape))  # of two, either
    assert np.array_equal(labels[decided], np.asarray(expected)[decided])


def test_padding_is_void_and_only_padding_is():
    image, mask = labelled_image()
    torch.manual_seed(0)
    moved, labels = TrainTransform(size=(64, 64), scale=(0.5, 0.5), color_jitter=0)(image, mask, ignore_index=9)
    assert (labels != 9).sum() == 20 * 28
    assert (moved[labels == 9] == 128).all()


def test_flip_does_not_depend_on_scale():
    """With one seed per step, every step would draw the same number: small zooms flipped, large ones not."""
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[:, 16:] = 1
    transform = TrainTransform(size=(32, 32), scale=(0.5, 0.999), color_jitter=0)
    torch.manual_seed(0)
    flipped, scales = [], []
    for _ in range(300):
        _, labels = transform(image, mask, ignore_index=255)
        columns = np.flatnonzero((labels != 255).any(0))
        scales.append(len(columns))
        flipped.append(labels[labels != 255].reshape(-1, len(columns))[0, 0] == 1)
    assert 0.4 < np.mean(flipped) < 0.6
    assert abs(np.corrcoef(flipped, scales)[0, 1]) < 0.2


def test_colour_jitter_leaves_labels_and_stays_in_range():
    image, mask = labelled_image()
    torch.manual_seed(0)
    transform = TrainTransform(size=(40, 56), scale=(1.0, 1.0), flip=0, color_jitter=1.0)
    outputs = [transform(image, mask, ignore_index=255) for _ in range(10)]
    assert all(np.array_equal(labels, mask) for _, labels in outputs)
    assert len({moved.tobytes() for moved, _ in outputs}) == 10
    assert outputs[0][0].dtype == np.uint8


def test_torch_seed_decides_everything():
    image, mask = labelled_image()
    transform = TrainTransform(size=(32, 32))

    def draw(seed):
        torch.manual_seed(seed)
        return [transform(image, mask, ignore_index=255)[0].tobytes() for _ in range(4)]

    first = draw(1)
    assert draw(1) == first
    assert draw(2) != first
    assert len(set(first)) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (0, 3)}, "height, width"),
        ({"size": (8, 8), "scale": (2.0, 1.0)}, r"\(2.0, 1.0\)"),
        ({"size": (8, 8), "scale": (0.0, 1.0)}, "0 < lowest"),
        ({"size": (8, 8), "flip": 1.5}, "flip must be in"),
        ({"size": (8, 8), "color_jitter": -0.1}, "color_jitter must be in"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainTransform(**settings)
