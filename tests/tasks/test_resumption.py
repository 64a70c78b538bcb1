import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from tasks.trainings import RECIPES, scenes, train

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation, WeightEMA


class Interrupted(Exception):
    pass


class KeepEveryStep(ModelCheckpoint):
    """A checkpoint after every step; ends the training after the wanted one, as a kill would."""

    def __init__(self, folder, last_step):
        super().__init__(folder, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        self.last_step = last_step

    def on_train_batch_end(self, trainer, *args, **kwargs):
        super().on_train_batch_end(trainer, *args, **kwargs)
        if trainer.global_step == self.last_step:
            raise Interrupted


INTERRUPTIONS = [
    *((recipe, 3) for recipe in RECIPES),  # in the first epoch of four steps
    *((recipe, step) for recipe in ("pgd_at", "minimal_norm") for step in (4, 6)),  # at its end, and in the second
]


@pytest.mark.parametrize(("recipe", "step"), INTERRUPTIONS)
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, recipe, step):
    whole, _ = train(tmp_path, recipe, WeightEMA(0.9))
    with pytest.raises(Interrupted):
        train(tmp_path, recipe, WeightEMA(0.9), KeepEveryStep(tmp_path, step))
    resumed, trainer = train(tmp_path, recipe, WeightEMA(0.9), ckpt_path=str(tmp_path / f"step={step}.ckpt"))
    assert trainer.global_step == 8
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_comparison_above_can_fail(tmp_path):
    """Other batches, and other dropout, give other weights."""
    first, _ = train(tmp_path, "standard")
    again, _ = train(tmp_path, "standard")
    other, _ = train(tmp_path, "standard", dropout=0)
    weight = "network.network.0.weight"
    assert torch.equal(first.state_dict()[weight], again.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


def test_an_end_of_epoch_checkpoint_goes_on_too(tmp_path):
    whole, _ = train(tmp_path, "pgd_at")
    checkpoint = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    train(tmp_path, "pgd_at", checkpoint)
    resumed, _ = train(tmp_path, "pgd_at", ckpt_path=str(tmp_path / "epoch=0.ckpt"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_another_plan_is_refused(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    train(tmp_path, "standard", checkpoint)
    with pytest.raises(ValueError, match=r"planned for 8 optimiser steps, and now has 12.*initial_weights"):
        train(tmp_path, "standard", ckpt_path=str(tmp_path / "epoch=1.ckpt"), max_epochs=3)


def test_robustness_callbacks_change_no_weight(tmp_path):
    """With averaged weights too, which are swapped in while the callback attacks."""
    plain, _ = train(tmp_path, "pgd_at", WeightEMA(0.9))
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, max_images=2, panels=0, every_n_epochs=1)
    for callbacks in ((evaluation, WeightEMA(0.9)), (WeightEMA(0.9), evaluation)):
        watched, _ = train(tmp_path, "pgd_at", *callbacks)
        for name, value in plain.state_dict().items():
            assert torch.equal(value, watched.state_dict()[name]), name


def test_the_number_of_workers_changes_no_batch():
    batches = []
    for workers in (0, 2):
        seed_everything(3, workers=True, verbose=False)
        loader = scenes(num_workers=workers).train_dataloader()
        loader.batch_sampler.sampler.set_epoch(1)
        batches.append(list(loader))
    for alone, shared in zip(*batches, strict=True):
        assert all(torch.equal(alone[key], shared[key]) for key in ("image", "mask", "sample_id"))


def test_every_epoch_draws_other_variants_of_a_sample():
    seed_everything(3, workers=True, verbose=False)
    loader = scenes(batch_size=8).train_dataloader()
    images = []
    for epoch in (0, 1):
        loader.batch_sampler.sampler.set_epoch(epoch)
        (batch,) = loader
        images.append(batch["image"][batch["sample_id"].argsort()])
    assert all(not torch.equal(a, b) for a, b in zip(*images, strict=True))
