"""Averaged weights, the guard against overfitting, the picture of the history, and the time left."""

import copy
import itertools
import math
from contextlib import nullcontext

import pytest
import torch
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import nn
from torch.optim import SGD, Adam

from segrobust.attacks import FGSM, PGD, LagrangianFMN
from segrobust.callbacks import (
    Measurement,
    OverfittingGuard,
    RobustCheckpoint,
    RobustnessEvaluation,
    TimeLeft,
    WeightEMA,
)
from segrobust.callbacks.history_picture import history_figure
from segrobust.callbacks.overfitting_guard import Watched, is_overfitting
from segrobust.networks import Normalized, load_weights, weights_digest
from segrobust.tasks import AdversarialTask, SegmentationTask


def make_task(lr: float = 0.3, **settings) -> SegmentationTask:
    return SegmentationTask(tiny_network(dropout=0), optimizer=lambda p: SGD(p, lr=lr), **settings)


def fit(trainer, task, scenes=None) -> None:
    trainer.fit(task, loader(scenes or TinyScenes()), loader(TinyScenes(seed=1)))


class Weights(Callback):
    """A copy of the network's state after every step, and at the end of every validation epoch."""

    def __init__(self):
        self.steps, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.steps.append(copy.deepcopy(pl_module.network.state_dict()))

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.validated.append(copy.deepcopy(pl_module.network.state_dict()))


