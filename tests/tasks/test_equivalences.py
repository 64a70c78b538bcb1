"""Batches split over steps or processes, precision, and compilation: the same training by another way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tasks.trainings import EPS, RECIPES, scenes_network, train, without_void
from torch import nn

from segrobust.attacks import PGD
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.functional.modes import attackable

TESTS = Path(__file__).parent.parent
JOB = Path(__file__).parent / "ddp_training.py"

EQUAL_MEANS = ("pgd_at", "fgsm_rs", "trades", "minimal_norm")
"""Recipes whose loss is a mean over images: those whose batch is not divided into clean and attacked ones."""


def weights(task: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in task.parameters()])


@pytest.mark.parametrize("recipe", EQUAL_MEANS)
def test_two_accumulated_batches_are_one_of_twice_the_size(tmp_path, recipe):
    """Without batch normalisation, which sees other batches."""
    whole, one = train(tmp_path, recipe, data=without_void(4), batch_norm=False, dropout=0)
    halves, two = train(tmp_path, recipe, data=without_void(2), batch_norm=False, dropout=0, accumulate_grad_batches=2)
    assert one.global_step == two.global_step == 4
    torch.testing.assert_close(weights(halves), weights(whole), rtol=1e-4, atol=1e-6)


@pytest.mark.ddp
@pytest.mark.timeout(600)
def test_two_processes_train_as_one(tmp_path):
    """Real processes, half of each batch in each; also their random starts and radii are those of one process."""
    path = os.pathsep.join((str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")))
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(JOB), str(tmp_path), *EQUAL_MEANS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for recipe in EQUAL_MEANS:
        alone, _ = train(tmp_path, recipe, data=without_void(4), batch_norm=False, dropout=0)
        shared = torch.load(tmp_path / f"{recipe}.pt", weights_only=True)
        torch.testing.assert_close(shared, weights(alone), rtol=1e-4, atol=1e-6, msg=lambda m, r=recipe: f"{r}: {m}")
    reduced = json.loads((tmp_path / "all_reduces.json").read_text())
    assert reduced["pgd_at"] == reduced["standard"]  # the attack adds none


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, *args):
        self.values.append(trainer.callback_metrics["train/adv_loss"].item())


def test_the_adversarial_loss_in_bf16_is_that_in_float32(tmp_path):
    """Over fifty steps; the attack itself runs in float32 in both."""
    seen = []
    for precision in ("32-true", "bf16-mixed"):
        losses = Losses()
        train(tmp_path, "pgd_at", losses, max_epochs=13, dropout=0, precision=precision)
        seen.append(torch.tensor(losses.values))
    assert len(seen[0]) == 52
    assert ((seen[1] - seen[0]).abs() / seen[0]).mean() < 0.02
    assert not torch.equal(*seen)


def test_clipping_limits_the_step_of_an_attacked_batch(tmp_path):
    """The attack leaves nothing in the gradients, so that their norm after clipping is the limit."""

    class Norms(Callback):
        def __init__(self):
            self.values = []

        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if gradients:
                self.values.append(torch.cat([g.flatten() for g in gradients]).norm().item())

    norms = Norms()
    train(tmp_path, "pgd_at", norms, gradient_clip_val=1e-3)
    assert norms.values
    assert max(norms.values) <= 1.001e-3


def test_a_compiled_network_has_the_input_gradients_of_the_eager_one():
    network = scenes_network(dropout=0).eval()
    images = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    cotangent = torch.randn(2, 9, 24, 32, generator=torch.Generator().manual_seed(1))
    compiled = torch.compile(network, backend="aot_eager")
    found = []
    for candidate in (network, compiled):
        with attackable(candidate):
            oracle = NetworkOracle(candidate, images)
            logits = oracle.logits(torch.zeros_like(images))
            found.append((logits, oracle.pullback(cotangent)))
    for eager, other in zip(*found, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-5, atol=1e-6)
    attack = PGD(num_steps=3, eps=EPS)
    labels = torch.zeros(2, 24, 32, dtype=torch.int64)
    torch.testing.assert_close(attack.perturb(compiled, images, labels), attack.perturb(network, images, labels))


def test_every_recipe_is_covered():
    assert set(EQUAL_MEANS) <= set(RECIPES)
