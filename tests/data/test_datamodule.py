import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import seed_everything
from trees import camvid_tree, stripes, write_image, write_mask

from segrobust.data import CAMVID, CamVid, Pixels, SegmentationDataModule, SegmentationDataset, TrainTransform
from segrobust.label_space import LabelSpace


@pytest.fixture
def root(tmp_path):
    return camvid_tree(tmp_path, size=(24, 32), num=5)


class Renamed(SegmentationDataset):
    """One empty image in another label space."""

    def __init__(self):
        space = LabelSpace(names=("road", "sky"), palette=((0, 0, 0), (1, 1, 1)))
        super().__init__(label_space=space, names=("only",), transform=None)

    def load(self, index: int) -> tuple[Pixels, Pixels]:
        raise AssertionError("never read")

    def describe(self):
        return "renamed"

    def content(self):
        return {}


def test_validation_reads_every_sample_in_order_and_twice_the_same(root):
    module = SegmentationDataModule(val=CamVid(root, "val"), eval_batch_size=2, num_workers=0)
    batches = list(module.val_dataloader())
    assert [batch["sample_id"].tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    again = list(module.val_dataloader())
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(batches, again, strict=True))
    assert torch.equal(batches[0]["image"][1], module.val[1]["image"])
    assert torch.equal(batches[0]["mask"][1], module.val[1]["mask"])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_one_seed_gives_one_sequence_of_training_batches(root, num_workers):
    train = CamVid(root, "train", transform=TrainTransform(size=(16, 16)))
    module = SegmentationDataModule(train=train, val=CamVid(root, "val"), batch_size=2, num_workers=num_workers)

    def epochs(seed):
        seed_everything(seed, workers=True, verbose=False)
        loader, batches = module.train_dataloader(), []
        for epoch in range(2):
            loader.batch_sampler.sampler.set_epoch(epoch)  # as Lightning does
            batches += list(loader)
        return batches

    first, again, other = epochs(1), epochs(1), epochs(2)
    assert len(first) == 4
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in ("image", "mask"))
    assert not all(torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))
    assert not torch.equal(first[0]["image"], first[2]["image"])
    orders = [torch.cat([batch["sample_id"] for batch in first[epoch : epoch + 2]]).tolist() for epoch in (0, 2)]
    assert orders[0] != orders[1]


def test_workers_draw_different_variants(root):
    """Both workers read the same one image: equal streams would give equal pictures."""
    train = CamVid(root, "train", transform=TrainTransform(size=(16, 16)))
    train.pairs = (train.pairs[0],) * 5
    seed_everything(1, workers=True, verbose=False)
    module = SegmentationDataModule(train=train, val=CamVid(root, "val"), batch_size=2, num_workers=2)
    images = torch.cat([batch["image"] for batch in module.train_dataloader()])
    assert len(torch.unique(images, dim=0)) == 4


def test_reading_a_sample_seeds_no_generator_of_another_device(root, monkeypatch):
    """There dropout draws from it: seeded by samples, it would repeat itself, and a resumed training would differ."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("seeded the generators of all GPUs"))
    train = CamVid(root, "train", transform=TrainTransform(size=(16, 16)))
    module = SegmentationDataModule(train=train, val=CamVid(root, "val"), batch_size=2, num_workers=0)
    state = torch.get_rng_state()
    next(iter(module.train_dataloader()))
    assert torch.equal(torch.get_rng_state(), state)


def test_label_spaces_that_differ_are_shown(root):
    with pytest.raises(ValueError, match="class 0 is 'sky' on one side and 'road'") as caught:
        SegmentationDataModule(val=CamVid(root, "val"), test=Renamed())
    assert "val data, CamVid val, 5 images, 11 classes: 11 classes (sky, building" in str(caught.value)
    assert "test data, renamed: 2 classes (road, sky)" in str(caught.value)
    assert SegmentationDataModule(val=CamVid(root, "val")).label_space == CAMVID


def test_missing_data_is_named_when_asked_for(root):
    module = SegmentationDataModule(val=CamVid(root, "val"))
    with pytest.raises(ValueError, match="no training data"):
        module.train_dataloader()
    with pytest.raises(ValueError, match="no test data"):
        module.test_dataloader()


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"eval_batch_size": 0}, {"num_workers": -1}])
def test_bad_numbers_are_refused(root, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))}={next(iter(settings.values()))}"):
        SegmentationDataModule(val=CamVid(root, "val"), **settings)


def test_a_batch_that_never_fills_is_refused(root):
    with pytest.raises(ValueError, match="fewer samples than batch_size=6"):
        SegmentationDataModule(train=CamVid(root, "train"), val=CamVid(root, "val"), batch_size=6)
    module = SegmentationDataModule(
        train=CamVid(root, "train"), val=CamVid(root, "val"), batch_size=6, drop_last=False, num_workers=0
    )
    assert [len(batch["mask"]) for batch in module.train_dataloader()] == [5]


def test_images_of_different_sizes_cannot_share_a_batch(root):
    write_image(root / "val" / "0016E5_00001.png", (20, 32))
    write_mask(root / "valannot" / "0016E5_00001.png", stripes((20, 32), (0,)))
    data = CamVid(root, "val")
    with pytest.raises(ValueError, match=r"different sizes \(20x32, 24x32\)"):
        next(iter(SegmentationDataModule(val=data, eval_batch_size=2, num_workers=0).val_dataloader()))
    assert len(list(SegmentationDataModule(val=data, eval_batch_size=1, num_workers=0).val_dataloader())) == 5


def test_yaml_builds_data_sets_by_class_path(root, tmp_path):
    config = tmp_path / "data.yaml"
    config.write_text(f"""
data:
  class_path: segrobust.data.SegmentationDataModule
  init_args:
    batch_size: 2
    num_workers: 0
    train:
      class_path: segrobust.data.CamVid
      init_args:
        root: {root}
        split: train
        size: [12, 16]
        transform:
          class_path: segrobust.data.TrainTransform
          init_args: {{size: [8, 8], scale: [0.5, 1.5]}}
    val: {{class_path: segrobust.data.CamVid, init_args: {{root: {root}, split: val}}}}
""")
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_argument("--data", type=SegmentationDataModule)
    parsed = parser.parse_args(["--config", str(config)])
    module = parser.instantiate(parsed).data
    assert module.train.transform == TrainTransform(size=(8, 8), scale=(0.5, 1.5))
    assert next(iter(module.train_dataloader()))["image"].shape == (2, 3, 8, 8)
    assert parser.parse_string(parser.dump(parsed)).data == parsed.data
