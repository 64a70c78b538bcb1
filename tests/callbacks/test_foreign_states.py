"""States in the checkpoint of a stranger, from which a training is resumed."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustCheckpoint, RobustnessEvaluation
from segrobust.callbacks.image_loggers import Panel, _decoded
from segrobust.callbacks.measurement import Measurement
from segrobust.callbacks.robust_checkpoint import SavedCheckpoint
from segrobust.callbacks.wandb_evaluation import _opened, _require_own_folder
from segrobust.untrusted.data_fault import DataFault

MEASUREMENT = Measurement(
    epoch=1, step=2, num_images=3, values={"val/pgd/miou_at_4": 1.0}, norms={"fmn": (0.1, float("inf"))}
)
STATE = MEASUREMENT.to_state()
CHECKPOINT = {"path": "a.ckpt", "value": 0.5, "epoch": 1, "step": 2}
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 8\n(outside) (w) file closefile showpage\n"


def evaluation():
    return RobustnessEvaluation(attacks={"fgsm": FGSM()}, eps=(0.1,))


def test_the_history_of_a_checkpoint_is_taken_over():
    callback = evaluation()
    callback.load_state_dict({"history": [STATE], "epochs_at_last": 1})
    assert callback.history == [MEASUREMENT]
    assert callback.state_dict() == {"history": [STATE], "epochs_at_last": 1}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"history": {}, "epochs_at_last": 1},
        {"history": [STATE], "epochs_at_last": -1},
        {"history": [[]], "epochs_at_last": 1},
        {"history": [3], "epochs_at_last": 1},
        *(
            {"history": [STATE | values], "epochs_at_last": 1}
            for values in (
                {"epoch": "1"}, {"step": -1}, {"num_images": 2.5}, {"values": [1]}, {"values": {"a": "1"}},
                {"failed_checks": "deterministic"}, {"norms": {"a": ["inf"]}}, {"norms": {"a": [-1.0]}}, {"run": "rm"},
            )
        ),
    ],
    ids=str,
)  # fmt: skip
def test_a_history_that_no_training_has_is_one_line(state):
    with pytest.raises(ValueError, match="history of RobustnessEvaluation is damaged") as caught:
        evaluation().load_state_dict(state)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "state",
    [{}, {"checkpoints": 3}, {"checkpoints": [{}]}, {"checkpoints": [CHECKPOINT | {"path": 3}]},
     {"checkpoints": [CHECKPOINT | {"value": float("nan")}]}, {"checkpoints": [CHECKPOINT | {"step": -1}]}],
    ids=str,
)  # fmt: skip
def test_a_list_of_checkpoints_that_no_training_has_is_one_line(state):
    with pytest.raises(ValueError, match="list of RobustCheckpoint is damaged") as caught:
        RobustCheckpoint().load_state_dict(state)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "may"),
    [
        ("robust-epoch=001-step=000002.ckpt", True),
        ("last.ckpt", False),
        ("robust-epoch=001", False),
        ("sub/robust-epoch=001.ckpt", False),
        ("../robust-epoch=001.ckpt", False),
        ("/etc/robust-epoch=001.ckpt", False),
    ],
)
def test_a_checkpoint_of_a_stranger_names_no_file_to_remove(tmp_path, path, may):
    callback = RobustCheckpoint(dirpath=tmp_path)
    callback._folder = tmp_path
    saved = SavedCheckpoint(path=str(tmp_path / path), value=0.1, epoch=1, step=1)
    assert callback._may_be_removed(SimpleNamespace(ckpt_path=None), saved) is may


def test_a_panel_that_is_a_link_is_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    panel = tmp_path / "run" / "panels" / "000000-pgd.png"
    panel.parent.mkdir(parents=True)
    panel.symlink_to(tmp_path / "secret")
    with pytest.raises(DataFault, match="is a link"):
        Panel.read(panel, tmp_path / "run")


def test_a_panel_that_is_no_png_is_not_decoded():
    with pytest.raises(DataFault, match="it holds PostScript"):
        _decoded(POSTSCRIPT)


def test_a_folder_of_wandb_that_leads_elsewhere_is_refused(tmp_path):
    _require_own_folder(tmp_path / "wandb")
    (tmp_path / "run").mkdir()
    _require_own_folder(tmp_path / "run")
    (tmp_path / "wandb").symlink_to(tmp_path / "run")
    with pytest.raises(DataFault, match="wandb is a link"):
        _require_own_folder(tmp_path / "wandb")


def test_a_panel_for_wandb_is_a_png_and_no_link(tmp_path):
    (tmp_path / "a.png").write_bytes(POSTSCRIPT)
    with pytest.raises(DataFault, match="it holds PostScript"):
        _opened(tmp_path / "a.png", tmp_path)
    (tmp_path / "b.png").symlink_to(Path(__file__))
    with pytest.raises(DataFault, match="is a link"):
        _opened(tmp_path / "b.png", tmp_path)
