"""Lightning's monitors of robust metrics work, or are refused at the start of `fit` with the line to write."""

import pytest
import torch
from callbacks.tiny import OtherProject, TinyPairs, loader, make_trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation

KEY = "val/fgsm/miou_at_4"


class OnPlateau(OtherProject):
    def __init__(self, frequency: int) -> None:
        super().__init__()
        self.frequency = frequency

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        settings = {"scheduler": schedule, "monitor": KEY, "frequency": self.frequency}
        return {"optimizer": optimizer, "lr_scheduler": settings}


def fit_with(root, *callbacks, module=None, every_n_epochs=2):
    pairs = loader(TinyPairs())
    place = {"network": "parts.model", "image": 0, "mask": 1, "ignore_index": -1}
    evaluation = RobustnessEvaluation(
        {"fgsm": FGSM()}, eps=(4 / 255,), panels=0, checks=False, every_n_epochs=every_n_epochs, **place
    )
    trainer = make_trainer(root, evaluation, *callbacks, max_epochs=4, enable_checkpointing=True)
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
