import math
from typing import Any

import pytest
import torch
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import LightningModule, Trainer
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from segrobust.networks import save_weights, weights_digest
from segrobust.tasks import AdversarialTask, SegmentationTask


def make_task(**settings: Any) -> SegmentationTask:
    return SegmentationTask(tiny_network(), **({"optimizer": lambda p: SGD(p, lr=0.1)} | settings))


def slow_scores(network: nn.Module, scenes: TinyScenes) -> tuple[float, float]:
    """mIoU over the set and pixel accuracy in percent, pixel by pixel."""
    table = [[0] * 3 for _ in range(3)]
    network.eval()
    for index in range(len(scenes)):
        sample = scenes[index]
        predicted = network(sample["image"][None]).argmax(1)[0]
        for label, found in zip(sample["mask"].flatten().tolist(), predicted.flatten().tolist(), strict=True):
            if label != 255:
                table[label][found] += 1
    ious = []
    for k in range(3):
        union = sum(table[k]) + sum(row[k] for row in table) - table[k][k]
        ious.append(table[k][k] / union)
    right = sum(table[k][k] for k in range(3))
    return 100 * sum(ious) / 3, 100 * right / sum(map(sum, table))


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_scores_equal_a_slow_computation(tmp_path, stage):
    task, scenes, trainer = make_task(), TinyScenes(5, seed=4), make_trainer(tmp_path)
    getattr(trainer, stage)(task, loader(scenes), verbose=False)
    prefix = "val" if stage == "validate" else "test"
    miou, acc = slow_scores(task.network, scenes)
    assert trainer.callback_metrics[f"{prefix}/clean/miou"].item() == pytest.approx(miou, rel=1e-6)
    assert trainer.callback_metrics[f"{prefix}/clean/acc"].item() == pytest.approx(acc, rel=1e-6)


class Repeated(TinyScenes):
    """The last samples come again, as a distributed sampler hands them out; their ids tell."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        return super().__getitem__(index % 6)


def test_a_sample_that_comes_twice_counts_once(tmp_path):
    task, trainer = make_task(), make_trainer(tmp_path)
    trainer.validate(task, loader(Repeated(), batch_size=3), verbose=False)
    miou, acc = slow_scores(task.network, TinyScenes())
    assert trainer.callback_metrics["val/clean/miou"].item() == pytest.approx(miou, rel=1e-6)
    assert trainer.callback_metrics["val/clean/acc"].item() == pytest.approx(acc, rel=1e-6)


def test_loss_is_the_mean_over_valid_pixels():
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    labels[0, :2] = 255
    terms = [
        math.log(logits[b, :, i, j].exp().sum()) - logits[b, labels[b, i, j], i, j].item()
        for b in range(2)
        for i in range(4)
        for j in range(5)
        if labels[b, i, j] != 255
    ]
    assert make_task().loss(logits, labels).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert make_task().loss(logits, torch.full_like(labels, 255)).item() == 0


class Rates(SegmentationTask):
    """Notes the learning rate of each optimiser step."""

    rates: list[float]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


def fit_and_note_rates(root: Any, schedule: Any, **settings: Any) -> list[float]:
    task = Rates(tiny_network(), optimizer=lambda p: SGD(p, lr=1.0), schedule=schedule)
    task.rates = []
    make_trainer(root, max_epochs=2, **settings).fit(task, loader(TinyScenes()), loader(TinyScenes()))
    return task.rates


def staircase(optimizer: Optimizer, total_steps: int) -> LRScheduler:
    return LambdaLR(optimizer, lambda step: (total_steps - step) / total_steps)


def timm_cosine(optimizer: Optimizer, total_steps: int) -> CosineLRScheduler:
    return CosineLRScheduler(optimizer, t_initial=total_steps, t_in_epochs=False)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 6), (2, 4)])
def test_a_schedule_of_torch_moves_once_per_step(tmp_path, accumulate, steps):
    rates = fit_and_note_rates(tmp_path, staircase, accumulate_grad_batches=accumulate)
    assert rates == pytest.approx([(steps - step) / steps for step in range(steps)])


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 6), (2, 4)])
def test_a_schedule_of_timm_moves_once_per_step(tmp_path, accumulate, steps):
    rates = fit_and_note_rates(tmp_path, timm_cosine, accumulate_grad_batches=accumulate)
    assert rates == pytest.approx([0.5 + 0.5 * math.cos(math.pi * step / steps) for step in range(steps)])


def test_the_default_schedule_ends_at_nothing(tmp_path):
    task = make_task()
    trainer = make_trainer(tmp_path, max_epochs=2)
    trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_starts_from_stored_weights(tmp_path):
    stored = tiny_network(seed=5)
    save_weights(stored, tmp_path / "start.safetensors", metadata=None)
    task = make_task(initial_weights=str(tmp_path / "start.safetensors"))
    assert weights_digest(task.network) == weights_digest(stored)
    assert weights_digest(make_task().network) != weights_digest(stored)


class Interrupted(SegmentationTask):
    """Its first validation breaks off."""

    broke_off = False

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        if not self.broke_off:
            self.broke_off = True
            raise KeyError("a broken sample")


def test_an_interrupted_validation_leaves_nothing_behind(tmp_path):
    task = Interrupted(tiny_network())
    with pytest.raises(KeyError, match="a broken sample"):
        make_trainer(tmp_path).validate(task, loader(TinyScenes()), verbose=False)
    trainer: Trainer = make_trainer(tmp_path)
    trainer.validate(task, loader(TinyScenes(3, seed=2)), verbose=False)
    miou, _ = slow_scores(task.network, TinyScenes(3, seed=2))
    assert trainer.callback_metrics["val/clean/miou"].item() == pytest.approx(miou, rel=1e-6)


@pytest.mark.parametrize("task_class", [SegmentationTask, AdversarialTask])
def test_a_checkpoint_holds_no_settings(tmp_path, task_class):
    """Otherwise Lightning would put the settings of a training over those of a later evaluation."""
    from segrobust.attacks import FGSM

    settings = {"attack": FGSM(eps=4 / 255)} if task_class is AdversarialTask else {}
    task: LightningModule = task_class(tiny_network(), **settings)
    trainer = make_trainer(tmp_path)
    trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert "hyper_parameters" not in stored
