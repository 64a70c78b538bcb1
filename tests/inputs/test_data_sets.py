"""Data sets as people have them: evaluated like a list of tensors, or refused with the line to write."""

from pathlib import Path
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, default_collate

import segrobust
from segrobust.attacks import PGD

torch.manual_seed(0)
NETWORK = nn.Conv2d(3, 3, 3, padding=1)
BYTES = torch.randint(0, 256, (2, 3, 6, 8), dtype=torch.uint8)
IMAGES, MASKS = BYTES.float() / 255, torch.randint(0, 3, (2, 6, 8))
PAIRS = [*zip(IMAGES, MASKS, strict=True)]


def apsr_of(dataset, **settings):
    report = segrobust.evaluate(
        NETWORK,
        dataset,
        attacks={"pgd": PGD(num_steps=2)},
        eps=[2 / 255],
        progress=False,
        checks="off",
        **settings,
    )
    return [record.apsr for record in report.records]


class Hub:
    """As `datasets.Dataset`: rows of pictures, by position, with features; not a subclass of anything of torch."""

    features = ("image", "annotation", "scene_category")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {
            "image": Image.fromarray(BYTES[index].permute(1, 2, 0).numpy()),
            "annotation": Image.fromarray(MASKS[index].byte().numpy()),
            "scene_category": 3,
        }


class Stream(IterableDataset):
    def __iter__(self):
        return iter(PAIRS)


class Frame:
    """As `pandas.DataFrame`: positions are columns."""

    iloc = PAIRS

    def __len__(self):
        return 2

    def __getitem__(self, name):
        raise KeyError(name)

    def to_dict(self, orient):
        assert orient == "records"
        return [{"image": a, "mask": b} for a, b in PAIRS]


def to_picture(image):
    return Image.fromarray((image * 255).byte().permute(1, 2, 0).numpy())


class Module(L.LightningDataModule):
    def val_dataloader(self):
        return DataLoader(PAIRS)


@pytest.mark.parametrize(
    "dataset",
    [
        tuple(PAIRS),
        TensorDataset(IMAGES, MASKS),
        Subset(PAIRS, range(2)),
        Hub(),
        [{"image": a, "mask": b, "label": 1} for a, b in PAIRS],
        [{"pixel_values": a, "labels": b, "id": 7} for a, b in PAIRS],
        [{"img": a, "gt_semantic_seg": b[None], "img_meta": {}} for a, b in PAIRS],
        [(a, b, {"name": "x"}) for a, b in PAIRS],
        [[a, b, 3, "x"] for a, b in PAIRS],
        [(a.numpy(), b.numpy().astype(np.uint8)) for a, b in PAIRS],
        [(a.permute(1, 2, 0).numpy(), b.numpy()) for a, b in PAIRS],
        [*zip(BYTES, MASKS.float(), strict=True)],
        {0: PAIRS[0], 1: PAIRS[1]},
    ],
)
def test_samples_of_every_form_give_the_same_numbers(dataset):
    assert apsr_of(dataset) == apsr_of(PAIRS)


@pytest.mark.parametrize(
    ("samples", "entries"),
    [
        ([{"rgb": a, "truth": b} for a, b in PAIRS], {"image": "rgb", "mask": "truth"}),
        ([(b, a) for a, b in PAIRS], {"image": 1, "mask": 0}),
        ([(a, a, b) for a, b in PAIRS], {"mask": 2}),
        (
            [{"image": a, "truth": {"mask": b}} for a, b in PAIRS],
            {"image": "image", "mask": lambda s: s["truth"]["mask"]},
        ),
        ([{"pixel_values": a, "truth": b} for a, b in PAIRS], {"mask": "truth"}),
        ([{"rgb": a, "label": 3, "mask": b} for a, b in PAIRS], {"image": "rgb"}),
    ],
)
def test_entries_can_be_named(samples, entries):
    if "image" not in entries and isinstance(samples[0], tuple):
        with pytest.raises(TypeError, match=r"1, 2 can be the mask.*image=0, mask=1"):
            apsr_of(samples)
        entries = entries | {"image": 0}
    assert apsr_of(samples, **entries) == apsr_of(PAIRS)


