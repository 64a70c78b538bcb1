"""The measurement at the end of a training that was stopped, and stopping by a robust metric."""

import csv
from types import SimpleNamespace

import pytest
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch.optim import SGD

from segrobust.attacks import FGSM
from segrobust.callbacks import Measurement, RobustCheckpoint, RobustnessEvaluation, RobustStopping
from segrobust.networks import weights_digest
from segrobust.tasks import SegmentationTask

KEY = "val/fgsm/miou_at_4"


def evaluate(**settings) -> RobustnessEvaluation:
    defaults = {"eps": (4 / 255,), "every_n_epochs": 50, "max_images": 1, "panels": 0, "checks": False}
    return RobustnessEvaluation({"fgsm": FGSM()}, **(defaults | settings))


def fit(root, *callbacks, **settings):
    trainer = make_trainer(root, *callbacks, **settings)
    task = SegmentationTask(tiny_network(dropout=0), optimizer=lambda parameters: SGD(parameters, lr=0.1))
    trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    return trainer


class StopAt(Callback):
    """Stops, or fails, after some steps."""

    def __init__(self, step: int, error: Exception | None = None) -> None:
        self.step, self.error = step, error

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.should_stop = True
            if self.error is not None:
                raise self.error


@pytest.mark.parametrize(
    ("stop", "settings", "epoch", "step"),
    [
        (4, {"max_epochs": 9}, 1, 4),
        (6, {"max_epochs": 9, "num_sanity_val_steps": 0, "check_val_every_n_epoch": 5}, 1, 6),
        (99, {"max_epochs": -1, "max_steps": 5}, 1, 5),
        (99, {"max_epochs": 3, "check_val_every_n_epoch": 2}, 2, 9),
        (99, {"max_epochs": 3, "check_val_every_n_epoch": None, "val_check_interval": 50}, 2, 9),
        (99, {"max_epochs": 2}, 1, 6),
    ],
)
def test_the_last_step_is_measured_once_logged_and_offered(tmp_path, stop, settings, epoch, step):
    evaluation, checkpoint = evaluate(), RobustCheckpoint(dirpath=tmp_path / "kept")
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = fit(tmp_path, evaluation, StopAt(stop), checkpoint, logger=logger, **settings)
    (measurement,) = evaluation.history
    assert (measurement.epoch, measurement.step) == (epoch, step)
    assert trainer.callback_metrics[KEY].item() == pytest.approx(measurement.values[KEY])
    rows = [row for row in csv.DictReader((tmp_path / "metrics.csv").open()) if row.get(KEY)]
    assert [(int(row["step"]), int(row["epoch"])) for row in rows] == [(step - 1, epoch)]
    assert [(kept.epoch, kept.step) for kept in checkpoint.checkpoints] == [(epoch, step)]


def test_nothing_is_measured_after_an_exception_or_if_not_asked_for(tmp_path):
    evaluation = evaluate()
    with pytest.raises(RuntimeError, match="enough"):
        fit(tmp_path, evaluation, StopAt(4, RuntimeError("enough")), max_epochs=9)
    assert evaluation.history == []
    evaluation = evaluate(run_on_last_epoch=False)
    fit(tmp_path, evaluation, StopAt(4), max_epochs=9)
    assert evaluation.history == []


def test_stops_after_measurements_and_not_after_validations(tmp_path):
    class NoProgress(RobustnessEvaluation):
        """Measures the same in every evaluation."""

        def _evaluate(self, trainer, module, stage):
            found = super()._evaluate(trainer, module, stage)
            return Measurement(epoch=found.epoch, step=found.step, num_images=1, values={**found.values, KEY: 50.0})

    evaluation = NoProgress({"fgsm": FGSM()}, eps=(4 / 255,), every_n_epochs=3, max_images=1, panels=0, checks=False)
    stopping = RobustStopping(monitor=KEY, patience=2)
    fit(tmp_path, stopping, evaluation, max_epochs=30)
    assert [measurement.epoch for measurement in evaluation.history] == [2, 5, 8]
    assert (stopping.best, stopping.waited) == (50.0, 2)


def judge(stopping, key, values, failed=()):
    """Gives a stopping one measurement per value; the number after which it stops."""
    trainer = make_trainer_state()
    stopping._key = key
    for step, value in enumerate(values, start=1):
        measurement = Measurement(epoch=step, step=step, num_images=1, values={key: value}, failed_checks=failed)
        stopping._source = SimpleNamespace(fresh=lambda trainer, found=measurement: found)
        for _ in range(2):  # a second validation at the same step counts nothing
            stopping.on_validation_end(trainer, None)
        if trainer.should_stop:
            return step
    return None


def make_trainer_state():
    return SimpleNamespace(state=SimpleNamespace(fn="fit"), sanity_checking=False, should_stop=False)


def test_the_direction_is_that_of_the_key_and_state_is_kept():
    assert judge(RobustStopping(patience=2), KEY, [1, 2, 3, 3, 2]) == 5
    assert judge(RobustStopping(patience=2), "val/fgsm/asr_at_4", [3, 2, 1, 0.5]) is None
    assert judge(RobustStopping(patience=2), "val/fgsm/asr_at_4", [1, 2, 3]) == 3
    first, second = RobustStopping(patience=2), RobustStopping(patience=2)
    judge(first, KEY, [5, 4])
    second.load_state_dict(first.state_dict())
    assert (second.best, second.waited) == (5, 1)
    assert judge(second, KEY, [4]) == 1


def test_doubtful_values_count_neither_way():
    stopping = RobustStopping(patience=1)
    with pytest.warns(UserWarning, match="not counted in epoch .* cannot be ranked"):
        assert judge(stopping, KEY, [float("nan"), float("inf")]) is None
    with pytest.warns(UserWarning, match="not counted in epoch .* is not reliable, because checks failed: gradient"):
        assert judge(stopping, KEY, [1.0, 1.0, 1.0, 1.0], failed=("gradient",)) is None
    assert stopping.best is None


def test_unknown_keys_and_missing_evaluations_are_refused_at_the_start(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'val/fgsm/miou_at_4'\?"):
        fit(tmp_path, evaluate(), RobustStopping(monitor="val/fgms/miou_at_4"))
    with pytest.raises(ValueError, match="RobustStopping needs a RobustnessEvaluation"):
        fit(tmp_path, RobustStopping())
    with pytest.raises(ValueError, match="patience must be at least 1 measurement, got 0"):
        RobustStopping(patience=0)


def test_the_end_of_a_training_is_measured_on_the_averages(tmp_path):
    evaluation = evaluate()
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = fit(tmp_path, evaluation, EMAWeightAveraging(decay=0.5), StopAt(4), logger=logger, max_epochs=9)
    (folder,) = (tmp_path / "robustness").iterdir()
    assert folder.name.endswith(weights_digest(trainer.lightning_module.network)[:8])
