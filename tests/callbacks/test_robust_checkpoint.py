import math
from pathlib import Path
from typing import Any

import pytest
import torch
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.optim import SGD

from segrobust.attacks import FGSM, PGD, AlmaProx
from segrobust.callbacks import RobustCheckpoint, RobustnessEvaluation, SavedCheckpoint
from segrobust.callbacks.robust_checkpoint import best_first
from segrobust.networks import weights_digest
from segrobust.tasks import SegmentationTask


def make_task() -> SegmentationTask:
    # no dropout: Lightning does not restore random states, so that a resumed training would take other steps
    return SegmentationTask(tiny_network(dropout=0), optimizer=lambda parameters: SGD(parameters, lr=0.3))


def make_callbacks(root: Path, **settings: Any) -> tuple[RobustnessEvaluation, RobustCheckpoint]:
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, eps=(4 / 255,), every_n_epochs=2, max_images=2, panels=0)
    return evaluation, RobustCheckpoint(dirpath=root / "kept", **settings)


def fit(root: Path, *callbacks: Any, ckpt_path: str | None = None, **settings: Any) -> Trainer:
    trainer = make_trainer(root, *callbacks, **settings)
    trainer.fit(make_task(), loader(TinyScenes()), loader(TinyScenes()), ckpt_path=ckpt_path)
    return trainer


def test_keeps_the_best_of_the_epochs_that_were_evaluated(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path, save_top_k=2, monitor="val/fgsm/miou_at_4")
    fit(tmp_path, evaluation, checkpoint, max_epochs=7)

    assert [measurement.epoch for measurement in evaluation.history] == [1, 3, 5, 6]
    by_value = sorted(evaluation.history, key=lambda m: -m.values["val/fgsm/miou_at_4"])
    assert [(kept.epoch, kept.step) for kept in checkpoint.checkpoints] == [(m.epoch, m.step) for m in by_value[:2]]
    assert sorted(map(str, (tmp_path / "kept").iterdir())) == sorted(kept.path for kept in checkpoint.checkpoints)
    assert checkpoint.best_model_path.endswith(
        f"epoch=00{by_value[0].epoch}-step=0000{by_value[0].step:02d}-val_fgsm_miou_at_4="
        f"{by_value[0].values['val/fgsm/miou_at_4']:.4g}-images=2.ckpt"
    )


def test_a_kept_file_holds_the_weights_that_were_measured(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path, save_top_k=-1)
    fit(tmp_path, evaluation, checkpoint, max_epochs=4, logger=CSVLogger(tmp_path, name="", version=""))

    measured = {path.name.split("-")[-1] for path in (tmp_path / "robustness").iterdir()}
    kept = set()
    for file in checkpoint.checkpoints:
        assert b"segrobust sha256" in Path(file.path).read_bytes()[-100:]
        task = make_task()
        task.load_state_dict(torch.load(file.path, weights_only=True)["state_dict"])
        kept.add(weights_digest(task.network)[:8])
    assert kept == measured
    assert len(kept) == 2


def test_a_resumed_training_goes_on_with_history_and_best(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path, save_top_k=-1)
    fit(tmp_path, evaluation, checkpoint, max_epochs=6)
    first = min(checkpoint.checkpoints, key=lambda kept: kept.epoch)

    evaluation_2, checkpoint_2 = make_callbacks(tmp_path, save_top_k=-1)
    fit(tmp_path, evaluation_2, checkpoint_2, max_epochs=6, ckpt_path=first.path)
    assert evaluation_2.history == evaluation.history
    assert checkpoint_2.checkpoints == checkpoint.checkpoints

    evaluation_3, checkpoint_3 = make_callbacks(tmp_path, save_top_k=1)
    fit(tmp_path, evaluation_3, checkpoint_3, max_epochs=6, ckpt_path=first.path)
    assert evaluation_3.history == evaluation.history
    assert Path(first.path).exists()  # what a training was resumed from is not removed


@pytest.mark.parametrize(
    ("attacks", "monitor"),
    [
        ({"pgd": PGD(num_steps=1), "fgsm": FGSM()}, "val/worst_linf/miou_at_4"),
        ({"alma": AlmaProx(num_steps=1), "fgsm": FGSM()}, "val/fgsm/miou_at_4"),
        ({"alma": AlmaProx(num_steps=1)}, "val/alma/mean_norm_capped"),
    ],
)
def test_monitors_the_worst_case_by_default(tmp_path, attacks, monitor):
    evaluation = RobustnessEvaluation(
        attacks, eps=(2 / 255, 4 / 255, 8 / 255), max_images=1, panels=0, every_n_epochs=1
    )
    checkpoint = RobustCheckpoint(dirpath=tmp_path)
    fit(tmp_path, evaluation, checkpoint)
    assert checkpoint.best_model_score == evaluation.history[0].values[monitor]
    assert monitor.replace("/", "_") in checkpoint.best_model_path


def test_best_first_knows_which_way_is_better():
    kept = [
        SavedCheckpoint(path="", value=value, epoch=step, step=step) for step, value in enumerate((2.0, 3.0, 3.0, 1.0))
    ]
    assert [k.step for k in best_first(kept, higher_wins=True)] == [1, 2, 0, 3]
    assert [k.step for k in best_first(kept, higher_wins=False)] == [3, 0, 1, 2]


