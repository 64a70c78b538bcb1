"""Published data sets in fake trees of their exact layouts: labels come back, and other layouts are named."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_trees import (
    CAMVID_FRAMES,
    VOID,
    ade_tree,
    camvid32_tree,
    cityscapes_tree,
    sbd_tree,
    voc_tree,
    write_mat,
    write_png,
)
from PIL import Image

from segrobust.data import ADE20K, ADE20K_150, CAMVID, CAMVID32, CITYSCAPES, PASCAL_VOC, CamVid32, Cityscapes, PascalVOC
from segrobust.data.datasets.camvid32 import split_of
from segrobust.metrics import confusion_counts, miou_dataset

CITYSCAPES_TRAIN_IDS = (
    *(255,) * 7,
    *(0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18),
)
"""Train id of the ids 0..33, as `cityscapesscripts/helpers/labels.py` lists them."""


def mask_of(dataset, name):
    return dataset[dataset.names.index(name)]["mask"].numpy()


# --- PASCAL VOC


def test_voc_gives_the_indices_of_palette_masks_and_void(tmp_path):
    labels = voc_tree(tmp_path)
    data = PascalVOC(tmp_path, "val")
    assert data.names == ("2007_000033", "2009_000042")
    assert Image.open(data.pairs[0].mask).mode == "P"
    for name in data.names:
        assert np.array_equal(mask_of(data, name), labels[name])
    assert {sample["image"].shape[1:] for sample in (data[0], data[1])} == {(10, 15), (15, 10)}
    assert data.label_space == PASCAL_VOC
    assert data.describe() == "PASCAL VOC 2012 val, 2 images, 21 classes"
    assert data.sequences == data.names


def test_voc_splits_are_those_of_the_lists_in_their_order(tmp_path):
    voc_tree(tmp_path)
    lists = tmp_path / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    for split in ("train", "val", "trainval"):
        assert PascalVOC(tmp_path, split).names == tuple((lists / f"{split}.txt").read_text().split())


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_root_may_be_any_of_three_folders(tmp_path, below):
    voc_tree(tmp_path)
    assert len(PascalVOC(tmp_path / below, "train")) == 3


def test_voc_palette_is_that_of_the_development_kit():
    assert PASCAL_VOC.palette[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert PASCAL_VOC.palette[PASCAL_VOC.names.index("person")] == (192, 128, 128)
    assert PASCAL_VOC.palette[20] == (0, 64, 128)


@pytest.mark.parametrize("masks", ["mat", "png", "png without those of VOC"])
def test_voc_augmented_by_sbd_leaves_out_val_and_keeps_the_masks_of_train(tmp_path, masks):
    voc = voc_tree(tmp_path)
    sbd = sbd_tree(tmp_path / "sbd", tmp_path)
    if masks != "mat":
        for name, labels in ({} if "without" in masks else voc).items():
            write_png(tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClassAug" / f"{name}.png", labels)
        for name, labels in sbd.items():
            write_png(tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClassAug" / f"{name}.png", labels)
    data = PascalVOC(tmp_path, "train_aug", sbd=tmp_path / "sbd" if masks == "mat" else None)
    assert set(data.names) == {"2007_000032", "2007_000039", "2008_000002", "2011_000123", "2011_000999"}
    assert not set(data.names) & set(PascalVOC(tmp_path, "val").names)
    for name in data.names:
        expected = voc[name] if name in PascalVOC(tmp_path, "train").names else sbd[name]
        assert np.array_equal(mask_of(data, name), expected)
    assert data[data.names.index("2011_000123")]["image"].shape == (3, 6, 14)


def test_sbd_files_that_are_damaged_or_of_another_size_are_named(tmp_path):
    voc_tree(tmp_path)
    sbd_tree(tmp_path / "sbd", tmp_path)
    cls = tmp_path / "sbd" / "benchmark_RELEASE" / "dataset" / "cls"
    (cls / "2011_000123.mat").write_bytes((cls / "2011_000123.mat").read_bytes()[:200])
    write_mat(cls / "2011_000999.mat", np.zeros((3, 3), dtype=np.uint8))
    data = PascalVOC(tmp_path, "train_aug", sbd=tmp_path / "sbd")
    with pytest.raises(ValueError, match=r"2011_000123\.mat is not a MATLAB file of version 5 .*cut"):
        mask_of(data, "2011_000123")
    with pytest.raises(ValueError, match=r"2011_000999\.mat holds labels of \(3, 3\), its image is of \(8, 8\)"):
        mask_of(data, "2011_000999")
    write_mat(cls / "2011_000999.mat", np.full((8, 8), 33, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"2011_000999\.mat: 64 of 64 label pixels hold 33"):
        mask_of(data, "2011_000999")


def test_a_matlab_file_that_could_grow_is_not_read(tmp_path):
    voc_tree(tmp_path)
    sbd_tree(tmp_path / "sbd", tmp_path)
    (tmp_path / "sbd/benchmark_RELEASE/dataset/cls/2011_000999.mat").write_bytes(bytes(2**20 + 1))
    with pytest.raises(ValueError, match=r"2011_000999\.mat has 1048577 bytes; a mask in MATLAB's .*at most 1048576"):
        mask_of(PascalVOC(tmp_path, "train_aug", sbd=tmp_path / "sbd"), "2011_000999")


def test_voc_names_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no folder JPEGImages.*it holds nothing.*VOCtrainval_11-May-2012\.tar"):
        PascalVOC(tmp_path, "val")
    voc_tree(tmp_path)
    with pytest.raises(ValueError, match=r"no folder SegmentationClassAug.*sbd=\.\.\., the archive benchmark\.tgz"):
        PascalVOC(tmp_path, "train_aug")
    with pytest.raises(ValueError, match="benchmark_RELEASE/dataset with cls"):
        PascalVOC(tmp_path, "train_aug", sbd=tmp_path)
    with pytest.raises(ValueError, match="has no effect on 'val'"):
        PascalVOC(tmp_path, "val", sbd=tmp_path)
    with pytest.raises(ValueError, match="one of train, val, trainval, train_aug, got 'test'"):
        PascalVOC(tmp_path, "test")
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/2007_000033.png").unlink()
    with pytest.raises(ValueError, match=r"1 names in .*val\.txt without a mask in SegmentationClass \(2007_000033\)"):
        PascalVOC(tmp_path, "val")


# --- Cityscapes


@pytest.mark.parametrize("ending", ["labelIds", "labelTrainIds"])
def test_cityscapes_maps_every_id(tmp_path, ending):
    raw = cityscapes_tree(tmp_path, ending)
    table = dict(enumerate(CITYSCAPES_TRAIN_IDS if ending == "labelIds" else range(19))) | {255: VOID}
    for split in ("train", "val"):
        data = Cityscapes(tmp_path, split)
        for name in data.names:
            assert np.array_equal(mask_of(data, name), np.vectorize(table.get)(raw[name]))
    assert data.sequences == ("frankfurt", "munster")
    assert data.describe() == "Cityscapes val, 2 images, 19 classes"
    assert data.label_space == CITYSCAPES


def test_cityscapes_prefers_the_ids_of_the_archive(tmp_path):
    raw = cityscapes_tree(tmp_path, "labelTrainIds")
    cityscapes_tree(tmp_path, "labelIds")
    assert (mask_of(Cityscapes(tmp_path, "val"), sorted(raw)[1]) == 18).any()  # bicycle, id 33


def test_cityscapes_is_read_at_full_size_unless_told(tmp_path):
    cityscapes_tree(tmp_path, size=(16, 32))
    assert Cityscapes(tmp_path, "val")[0]["image"].shape == (3, 16, 32)
    assert Cityscapes(tmp_path, "val", size=(8, 16))[0]["mask"].shape == (8, 16)


def test_cityscapes_refuses_what_it_cannot_score(tmp_path):
    with pytest.raises(ValueError, match=r"leftImg8bit/val, gtFine/val.*leftImg8bit_trainvaltest\.zip.*account"):
        Cityscapes(tmp_path, "val")
    with pytest.raises(ValueError, match="'test' are not public"):
        Cityscapes(tmp_path, "test")
    raw = cityscapes_tree(tmp_path)
    name = next(name for name in raw if name.startswith("munster"))
    path = tmp_path / "gtFine" / "val" / "munster" / f"{name}_gtFine_labelIds.png"
    write_png(path, np.full((8, 16), 40, dtype=np.uint8))
    with pytest.raises(
        ValueError, match=r"labelIds\.png: 128 of 128 pixels hold 40 \(128\); allowed are the ids 0\.\.33"
    ):
        Cityscapes(tmp_path, "val")[1]
    path.unlink()
    with pytest.raises(ValueError, match=rf"1 images without a mask \*_gtFine_labelIds.*\({name}\)"):
        Cityscapes(tmp_path, "val")
    shutil.rmtree(tmp_path / "gtFine" / "val")
    (tmp_path / "gtFine" / "val").mkdir()
    with pytest.raises(ValueError, match=r"no masks in .*looked for \*/\*_gtFine_labelIds\.png"):
        Cityscapes(tmp_path, "val")


# --- ADE20K


@pytest.mark.parametrize("below", ["", "ADEChallengeData2016"])
def test_ade_takes_zero_as_void_and_shifts_the_others(tmp_path, below):
    raw = ade_tree(tmp_path)
    for split in ("train", "val"):
        data = ADE20K(tmp_path / below, split)
        for name in data.names:
            assert np.array_equal(mask_of(data, name), np.where(raw[name] == 0, VOID, raw[name].astype(int) - 1))
    assert data.describe() == "ADE20K val, 2 images, 150 classes"
    assert data.label_space == ADE20K_150


def test_ade_names_and_colours_are_in_order():
    assert ADE20K_150.names[:3] == ("wall", "building", "sky")
    assert ADE20K_150.names[20] == "car"
    assert ADE20K_150.names[-1] == "flag"
    assert (ADE20K_150.palette[0], ADE20K_150.palette[20], ADE20K_150.palette[-1]) == (
        (120, 120, 120),
        (0, 102, 200),
        (92, 0, 255),
    )


@pytest.mark.parametrize("value", [151, 255])
def test_ade_masks_that_were_reduced_before_are_refused(tmp_path, value):
    """Shifting twice would give plausible labels, all of them wrong."""
    ade_tree(tmp_path)
    path = tmp_path / "ADEChallengeData2016" / "annotations" / "validation" / "ADE_val_00000001.png"
    write_png(path, np.full((13, 17), value, dtype=np.uint8))
    with pytest.raises(
        ValueError, match=rf"0001\.png: 221 of 221 pixels hold {value} \(221\); allowed are 0 \(void\) and 1"
    ):
        ADE20K(tmp_path, "val")[0]


def test_ade_names_its_archive(tmp_path):
    with pytest.raises(ValueError, match=r"images/validation, annotations/validation.*ADEChallengeData2016\.zip"):
        ADE20K(tmp_path, "val")


# --- CamVid in colours


def test_camvid32_reads_colours_and_splits_like_segnet(tmp_path):
    labels = camvid32_tree(tmp_path)
    for split, names in CAMVID_FRAMES.items():
        data = CamVid32(tmp_path, split)
        assert data.names == names
        for name in names:
            assert np.array_equal(mask_of(data, name), labels[name])
    assert data.sequences == ("0001TP", "Seq05VD")
    assert len(CamVid32(tmp_path, "all")) == 7
    assert CamVid32(tmp_path, "test").label_space == CAMVID32
    assert data.describe() == "CamVid test, 2 images, 31 classes"


def test_camvid32_reduces_to_the_eleven_classes(tmp_path):
    labels = camvid32_tree(tmp_path)
    data = CamVid32(tmp_path, "val", reduced=True)
    assert data.label_space == CAMVID
    groups = {
        "building": ("Archway", "Bridge", "Building", "Tunnel", "Wall"),
        "car": ("Car", "OtherMoving", "SUVPickupTruck", "Train", "Truck_Bus"),
        "bicyclist": ("Bicyclist", "MotorcycleScooter"),
        "sky": ("Sky",),
    }
    name = data.names[0]
    for coarse, fine in groups.items():
        expected = np.isin(labels[name], [CAMVID32.names.index(each) for each in fine])
        assert np.array_equal(mask_of(data, name) == CAMVID.names.index(coarse), expected)
    assert np.array_equal(mask_of(data, name) == VOID, labels[name] == VOID)


@pytest.mark.camvid
@pytest.mark.skipif(not os.environ.get("SEGROBUST_CAMVID"), reason="SEGROBUST_CAMVID does not name the CamVid data set")
def test_camvid32_split_agrees_with_the_folders_of_segnet():
    root = Path(os.environ["SEGROBUST_CAMVID"])
    for split in ("train", "val"):
        assert {split_of(path.stem) for path in (root / split).iterdir()} == {split}


def test_camvid32_refuses_other_colours_and_index_masks(tmp_path):
    camvid32_tree(tmp_path)
    path = tmp_path / "LabeledApproved_full" / "0016E5_07959_L.png"
    pixels = np.array(Image.open(path))
    pixels[:2, :3] = (1, 2, 3)
    pixels[4, 4] = (255, 255, 255)
    write_png(path, pixels)
    with pytest.raises(
        ValueError, match=r"07959_L\.png: 7 of 140 pixels hold \(1, 2, 3\) \(6\), \(255, 255, 255\) \(1\);"
    ):
        CamVid32(tmp_path, "val")[0]
    write_png(path, pixels[..., 0])
    with pytest.raises(ValueError, match=r"07959_L\.png has mode L; a mask of this data set is RGB"):
        CamVid32(tmp_path, "val")
    with pytest.raises(ValueError, match=r"no folder 701_StillsRaw_full.*it holds 0001TP_008520_L\.png"):
        CamVid32(tmp_path / "LabeledApproved_full")


# --- all of them

READERS = {
    "voc": (voc_tree, PascalVOC),
    "cityscapes": (cityscapes_tree, Cityscapes),
    "ade20k": (ade_tree, ADE20K),
    "camvid32": (camvid32_tree, CamVid32),
}


@pytest.fixture(params=READERS)
def kind(request):
    return request.param


def test_miou_is_that_of_a_slow_count(kind, tmp_path):
    """From files to the score: indices, void, sizes and the project's metric against loops over pixels."""
    build, reader = READERS[kind]
    build(tmp_path)
    data = reader(tmp_path, "val")
    num_classes = data.label_space.num_classes
    generator = torch.Generator().manual_seed(0)
    pairs, counts = [], []
    for sample in (data[index] for index in range(len(data))):
        labels = sample["mask"]
        noise = torch.randint(num_classes, labels.shape, generator=generator)
        keep = torch.rand(labels.shape, generator=generator) < 0.7
        prediction = torch.where(keep & (labels != VOID), labels, noise)
        counts.append(confusion_counts(prediction[None], labels[None], num_classes, (labels != VOID)[None]))
        pairs += zip(labels.flatten().tolist(), prediction.flatten().tolist(), strict=True)
    merged = type(counts[0])(**{key: torch.cat([getattr(c, key) for c in counts]) for key in ("tp", "fp", "fn")})
    ious = []
    for label in range(num_classes):
        union = [pair for pair in pairs if pair[0] != VOID and label in pair]
        if any(truth == label for truth, _ in union):
            ious.append(sum(truth == found for truth, found in union) / len(union))
    assert miou_dataset(merged).item() == pytest.approx(sum(ious) / len(ious), rel=1e-12)
    assert 0.3 < miou_dataset(merged) < 0.95


