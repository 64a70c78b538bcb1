"""A folder of an evaluation goes on with the same network alone, and a trainer without images is warned of."""

import pytest
from callbacks.strangers import Project, Scenes, loader, whole
from callbacks.tiny import make_trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation


class Rounds(nn.Module):
    """A defence that has no weights."""

    def __init__(self, network: nn.Module, levels: int) -> None:
        super().__init__()
        self.network = network
        self.choose(levels)

    def choose(self, levels: int) -> None:
        self.levels = levels

    def forward(self, images):
        return self.network((images * self.levels).round() / (2 * self.levels) + images / 2)


class Prints(Rounds):
    def extra_repr(self) -> str:
        return f"levels={self.levels}"


def validate(root, network):
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, network="model", panels=0, checks=False)
    trainer = make_trainer(root, evaluation, logger=CSVLogger(root, version=0))
    (found,) = trainer.validate(Project(network), loader(Scenes()), verbose=False)
    return found


@pytest.mark.parametrize("kind", [Rounds, Prints])
def test_a_changed_defence_with_the_same_weights_is_refused(tmp_path, kind):
    network = whole()
    first = validate(tmp_path, kind(network, 4))
    assert validate(tmp_path, kind(network, 4)) == first
    with pytest.raises(ValueError, match="a network with the same weights that is another function"):
        validate(tmp_path, kind(network, 2))


@pytest.mark.parametrize(
    ("action", "settings", "with_images"),
    [("fit", {"limit_val_batches": 0}, True), ("fit", {}, False), ("validate", {"limit_val_batches": 0}, True)],
)
def test_a_trainer_without_images_is_warned_of(tmp_path, action, settings, with_images):
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, network="model", panels=0, checks=False)
    trainer = make_trainer(tmp_path, evaluation, **settings)
    loaders = [loader(Scenes())] * (1 if action == "validate" else 1 + with_images)
    with pytest.warns(UserWarning, match="RobustnessEvaluation measures nothing"):
        getattr(trainer, action)(Project(), *loaders)
    assert evaluation.history == []
