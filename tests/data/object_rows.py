"""What the rows of the first table of `docs/data.md` on objects of Python are about; see `data_rows`.

Each gives the same two images and masks in another form: the digests of what was measured say whether they were read.
"""

import itertools
from collections.abc import Sequence
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from data_rows import SIZE, VOID, Objects, classes, network, pairs, row
from dataset_trees import cityscapes_tree, voc_tree
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from segrobust.data import Cityscapes, PascalVOC
from segrobust.evaluation.dataset import load_sample
from segrobust.label_space import LabelSpace

BYTES = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
IMAGES = torch.from_numpy(BYTES).permute(0, 3, 1, 2).float() / 255
LABELS = np.stack([classes(void=True), classes(void=True, seed=1)])
MASKS = torch.from_numpy(LABELS).long()
PAIRS = [*zip(IMAGES, MASKS, strict=True)]


def digests(samples) -> set[str]:
    return {load_sample(samples, index).digest for index in range(len(samples))}


def measured(report) -> set[str]:
    return {record.sample_digest for record in report.records}


def objects(expected: Sequence = PAIRS, num_classes: int = 3, **names) -> Objects:
    """`names` for the code of a row, which must measure the expected samples."""
    return Objects({"network": network(num_classes), **names}, lambda report: measured(report) == digests(expected))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(PAIRS)


class Module(L.LightningDataModule):
    def setup(self, stage):
        self.val = PAIRS

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=2)


