"""Label spaces with more classes than a byte holds: 255 is a class like any other, void is what the data set says."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from segrobust import evaluate
from segrobust.attacks import PGD, AlmaProx
from segrobust.attacks.targets import LabelMap, majority_map, write_label_map
from segrobust.data import EvalTransform, Folder
from segrobust.evaluation.run.records import read_records
from segrobust.metrics import SegmentationConfusion

K = 300
SIZE = (12, 16)


class RedClasses(nn.Module):
    """The class of a pixel is its red value, from 0 to 255, plus 44 where green is on: every class can be told."""

    def forward(self, images: Tensor) -> Tensor:
        value = 255 * images[:, :1] + 44 * images[:, 1:2]
        return -((value - torch.arange(K, device=images.device).view(1, K, 1, 1)) ** 2)


def folder(root: Path, ignore_index: int | None = None) -> Path:
    """Two images in which class 255 and void occur, and every label is right."""
    for part in ("images", "masks"):
        (root / part / "val").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(2):
        pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
        pixels[..., 0] = rng.integers(0, 256, SIZE)
        pixels[:4, :, 0] = 255
        pixels[6:, :, 1] = 255
        labels = pixels[..., 0].astype(np.uint16) + 44 * (pixels[..., 1] > 0).astype(np.uint16)
        labels[4, :5] = 65535 if ignore_index is None else ignore_index
        Image.fromarray(pixels).save(root / f"images/val/{index}.png")
        Image.fromarray(labels).save(root / f"masks/val/{index}.png")
    classes = {"names": [f"c{index}" for index in range(K)]}
    (root / "classes.yaml").write_text(
        yaml.safe_dump(classes if ignore_index is None else classes | {"ignore_index": ignore_index})
    )
    return root


@pytest.mark.parametrize("ignore_index", [None, 300, 1000])
def test_class_255_and_void_come_back_from_a_folder(tmp_path: Path, ignore_index: int | None) -> None:
    data = Folder(folder(tmp_path, ignore_index), "val")
    mask = data[0]["mask"]
    void = 65535 if ignore_index is None else ignore_index
    assert data.label_space.ignore_index == void
    assert mask.dtype == torch.int64
    assert (mask[:4] == 255).all()
    assert (mask == void).sum() == 5
    prediction = RedClasses()(data[0]["image"][None]).argmax(1)[0]
    assert prediction[mask != void].equal(mask[mask != void])
    assert (data.label_space.colorize(mask)[4, :5] == 0).all()
    assert (data.label_space.colorize(mask)[:4] == torch.tensor(data.label_space.palette[255])).all()


def test_resizing_and_padding_keep_wide_labels(tmp_path: Path) -> None:
    root = folder(tmp_path)
    doubled = Folder(root, "val", size=(24, 32))[0]["mask"]
    assert doubled[::2, ::2].equal(Folder(root, "val")[0]["mask"])
    padded = Folder(root, "val", transform=EvalTransform(crop=(14, 18)))[0]["mask"]
    assert (padded[0] == 65535).all()
    assert padded[1:13, 1:17].equal(Folder(root, "val")[0]["mask"])


def test_a_label_map_of_wide_labels_comes_back(tmp_path: Path) -> None:
    data = Folder(folder(tmp_path), "val")
    image, mask = data[0]["image"], data[0]["mask"]
    label_map = majority_map([mask], K, ignore_index=65535, smoothing=0)
    write_label_map(tmp_path / "map.png", label_map, label_space=data.label_space)
    targets = LabelMap(path=str(tmp_path / "map.png"))
    maps = targets(RedClasses(), image[None], mask[None], names=["0"], ignore_index=65535, label_space=data.label_space)
    assert maps.targets[0].equal(mask)


def test_an_evaluation_with_files_counts_class_255(tmp_path: Path) -> None:
    data, run = Folder(folder(tmp_path / "data"), "val"), tmp_path / "run"
    attacks = {"alma": AlmaProx(num_steps=3), "pgd": PGD(num_steps=2)}
    report = evaluate(
        RedClasses(), data, attacks=attacks, eps=[8 / 255], run_dir=run, panels=2, progress=False, checks="off"
    )
    valid = 12 * 16 - 5
    records = read_records(run)
    assert {record.num_valid for record in records} == {valid}
    assert report.summary.clean is not None
    assert report.summary.clean["miou"] == pytest.approx(1)
    assert len(list(run.rglob("*.png"))) >= 4
    assert "c255" in (run / "report.html").read_text()


def test_the_usual_void_is_refused_where_255_is_a_class(tmp_path: Path) -> None:
    samples = [(torch.rand(3, *SIZE), torch.full(SIZE, 255))]
    run = tmp_path / "run"
    message = "ignore_index=255 is also one of the 300 classes.*ignore_index=65535"
    with pytest.raises(ValueError, match=message):
        evaluate(RedClasses(), samples, attacks={"pgd": PGD(num_steps=1)}, eps=[0.1], run_dir=run, progress=False)
    with pytest.raises(ValueError, match=message):
        PGD(num_steps=1, eps=0.1)(RedClasses(), samples[0][0][None], samples[0][1][None])
    with pytest.raises(ValueError, match=message):
        SegmentationConfusion(K)
    assert not (run / "records").exists()
    logged = PGD(num_steps=1, eps=0.1)(RedClasses(), samples[0][0][None], samples[0][1][None], ignore_index=-1)
    assert logged.apsr.isfinite().all()  # nan where no pixel is valid
