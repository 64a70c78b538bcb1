import json
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from callbacks.wandb_file import wandb_records
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from PIL import Image
from torch import nn
from torch.optim import SGD

from segrobust.attacks import FGSM, PGD
from segrobust.callbacks import RobustnessEvaluation, require_wandb_login
from segrobust.evaluation.reporting.figures.picture_faults import PictureWarning
from segrobust.tasks import SegmentationTask


def fit(root: Path, logger: Any, **settings: Any) -> RobustnessEvaluation:
    evaluation = RobustnessEvaluation(
        {"fgsm": FGSM(), "pgd": PGD(num_steps=2)}, max_images=3, panels=2, every_n_epochs=1
    )
    trainer = make_trainer(root, evaluation, logger=logger, **({"max_epochs": 3} | settings))
    task = SegmentationTask(tiny_network(), optimizer=lambda parameters: SGD(parameters, lr=0.3))
    trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    return evaluation


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """A machine on which nobody has logged in to wandb."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DISABLED", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.setenv(name, "")  # so that what the logger sets is undone, even where there was nothing
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.teardown()
    yield
    wandb.teardown()


def test_an_offline_wandb_run_holds_numbers_best_values_and_panels(tmp_path, no_account):
    logger = WandbLogger(project="tests", save_dir=tmp_path, offline=True)
    evaluation = fit(tmp_path, logger)
    wandb.finish()
    wandb.teardown()  # waits for the process that writes

    (file,) = tmp_path.rglob("*.wandb")
    history, metrics, best = [], {}, {}
    for record in wandb_records(file):
        items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
        if items:
            history.append(items)
        for item in record.summary.update:
            best["/".join(item.nested_key)] = json.loads(item.value_json)
        if record.metric.name:
            metrics[record.metric.name] = record.metric

    rows = [row for row in history if "val/pgd/miou_at_4" in row]
    assert [row["trainer/global_step"] for row in rows] == [m.step - 1 for m in evaluation.history]
    for measurement, row in zip(evaluation.history, rows, strict=True):
        assert {key: row[key] for key in evaluation.keys} == pytest.approx(dict(measurement.values), rel=1e-6)
    for key, end in (("val/pgd/miou_at_4", max), ("val/pgd/apsr_at_4", min)):
        values = [measurement.values[key] for measurement in evaluation.history]
        assert best[key] == {end.__name__: pytest.approx(end(values), rel=1e-6)}
    assert metrics["val/pgd/miou_at_4"].step_metric == "trainer/global_step"

    drawn = [row for row in history if "val/pgd/panels/count" in row]
    assert [row["trainer/global_step"] for row in drawn] == [row["trainer/global_step"] for row in rows]
    assert [row["val/pgd/panels/count"] for row in drawn] == [2, 2, 2]
    assert len({tuple(row["val/pgd/panels/captions"]) for row in drawn}) == 1


def test_panels_are_files_of_the_same_images_in_every_epoch(tmp_path):
    fit(tmp_path, CSVLogger(tmp_path, name="", version=""))
    runs = sorted((tmp_path / "robustness").iterdir())
    names = [sorted(panel.name for panel in run.glob("panels/*")) for run in runs]
    assert len(runs) == 3
    assert names[0] == names[1] == names[2]
    assert len(names[0]) == 2 * 2
    contents = {run.joinpath("panels", names[0][0]).read_bytes() for run in runs}
    assert len(contents) == 3  # of networks that differ


class BoardWriter:
    def __init__(self) -> None:
        self.added: dict[str, tuple[tuple[int, ...], int]] = {}

    def add_image(self, tag: str, image: Any, global_step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.added[tag, global_step] = image.shape


class Board(Logger):
    """A logger as TensorBoard's."""

    name, version, save_dir = "board", "0", None

    def __init__(self, root: Path) -> None:
        self.experiment = BoardWriter()
        self.save_dir = str(root)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


def test_panels_go_to_loggers_that_add_images(tmp_path):
    board = Board(tmp_path)
    fit(tmp_path, board, max_epochs=1)
    (run,) = (tmp_path / "board" / "0" / "robustness").iterdir()
    expected = {}
    for file in run.glob("panels/*.png"):
        width, height = Image.open(file).size
        expected[f"val/{file.stem.split('-')[1]}/panels/{file.stem}", 2] = (height, width, 3)
    assert len(expected) == 4
    width, height = Image.open(tmp_path / "board" / "0" / "robustness_history.png").size
    expected["val/robustness_history", 2] = (height, width, 3)
    assert board.experiment.added == expected