def test_a_data_set_with_named_entries_keeps_its_names():
    dataset = Hub()
    dataset.names = ("left", "right")
    report = segrobust.evaluate(
        NETWORK,
        dataset,
        attacks={"pgd": PGD(num_steps=2)},
        eps=[2 / 255],
        progress=False,
        checks="off",
        mask="annotation",
    )
    assert {record.sample_name for record in report.records} == {"left", "right"}


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (DataLoader(PAIRS), "a DataLoader: pass loader.dataset, and batch_size="),
        (DataLoader(PAIRS, collate_fn=default_collate, batch_size=2), "loader.dataset"),
        (DataLoader(PAIRS, collate_fn=lambda samples: samples), "if its collate_fn changes the samples"),
        (DataLoader(Stream()), r"list\(loader.dataset\)"),
        (Stream(), r"a Stream: it has no positions: pass list\(dataset\)"),
        ((pair for pair in PAIRS), "a generator: .*islice"),
        (iter(PAIRS), "no positions"),
        (Module(), "datamodule.val_dataloader"),
        ((IMAGES, MASKS), r"one batch: pass its samples as list\(zip\(images, masks\)\)"),
        ([IMAGES.numpy(), MASKS.numpy()], "one batch"),
        ({"image": IMAGES, "mask": MASKS}, r'zip\(batch\["image"\]'),
        (IMAGES, r"images and masks as list\(zip"),
        ({"train": Hub(), "validation": Hub()}, r"choose a split, such as dataset\['train'\]"),
        ({"train": PAIRS, "validation": PAIRS}, r"choose a split, such as dataset\['train'\]"),
        ({"image": [*IMAGES], "mask": [*MASKS]}, r'zip\(batch\["image"\]'),
        ({"images": IMAGES, "labels": MASKS}, r'zip\(batch\["images"\], batch\["labels"\]'),
        (([*IMAGES], [*MASKS]), r"images and masks: pass them as list\(zip"),
        ([[*map(to_picture, IMAGES)], [*MASKS]], r"images and masks: pass them as list\(zip"),
        (np.array([{"image": a, "mask": b} for a, b in PAIRS], dtype=object), r"pass list\(dataset\)"),
        (Frame(), r'pass dataset.to_dict\("records"\)'),
        ("data/camvid", "segrobust.data.Folder"),
        (Path("data"), "segrobust.data.Folder"),
        (Hub, "by calling it"),
        (lambda: PAIRS, "by calling it"),
        (None, "a list of samples"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_line_to_write(dataset, message):
    with pytest.raises(TypeError, match=message):
        apsr_of(dataset)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"image": IMAGES[0], "class": 3}, "got the keys 'class', 'image'; name the entries, such as image='image'"),
        ({"pixel_values": IMAGES[0], "labels": MASKS[0], "img": 3}, "name the entries"),
        ((IMAGES[0],), "got tuple of 1"),
        (IMAGES[0], "sample 0: samples must be mappings .* got Tensor"),
        ((IMAGES[0], 3), "sample 0: the mask must hold a class index for every pixel, got int"),
        ((MASKS[0], MASKS[0]), "sample 0: the image .*in this order"),
        ((IMAGES, MASKS), r"sample 0 is a batch, .* single samples, as \[sample for images, masks in"),
        ({"image": IMAGES[:1].numpy(), "mask": MASKS[:1]}, "sample 0 is a batch"),
        (SimpleNamespace(image=IMAGES[0], mask=MASKS[0]), "image=lambda sample: sample.image, mask=lambda"),
        (("a.png", MASKS[0]), "got str: read the file"),
        ((b"PNG", MASKS[0]), "got bytes: decode it"),
        (({"bytes": b"PNG", "path": None}, MASKS[0]), "got dict: decode the column"),
        (({"left": IMAGES[0]}, MASKS[0]), "got dict: name the image by a function"),
        ((IMAGES[0].tolist(), MASKS[0]), r"got list: write np.asarray\(image"),
        ((IMAGES[0] > 0.5, MASKS[0]), r"torch.bool .*: pass its float\(\)"),
        ((0, PAIRS[0]), r"got tuple: name the entries by functions .* sample\[1\]\[1\]"),
    ],
)
def test_samples_that_are_not_known_are_named(sample, message):
    with pytest.raises((TypeError, ValueError), match=message):
        apsr_of([sample])


def test_the_lines_that_messages_give_are_right():
    assert apsr_of(Frame().to_dict("records")) == apsr_of(PAIRS)
    samples = [SimpleNamespace(image=a, mask=b) for a, b in PAIRS]
    found = apsr_of(samples, image=lambda sample: sample.image, mask=lambda sample: sample.mask)
    assert found == apsr_of(PAIRS)
    assert apsr_of([*enumerate(PAIRS)], image=lambda sample: sample[1][0], mask=lambda sample: sample[1][1]) == found
    batches = [*DataLoader(PAIRS, batch_size=2)]
    assert apsr_of([sample for images, masks in batches for sample in zip(images, masks, strict=True)]) == found
    assert apsr_of(DataLoader(PAIRS).dataset) == apsr_of(PAIRS)
    assert apsr_of([*zip(IMAGES, MASKS, strict=True)]) == apsr_of(PAIRS)
    assert apsr_of([*Stream()]) == apsr_of(PAIRS)
    assert apsr_of(Module().val_dataloader().dataset) == apsr_of(PAIRS)
    loader = DataLoader(PAIRS, collate_fn=lambda samples: default_collate(samples))
    assert apsr_of([sample for images, masks in loader for sample in zip(images, masks, strict=True)]) == apsr_of(PAIRS)
