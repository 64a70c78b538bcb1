"""A validation step that writes pictures, files and records writes what it writes without the callback, and no more."""

import csv
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import wandb
from callbacks.other_classes import Compares
from callbacks.strangers import Scenes, loader
from callbacks.tiny import make_trainer
from callbacks.wandb_file import wandb_records
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from PIL import Image

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation
from segrobust.callbacks.no_trace import nothing_written

STEPS = 3


class Pictures(Logger):
    """Counts pictures, as `experiment` of loggers of Lightning does."""

    name = version = "pictures"

    def __init__(self) -> None:
        super().__init__()
        self.shown = 0

    @property
    def experiment(self):
        return self

    def add_image(self, name, image, step):
        self.shown += 1

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Holder:
    """An object of a project that holds a logger."""

    def __init__(self, logger):
        self.logger = logger


class Writes(Compares):
    """Counts in NumPy, so that classes are tried, and writes in all the ways that projects do."""

    of_the_class: list = []  # noqa: RUF012 - as projects do

    def __init__(self, root: Path, early: bool) -> None:
        super().__init__()
        self.root, self.early, self.number, self.of_the_object = root, early, 0, []
        self.register_buffer("total", torch.zeros(()))
        self.held, self.inside = Pictures(), Holder(Pictures())
        self.file = (root / "held.txt").open("a", buffering=1)
        self.table = csv.writer((root / "table.csv").open("a", buffering=1))

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, masks = self.unpack(batch)
        if self.early:
            self.write(images)
        logits = self(images)
        if not self.early:
            self.write(images)
        predicted, masks = logits.argmax(1).numpy(), masks.numpy()
        self.log("accuracy", (predicted == masks)[masks != 255].mean())

    def write(self, images):
        picture = (255 * images[0]).byte().permute(1, 2, 0).numpy()
        name = f"{len(images)}-{self.number}-{float(images.sum())}"
        self.logger.experiment.add_image("images", images, self.global_step)
        self.held.add_image("images", images, 0)
        if not self.early:
            self.inside.logger.add_image("images", images, 0)
        logging.getLogger("project").warning("a step")
        self.file.write("a step\n")
        self.table.writerow(["a step"])
        with (self.root / "appended.txt").open("a") as file:
            file.write("a step\n")
        with open(self.root / "other.txt", "a", encoding="utf-8") as file:
            file.write("a step\n")
        Image.fromarray(picture).save(self.root / f"{name}.png")
        cv2.imwrite(str(self.root / f"{name}.jpg"), picture)
        np.save(self.root / f"{name}.npy", picture)
        torch.save(images, self.root / f"{name}.pt")
        self.number += 1
        self.total += 1
        self.of_the_class.append(name)
        self.of_the_object.append(name)


@pytest.mark.parametrize("early", [True, False], ids=["before_the_network", "after_the_network"])
def test_what_a_step_writes_is_written_once(tmp_path, early, caplog, recwarn):
    Writes.of_the_class.clear()
    module, logger = Writes(tmp_path, early), Pictures()
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, network="model", panels=0, checks=False)
    trainer = make_trainer(tmp_path, evaluation, logger=logger)
    trainer.validate(module, loader(Scenes()), verbose=False)

    assert not [str(warning.message) for warning in recwarn if "it is not proven" in str(warning.message)]
    assert [logger.shown, module.held.shown] == [STEPS] * 2
    assert module.inside.logger.shown == (0 if early else STEPS)
    assert [record.name for record in caplog.records].count("project") == STEPS
    assert [module.number, int(module.total), len(module.of_the_class), len(module.of_the_object)] == [STEPS] * 4
    for name in ("held.txt", "table.csv", "appended.txt", "other.txt"):
        assert len((tmp_path / name).read_text().splitlines()) == STEPS, name
    for ending in ("png", "jpg", "npy", "pt"):
        assert len([*tmp_path.glob(f"*.{ending}")]) == STEPS, ending


class ToWandb(Compares):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, masks = self.unpack(batch)
        predicted, masks = self(images).argmax(1).numpy(), masks.numpy()
        wandb.log({"of_the_module": 1})
        wandb.run.log({"of_the_run": 1})
        self.logger.experiment.log({"of_the_logger": 1})
        self.log("accuracy", (predicted == masks)[masks != 255].mean())


def test_wandb_gets_records_once(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    logger = WandbLogger(project="tests", save_dir=tmp_path, offline=True)
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, network="model", panels=0, checks=False)
    make_trainer(tmp_path, evaluation, logger=logger).validate(ToWandb(), loader(Scenes()), verbose=False)
    wandb.finish()
    wandb.teardown()
    (file,) = tmp_path.rglob("*.wandb")
    names = ["/".join(i.nested_key) or i.key for record in wandb_records(file) for i in record.history.item]
    assert [names.count(name) for name in ("of_the_module", "of_the_run", "of_the_logger")] == [STEPS] * 3


class InLogFolder(Compares):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, masks = self.unpack(batch)
        predicted, masks = self(images).argmax(1).numpy(), masks.numpy()
        with (Path(self.logger.log_dir) / "steps.txt").open("a") as file:
            file.write("a step\n")
        self.log("accuracy", (predicted == masks)[masks != 255].mean())


def test_a_step_may_write_to_the_folder_of_its_logger(tmp_path, recwarn):
    logger = CSVLogger(tmp_path)
    Path(logger.log_dir).mkdir(parents=True)
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, network="model", panels=0, checks=False)
    make_trainer(tmp_path, evaluation, logger=logger).validate(InLogFolder(), loader(Scenes()), verbose=False)
    assert len((Path(logger.log_dir) / "steps.txt").read_text().splitlines()) == STEPS
    assert not [str(warning.message) for warning in recwarn if "it is not proven" in str(warning.message)]


def test_files_are_read_and_those_of_other_names_are_empty_within_it(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text(json.dumps([1]))
    with nothing_written():
        assert json.loads(path.read_text()) == [1]
        path.write_text("[1, 2]")
        with path.open("wb") as file:
            assert file.tell() == 0
            file.write(b"[]")
    assert json.loads(path.read_text()) == [1]
    path.write_text("[3]")
    assert json.loads(path.read_text()) == [3]