def test_a_success_rate_is_better_when_smaller(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path, monitor="val/fgsm/apsr_at_4", save_top_k=-1)
    fit(tmp_path, evaluation, checkpoint, max_epochs=4)
    assert checkpoint.best_model_score == min(m.values["val/fgsm/apsr_at_4"] for m in evaluation.history)
    assert checkpoint.checkpoints[0].value < checkpoint.checkpoints[1].value


class Diverges(SegmentationTask):
    """Its weights are nan in the fourth epoch's validation, which trained well."""

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        if self.current_epoch == 3:
            for parameter in self.parameters():
                nn.init.constant_(parameter, math.nan)


def test_a_network_of_nan_is_never_kept(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path)
    trainer = make_trainer(tmp_path, evaluation, checkpoint, max_epochs=6)
    with pytest.raises(FloatingPointError, match="NaN"):
        trainer.fit(Diverges(tiny_network()), loader(TinyScenes()), loader(TinyScenes()))
    assert [kept.epoch for kept in checkpoint.checkpoints] == [1]


class Spoils(RobustnessEvaluation):
    """Its measurements are not finite."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_end(trainer, pl_module)
        state = self.state_dict()
        for measurement in state["history"]:
            measurement["values"]["val/fgsm/miou_at_4"] = math.nan
        self.load_state_dict(state)


def test_a_value_that_is_not_finite_is_refused(tmp_path):
    checkpoint = RobustCheckpoint(dirpath=tmp_path, monitor="val/fgsm/miou_at_4")
    with pytest.warns(UserWarning, match=r"no checkpoint is saved in epoch 0: val/fgsm/miou_at_4 is nan"):
        fit(tmp_path, Spoils({"fgsm": FGSM()}, max_images=1, panels=0), checkpoint)
    assert checkpoint.checkpoints == ()
    assert not list(tmp_path.glob("*.ckpt"))


def test_an_unknown_key_is_refused_before_training_with_those_that_there_are(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path, monitor="val/pgd/miou_at_4")
    with pytest.raises(ValueError, match=r"'val/pgd/miou_at_4' is not measured(.|\n)*val/fgsm/miou_at_4"):
        fit(tmp_path, evaluation, checkpoint)


def test_a_key_of_the_old_spelling_is_told_the_new_one(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path, monitor="val/fgsm/miou@4")
    with pytest.raises(ValueError, match=r"'val/fgsm/miou@4' is now spelled 'val/fgsm/miou_at_4'"):
        fit(tmp_path, evaluation, checkpoint)


def test_an_evaluation_is_needed(tmp_path):
    with pytest.raises(ValueError, match="needs a RobustnessEvaluation"):
        fit(tmp_path, RobustCheckpoint(dirpath=tmp_path))


def test_says_when_nothing_was_measured(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path)
    with pytest.warns(UserWarning, match=r"saved nothing: val/fgsm/miou_at_4 was never measured"):
        fit(tmp_path, evaluation, checkpoint, max_epochs=1, limit_val_batches=0)


def test_best_can_be_tested_by_name(tmp_path):
    evaluation, checkpoint = make_callbacks(tmp_path)
    trainer = fit(tmp_path, evaluation, checkpoint, max_epochs=2)
    trainer.test(make_task(), loader(TinyScenes()), ckpt_path="best", verbose=False)
    assert trainer.callback_metrics["test/fgsm/miou_at_4"] == pytest.approx(checkpoint.best_model_score)


@pytest.mark.parametrize("save_top_k", [0, -2])
def test_keeping_nothing_is_refused(save_top_k):
    with pytest.raises(ValueError, match=f"save_top_k must be positive, or -1 to keep all, got {save_top_k}"):
        RobustCheckpoint(save_top_k=save_top_k)


class Saturated(nn.Module):
    """The network behind probabilities that are 0 and 1: no gradient, and an attack that finds nothing."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.is_on = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return (1e4 * logits).softmax(1) if self.is_on and not self.training else logits


@pytest.mark.parametrize("is_on", [True, False])
def test_a_network_whose_checks_fail_is_not_kept(tmp_path, is_on):
    task = SegmentationTask(Saturated(tiny_network(dropout=0)), optimizer=lambda parameters: SGD(parameters, lr=0.3))
    task.network.is_on = is_on
    evaluation, checkpoint = make_callbacks(tmp_path)
    trainer = make_trainer(tmp_path, evaluation, checkpoint, max_epochs=2)
    if is_on:
        with pytest.warns(UserWarning, match=r"no checkpoint is saved .*val/fgsm/miou_at_4 .* not reliable.*gradient"):
            trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
        assert checkpoint.checkpoints == ()
    else:
        trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
        assert len(checkpoint.checkpoints) == 1
    (measurement,) = evaluation.history
    assert bool(measurement.failed_checks) == is_on
    assert measurement.values["val/robust_subset/failed_checks"] == len(measurement.failed_checks)
    assert type(measurement).from_state(measurement.to_state()) == measurement