class Rows(Dataset):
    """Samples made by a function of image and mask, as bytes and pictures."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.make(BYTES[index], LABELS[index])


@row
def loader(root):
    return objects(loader=DataLoader(PAIRS, batch_size=2))


@row
def loader_that_changes(root):
    def halved(samples):
        images, masks = default_collate(samples)
        return images[..., ::2, ::2], masks[..., ::2, ::2]

    expected = [(image[:, ::2, ::2], mask[::2, ::2]) for image, mask in PAIRS]
    return objects(expected, loader=DataLoader(PAIRS, batch_size=2, collate_fn=halved))


@row
def iterable(root):
    return objects(dataset=Stream())


@row
def long_stream(root):
    return objects(stream=itertools.cycle(PAIRS), itertools=itertools)


@row
def datamodule(root):
    return objects(datamodule=Module())


@row
def batch(root):
    return objects(images=IMAGES, masks=MASKS)


@row
def batches(root):
    return objects(batches=[*DataLoader(PAIRS, batch_size=2)])


@row
def two_lists(root):
    return objects(images=[Image.fromarray(image) for image in BYTES], masks=[*MASKS])


@row
def objects_with_attributes(root):
    return objects(dataset=[SimpleNamespace(image=image, mask=mask) for image, mask in PAIRS])


@row
def table(root):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    return objects(table=pandas.DataFrame({"image": [*IMAGES], "mask": [*MASKS]}))


@row
def splits(root):
    return objects(splits={"train": PAIRS[:1], "validation": PAIRS})


@row
def tuples(root):
    return objects(dataset=torch.utils.data.TensorDataset(IMAGES, MASKS))


@row
def longer_tuples(root):
    return objects(dataset=[(image, mask, {"name": "x"}, 3) for image, mask in PAIRS])


@row
def tuples_in_another_order(root):
    return objects(dataset=[(mask, image) for image, mask in PAIRS])


@row
def tuples_with_two_masks(root):
    return objects(dataset=[(image, mask == 1, mask) for image, mask in PAIRS])


@row
def mappings(root):
    return objects(dataset=[{"pixel_values": image, "labels": mask, "id": 7} for image, mask in PAIRS])


@row
def mappings_with_other_keys(root):
    return objects(dataset=[{"rgb": image, "truth": mask} for image, mask in PAIRS])


@row
def mappings_in_mappings(root):
    return objects(dataset=[{"image": image, "truth": {"mask": mask}} for image, mask in PAIRS])


@row
def numpy_arrays(root):
    return objects(dataset=Rows(lambda image, mask: (image, mask)))


@row
def pil_pictures(root):
    return objects(dataset=Rows(lambda image, mask: (Image.fromarray(image), Image.fromarray(mask))))


@row
def images_of_wide_integers(root):
    return objects(dataset=[((image * 255).round().long(), mask) for image, mask in PAIRS])


@row
def one_hot_masks(root):
    labels = [torch.from_numpy(classes(seed=seed)).long() for seed in range(2)]
    one_hot = [torch.nn.functional.one_hot(each, 3).permute(2, 0, 1).float() for each in labels]
    return objects([*zip(IMAGES, labels, strict=True)], dataset=[*zip(IMAGES, one_hot, strict=True)])


@row
def masks_with_a_dimension(root):
    return objects(dataset=[(image, mask[None]) for image, mask in PAIRS])


@row
def masks_of_floats(root):
    return objects(dataset=[(image, mask.float()) for image, mask in PAIRS])


@row
def masks_of_any_integers(root):
    kinds = (np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.uint8, ">i2")
    masks = [LABELS[index % 2].astype(kind) for index, kind in enumerate(kinds)]
    signed = np.where(classes(void=True) == VOID, -1, classes(void=True)).astype(np.int8)
    assert digests([(IMAGES[0], signed)]) == digests([(IMAGES[0], torch.from_numpy(signed).long())])
    return objects(dataset=[(IMAGES[index % 2], mask) for index, mask in enumerate(masks)])


def hub_columns():
    """Images and masks as columns of pictures, with one that is neither."""
    datasets = pytest.importorskip("datasets", reason="rows of the Hugging Face library need `datasets`")
    columns = {
        "image": [Image.fromarray(image) for image in BYTES],
        "annotation": [Image.fromarray(mask) for mask in LABELS],
        "scene_category": [3, 4],
    }
    kinds = {"image": datasets.Image(), "annotation": datasets.Image(), "scene_category": datasets.Value("int64")}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


@row
def hub(root):
    return objects(dataset=hub_columns())


@row
def hub_as_tensors(root):
    return objects(dataset=hub_columns())


@row
def hub_arrays(root):
    datasets = pytest.importorskip("datasets", reason="rows of the Hugging Face library need `datasets`")
    return objects(dataset=datasets.Dataset.from_dict({"image": BYTES.tolist(), "mask": LABELS.tolist()}))


@row
def hub_splits(root):
    datasets = pytest.importorskip("datasets", reason="rows of the Hugging Face library need `datasets`")
    return objects(splits=datasets.DatasetDict(train=hub_columns().select([0]), validation=hub_columns()))


@row
def hub_stream(root):
    return objects(stream=hub_columns().to_iterable_dataset())


@row
def torchvision_voc(root):
    from torchvision.datasets import VOCSegmentation

    voc_tree(root)
    return objects(PascalVOC(root, split="val"), 21, VOCSegmentation=VOCSegmentation)


@row
def torchvision_cityscapes(root):
    cityscapes_tree(root)
    return objects(Cityscapes(root, split="val"), 19)


@row
def torchgeo_loveda(root):
    loveda = pytest.importorskip("torchgeo.datasets", reason="a row on torchgeo needs it").LoveDA
    for scene, image, mask in zip(("Urban", "Rural"), BYTES, LABELS, strict=True):
        for kind, pixels in (("images_png", image), ("masks_png", mask)):
            folder = root / "Val" / scene / kind
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "1.png")
    return objects(LoveDA=loveda)


class Void(list):
    """A data set of its own with a label space."""

    label_space = LabelSpace(names=("water", "quay", "boat"), palette=((0, 0, 200), (90, 90, 90), (200, 0, 0)))


@row
def own_label_space(root):
    return Objects(
        {"network": network(3), "dataset": Void(pairs(3, VOID))},
        lambda report: measured(report) == digests(pairs(3, VOID)),
    )
