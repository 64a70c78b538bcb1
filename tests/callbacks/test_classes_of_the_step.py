"""The classes that `validation_step` compares are those of the evaluation, or the fit is refused with the line."""

import re
from dataclasses import replace

import pytest
import torch
from callbacks import comparisons, other_classes, out_of_sight
from callbacks.strangers import Habit, Project, Scenes, clean, fit, loader
from callbacks.tiny import make_trainer
from lightning.pytorch.loggers.logger import Logger
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation, seen_by_validation

SHIFTED = {0: 2, 1: 0, 2: 1}


@pytest.fixture
def followed(monkeypatch):
    """As which classes the steps counted the classes of the masks, one entry per image; None for steps not followed."""
    found = []
    follow = seen_by_validation.follow_rest

    def noted(*args, **kwargs):
        found.append(None)
        rest = follow(*args, **kwargs)
        found[-1] = dict(rest.classes)
        return rest

    monkeypatch.setattr(seen_by_validation, "follow_rest", noted)
    return found


def examine(habit: Habit, root) -> None:
    """Up to the end of the sanity check and one step."""
    fit(replace(habit, trainer={"max_steps": 1}), root, checks=False, run_on_last_epoch=False, every_n_epochs=9)


def refusal(habit: Habit, root) -> str:
    with pytest.raises(ValueError, match="compares predictions with other classes than mask= gives") as caught:
        examine(habit, root)
    assert habit.module.global_step == 0
    return str(caught.value)


def proposed(message: str) -> dict:
    (line,) = re.findall(r"Write (mask=.*?\.long\(\)\])", message)
    return eval(f"dict({line})", {"torch": torch})


@pytest.mark.parametrize("name", comparisons.HABITS)
def test_ways_to_compare_are_followed_and_not_refused(tmp_path, followed, name):
    examine(comparisons.HABITS[name](), tmp_path)
    assert followed == [None if name == "a_module_that_cannot_be_copied" else {0: 0, 1: 1, 2: 2}] * 2


def changed(name: str, change) -> Habit:
    """A project whose logits and masks are changed before it compares them; samples have other classes."""
    habit = comparisons.HABITS[name]()
    kind = type(habit.module)
    habit.module.__class__ = type(
        kind.__name__, (kind,), {"compare": lambda self, logits, masks: kind.compare(self, *change(logits, masks))}
    )
    return replace(habit, val=other_classes.shifted())


FOLLOWED = sorted({*comparisons.HABITS} - {"a_module_that_cannot_be_copied", "masks_of_other_numbers_that_both_map"})


@pytest.mark.parametrize("name", FOLLOWED)
def test_every_way_shows_that_masks_are_mapped(tmp_path, name):
    habit = changed(name, lambda logits, masks: (logits, other_classes.earlier(masks)))
    assert "class 0 counts as class 2" in refusal(habit, tmp_path)


@pytest.mark.parametrize("name", ["metrics_of_torchmetrics", "losses_alone", "classes_one_by_one", "arrays_of_numpy"])
def test_ways_show_that_predictions_are_mapped(tmp_path, followed, name):
    refusal(changed(name, lambda logits, masks: (logits[:, [2, 0, 1]], masks)), tmp_path)
    assert followed == [SHIFTED] * 2


@pytest.mark.parametrize("name", ["metrics_of_torchmetrics", "both_get_the_numbers_of_files", "losses_alone"])
def test_a_network_that_predicts_one_class_is_not_refused(tmp_path, name):
    habit = comparisons.HABITS[name]()
    habit.module.model[-1].bias.data[0] += 1000
    examine(habit, tmp_path)


LEFT_OUT = ("first_class_ignored_by_the_metric", "first_class_left_out_by_an_index")


@pytest.mark.parametrize("name", other_classes.HABITS)
def test_the_line_of_a_refusal_makes_both_equal(tmp_path, name):
    make = other_classes.HABITS[name]
    message = refusal(make(), tmp_path)
    if name == "two_classes_merged":
        assert "class 2 counts as class 1" in message
        assert "and network= a function that merges the classes too" in message
        return
    assert ("class 0 is left out" in message) == (name in (*LEFT_OUT, "first_label_is_void"))
    counts, robustness = fit(replace(make(), evaluation=proposed(message)), tmp_path)
    if counts.matrix.sum():
        assert clean(robustness) == pytest.approx((counts.accuracy, counts.miou), abs=1e-4)


@pytest.mark.parametrize("name", out_of_sight.HABITS)
def test_what_is_counted_out_of_sight_is_tried(tmp_path, name, recwarn, capsys):
    make = out_of_sight.HABITS[name]
    examine(make(), tmp_path)
    assert not [warning for warning in recwarn if "it is not proven" in str(warning.message)]
    assert capsys.readouterr().out.count("the matrix of the epoch") <= 2
    assert "class 0 counts as class 2, class 1 counts as class 0" in refusal(make(out_of_sight.later), tmp_path)


def test_a_step_that_compares_nothing_is_named(tmp_path):
    with pytest.warns(UserWarning, match="it is not proven that validation_step of Silent compares .* depends on both"):
        examine(out_of_sight.nothing_is_compared(), tmp_path)


class Texts(Logger):
    """Counts the texts that it gets."""

    name = version = "texts"
    written = 0

    @property
    def experiment(self):
        return self

    def add_text(self, text):
        self.written += 1

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Remembers(Project):
    """Keeps what it sees in all the places where projects keep it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.number, self.metric = [], 0, MulticlassAccuracy(3, ignore_index=255)
        self.register_buffer("total", torch.zeros(()))

    def on_validation_epoch_start(self):
        """Forgets nothing."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, masks = self.unpack(batch)
        logits = self(images)
        self.counts.add(logits, masks)
        self.metric.update(logits, masks)
        self.seen.append(masks)
        self.number += 1
        self.total += 1
        self.logger.experiment.add_text("seen")


def test_a_step_that_is_followed_leaves_no_trace(tmp_path, followed):
    module, logger = Remembers(), Texts()
    trainer = make_trainer(tmp_path, RobustnessEvaluation({"fgsm": FGSM()}, network="model", panels=0), logger=logger)
    trainer.validate(module, loader(Scenes()), verbose=False)
    assert followed == [{0: 0, 1: 1, 2: 2}] * 2
    assert (len(module.seen), module.number, int(module.total), logger.written) == (3, 3, 3, 3)
    assert module.metric._update_count == 3
    assert module.counts.matrix.sum() == sum((masks != 255).sum() for masks in module.seen)
    assert trainer.loggers == [logger]


class Views(Project):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, masks = self.unpack(batch)
        self.counts.add(self.predict(images), masks)

    def predict(self, images):
        return (self.model(images) + self.model(images.flip(3)).flip(3)) / 2


class Stacked(Views):
    def predict(self, images):
        straight, turned = self.model(torch.cat([images, images.flip(2)])).chunk(2)
        return straight + turned.flip(2)


class Pads(Views):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 3, 1))

    def predict(self, images):
        return self.model(nn.functional.pad(images, (0, 8, 0, 8)))[..., :-8, :-8]


@pytest.mark.parametrize(
    ("kind", "words"), [(Views, "flipped images too"), (Stacked, "flipped images too"), (Pads, "padded images")]
)
def test_averages_over_flips_and_padding_are_warned_of(tmp_path, kind, words):
    trainer = make_trainer(tmp_path, RobustnessEvaluation({"fgsm": FGSM()}, network="model", panels=0, checks=False))
    with pytest.warns(UserWarning, match=f"validation_step of {kind.__name__} gives 'model' {words}"):
        trainer.validate(kind(), loader(Scenes()), verbose=False)
