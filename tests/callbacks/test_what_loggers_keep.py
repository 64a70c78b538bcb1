"""One training with four loggers: each is read back with its own library, and holds the same numbers and pictures."""

import csv
import io
import json
import re
import warnings

import numpy as np
import pytest
import wandb
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from callbacks.wandb_file import wandb_records
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch.optim import SGD

from segrobust.attacks import PGD, LagrangianFMN
from segrobust.callbacks import RobustnessEvaluation
from segrobust.tasks import SegmentationTask

HISTORY = "val/robustness_history"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def loggers(root):
    pytest.importorskip("tensorboard", reason="the extra `test` installs it")
    pytest.importorskip("mlflow", reason="the extra `test` installs it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # runs are files here, without a data base
        patch.setenv("WANDB_DIR", str(root))
        yield {
            "csv": CSVLogger(root, name="csv", version=""),
            "tensorboard": TensorBoardLogger(root, name="tensorboard", version=""),
            "wandb": WandbLogger(project="tests", save_dir=root, offline=True),
            "mlflow": MLFlowLogger(save_dir=str(root / "mlflow")),
        }


@pytest.fixture(scope="module")
def caught():
    """Warnings of the training."""
    return []


@pytest.fixture(scope="module")
def trained(root, loggers, caught):
    """What was measured, with everything written."""
    evaluation = RobustnessEvaluation(
        {"pgd": PGD(num_steps=2), "fmn": LagrangianFMN(num_passes=6)}, max_images=2, panels=1, every_n_epochs=1
    )
    trainer = make_trainer(root, evaluation, logger=[*loggers.values()], max_epochs=2)
    task = SegmentationTask(tiny_network(), optimizer=lambda parameters: SGD(parameters, lr=0.3))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    caught += [str(warning.message) for warning in found]
    wandb.finish()
    wandb.teardown()  # waits for the process that writes
    return evaluation


def steps(evaluation):
    return [measurement.step - 1 for measurement in evaluation.history]


def expected_numbers(evaluation):
    """The values of each key, by step."""
    return {
        key: {m.step - 1: pytest.approx(m.values[key], rel=1e-5) for m in evaluation.history} for key in evaluation.keys
    }


@pytest.fixture
def expected_pictures(trained, root):
    """The pixels of each picture, by key and step, as they are in the files."""
    found = {}
    for step, run in zip(steps(trained), sorted(root.glob("csv/robustness/epoch=*")), strict=True):
        for file in run.glob("panels/*.png"):
            attack = file.stem.split("-", 1)[1]
            found[f"val/{attack}/panels/{file.stem}", step] = pixels(file)
    found[HISTORY, steps(trained)[-1]] = pixels(root / "csv" / "robustness_history.png")
    assert len(found) == 5
    return found


def pixels(file):
    return np.asarray(Image.open(file).convert("RGB"))


def test_every_number_is_in_the_csv_file(trained, root):
    with open(root / "csv" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {key: {int(row["step"]): float(row[key]) for row in rows if row[key]} for key in trained.keys}
    assert found == expected_numbers(trained)


@pytest.fixture
def board(trained, root):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(root / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_every_number_is_in_tensorboard(trained, board):
    found = {key: {event.step: event.value for event in board.Scalars(key)} for key in trained.keys}
    assert found == expected_numbers(trained)


def test_every_picture_is_in_tensorboard(board, expected_pictures):
    assert {*board.Tags()["images"]} == {key for key, _ in expected_pictures}
    for (key, step), expected in expected_pictures.items():
        (shown,) = [event for event in board.Images(key) if event.step == step]
        assert np.array_equal(pixels(io.BytesIO(shown.encoded_image_string)), expected)


def test_every_number_is_in_mlflow(trained, loggers):
    client, run = loggers["mlflow"].experiment, loggers["mlflow"].run_id
    found = {key: {metric.step: metric.value for metric in client.get_metric_history(run, key)} for key in trained.keys}
    assert found == expected_numbers(trained)
    assert {*trained.keys} <= {*client.get_run(run).data.metrics}


def test_every_picture_is_in_mlflow(loggers, root, expected_pictures):
    client, run = loggers["mlflow"].experiment, loggers["mlflow"].run_id
    stored = [entry.path for entry in client.list_artifacts(run, "images") if entry.path.endswith(".png")]
    for (key, step), expected in expected_pictures.items():
        name = "[#~]".join(map(re.escape, key.split("/")))  # MLflow's sign for a slash depends on its version
        (path,) = [path for path in stored if re.match(rf"images/{name}[%+]step[%+]{step}[%+]", path)]
        assert np.array_equal(pixels(client.download_artifacts(run, path, str(root))), expected)


def test_every_number_and_picture_is_in_wandb(trained, root, expected_pictures):
    (file,) = root.rglob("*.wandb")
    rows = []
    for record in wandb_records(file):
        rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item})
    step = "trainer/global_step"
    found = {key: {row[step]: row[key] for row in rows if key in row} for key in trained.keys}
    assert found == expected_numbers(trained)
    for (key, at), expected in expected_pictures.items():
        group = key if key == HISTORY else key.rsplit("/", 1)[0]
        (names,) = [row[f"{group}/filenames"] for row in rows if f"{group}/filenames" in row and row[step] == at]
        assert np.array_equal(pixels(file.parent / "files" / names[0]), expected)


def test_no_logger_changes_a_key(trained, caught):
    assert not [message for message in caught if "Replacing" in message or "PictureWarning" in message]
    assert not [message for message in caught if "pictures val/" in message]
