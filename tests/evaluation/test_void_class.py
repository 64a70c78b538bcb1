"""A class of the network may be void: results are those of the same masks with 255 in its place, and it is said."""

import warnings
from dataclasses import replace

import pytest
import torch
from callbacks.tiny import loader, make_trainer
from torch import nn
from torch.utils.data import Dataset

import segrobust
from segrobust.attacks import PGD
from segrobust.attacks.targets import Constant, SecondBest
from segrobust.callbacks import RobustnessEvaluation
from segrobust.evaluation import read_records
from segrobust.evaluation.labels import survey_labels
from segrobust.label_space import LabelSpace
from segrobust.metrics import SegmentationConfusion
from segrobust.tasks import SegmentationTask

CLASSES, LAST = 12, 11
SPACE = LabelSpace(names=(*"abcdefghijk", "void"), palette=((1, 2, 3),) * CLASSES)
PLAN = {"attacks": {"pgd": PGD(num_steps=3)}, "eps": [4 / 255], "checks": "off", "progress": False}


class Scenes(Dataset):
    """Four images whose void is `void`, with a label space if one is given."""

    def __init__(self, void, space=None):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(4, 3, 12, 16, generator=generator)
        self.masks = torch.randint(0, CLASSES, (4, 12, 16), generator=generator)
        self.masks[self.masks == LAST] = void
        self.masks[0, 0] = void
        if space is not None:
            self.label_space = space

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"image": self.images[index], "mask": self.masks[index], "sample_id": index}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))


@pytest.mark.parametrize(
    ("data", "given"),
    [
        (Scenes(LAST), LAST),
        (Scenes(LAST, SPACE), LAST),
        (Scenes(255, SPACE), LAST),  # its own void, 255, is void too
        (Scenes(LAST, replace(SPACE, ignore_index=LAST)), None),
    ],
)
def test_an_evaluation_is_that_of_masks_with_255(data, given, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        segrobust.evaluate(network(), data, ignore_index=given, run_dir=tmp_path / "a", **PLAN)
    segrobust.evaluate(network(), Scenes(255), run_dir=tmp_path / "b", **PLAN)
    found, expected = (
        [replace(record, seconds=0, sample_digest="") for record in read_records(tmp_path / name)] for name in "ab"
    )
    assert found == expected
    assert len(found) == 8


@pytest.mark.parametrize(("data", "says"), [(Scenes(LAST), "SegNet's CamVid"), (Scenes(LAST, SPACE), "its name says")])
def test_a_void_that_is_counted_warns_with_what_to_write(data, says):
    with pytest.warns(UserWarning, match=rf"class 11.* is counted as a class, .*{says}.*ignore_index=11, or .*\[11\]"):
        segrobust.evaluate(network(), data, **PLAN)


def test_what_is_void_is_said_and_not_counted_among_the_classes():
    found = survey_labels(Scenes(LAST, SPACE), range(4), num_classes=CLASSES, ignore_index=LAST)
    assert "11 of 11 classes occur" in found.describe()
    assert found.describe().endswith("Void is class 11 'void': no pixel counts that belongs to it")
    assert found.counted_void == ""
    plain = survey_labels(Scenes(255), range(4), num_classes=CLASSES, ignore_index=255)
    assert plain.counted_void == ""


def test_a_label_that_is_no_class_still_contradicts_the_data():
    with pytest.raises(ValueError, match=r"ignore_index=77 contradicts .* void is 255 and classes are 0\.\.11"):
        segrobust.evaluate(network(), Scenes(LAST, SPACE), ignore_index=77, **PLAN)


def test_an_attack_is_that_of_labels_with_255():
    data = Scenes(LAST)
    labels = data.masks.masked_fill(data.masks == LAST, 255)
    attack = PGD(num_steps=3, eps=4 / 255)
    ids = range(4)
    found = attack(network(), data.images, data.masks, ignore_index=LAST, sample_ids=ids)
    assert torch.equal(found.adv, attack(network(), data.images, labels, sample_ids=ids).adv)


def test_void_is_no_target():
    logits = torch.zeros(1, CLASSES, 2, 2)
    logits[:, LAST], logits[:, 3], logits[:, 4] = 2, 3, 1
    labels = torch.full((1, 2, 2), 3)
    net, images = nn.Conv2d(3, CLASSES, 1), torch.rand(1, 3, 2, 2)
    nn.init.zeros_(net.weight)
    net.bias = nn.Parameter(logits[0, :, 0, 0].clone())
    for void, expected in ((255, LAST), (LAST, 4)):
        maps = SecondBest()(net, images, labels, names=None, ignore_index=void, label_space=None)
        assert maps.targets.unique().tolist() == [expected]
    with pytest.raises(ValueError, match=r"class 11 is void \(ignore_index=11\)"):
        Constant(label=LAST)(net, images, labels, names=None, ignore_index=LAST, label_space=None)


def test_a_task_and_the_callback_measure_what_masks_with_255_give(tmp_path):
    values = []
    for void in (LAST, 255):
        robust = RobustnessEvaluation(
            {"pgd": PGD(num_steps=1, eps=4 / 255)}, max_images=2, panels=0, every_n_epochs=1, ignore_index=void
        )
        task = SegmentationTask(network(), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), ignore_index=void)
        trainer = make_trainer(tmp_path / str(void), robust, max_epochs=1)
        trainer.fit(task, loader(Scenes(void)), loader(Scenes(void)))
        measured = {name: value.item() for name, value in trainer.callback_metrics.items() if "time" not in name}
        values.append((measured, task.network[0].weight.detach().clone()))
    assert values[0][0] == pytest.approx(values[1][0], nan_ok=True)
    assert torch.equal(values[0][1], values[1][1])


def test_a_task_refuses_data_whose_void_it_would_train():
    class Module(torch.nn.Module):
        label_space = replace(SPACE, ignore_index=LAST)

    task = SegmentationTask(network())
    task._trainer = type("Trainer", (), {"datamodule": Module()})()
    with pytest.raises(ValueError, match=r"void is 11, class 'void' in the data and 255 .* give the task .*=11"):
        task.setup("fit")
    task.ignore_index = LAST
    task.setup("fit")


def test_counts_leave_out_the_class():
    metric, plain = SegmentationConfusion(CLASSES, LAST), SegmentationConfusion(CLASSES)
    data = Scenes(LAST)
    prediction = data.masks.roll(1, -1)
    metric.update(prediction, data.masks)
    plain.update(prediction, data.masks.masked_fill(data.masks == LAST, 255))
    assert metric.compute().miou == plain.compute().miou
