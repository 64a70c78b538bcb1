import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from tasks.trainings import RECIPES, scenes, train

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation, WeightEMA
from segrobust.tasks import ScheduleMismatchError


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


class KeepEveryEpoch(ModelCheckpoint):
    """The same at the ends of epochs."""

    def __init__(self, folder, last_step):
        super().__init__(folder, filename="{step}", save_top_k=-1, save_on_train_epoch_end=True)
        self.last_step = last_step

    def on_train_epoch_end(self, trainer, *args, **kwargs):
        super().on_train_epoch_end(trainer, *args, **kwargs)
        if trainer.global_step == self.last_step:
            raise Interrupted


PLANS = {
    "epochs": {"max_epochs": 4},
    "no validation": {"max_epochs": 4, "limit_val_batches": 0},
    "steps": {"max_epochs": -1, "max_steps": 8},
}


def interrupt(folder, plan, interruptions):
    """Trains four epochs of two steps with some interruptions, and gives the last checkpoint."""
    path = None
    for number, (checkpoints, step) in enumerate(interruptions):
        place = folder / str(number)
        with pytest.raises(Interrupted):
            train(folder, "standard", checkpoints(place, step), ckpt_path=path, data=scenes(4), **PLANS[plan])
        path = place / f"step={step}.ckpt"
    return path


@pytest.mark.parametrize(
    "interruptions",
    [
        [(KeepEveryStep, 2), (KeepEveryStep, 4), (KeepEveryStep, 6)],
        [(KeepEveryStep, 2), (KeepEveryStep, 3), (KeepEveryStep, 8)],
        [(KeepEveryEpoch, 2), (KeepEveryEpoch, 4), (KeepEveryStep, 5)],
    ],
    ids=lambda interruptions: " ".join(f"{kind.__name__[9:]}-{step}" for kind, step in interruptions),
)
@pytest.mark.parametrize("plan", PLANS)
def test_a_training_interrupted_again_and_again_ends_with_the_same_weights(tmp_path, plan, interruptions):
    whole, _ = train(tmp_path, "standard", data=scenes(4), **PLANS[plan])
    path = interrupt(tmp_path, plan, interruptions)
    resumed, trainer = train(tmp_path, "standard", ckpt_path=path, data=scenes(4), **PLANS[plan])
    assert trainer.global_step == 8
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_no_training_passes_its_plan(tmp_path):
    """Lightning alone writes such a checkpoint after it resumed at the end of the epoch before."""
    path = interrupt(tmp_path, "epochs", [(KeepEveryStep, 4)])
    checkpoint = torch.load(path, weights_only=True)
    for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        counts.update(ready=1, started=1, processed=1, completed=1)
    torch.save(checkpoint, path)
    with pytest.raises(ScheduleMismatchError, match=r"at step 4, in epoch 1, .* after 10 .* 8: .*step=4\.ckpt"):
        train(tmp_path, "standard", ckpt_path=path, data=scenes(4), **PLANS["epochs"])


def test_the_comparisons_above_can_fail(tmp_path):
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
