import copy
from typing import Any

import pytest
import torch
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import default_collate

from segrobust.attacks import FGSM, PGD, AlmaProx
from segrobust.tasks import AdversarialTask

EPS = 8 / 255
LR = 0.1
PGD_2 = PGD(num_steps=2, eps=EPS, random_start=True)


class Watched(AdversarialTask):
    """Keeps what its network was trained on, and the gradients before each step."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.seen: list[Tensor] = []
        self.batches: list[Tensor] = []
        self.gradients: list[dict[str, Tensor | None]] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen.append(images.detach().clone())
        return super().forward(images)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.batches.append(batch["image"])
        return super().training_step(batch, batch_idx)

    def on_after_backward(self) -> None:
        self.gradients.append({name: copy.deepcopy(p.grad) for name, p in self.network.named_parameters()})


def make_task(**settings: Any) -> Watched:
    defaults = {"attack": PGD_2, "optimizer": lambda p: SGD(p, lr=LR)}
    return Watched(tiny_network(dropout=0), **(defaults | settings))


def fit(root: Any, task: LightningModule, **settings: Any) -> LightningModule:
    trainer = make_trainer(root, max_epochs=1, limit_val_batches=0, **settings)
    trainer.fit(task, loader(TinyScenes()))
    return task


def test_trains_on_images_within_eps(tmp_path):
    task = fit(tmp_path, make_task())
    assert len(task.seen) == 3
    for batch, seen in zip(task.batches, task.seen, strict=True):
        distance = (seen - batch).abs()
        assert distance.max().item() <= EPS + 1e-6
        assert distance.amax((1, 2, 3)).min().item() > EPS / 2
        assert seen.min() >= 0
        assert seen.max() <= 1


@pytest.mark.parametrize(("clean_fraction", "num_clean"), [(0.0, 0), (0.3, 0), (0.5, 1), (0.9, 1)])
def test_a_share_of_the_batch_stays_clean(tmp_path, clean_fraction, num_clean):
    task = fit(tmp_path, make_task(clean_fraction=clean_fraction))
    for batch, seen in zip(task.batches, task.seen, strict=True):
        assert torch.equal(seen[:num_clean], batch[:num_clean])
        assert all(not torch.equal(a, b) for a, b in zip(seen[num_clean:], batch[num_clean:], strict=True))
    logged = task.trainer.callback_metrics
    if num_clean:
        mean = (logged["train/clean_loss"] + logged["train/adv_loss"]) / 2  # as many valid pixels in each image
        assert logged["train/loss"].item() == pytest.approx(mean.item(), rel=1e-4)


def manual_step(network: nn.Module, scenes: TinyScenes) -> tuple[float, dict[str, Tensor]]:
    """Loss and weights of one SGD step on the attacked first batch, in plain torch."""
    batch = default_collate([scenes[0], scenes[1]])
    network.train()
    attacked = PGD_2.perturb(network, batch["image"], batch["mask"], sample_ids=batch["sample_id"])
    loss = nn.functional.cross_entropy(network(attacked), batch["mask"], ignore_index=255)
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    after = {
        name: (parameter - LR * gradient).detach()
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
    }
    return loss.item(), after


def constant(optimizer: torch.optim.Optimizer, total_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)


def test_a_step_is_a_manual_step_on_the_attacked_batch(tmp_path):
    """Weights too, so that the attack leaves no gradient of its own in them, and no trace in the batch statistics."""
    task = make_task(schedule=constant)
    reference = copy.deepcopy(task.network)
    fit(tmp_path, task, limit_train_batches=1)
    loss, weights = manual_step(reference, TinyScenes())
    assert task.trainer.callback_metrics["train/loss"].item() == pytest.approx(loss, rel=1e-6)
    for name, parameter in task.network.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], rtol=1e-6, atol=1e-8)
    for name, buffer in task.network.named_buffers():
        torch.testing.assert_close(buffer, reference.get_buffer(name))


def test_a_step_in_bf16_has_all_gradients_near_those_of_float32(tmp_path):
    full, mixed = fit(tmp_path, make_task()), fit(tmp_path, make_task(), precision="bf16-mixed")
    assert torch.equal(full.seen[0], mixed.seen[0])  # the attack itself is in float32
    for name, expected in full.gradients[0].items():
        found = mixed.gradients[0][name]
        assert expected is not None
        assert found is not None, name
        assert (found - expected).norm() <= 0.05 * expected.norm() + 1e-3, name


def test_random_starts_differ_between_epochs_and_not_between_runs(tmp_path):
    first = make_task(
        optimizer=lambda p: SGD(p, lr=0.0), attack=PGD(num_steps=1, eps=EPS, step_size=1e-6, random_start=True)
    )
    second = copy.deepcopy(first)
    for task in (first, second):
        trainer = make_trainer(tmp_path, max_epochs=2, limit_val_batches=0)
        trainer.fit(task, loader(TinyScenes()))
    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))
    deltas = [seen - batch for batch, seen in zip(first.batches, first.seen, strict=True)]
    assert not torch.allclose(deltas[0], deltas[3], atol=EPS / 10)  # the same images, an epoch later


def test_gradients_of_accumulated_batches_add_up(tmp_path):
    """The attack of the second batch must not disturb what the first one left."""
    single = make_task(optimizer=lambda p: SGD(p, lr=0.0), schedule=constant)
    fit(tmp_path, single, limit_train_batches=2)
    accumulated = make_task(optimizer=lambda p: SGD(p, lr=0.0), schedule=constant)
    fit(tmp_path, accumulated, limit_train_batches=2, accumulate_grad_batches=2)
    for name, total in accumulated.gradients[1].items():
        expected = (single.gradients[0][name] + single.gradients[1][name]) / 2
        torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clean_fraction": 1.0}, r"clean_fraction must lie in \[0, 1\), got 1.0"),
        ({"clean_fraction": -0.1}, r"clean_fraction must lie in \[0, 1\)"),
        ({"attack": PGD()}, "adversarial training needs a radius: set eps of PGD"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_task(**settings)


@pytest.mark.parametrize("attack", [FGSM(eps=EPS), AlmaProx(num_steps=3)])
def test_any_attack_trains(tmp_path, attack):
    task = fit(tmp_path, make_task(attack=attack))
    assert all(not torch.equal(seen, batch) for batch, seen in zip(task.batches, task.seen, strict=True))
