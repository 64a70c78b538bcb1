import numpy as np
import pytest
import torch

from segrobust.data import SCENES, SyntheticScenes


@pytest.fixture(scope="module")
def scenes():
    data = SyntheticScenes(24, size=(96, 128))
    return [data[index] for index in range(len(data))]


def same(a, b):
    return torch.equal(a["image"], b["image"]) and torch.equal(a["mask"], b["mask"])


def test_a_scene_is_a_function_of_seed_split_and_index(scenes):
    longer = SyntheticScenes(1000, size=(96, 128))
    assert all(same(longer[index], scenes[index]) for index in (7, 3, 23, 7))
    others = [SyntheticScenes(24, "val", size=(96, 128)), SyntheticScenes(24, size=(96, 128), seed=1)]
    assert not any(same(other[index], scenes[index]) for other in others for index in (0, 3))
    assert not same(scenes[0], scenes[1])


def test_drawing_leaves_the_global_generators_alone():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    SyntheticScenes(1)[0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_every_class_and_void_occur_and_nothing_else(scenes):
    masks = torch.stack([scene["mask"] for scene in scenes])
    counts = torch.bincount(masks.flatten(), minlength=256)
    shares = counts / masks.numel()
    assert counts[: SCENES.num_classes].sum() + counts[255] == masks.numel()
    assert (shares[: SCENES.num_classes] > 0.001).all()
    assert 0.002 < shares[255] < 0.08
    present = torch.stack([(masks == label).flatten(1).any(1).float().mean() for label in range(SCENES.num_classes)])
    assert (present > 0.6).all()


def test_scenes_obey_perspective(scenes):
    """Sky above everything, road below; a car low in the picture is near and hence larger."""
    masks = torch.stack([scene["mask"] for scene in scenes])
    rows = torch.arange(96.0).view(1, -1, 1).expand_as(masks)
    mean_row = [rows[masks == label].mean().item() for label in range(SCENES.num_classes)]
    assert np.argmin(mean_row) == SCENES.names.index("sky")
    assert np.argmax(mean_row) == SCENES.names.index("road")
    assert (masks[:, -1] == SCENES.names.index("sky")).sum() == 0


def test_colour_alone_does_not_tell_the_class(scenes):
    """Nearest mean colour, fitted on these very pixels, stays far from a usable segmentation."""
    pixels = torch.cat([scene["image"].flatten(1).T for scene in scenes])
    labels = torch.cat([scene["mask"].flatten() for scene in scenes])
    pixels, labels = pixels[labels != 255], labels[labels != 255]
    means = torch.stack([pixels[labels == label].mean(0) for label in range(SCENES.num_classes)])
    guess = torch.cdist(pixels, means).argmin(1)
    iou = [((guess == k) & (labels == k)).sum() / ((guess == k) | (labels == k)).sum() for k in range(len(means))]
    assert torch.stack(iou).mean() < 0.3


def test_light_differs_from_scene_to_scene(scenes):
    brightness = torch.stack([scene["image"].mean() for scene in scenes])
    assert brightness.std() > 0.05
    assert 0.15 < brightness.mean() < 0.7
    clipped = torch.stack([(scene["image"] >= 1).float().mean() for scene in scenes])
    assert clipped.mean() < 0.1


@pytest.mark.parametrize("size", [(32, 32), (33, 127), (256, 64)])
def test_any_size_can_be_drawn(size):
    sample = SyntheticScenes(2, size=size)[1]
    assert sample["image"].shape == (3, *size)
    assert sample["mask"].shape == size
    SCENES.check(sample["mask"])


def test_fingerprint_follows_the_settings():
    data = SyntheticScenes(5)
    assert SyntheticScenes(5).fingerprint() == data.fingerprint()
    others = [
        SyntheticScenes(6),
        SyntheticScenes(5, "val"),
        SyntheticScenes(5, size=(64, 64)),
        SyntheticScenes(5, seed=1),
    ]
    assert len({data.fingerprint(), *(other.fingerprint() for other in others)}) == 5
    assert data.describe() == "synthetic scenes train, 5 images, 9 classes"
    assert len(set(data.sequences)) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_scenes": 0}, "num_scenes must be at least 1"),
        ({"num_scenes": 1, "seed": -1}, "seed at least 0"),
        ({"num_scenes": 1, "split": "test"}, "'train' or 'val', got 'test'"),
        ({"num_scenes": 1, "size": (16, 64)}, r"at least 32 pixels.*\(16, 64\)"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SyntheticScenes(**settings)
