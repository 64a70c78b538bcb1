"""Wrong values that are refused before Lightning, or even torch, is imported."""

import inspect
import shlex
import subprocess
import sys

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import StrategyRegistry

from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.lightning_source import argument_names_in_source
from segrobust.cli.training_options import CLASSES

WITHOUT = "import sys; sys.modules.update(dict.fromkeys({blocked!r})); from segrobust import cli; cli.main()"
IN_JSON = """'{"x": {"class_path": "segrobust.attacks.PGD", "init_args": {"num_step": 3}}}'"""


@pytest.mark.parametrize(
    ("line", "blocked", "message"),
    [
        ("evaluate --eps 8/0", "torch", "got '8/0'"),
        ("evaluate --eps '[4/255, abc]'", "torch", "got 'abc'"),
        ("judge run --config '{eps: [eight]}'", "torch", "got 'eight'"),
        ("evaluate --attacks pgd", "torch", "--attacks.pgd PGD"),
        ("train --trainer.max_epochs ten", "torch", "expected a whole number"),
        ("train --trainer.max_epoch 3", "torch", "did you mean --trainer.max_epochs?"),
        ("train --config '{trainer: {max_epoch: 3}}'", "torch", "did you mean max_epochs?"),
        ("train --checkpoint.save_top 3", "torch", "did you mean --checkpoint.save_top_k?"),
        ("train --trainer.accelerator gup", "torch", "did you mean gpu?"),
        ("train --trainer.strategy ddpp", "torch", "did you mean ddp?"),
        ("train --trainer.precision 17", "torch", "did you mean 16?"),
        ("evaluate --device cuda:7777", "lightning", "there is no device 'cuda:7777'"),
        ("evaluate --config '{device: cdua}'", "lightning", "did you mean cuda?"),
        ("evaluate --attacks.x PDG", "lightning", "did you mean segrobust.attacks.PGD?"),
        ("evaluate --attacks.x segrobust.attacks.PDG", "lightning", "did you mean segrobust.attacks.PGD?"),
        ("evaluate --attacks.x PGD --attacks.x.num_step 3", "lightning", "did you mean num_steps?"),
        (f"evaluate --attacks {IN_JSON}", "lightning", "did you mean num_steps?"),
    ],
)
def test_the_answer_needs_no_import_that_takes_seconds(line, blocked, message):
    lightning = ["lightning.pytorch", "lightning.fabric"]
    code = WITHOUT.format(blocked=[*lightning, *(["torch"] if blocked == "torch" else [])])
    done = subprocess.run([sys.executable, "-c", code, *shlex.split(line)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("class_", [Trainer, ModelCheckpoint])
def test_names_of_the_source_are_those_of_the_class(class_):
    (file,) = (file for file, name in CLASSES.values() if name == class_.__name__)
    assert argument_names_in_source(file, class_.__name__) == tuple(inspect.signature(class_).parameters)


def test_a_source_that_is_not_there_gives_no_names():
    assert argument_names_in_source("pytorch/nowhere.py", "Trainer") == ()


def test_all_names_that_lightning_knows_are_accepted():
    accelerators = ("auto", "gpu", *AcceleratorRegistry.available_accelerators())
    strategies = ("auto", *StrategyRegistry.available_strategies(), "ours")
    for option, names in (("trainer.accelerator", accelerators), ("trainer.strategy", strategies)):
        assert [INTERFACES["train"].find(option).read(name) for name in names] == list(names)