@pytest.mark.parametrize("size", [(5, 9), (23, 31)])
def test_odd_sizes_keep_the_labels(kind, size, tmp_path):
    build, reader = READERS[kind]
    build(tmp_path)
    native, resized = reader(tmp_path, "val"), reader(tmp_path, "val", size=size)
    for index in range(len(native)):
        sample = resized[index]
        assert sample["image"].shape == (3, *size)
        assert sample["mask"].shape == size
        assert set(sample["mask"].unique().tolist()) <= set(native[index]["mask"].unique().tolist())
    assert native.fingerprint() != resized.fingerprint()


def test_root_comes_from_the_environment(kind, tmp_path, monkeypatch):
    build, reader = READERS[kind]
    build(tmp_path)
    variable = f"SEGROBUST_{kind.upper()}"
    monkeypatch.setenv(variable, str(tmp_path))
    assert len(reader(split="val")) == 2
    monkeypatch.delenv(variable)
    with pytest.raises(ValueError, match=rf"root=\.\.\., or set the environment variable {variable}"):
        reader(split="val")


def test_fingerprints_tell_splits_apart_and_not_places(kind, tmp_path, tmp_path_factory):
    build, reader = READERS[kind]
    build(tmp_path)
    other = tmp_path_factory.mktemp("copy")
    build(other)
    assert reader(tmp_path, "val").fingerprint() == reader(other, "val").fingerprint()
    assert reader(tmp_path, "val").fingerprint() != reader(tmp_path, "train").fingerprint()


def test_masks_of_16_bits_are_refused(kind, tmp_path):
    build, reader = READERS[kind]
    build(tmp_path)
    path = reader(tmp_path, "val").pairs[1].mask
    Image.fromarray(np.zeros((4, 4), dtype=np.uint16)).save(path)
    with pytest.raises(ValueError, match=rf"{path.name} has mode I;16"):
        reader(tmp_path, "val")
