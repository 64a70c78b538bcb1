"""Lightning's monitors of robust metrics work, or are refused at the start of `fit` with the line to write."""

import pytest
import torch
from callbacks.tiny import OtherProject, TinyPairs, loader, make_trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation

KEY = "val/fgsm/miou_at_4"


class OnPlateau(OtherProject):
    def __init__(self, frequency: int, interval: str = "epoch") -> None:
        super().__init__()
        self.settings = {"frequency": frequency, "interval": interval}

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        settings = {"scheduler": schedule, "monitor": KEY, **self.settings}
        return {"optimizer": optimizer, "lr_scheduler": settings}


class Watches(Callback):
    """Notes whether a value of this very moment is there, after validations or at the ends of epochs."""

    def __init__(self, at: str) -> None:
        self.at, self.new = at, []

    def look(self, trainer, at):
        if at == self.at and not trainer.sanity_checking:
            (evaluation,) = (found for found in trainer.callbacks if isinstance(found, RobustnessEvaluation))
            self.new.append(trainer.global_step in [measurement.step for measurement in evaluation.history])

    def on_validation_end(self, trainer, pl_module):
        self.look(trainer, "validation")

    def on_train_epoch_end(self, trainer, pl_module):
        self.look(trainer, "epoch")


def fit_with(root, *callbacks, module=None, every_n_epochs=2, **settings):
    pairs = loader(TinyPairs())
    place = {"network": "parts.model", "image": 0, "mask": 1, "ignore_index": -1}
    evaluation = RobustnessEvaluation(
        {"fgsm": FGSM()},
        eps=(4 / 255,),
        panels=0,
        checks=False,
        max_images=1,
        every_n_epochs=every_n_epochs,
        run_on_last_epoch=False,
        **place,
    )
    settings = {"max_epochs": 4, "enable_checkpointing": True} | settings
    trainer = make_trainer(root, evaluation, *callbacks, **settings)
    trainer.fit(module or OtherProject(), pairs, pairs)
    return [measurement.epoch for measurement in evaluation.history]


@pytest.mark.parametrize(
    ("make", "module", "line"),
    [
        (lambda: EarlyStopping(KEY), OtherProject, f"EarlyStopping .*write RobustStopping.monitor='{KEY}'"),
        (lambda: EarlyStopping(KEY, strict=False), OtherProject, "count old values later"),
        (lambda: EarlyStopping(KEY.replace("_at_", "@")), OtherProject, f"is now spelled '{KEY}'"),
        (
            lambda: ModelCheckpoint(monitor=KEY),
            OtherProject,
            f"write RobustCheckpoint.monitor='{KEY}'",
        ),
        (ModelCheckpoint, lambda: OnPlateau(1), 'ReduceLROnPlateau .*"frequency": 2'),
        (ModelCheckpoint, lambda: OnPlateau(2, "step"), "ReduceLROnPlateau looks at .* between validations"),
        (lambda: ModelCheckpoint(monitor=KEY, every_n_train_steps=3), OtherProject, "looks at .* between validations"),
    ],
)
def test_monitors_that_look_more_often_are_refused_at_the_start(tmp_path, make, module, line):
    module = module()
    with pytest.raises(ValueError, match=line):
        fit_with(tmp_path, make(), module=module)
    assert module.global_step == 0


@pytest.mark.parametrize(
    ("make", "module", "every_n_epochs"),
    [
        (lambda: EarlyStopping(KEY, patience=9), OtherProject, 1),
        (lambda: EarlyStopping("loss", patience=9), OtherProject, 2),
        (lambda: ModelCheckpoint(monitor=KEY), OtherProject, 1),
        (lambda: ModelCheckpoint(monitor=KEY, every_n_epochs=2), OtherProject, 2),
        (ModelCheckpoint, lambda: OnPlateau(2), 2),
    ],
)
def test_monitors_that_look_when_it_is_measured_work(tmp_path, make, module, every_n_epochs):
    found = fit_with(tmp_path, make(), module=module(), every_n_epochs=every_n_epochs)
    assert found == ([0, 1, 2, 3] if every_n_epochs == 1 else [1, 3])


WHEN = [
    (1, {"val_check_interval": 0.5}),
    (1, {"val_check_interval": 0.67}),
    (1, {"val_check_interval": 1}),
    (1, {"val_check_interval": 3}),
    (2, {"val_check_interval": 3}),
    (2, {"check_val_every_n_epoch": 3}),
    (2, {"check_val_every_n_epoch": 2, "val_check_interval": 1}),
    (1, {"check_val_every_n_epoch": None, "val_check_interval": 2}),
    (1, {"check_val_every_n_epoch": None, "val_check_interval": 4}),
    (2, {"check_val_every_n_epoch": None, "val_check_interval": 6}),
]


@pytest.mark.parametrize(("every_n_epochs", "settings"), WHEN, ids=str)
def test_what_is_refused_is_what_finds_no_new_value(tmp_path, settings, every_n_epochs):
    """Where validations come at any time: foreseen as it happens in a training of three batches an epoch."""
    watches = [Watches("validation"), Watches("epoch")]
    fit_with(tmp_path, *watches, every_n_epochs=every_n_epochs, **settings)
    for watch in watches:
        module, patient = OtherProject(), EarlyStopping(KEY, patience=99, check_on_train_epoch_end=watch.at == "epoch")
        if watch.new and all(watch.new):
            fit_with(tmp_path, patient, module=module, every_n_epochs=every_n_epochs, **settings)
            continue
        with pytest.raises(ValueError, match=r"EarlyStopping looks at .* write RobustStopping"):
            fit_with(tmp_path, patient, module=module, every_n_epochs=every_n_epochs, **settings)
        assert module.global_step == 0


def test_a_rarer_measurement_is_only_proposed_where_it_helps(tmp_path):
    with pytest.raises(ValueError, match=r"after every validation.*measures it every 2 epochs.*patience=...\)$"):
        fit_with(tmp_path, EarlyStopping(KEY), val_check_interval=0.5)
    early = EarlyStopping(KEY, check_on_train_epoch_end=True)
    with pytest.raises(ValueError, match=r"every epoch.*measures it once an epoch.*patience=...\)$"):
        fit_with(tmp_path, early, every_n_epochs=1, val_check_interval="00:00:00:01")
    with pytest.raises(ValueError, match=r"measures it every 2 epochs.* or RobustnessEvaluation.every_n_epochs=1.$"):
        fit_with(tmp_path, EarlyStopping(KEY))
