"""Several evaluations in one trainer: names, collisions, and any callable that finds the network."""

import functools
import operator

import pytest
import torch
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch.loggers import CSVLogger
from torch.optim import SGD

from segrobust.attacks import FGSM, AlmaProx
from segrobust.callbacks import RobustCheckpoint, RobustnessEvaluation
from segrobust.callbacks.log_keys import LogKey, default_monitor
from segrobust.tasks import SegmentationTask


class WithTeacher(SegmentationTask):
    """A task that holds a second network."""

    def __init__(self) -> None:
        super().__init__(tiny_network(dropout=0), optimizer=lambda parameters: SGD(parameters, lr=0.3))
        self.teacher = tiny_network(seed=4).requires_grad_(False)


def evaluate(**settings) -> RobustnessEvaluation:
    defaults = {"attacks": {"fgsm": FGSM()}, "eps": (4 / 255,), "every_n_epochs": 1, "max_images": 2, "panels": 1}
    defaults |= {"checks": False}
    return RobustnessEvaluation(**(defaults | settings))


def fit(root, *callbacks, task=None, **settings):
    trainer = make_trainer(root, *callbacks, **settings)
    trainer.fit(task or WithTeacher(), loader(TinyScenes()), loader(TinyScenes()))
    return trainer


def test_two_evaluations_log_and_store_what_each_gives_alone(tmp_path):
    alone = {}
    for place in ("network", "teacher"):
        alone[place] = evaluate(network=place, compare_with_validation=place == "network")
        fit(tmp_path / place, alone[place])
    student, teacher = evaluate(), evaluate(network="teacher", name="teacher", seed=0, compare_with_validation=False)
    checkpoint = RobustCheckpoint(dirpath=tmp_path / "kept", monitor="val/teacher/fgsm/miou_at_4")
    trainer = fit(tmp_path, student, teacher, checkpoint, logger=CSVLogger(tmp_path, name="", version=""))

    for evaluation, place, prefix in ((student, "network", "val/"), (teacher, "teacher", "val/teacher/")):
        expected = {key.replace("val/", prefix, 1): value for key, value in alone[place].history[0].values.items()}
        assert evaluation.history[0].values == pytest.approx(expected)
        assert sorted(evaluation.keys) == sorted(expected)
        for key, value in expected.items():
            assert trainer.callback_metrics[key].item() == pytest.approx(value, rel=1e-6)
    assert checkpoint.best_model_score == teacher.history[0].values["val/teacher/fgsm/miou_at_4"]
    assert "val_teacher_fgsm_miou_at_4=" in checkpoint.best_model_path
    for folder in (tmp_path, tmp_path / "teacher"):
        assert len(list((folder / "robustness").iterdir())) == 1
        assert (folder / "robustness_history.png").exists()


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
@pytest.mark.parametrize("name", [None, "same"])
def test_one_name_twice_is_refused_before_the_start(tmp_path, stage, name):
    callbacks = evaluate(name=name), evaluate(attacks={"alma": AlmaProx(num_steps=1)}, network="teacher", name=name)
    trainer = make_trainer(tmp_path, *callbacks)
    loaders = [loader(TinyScenes())] * (2 if stage == "fit" else 1)
    message = (
        rf"have name={name!r}.*network='network' with attacks fgsm.*network='teacher' with attacks alma.*name=\"te"
    )
    with pytest.raises(ValueError, match=message):
        getattr(trainer, stage)(WithTeacher(), *loaders)
    assert callbacks[0].history == []


def nested():
    def find(module):
        return module.network

    return find


def by_kind(kind):
    """Two places of networks that nothing distinguishes but what they return."""
    return {
        "lambdas": (lambda module: module.network, lambda module: module.teacher),
        "partials": (functools.partial(part_of, name="network"), functools.partial(part_of, name="teacher")),
        "functions of one name": (nested(), nested()),
        "objects": (Find(), Find()),
        "one path": ("network", "network"),
    }[kind]


@pytest.mark.parametrize("kind", ["lambdas", "partials", "functions of one name", "objects", "one path"])
def test_equal_evaluations_are_refused_in_our_words(tmp_path, kind):
    one, other = by_kind(kind)
    with pytest.raises(ValueError, match=r'have name=None.*name one of them, such as name="teacher"'):
        fit(tmp_path, evaluate(network=one), evaluate(network=other))
    named = evaluate(network=one), evaluate(network=one, name="other")
    trainer = fit(tmp_path, *named, enable_checkpointing=True)
    saved = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)["callbacks"]
    assert {evaluation.state_key for evaluation in named} <= {*saved}


class LogsTheSame(WithTeacher):
    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("val/robust_subset/clean_miou", 1.0)


def test_a_key_of_the_task_is_refused_in_the_sanity_check(tmp_path):
    message = "'val/robust_subset/clean_miou' is logged by LogsTheSame or another callback too"
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, evaluate(), task=LogsTheSame())
    fit(tmp_path, evaluate(name="network"), task=LogsTheSame())


class Find:
    def __call__(self, module):
        return module.network

    def method(self, module):
        return module.network


def part_of(module, name):
    return getattr(module, name)


@pytest.mark.parametrize(
    "place", [functools.partial(part_of, name="network"), operator.attrgetter("network"), Find(), Find().method]
)
def test_any_callable_finds_the_network(tmp_path, place):
    evaluation = evaluate(network=place)
    fit(tmp_path, evaluation, RobustCheckpoint(dirpath=tmp_path))
    assert len(evaluation.history) == 1
    assert " at 0x" not in evaluation.state_key


def test_what_is_no_place_of_a_network_is_refused():
    with pytest.raises(TypeError, match=r"network=Normalized\(\.\.\.\) is a network itself.*network='model'"):
        evaluate(network=tiny_network())
    with pytest.raises(TypeError, match="dotted path or a function of the LightningModule, got 3"):
        evaluate(network=3)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "größe"])
def test_names_that_loggers_or_folders_would_change_are_refused(name):
    with pytest.raises(ValueError, match=r"name has letters a to z"):
        evaluate(name=name)


def test_a_name_is_part_of_the_state_key_and_leaves_that_without_one_alone():
    assert "name" not in evaluate().state_key
    assert len({evaluate(name=name).state_key for name in (None, "student", "teacher")}) == 3


def test_keys_with_a_name_can_be_read_back():
    evaluation = evaluate(attacks={"alma": AlmaProx(num_steps=1), "fgsm": FGSM()}, name="teacher")
    keys = [LogKey.parse(key) for key in evaluation.keys]
    assert {key.name for key in keys} == {"teacher"}
    assert {key.source for key in keys} == {"alma", "fgsm", "robust_subset"}
    assert default_monitor(evaluation.plan, evaluation.prefix("val")) == "val/teacher/fgsm/miou_at_4"
