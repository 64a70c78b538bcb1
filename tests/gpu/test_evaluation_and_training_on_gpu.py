"""Evaluations and trainings on a CUDA device, through the real runner, trainer and commands."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from evaluation.toy import ToyScenes, toy_network, toy_plan
from tasks.test_resumption import Interrupted, KeepEveryStep
from tasks.trainings import RECIPES, scenes_network, train
from tolerances import CUDA_NORM

from segrobust.attacks import PGD, LagrangianFMN
from segrobust.callbacks import RobustnessEvaluation
from segrobust.evaluation import StridedWork, run
from segrobust.tasks import SegmentationTask

ROOT = Path(__file__).parent.parent.parent
GPU = {"accelerator": "gpu"}


def test_records_of_the_gpu_are_those_of_the_cpu():
    def records(device):
        work = StridedWork(range(6), batch_size=3)
        return {r.key: r for r in run(toy_network().to(device), ToyScenes(6), toy_plan(), work=work)}

    on_cpu, on_gpu = records("cpu"), records("cuda")
    assert on_cpu.keys() == on_gpu.keys()
    for key, expected in on_cpu.items():
        found = on_gpu[key]
        assert (found.success, found.num_valid, found.flags) == (expected.success, expected.num_valid, expected.flags)
        assert (found.num_forwards, found.num_backwards) == (expected.num_forwards, expected.num_backwards)
        assert (found.tp, found.fp, found.fn) == (expected.tp, expected.fp, expected.fn)
        if expected.norm is not None:
            assert math.isclose(found.norm, expected.norm, rel_tol=CUDA_NORM)


@pytest.mark.parametrize("recipe", RECIPES)
def test_an_interrupted_training_goes_on_as_it_would_have(tmp_path, recipe):
    """Dropout draws from the device's generator, whose state a checkpoint holds."""
    settings = GPU | {"deterministic": "warn"}
    whole, _ = train(tmp_path, recipe, **settings)
    with pytest.raises(Interrupted):
        train(tmp_path, recipe, KeepEveryStep(tmp_path, 3), **settings)
    resumed, trainer = train(tmp_path, recipe, ckpt_path=str(tmp_path / "step=3.ckpt"), **settings)
    assert trainer.global_step == 8
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains_and_is_attacked_in_every_precision(tmp_path, recipe, precision):
    """Gradients scaled for float16 included. The callback attacks in float32 whatever the training's precision."""
    evaluation = RobustnessEvaluation(
        {"pgd": PGD(num_steps=3), "minimal": LagrangianFMN(num_passes=10)}, max_images=2, panels=0, every_n_epochs=1
    )
    start = {name: value.clone() for name, value in RECIPES[recipe](scenes_network()).state_dict().items()}
    task, trainer = train(tmp_path, recipe, evaluation, precision=precision, **GPU)
    values = trainer.callback_metrics
    assert values["val/minimal/median_norm"].isfinite()
    assert 0 <= values["val/pgd/acc_at_4"] < 100
    weights = task.state_dict()
    assert all(value.isfinite().all() for value in weights.values())
    assert any(not torch.equal(weights[name].cpu(), start[name]) for name in start)


@pytest.mark.parametrize(
    "settings", [{"precision": "bf16-mixed"}, {"precision": "16-mixed"}, {"strategy": "ddp"}], ids=str
)
def test_attacks_in_validation_are_those_of_a_plain_run(tmp_path, settings):
    """Whatever the precision of training; and in a real process group of one, which is what one device allows."""

    def median(**settings):
        evaluation = RobustnessEvaluation({"a": LagrangianFMN(num_passes=20)}, panels=0)
        trainer = make_trainer(tmp_path, evaluation, **settings, **GPU)
        trainer.validate(SegmentationTask(tiny_network()), loader(TinyScenes()), verbose=False)
        return trainer.callback_metrics["val/a/median_norm"].cpu()

    torch.testing.assert_close(median(**settings), median(), rtol=1e-4, atol=0)


def test_the_bare_evaluation_command_takes_the_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "evaluate.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any("cuda:0" in path.read_text() for path in tmp_path.rglob("*.json*"))
