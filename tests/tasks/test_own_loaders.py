"""Tasks with the loader of somebody else: the same training, or a message on the first batch."""

import re
import warnings

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from segrobust.attacks import PGD
from segrobust.networks import FullResolution
from segrobust.tasks import AdversarialTask, SegmentationTask

IMAGES = torch.rand(4, 3, 6, 8, generator=torch.Generator().manual_seed(0))
MASKS = torch.randint(0, 3, (4, 6, 8), generator=torch.Generator().manual_seed(0))
OURS = [{"image": a, "mask": b, "sample_id": i} for i, (a, b) in enumerate(zip(IMAGES, MASKS, strict=True))]


def network(num_classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, num_classes, 1))


def fit(samples, make=SegmentationTask, module=None, batch_size=2, **settings):
    task = make(module or network(), **settings)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    loader = DataLoader(samples, batch_size=batch_size)
    trainer.fit(task, loader, loader)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def adversarial(module, **settings):
    return AdversarialTask(module, attack=PGD(num_steps=1, eps=2 / 255), **settings)


@pytest.mark.parametrize("make", [SegmentationTask, adversarial])
@pytest.mark.parametrize(
    "change",
    [
        lambda s: (s["image"], s["mask"]),
        lambda s: (s["image"], s["mask"], "a name", 3.0),
        lambda s: {"image": s["image"], "mask": s["mask"]},
        lambda s: {"pixel_values": s["image"], "labels": s["mask"].int(), "path": "x"},
        lambda s: {**s, "mask": s["mask"][None]},
        lambda s: {**s, "mask": s["mask"].float()},
        lambda s: {**s, "mask": torch.eye(3)[s["mask"]].permute(2, 0, 1)},
        lambda s: {**s, "mask": s["mask"].byte(), "sample_id": "name"},
    ],
)
def test_batches_of_every_form_train_the_same_network(make, change):
    found, expected = fit([change(sample) for sample in OURS], make), fit(OURS, make)
    assert found == expected


def test_samples_without_ids_count_once_each():
    """The last batch is smaller, so that ids by its own size would repeat."""
    odd = [(sample["image"], sample["mask"]) for sample in OURS[:3]]
    expected = fit(OURS[:3])
    found = fit(odd)
    assert found["val/clean/miou"] == expected["val/clean/miou"]
    assert found["val/clean/acc"] == expected["val/clean/acc"]


class Mapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, images):
        return {"out": self.network(images)}


@pytest.mark.parametrize("make", [SegmentationTask, adversarial])
@pytest.mark.parametrize(
    ("samples", "module", "error", "message"),
    [
        (OURS, Mapping(), TypeError, "got dict; wrap it in segrobust.networks.FullResolution"),
        (OURS, network(1), ValueError, r"SigmoidClasses\(network\)"),
        (OURS, nn.Conv2d(4, 3, 1), ValueError, "3 channels, the network's first convolution takes 4"),
        (
            OURS,
            network(2),
            ValueError,
            r"labels 2.*0\.\.1 \(the network's 2 classes\) and ignore_index=255|\[2\], outside",
        ),
        ([{**s, "image": s["image"] * 4 - 2} for s in OURS], None, ValueError, r"first training batch.*Normalized\("),
        ([{**s, "image": s["image"] * 255} for s in OURS], None, ValueError, "divide images of 0..255 by 255"),
        (
            [{"rgb": s["image"], "mask": s["mask"]} for s in OURS],
            None,
            TypeError,
            "batches .* got the keys 'mask', 'rgb'",
        ),
        ([(s["mask"], s["image"]) for s in OURS], None, TypeError, "in this order"),
        ([{**s, "image": s["image"].permute(1, 2, 0)} for s in OURS], None, ValueError, r"permute .* \(0, 3, 1, 2\)"),
        ([{**s, "mask": s["mask"] / 2} for s in OURS], None, TypeError, "fractions"),
        ([{**s, "mask": 3} for s in OURS], None, ValueError, r"shape \(B, H, W\)"),
        ([s["image"] for s in OURS], None, TypeError, "got Tensor"),
    ],
)
def test_the_first_batch_says_what_is_wrong(make, samples, module, error, message):
    with pytest.raises(error, match=message):
        fit(samples, make, module)


def test_the_lines_that_messages_give_are_right():
    assert fit(OURS, module=FullResolution(Mapping())) == fit(OURS)
    two = [{**sample, "mask": sample["mask"].clamp_max(1)} for sample in OURS]
    assert fit(two, module=FullResolution(network(1)))["val/clean/acc"] > 0


def test_masks_that_are_all_void_are_told():
    with pytest.warns(UserWarning, match=r"all are void \(ignore_index=255\)"):
        fit([{**sample, "mask": torch.full_like(sample["mask"], 255)} for sample in OURS])


@pytest.mark.parametrize("make", [SegmentationTask, adversarial])
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([0, 255, 255], r"class 0 is the only class and .*% of the pixels are void \(255\).*masks of 0 and 255"),
        ([0, 0, 1], r""),
    ],
)
def test_what_the_masks_of_a_training_hold_is_reported_once(make, values, says, caplog):
    samples = [{**sample, "mask": torch.tensor(values)[sample["mask"]]} for sample in OURS]
    caplog.set_level("INFO")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(samples, make)
    warned = [str(each.message) for each in caught if "labels of" in str(each.message)]
    logged = [record.message for record in caplog.records if "training labels of" in record.message]
    share = sum(float((sample["mask"] == 255).float().mean()) for sample in samples) / len(samples)
    if says:
        (line,) = warned
        assert re.search(says, line)
        assert not logged
    else:
        (line,) = logged
        assert "2 of 3 classes occur (absent: 2)" in line
        assert not warned
    assert line.startswith("training labels of 4 masks")
    assert f"{share:.1%} of the pixels are void (255)" in line


def test_a_function_is_no_network():
    with pytest.raises(TypeError, match="the function relu: write a class"):
        SegmentationTask(torch.relu)