@pytest.mark.parametrize("first", [True, False])
def test_averages_follow_the_formula_and_are_what_is_validated_kept_and_left(tmp_path, first):
    weights, average = Weights(), WeightEMA(decay=0.6)
    callbacks = (average, weights) if first else (weights, average)
    trainer = make_trainer(tmp_path, *callbacks, ModelCheckpoint(tmp_path, filename="last"), max_epochs=2)
    task = make_task()
    fit(trainer, task)

    name = "network.0.weight"
    expected = weights.steps[0][name].clone()
    for n, state in enumerate(weights.steps[1:], start=1):
        decay = min(0.6, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * state[name]
        if n == 2:
            torch.testing.assert_close(weights.validated[0][name], expected)
    torch.testing.assert_close(weights.validated[1][name], expected)
    torch.testing.assert_close(task.network.state_dict()[name], expected)
    assert not torch.allclose(weights.steps[-1][name], expected)

    kept = tiny_network(seed=5)
    load_weights(kept, tmp_path / "last.ckpt")
    torch.testing.assert_close(kept.state_dict()[name], expected)
    assert int(kept.state_dict()["network.1.num_batches_tracked"]) == 6


def test_robustness_is_that_of_the_averages(tmp_path):
    class Digests(RobustnessEvaluation):
        seen: list[str] = []  # noqa: RUF012

        def _session(self, trainer, module):
            session = super()._session(trainer, module)
            self.seen.append(session.weights)
            return session

    evaluation = Digests({"fgsm": FGSM()}, max_images=1, panels=0, checks=False)
    trainer = make_trainer(tmp_path, WeightEMA(0.5), evaluation, max_epochs=1)
    task = make_task()
    fit(trainer, task)
    assert evaluation.seen == [weights_digest(task.network)]


def adversarial(attack, lr: float) -> AdversarialTask:
    return AdversarialTask(tiny_network(dropout=0), attack=attack, optimizer=lambda p: SGD(p, lr=lr, momentum=0.9))


def test_the_guard_is_silent_on_a_healthy_training(tmp_path, recwarn):
    guard = OverfittingGuard(max_images=3)
    trainer = make_trainer(tmp_path, guard, max_epochs=4)
    fit(trainer, adversarial(PGD(num_steps=3, eps=4 / 255, random_start=True), 0.05))
    assert guard.alarm is None
    assert trainer.current_epoch == 4
    assert len(guard.history) == 4
    assert all(0 <= watched.strong <= watched.weak + 0.02 for watched in guard.history)
    assert not [warning for warning in recwarn if "overfitting" in str(warning.message)]


def wide_network() -> nn.Module:
    """Wide enough to fit its attack."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        widths = (3, 48, 48, 48, 48)
        blocks = [
            nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in itertools.pairwise(widths)
        ]
        return Normalized(nn.Sequential(*blocks, nn.Conv2d(48, 3, 1)))


@pytest.mark.parametrize(("attack", "expected"), [("fgsm", True), ("pgd", False)])
def test_the_guard_stops_a_training_that_overfits_to_its_attack(tmp_path, attack, expected):
    """One large step without random start, on few images: catastrophic overfitting; with PGD it stays away."""
    eps = 44 / 255
    attacks = {"fgsm": FGSM(eps=eps), "pgd": PGD(num_steps=5, eps=eps, random_start=True)}
    guard = OverfittingGuard(max_images=4)
    trainer = make_trainer(tmp_path, guard, max_epochs=30, check_val_every_n_epoch=2, num_sanity_val_steps=0)
    task = AdversarialTask(wide_network(), attack=attacks[attack], optimizer=lambda p: Adam(p, lr=2e-3))
    context = pytest.warns(UserWarning, match="catastrophic overfitting in epoch") if expected else nullcontext()
    with context:
        trainer.fit(task, loader(TinyScenes(8), batch_size=4), loader(TinyScenes(4, seed=1)))
    assert (guard.alarm is not None) is expected
    assert (trainer.current_epoch < 30) is expected


@pytest.mark.parametrize(
    ("weak", "strong", "expected"),
    [
        (0.9, 0.3, True),  # the strong attack wins where the weak one loses
        (0.79, 0.3, True),  # within the slack
        (0.5, 0.3, False),  # both fall: the training diverges, but does not overfit to its attack
        (0.9, 0.45, False),  # a quarter lost
        (0.9, 0.7, False),
    ],
)
def test_what_overfitting_is(weak, strong, expected):
    best = Watched(epoch=3, weak=0.8, strong=0.6)
    assert is_overfitting(Watched(epoch=4, weak=weak, strong=strong), best, drop=0.3) is expected


def test_the_guard_refuses_what_it_cannot_guard(tmp_path):
    with pytest.raises(ValueError, match="guards an AdversarialTask, got SegmentationTask"):
        fit(make_trainer(tmp_path, OverfittingGuard()), make_task())
    task = AdversarialTask(tiny_network(), attack=LagrangianFMN(num_passes=3))
    with pytest.raises(ValueError, match="has no radius: give the guard an attack"):
        fit(make_trainer(tmp_path, OverfittingGuard()), task)
    with pytest.raises(ValueError, match="drop a share in"):
        OverfittingGuard(drop=1)
    with pytest.raises(ValueError, match="action must be 'stop' or 'warn'"):
        OverfittingGuard(action="panic")


def test_a_checkpoint_that_never_became_better_says_so(tmp_path):
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, max_images=2, panels=0, checks=False, every_n_epochs=1)
    trainer = make_trainer(tmp_path, evaluation, RobustCheckpoint(dirpath=tmp_path / "kept"), max_epochs=3)
    with pytest.warns(UserWarning, match="never improved on its first evaluation"):
        fit(trainer, make_task(lr=0.0))  # the batch statistics alone move
    assert len(evaluation.history) == 3


def test_the_history_is_drawn_beside_the_evaluations(tmp_path):
    evaluation = RobustnessEvaluation(
        {"fmn": LagrangianFMN(num_passes=5), "fgsm": FGSM()}, max_images=3, panels=0, checks=False, every_n_epochs=1
    )
    fit(make_trainer(tmp_path, evaluation, max_epochs=2, logger=CSVLogger(tmp_path, name="", version="")), make_task())
    picture = Image.open(tmp_path / "robustness_history.png")
    assert picture.width > picture.height > 300
    for measurement in evaluation.history:
        norms = measurement.norms["fmn"]
        assert len(norms) == 3
        assert list(norms) == sorted(norms)
        assert Measurement.from_state(measurement.to_state()) == measurement


def measurement(epoch: int, miou: float, norms: tuple[float, ...]) -> Measurement:
    values = {
        "val/robust_subset/clean_miou": 60.0 + epoch,
        "val/pgd/miou_at_4": miou,
        "val/fmn/by_product_miou_at_4": 70.0,
    }
    return Measurement(epoch=epoch, step=10 * epoch, num_images=len(norms), values=values, norms={"fmn": norms})


def test_the_history_shows_honest_scores_and_the_spread_of_norms():
    history = [measurement(0, 10, (0.001, 0.002, 0.004)), measurement(4, 30, (0.002, 0.008, math.inf))]
    scores, norms = history_figure(history).axes
    lines = {line.get_label(): line for line in scores.lines}
    assert list(lines) == ["clean", "pgd at 4/255"]  # the by-product would flatter
    assert lines["pgd at 4/255"].get_xdata().tolist() == [1, 5]
    assert lines["pgd at 4/255"].get_ydata().tolist() == [10, 30]
    (median,) = norms.lines
    assert median.get_ydata().tolist() == pytest.approx([255 * 0.002, 255 * 0.008])
    assert norms.get_ylim()[1] == pytest.approx(255 * 0.008 * 1.3)


@pytest.mark.parametrize("norms", [(), (math.inf, math.inf)])
def test_a_history_without_norms_is_drawn_too(norms):
    history_figure([measurement(0, 10, norms)]).savefig("/dev/null", format="png")


def test_the_time_left_is_shown_from_the_second_epoch_on(tmp_path):
    class Shown(Callback):
        def __init__(self):
            self.hours = []

        def on_train_batch_end(self, trainer, *args):
            self.hours.append(trainer.progress_bar_metrics.get("hours_left"))

    shown = Shown()
    fit(make_trainer(tmp_path, TimeLeft(), shown, max_epochs=3, enable_progress_bar=True), make_task())
    assert shown.hours[:3] == [None] * 3
    assert all(0 <= hours < 1 for hours in shown.hours[3:])
    assert shown.hours[-1] == 0