def test_an_online_run_without_account_is_refused_before_it_starts(tmp_path, no_account):
    with pytest.raises(ValueError, match=r"WANDB_API_KEY(.|\n)*offline: true(.|\n)*remove the WandbLogger"):
        require_wandb_login([CSVLogger(tmp_path), WandbLogger(save_dir=tmp_path)])


def test_runs_that_need_no_account_are_let_pass(tmp_path, no_account, monkeypatch):
    require_wandb_login([CSVLogger(tmp_path)])
    require_wandb_login([WandbLogger(save_dir=tmp_path, mode="offline")])
    require_wandb_login([WandbLogger(save_dir=tmp_path, offline=True)])
    monkeypatch.setenv("WANDB_MODE", "offline")
    require_wandb_login([WandbLogger(save_dir=tmp_path)])


def test_a_key_is_enough(tmp_path, no_account, monkeypatch):
    """A key in the environment or in the netrc file; the server is not asked, as none can be reached here."""
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.invalid")
    logger = WandbLogger(save_dir=tmp_path)
    (tmp_path / "netrc").write_text("machine other.invalid login user password " + "0" * 40)
    with pytest.raises(ValueError, match="WANDB_API_KEY"):
        require_wandb_login([logger])
    (tmp_path / "netrc").write_text("machine wandb.invalid login user password " + "0" * 40)
    require_wandb_login([logger])
    (tmp_path / "netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    require_wandb_login([logger])


@pytest.mark.parametrize("bar", [True, False])
def test_progress_speaks_through_the_bar_alone(tmp_path, capsys, bar):
    fit(tmp_path, False, max_epochs=1, enable_progress_bar=bar)
    assert ("robustness: 3 images in 0:00:" in capsys.readouterr().out) is bar


class Pictures(CSVLogger):
    """A logger whose experiment takes pictures as that of TensorBoard does, and refuses them if told to."""

    def __init__(self, root: Path, *, refuses: bool = False) -> None:
        super().__init__(root, name="", version="")
        self.tags: list[str] = []
        self.refuses = refuses

    @property
    def experiment(self) -> Any:
        found = super().experiment
        found.add_image = self.add_image
        return found

    def add_image(self, tag: str, image: Any, step: int, dataformats: str) -> None:
        if self.refuses:
            raise OSError("the disk is full")
        self.tags.append(tag)


class FourChannels(TinyScenes):
    """A fourth channel beside the colours."""

    def __init__(self, bands: Any = None) -> None:
        super().__init__()
        self.images = torch.cat([self.images, self.images[:, :1]], dim=1)
        self.bands = bands


def fit_four(root: Path, logger: Any, bands: Any = None) -> RobustnessEvaluation:
    evaluation = RobustnessEvaluation({"pgd": PGD(num_steps=1)}, max_images=2, panels=2, every_n_epochs=1)
    task = SegmentationTask(nn.Conv2d(4, 3, 1), optimizer=lambda parameters: SGD(parameters, lr=0.3))
    data = FourChannels(bands)
    make_trainer(root, evaluation, logger=logger, max_epochs=2).fit(task, loader(data), loader(data))
    return evaluation


def test_panels_of_four_channels_go_to_loggers_of_pictures(tmp_path):
    logger = Pictures(tmp_path)
    assert len(fit_four(tmp_path, logger).history) == 2
    panels = [tag for tag in logger.tags if tag.startswith("val/pgd/panels/")]
    assert len(panels) == 4
    assert len(set(panels)) == 2


@pytest.mark.parametrize("bands", [None, [7, 1, 2]])
def test_no_fault_in_drawing_or_sending_ends_a_training(tmp_path, bands):
    with pytest.warns(PictureWarning) as caught:
        evaluation = fit_four(tmp_path, Pictures(tmp_path, refuses=True), bands)
    assert len(evaluation.history) == 2
    messages = " ".join(str(warning.message) for warning in caught)
    assert "the disk is full" in messages
    assert ("no panels of image" in messages) == (bands is not None)
