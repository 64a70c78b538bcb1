"""Wrong command lines: one line on stderr with the wrong value and the nearest name, and exit status 2."""

import shlex

import pytest

from segrobust import cli

DEMO = "--config segrobust:demo.yaml"
PGD = f"{DEMO} --attacks.pgd PGD"
NETWORK = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.size = {}["size"]
"""
CALLBACK = """'[{"class_path": "segrobust.callbacks.RobustChekpoint"}]'"""

OPTIONS = [
    ("evaluate --max_image 2", "--max_image", "--max_images"),
    ("evaluate --max-image 2", "--max-image", "--max_images"),
    ("evaluate --prest quick", "--prest", "--preset"),
    ("evaluate --plan quick", "--plan", "--preset"),
    ("evaluate --output there", "--output", "--run_dir"),
    ("evaluate --weights there.pth", "--weights", "--checkpoint"),
    ("evaluate --keep true", "--keep", "--keep_adversarials"),
    ("evaluate --checks.level off", "--checks.level", "--checks"),
    ("evaluate --trainer.devices 2", "--trainer.devices", "has no effect"),
    ("evaluate -x 2", "-x", "--help"),
    ("train --max_epochs 3", "--max_epochs", "--trainer.max_epochs"),
    ("train --resum", "--resum", "--resume"),
    ("train --trainer.max_epoch 3", "--trainer.max_epoch", "--trainer.max_epochs"),
    ("train --trainer.max-epoch 3", "max_epoch", "--trainer.max_epochs"),
    ("train --checkpoint.save_top 3", "--checkpoint.save_top", "--checkpoint.save_top_k"),
    ("judge run --nam x", "--nam", "--name"),
    ("compare a b --forc", "--forc", "--force"),
    ("report a --output x", "--output", "--help"),
    ("data check --spilt val", "--spilt", "--split"),
    ("data download voc --rot x", "--rot", "--root"),
]
COMMANDS = [
    ("evalute", "evalute", "evaluate"),
    ("data chek", "chek", "check"),
    ("configs atack", "atack", "attack"),
    ("configs copy attack/pdg.yaml", "attack/pdg.yaml", "attack/pgd.yaml"),
    ("completion bsh", "bsh", "bash"),
    ("report a b", "'b'", "--help"),
    ("report", "RUN", "--help"),
    (f"judge {DEMO}", "RUN", "--help"),
    (f"evaluate {DEMO} stray", "stray", "--help"),
]
VALUES = [
    ("evaluate --preset quik", "quik", "quick"),
    ("evaluate --split vall", "vall", "val"),
    ("evaluate --checks thorogh", "thorogh", "thorough"),
    ("evaluate --max_images two", "two", "a whole number"),
    ("evaluate --max_images 0", "0", "at least 1"),
    ("evaluate --max_images -2", "-2", "at least 1"),
    ("evaluate --batch_size 1.5", "1.5", "a whole number"),
    ("evaluate --strict maybe", "maybe", "true or false"),
    ("evaluate --no_strict=3", "3", "no value"),
    ("evaluate --max_images", "--max_images", "needs a value"),
    ("evaluate --preset --strict", "--preset", "quick"),
    ("evaluate --seed_everything abc", "abc", "a whole number"),
    (f"evaluate {DEMO} --eps 8/25x", "8/25x", "8/255"),
    ("evaluate --eps 8/255 --eps 4/255", "8/255 and 4/255", "'[4/255, 8/255]'"),
    ("evaluate --eps 8/255,4/255", "8/255,4/255", "'[4/255, 8/255]'"),
    ("evaluate --eps 8/255 4/255", "4/255 behind", "'[4/255, 8/255]'"),
    ("train --run_dir mine.yaml", "mine.yaml", "folder"),
    ("evaluate --run_dir mine.yaml", "mine.yaml", "folder"),
    ("evaluate --device gpu", "gpu", "cuda"),
    ("evaluate --device cdua", "cdua", "cuda"),
    ("evaluate --device cuda:7777", "cuda:7777", "cpu"),
    ("evaluate --device 'the fast one'", "the fast one", "cpu"),
    ("train --trainer.precision 17", "17", "16"),
    ("train --trainer.max_epochs ten", "ten", "a whole number"),
    ("data check --data PascalVOC --split vall", "vall", "val"),
    ("data download vok --root x", "vok", "voc"),
    ("evaluate --checkpoint nowhere.pth", "nowhere.pth", "no file"),
]
FILES = [
    ("evaluate --config demo.yml", "demo.yml", "segrobust:demo.yaml"),
    ("evaluate --config camvid_pgdat.yaml", "camvid_pgdat.yaml", "segrobust:experiment/camvid_pgd_at.yaml"),
    ("evaluate --config segrobust:demo.yml", "demo.yml", "demo.yaml"),
    ("train --config mine.yml", "mine.yml", "mine.yaml"),
    ("train --config .", ".", "folder"),
    ("evaluate --config empty.yaml", "empty.yaml", "no settings"),
    ("train --config modle.yaml", "modle", "model"),
    ("train --config broken.yaml", "broken.yaml", "line 1"),
    ("data check --config broken.yaml", "broken.yaml", "line 1"),
    ("train --config list.yaml", "list.yaml", "model"),
    ("train --config segrobust:attack/pgd.yaml", "attacks", "evaluate"),
    ("train --config epoch.yaml", "max_epoch", "max_epochs"),
    ("evaluate --config small.yaml", "max_images", "at least 1"),
    ("evaluate --config twice.yaml", "`eps`", "lines 1 and 3"),
    ("evaluate --config twice_within.yaml", "`pgd`", "line 2"),
    ("train --config '{seed_everything: 1, seed_everything: 2}'", "`seed_everything`", "line 1"),
    ("evaluate --attacks '{pgd: PGD, pgd: {class_path: PGD}}'", "`pgd`", "--attacks"),
]
CLASSES = [
    ("evaluate --attacks.pgd PDG", "PDG", "segrobust.attacks.PGD"),
    ("evaluate --attacks.pgd segrobust.attacks.PDG", "segrobust.attacks.PDG", "segrobust.attacks.PGD"),
    ("evaluate --attacks.pgd segrobust.attaks.PGD", "segrobust.attaks.PGD", "segrobust.attacks.PGD"),
    ("evaluate --attacks.pgd segrobst.attacks.PGD", "segrobst.attacks.PGD", "segrobust.attacks.PGD"),
    (f"evaluate {PGD} --attacks.pgd.num_step 3", "num_step", "num_steps"),
    (f"evaluate {PGD} --attacks.pgd.num_steps three", "three", "a whole number"),
    (f"evaluate {PGD} --attacks.pgd.num_steps 0", "0", "at least 1"),
    (f"evaluate {PGD} --attacks.pgd.norm l7", "l7", "l2"),
    (f"evaluate {PGD} --attacks.pgd.loss CrossEntropi", "CrossEntropi", "CrossEntropy"),
    ("evaluate --attacks pgd", "'pgd'", "--attacks.pgd PGD"),
    ("evaluate --attacks.pgd torch.nn.Conv2d", "torch.nn.Conv2d", "Attack"),
    ("evaluate --attacks.help PDG", "PDG", "segrobust.attacks.PGD"),
    ("evaluate --targets EraseClases", "EraseClases", "EraseClasses"),
    ("evaluate --wandb.projct x", "projct", "project"),
    ("evaluate --model SegmentatonTask", "SegmentatonTask", "segrobust.tasks.SegmentationTask"),
    (f"evaluate {DEMO} --model.network torch.nn.Conv2", "torch.nn.Conv2", "torch.nn.Conv2d"),
    (f"evaluate {DEMO} --model.network torch.nn.Conv2d", "torch.nn.Conv2d", "in_channels"),
    ("evaluate --data CamVidd", "CamVidd", "segrobust.data.CamVid"),
    ("evaluate --data.val.num_scene 3", "num_scene", "num_scenes"),
    ("evaluate --data.vall.num_scenes 3", "vall", "val"),
    ("evaluate --model.network.network.network.encoder_name resnet1o", "resnet1o", "resnet18"),
    ("evaluate --help attaks", "attaks", "attacks"),
    ("train --optimizer Adm", "Adm", "Adam"),
    ("train --model.optimizer torch.optim.AdmW", "torch.optim.AdmW", "torch.optim.AdamW"),
    (f"train --trainer.callbacks {CALLBACK}", "RobustChekpoint", "segrobust.callbacks.RobustCheckpoint"),
    (f"train {DEMO} --trainer.strategy ddpp", "ddpp", "ddp"),
    (f"train {DEMO} --trainer.accelerator gup", "gup", "gpu"),
    (f"train {DEMO} --trainer.accelerator vulkan", "vulkan", "cuda"),
    (f"train {DEMO} --trainer.strategy horovod", "horovod", "ddp"),
    (f"train {DEMO} --checkpoint.mode mxa --checkpoint.monitor val/clean/miou", "mxa", "max"),
    (f"evaluate {DEMO} --model.network strangers_nets.Nett", "strangers_nets.Nett", "strangers_nets.Net"),
    (f"evaluate {DEMO} --model.network strangers_nets.Net", "'size'", "(KeyError in "),
    (
        f"evaluate {DEMO} --model.network strangers_flash.Net",
        "strangers_flash.Net",
        "there is no module flash_attention",
    ),
    (f"evaluate {DEMO} --model.network nets_of_folder.Net", "nets_of_folder.Net", "PYTHONPATH=."),
    (f"evaluate {DEMO} --model.network nowhere_nets.Net", "nowhere_nets.Net", "PYTHONPATH"),
    (f"evaluate {DEMO} --model.network Conv2d", "Conv2d", "import path"),
    (f"evaluate {DEMO} --model torch.nn.Conv2d", "torch.nn.Conv2d", "LightningModule"),
    ("data check --data PascalVoc", "PascalVoc", "PascalVOC"),
    ("data check --data PascalVOC --data.roott x", "roott", "root"),
    ("data check --data Folder", "Folder", "root"),
]


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs a command line in an empty folder with a few files, and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "mine": "seed_everything: 1",
        "modle": "modle: {class_path: x}",
        "broken": "model: {class_path: [}",
        "list": "- model",
        "epoch": "trainer: {max_epoch: 3}",
        "small": "max_images: 0",
        "empty": "# nothing yet",
        "twice": "eps: 8/255\nmax_images: 2\neps: 4/255",
        "twice_within": "attacks:\n  {pgd: PGD, pgd: {class_path: PGD}}",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text + "\n")
    (tmp_path / "nets_of_folder.py").write_text("from torch.nn import Conv2d as Net\n")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "strangers_nets.py").write_text(NETWORK)
    (tmp_path / "path" / "strangers_flash.py").write_text("import flash_attention\n")
    monkeypatch.syspath_prepend(tmp_path / "path")

    def call(line):
        monkeypatch.setattr("sys.argv", ["segrobust", *shlex.split(line)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return call


@pytest.mark.parametrize(
    ("line", "wrong", "nearest"),
    [*OPTIONS, *COMMANDS, *VALUES, *FILES, *CLASSES],
    ids=lambda word: word if word.split()[0] in ("evaluate", "train", "judge", "data", "configs") else "",
)
def test_one_line_names_what_is_wrong_and_what_is_meant(refused, line, wrong, nearest):
    message = refused(line)
    assert message.endswith("\n")
    assert message.count("\n") == 1
    assert message.startswith("segrobust ") or message.startswith("segrobust: ")
    assert wrong in message
    assert nearest in message.replace(wrong, "", 1)
    assert len(message) < 600


def test_a_word_of_evaluate_that_is_no_option_is_a_command(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evaluate.py", "reprot", "run"])
    with pytest.raises(SystemExit) as stopped:
        cli.evaluate()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "evaluate.py: error: there is no command 'reprot': did you mean report?\n"
