from dataclasses import replace

import pytest
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

from segrobust.attacks import PGD, AlmaProx
from segrobust.callbacks import RobustCheckpoint, RobustnessEvaluation, RobustStopping
from segrobust.evaluation import preset_attacks

EVALUATION = """
class_path: segrobust.callbacks.RobustnessEvaluation
init_args:
  attacks:
    pgd: {class_path: segrobust.attacks.PGD, init_args: {num_steps: 10}}
    alma: {class_path: segrobust.attacks.AlmaProx, init_args: {num_steps: 50}}
  every_n_epochs: 5
  max_images: null
  eps: [0.01, 0.02]
  network: parts.model
  image: 0
  mask: 1
"""
CHECKPOINT = """
class_path: segrobust.callbacks.RobustCheckpoint
init_args: {monitor: val/pgd/miou_at_4, save_top_k: 3, dirpath: kept}
"""


def read(text: str) -> Callback:
    """The callback that a YAML file gives, dumped and read once more on the way."""
    parser = ArgumentParser()
    parser.add_argument("--callback", type=Callback)
    config = parser.parse_object({"callback": yaml.safe_load(text)})
    again = parser.parse_string(parser.dump(config, skip_unset=False))
    callback: Callback = parser.instantiate(again).callback
    return callback


def test_an_evaluation_is_made_from_yaml():
    evaluation = read(EVALUATION)
    assert isinstance(evaluation, RobustnessEvaluation)
    attacks = {"pgd": PGD(num_steps=10), "alma": AlmaProx(num_steps=50)}
    by_hand = RobustnessEvaluation(
        attacks, every_n_epochs=5, max_images=None, eps=(0.01, 0.02), network="parts.model", image=0, mask=1
    )
    for each in (evaluation, by_hand):
        del each._validated  # made of the other settings
    assert vars(evaluation) == vars(by_hand)


def test_without_attacks_an_evaluation_has_those_of_the_preset():
    ready = preset_attacks("validation")
    evaluation = read("class_path: segrobust.callbacks.RobustnessEvaluation\ninit_args: {every_n_epochs: 5}")
    assert isinstance(evaluation, RobustnessEvaluation)
    minimal, curve = evaluation.plan.jobs
    assert minimal.attack == ready[minimal.name]
    assert curve.attack == replace(ready[curve.name], radii=(2 / 255, 4 / 255, 8 / 255))
    assert f"val/{curve.name}/miou_at_4" in evaluation.keys


def test_a_checkpoint_is_made_from_yaml():
    checkpoint = read(CHECKPOINT)
    assert isinstance(checkpoint, RobustCheckpoint)
    assert (checkpoint.monitor, checkpoint.save_top_k, str(checkpoint.dirpath)) == ("val/pgd/miou_at_4", 3, "kept")


def test_a_stopping_is_made_from_yaml():
    stopping = read(
        "class_path: segrobust.callbacks.RobustStopping\ninit_args: {monitor: val/pgd/asr_at_4, patience: 2}"
    )
    assert isinstance(stopping, RobustStopping)
    assert (stopping.monitor, stopping.patience) == ("val/pgd/asr_at_4", 2)


@pytest.mark.parametrize("mistake", ["every_n_epoch: 5", "attacks: 3"])
def test_mistakes_in_yaml_are_refused(mistake):
    config = yaml.safe_load(EVALUATION)
    config["init_args"].update(yaml.safe_load(mistake))
    with pytest.raises((ValueError, SystemExit)):
        read(yaml.safe_dump(config))
