"""The weights that are attacked are those that were validated, whoever swaps them in and out."""

import contextlib

import pytest
import torch
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch.optim import SGD

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustCheckpoint, RobustnessEvaluation
from segrobust.networks import Normalized
from segrobust.tasks import SegmentationTask


class Remembers(RobustnessEvaluation):
    """Notes the weights that are attacked."""

    def _session(self, trainer, network):
        self.attacked = network.network[0].weight.detach().clone()
        return super()._session(trainer, network)


class Task(SegmentationTask):
    """Notes the weights that are validated."""

    def __init__(self):
        super().__init__(tiny_network(dropout=0), optimizer=lambda parameters: SGD(parameters, lr=0.3))

    def validation_step(self, batch, batch_idx):
        self.validated = self.network.network[0].weight.detach().clone()
        return super().validation_step(batch, batch_idx)


class Swap(Callback):
    """Negates the weights between two hooks."""

    def __init__(self, first: str, last: str) -> None:
        for hook in (first, last):
            setattr(self, hook, lambda trainer, module: negate(module.network))


def negate(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.neg_()


class Averaged(Task):
    """Swaps other weights in for the step alone, as in `with ema.average_parameters()`."""

    def validation_step(self, batch, batch_idx):
        with contextlib.ExitStack() as stack:
            if not self.trainer.sanity_checking:
                negate(self.network)
                stack.callback(negate, self.network)
            return super().validation_step(batch, batch_idx)


class OtherObject(Callback):
    """Replaces the network itself for the validation."""

    def __init__(self) -> None:
        self.other = tiny_network(seed=5, dropout=0).eval()

    def on_validation_epoch_start(self, trainer, module):
        module.network, self.other = self.other, module.network

    on_validation_epoch_end = on_validation_epoch_start


SWAPS = {
    "averaging": lambda: EMAWeightAveraging(decay=0.5),
    "start to epoch end": lambda: Swap("on_validation_start", "on_validation_epoch_end"),
    "epoch start to end": lambda: Swap("on_validation_epoch_start", "on_validation_end"),
    "epoch start to epoch end": lambda: Swap("on_validation_epoch_start", "on_validation_epoch_end"),
    "another object": OtherObject,
}


def fit(root, task, *callbacks, **settings):
    trainer = make_trainer(root, *callbacks, **settings)
    trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    return trainer


def evaluation(**settings):
    return Remembers({"fgsm": FGSM()}, max_images=1, panels=0, checks=False, every_n_epochs=1, **settings)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("swap", SWAPS)
def test_the_weights_of_the_validation_are_attacked_in_any_order(tmp_path, swap, first):
    robust, other, task = evaluation(run_on_last_epoch=False), SWAPS[swap](), Task()
    plain = Task()
    fit(tmp_path, task, *((other, robust) if first else (robust, other)))
    fit(tmp_path, plain, SWAPS[swap]())
    assert torch.equal(robust.attacked, task.validated)
    assert all(torch.equal(a, b) for a, b in zip(task.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize("place", ["network", lambda module: Normalized(module.network.network)])
def test_weights_that_are_swapped_in_for_the_step_alone_are_attacked(tmp_path, place):
    robust, task = evaluation(network=place), Averaged()
    fit(tmp_path, task, robust)
    assert robust.swapped
    assert torch.equal(robust.attacked, task.validated)
    assert not torch.equal(robust.attacked, task.network.network[0].weight)


def test_a_checkpoint_of_other_weights_than_were_attacked_is_refused(tmp_path):
    with pytest.raises(ValueError, match="would save other weights than were validated"):
        fit(tmp_path, Task(), SWAPS["start to epoch end"](), evaluation(), RobustCheckpoint(dirpath=tmp_path))
    robust, checkpoint = evaluation(), RobustCheckpoint(dirpath=tmp_path)
    fit(tmp_path, Task(), EMAWeightAveraging(decay=0.5), robust, checkpoint)
    saved = torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"]
    assert torch.equal(saved["network.network.0.weight"], robust.attacked)


def test_another_architecture_at_the_end_of_the_validation_is_refused(tmp_path):
    smaller = OtherObject()
    smaller.other = nn.Sequential(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="network= gives another network at the end of the validation"):
        fit(tmp_path, Task.__base__(tiny_network()), smaller, evaluation(), num_sanity_val_steps=0)
