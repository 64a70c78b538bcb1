"""Void pixels as a class that is there, or as a new first one."""

import numpy as np
import torch
from dataset_trees import ade_tree, voc_tree

from segrobust.data import ADE20K, EvalTransform, PascalVOC, VoidAsClass


def test_void_of_voc_becomes_its_background(tmp_path):
    labels = voc_tree(tmp_path)
    plain = PascalVOC(tmp_path, split="val")
    dataset = VoidAsClass(plain)
    assert dataset.label_space == plain.label_space
    assert dataset.names == plain.names
    for index, name in enumerate(plain.names):
        expected = np.where(labels[name] == 255, 0, labels[name])
        assert torch.equal(dataset[index]["mask"], torch.from_numpy(expected).long())
        assert torch.equal(dataset[index]["image"], plain[index]["image"])
    assert dataset.fingerprint() != plain.fingerprint()
    assert dataset.describe().endswith("21 classes, void as background")


def test_void_of_ade20k_becomes_class_0_of_151(tmp_path):
    ade_tree(tmp_path)
    plain = ADE20K(tmp_path, split="val")
    dataset = VoidAsClass(plain)
    assert dataset.label_space.num_classes == 151
    assert dataset.label_space.names[:2] == ("background", plain.label_space.names[0])
    assert len(dataset.label_space.palette) == 151
    masks = [(dataset[index]["mask"], plain[index]["mask"]) for index in range(len(plain))]
    for mask, before in masks:
        assert torch.equal(mask, torch.where(before == 255, 0, before + 1))
    assert any((before == 255).any() for _, before in masks)
    assert any((before == 149).any() for _, before in masks)


def test_the_transform_of_the_other_data_set_comes_first(tmp_path):
    voc_tree(tmp_path)
    padded = PascalVOC(tmp_path, split="val", transform=EvalTransform(crop=(40, 40)))
    mask = VoidAsClass(padded)[0]["mask"]
    assert mask.shape == (40, 40)
    assert mask[0, 0] == 0  # padding, void before
    assert torch.equal(mask, torch.where(padded[0]["mask"] == 255, 0, padded[0]["mask"]))
