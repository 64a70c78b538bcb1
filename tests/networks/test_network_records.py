"""What weights were trained for, and comparison with what they are used for."""

import json

import pytest
import torch
from callbacks.tiny import SPACE, TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import ModelCheckpoint
from networks.saved import save_segformer
from torch import nn

import segrobust
from segrobust.label_space import LabelSpace
from segrobust.networks import (
    HuggingFaceNetwork,
    Normalized,
    Preprocessing,
    TorchvisionNetwork,
    WeightsRecord,
    find_conflicts,
    make_record,
    read_record,
    save_weights,
)
from segrobust.tasks import SegmentationTask


def space(*names, ignore_index=255):
    return LabelSpace(names=names, palette=((0, 0, 0),) * len(names), ignore_index=ignore_index)


class TinyData(LightningDataModule):
    label_space = SPACE

    def train_dataloader(self):
        return loader(TinyScenes(4))


def trained_checkpoint(folder, **data):
    trainer = make_trainer(folder, ModelCheckpoint(folder, save_last=True), num_sanity_val_steps=0)
    trainer.fit(SegmentationTask(tiny_network()), **data)
    return folder / "last.ckpt"


def test_safetensors_and_lightning_checkpoints_say_the_same(tmp_path):
    network = tiny_network()
    save_weights(network, tmp_path / "weights.safetensors", metadata=make_record(network, SPACE))
    expected = WeightsRecord(version=segrobust.__version__, label_space=SPACE, preprocessing=Preprocessing.of(network))
    assert read_record(tmp_path / "weights.safetensors") == expected
    assert read_record(trained_checkpoint(tmp_path, datamodule=TinyData())) == expected


def test_a_checkpoint_holds_text_and_no_hyper_parameters(tmp_path):
    content = torch.load(trained_checkpoint(tmp_path, datamodule=TinyData()), weights_only=True)
    assert all(isinstance(value, str) for value in content["segrobust"].values())
    assert "hyper_parameters" not in content


def test_without_a_data_module_the_classes_are_not_recorded(tmp_path):
    record = read_record(trained_checkpoint(tmp_path, train_dataloaders=loader(TinyScenes(4))))
    assert record.label_space is None
    assert record.preprocessing is not None


def test_files_of_others_say_nothing(tmp_path):
    torch.save(tiny_network().state_dict(), tmp_path / "weights.pth")
    save_weights(tiny_network(), tmp_path / "weights.safetensors", metadata={"format": "pt"})
    assert read_record(tmp_path / "weights.pth") == read_record(tmp_path / "weights.safetensors") == WeightsRecord()


@pytest.mark.parametrize(
    "metadata",
    [{"label_space": "{"}, {"label_space": "[]"}, {"normalization": "{}"}, {"label_space": '{"names": ["a"]}'}],
)
def test_a_damaged_record_is_named_with_its_file(tmp_path, metadata):
    save_weights(tiny_network(), tmp_path / "weights.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"weights\.safetensors has a record that cannot be read"):
        read_record(tmp_path / "weights.safetensors")


def test_a_foreign_entry_of_a_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}, "segrobust": 3}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="must map text to text"):
        read_record(tmp_path / "last.ckpt")


def weights_of(label_space):
    return WeightsRecord(label_space=label_space, preprocessing=None)


def test_equal_classes_are_no_conflict():
    network = tiny_network()
    assert find_conflicts(network, SPACE) == []
    assert find_conflicts(network, SPACE, weights=WeightsRecord()) == []
    assert find_conflicts(network, SPACE, weights=weights_of(SPACE)) == []
    written_otherwise = weights_of(space("Sky", "road_", "T ree"))
    assert find_conflicts(network, SPACE, weights=written_otherwise) == []


@pytest.mark.parametrize(
    ("names", "fragments"),
    [
        (
            ("sky", "tree", "road"),
            ["best.ckpt", "sky, tree, road", "sky, road, tree", "class 1, 'tree' against 'road'"],
        ),
        (("sky", "road"), ["2 classes (sky, road)", "the data have 3"]),
        (("sky", "road", "?"), ["class 2, '?' against 'tree'"]),
    ],
)
def test_other_classes_are_shown_with_both_sides(names, fragments):
    (conflict,) = find_conflicts(tiny_network(), SPACE, weights=weights_of(space(*names)), file="best.ckpt")
    for fragment in fragments:
        assert fragment in conflict


def test_another_void_value_is_no_conflict():
    """The network gives no logits for void, so that its value belongs to the masks alone."""
    trained = weights_of(space(*SPACE.names, ignore_index=11))
    assert find_conflicts(tiny_network(), SPACE, weights=trained) == []


def test_another_normalisation_than_in_training_is_shown():
    trained = WeightsRecord(preprocessing=Preprocessing(mean=(0.5,) * 3, std=(0.5,) * 3))
    (conflict,) = find_conflicts(Normalized(nn.Identity()), SPACE, weights=trained, file="best.ckpt")
    assert "0.5, 0.5, 0.5" in conflict
    assert "0.485, 0.456, 0.406" in conflict


def test_networks_of_libraries_know_their_classes(tmp_path):
    save_segformer(tmp_path, names=("Sky", "Road", "Tree"))
    network = nn.Sequential(HuggingFaceNetwork(str(tmp_path)))
    assert find_conflicts(network, SPACE) == []
    other = space("lane", "roof", "dog")  # trained further on other data
    assert find_conflicts(network, other, weights=weights_of(other)) == []
    (conflict,) = find_conflicts(network, space("road", "sky", "tree"))
    assert str(tmp_path) in conflict
    assert "Sky, Road, Tree" in conflict
    (conflict,) = find_conflicts(TorchvisionNetwork("lraspp_mobilenet_v3_large", num_classes=4), SPACE)
    assert "4 classes" in conflict


def test_record_is_json_by_name():
    record = make_record(tiny_network(), SPACE)
    assert json.loads(record["label_space"])["names"] == ["sky", "road", "tree"]
    assert json.loads(record["normalization"])["mean"] == [0.485, 0.456, 0.406]
    assert set(make_record(nn.Identity(), None)) == {"segrobust_version"}
