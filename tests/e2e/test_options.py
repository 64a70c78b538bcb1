"""Options: their tables, help and order, the ways to write flags, and what the demo takes."""

import shlex
import subprocess
from typing import get_args

import pytest
import yaml

from segrobust import cli
from segrobust.cli.bench_command import _COMMANDS as BENCH_COMMANDS
from segrobust.cli.command_line import read_command_line
from segrobust.cli.commands import COMMANDS
from segrobust.cli.completion_command import completion_script
from segrobust.cli.data_command import _COMMANDS as DATA_COMMANDS
from segrobust.cli.evaluate_command import EvaluateCLI
from segrobust.cli.help_screen import WIDTH, nested_names
from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.nearest import nearest
from segrobust.cli.parsers import option_names
from segrobust.cli.train_command import TrainCLI
from segrobust.data.files.archives import ARCHIVES
from segrobust.evaluation.jobs.evaluation_steps import CheckLevel
from segrobust.evaluation.presets import PresetName
from segrobust.shipped import shipped_path

SCREEN = 50
"""Lines of a help page."""


def words(line, command="evaluate"):
    return read_command_line(shlex.split(line), INTERFACES[command]).words()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("--strict", "--strict=true"),
        ("--strict true", "--strict=true"),
        ("--strict=yes", "--strict=true"),
        ("--strict false", "--strict=false"),
        ("--no_strict", "--strict=false"),
        ("--no-strict", "--strict=false"),
        ("--asr_only", "--asr_only=true"),
        ("--asr-only False", "--asr_only=false"),
        ("--dry-run", "--dry_run=true"),
        ("--max-images 3", "--max_images=3"),
        ("--max-images=3", "--max_images=3"),
        ("--attacks.my-pgd.num-steps 3", "--attacks.my-pgd.num_steps=3"),
        ("--panels 0", "--panels=0"),
        ("--max_images null", "--max_images=null"),
        ("-c x.yaml", "--config=x.yaml"),
        ("--print_config", "--print_config"),
    ],
)
def test_an_option_may_be_written_in_several_ways(written, read):
    assert words(written) == [read]


def test_every_flag_of_every_command_is_written_alike():
    for name, interface in INTERFACES.items():
        arguments = ["x"] * len(interface.positionals)
        arguments[: len(interface.positionals)] = [p.choices[0] if p.choices else "x" for p in interface.positionals]
        for option in interface:
            for written, value in (("", "true"), ("=false", "false")) if option.is_flag else ():
                line = read_command_line([*arguments, f"--{option.name}{written}"], interface)
                assert line.options == ((option.name, value),), name


def test_a_flag_takes_no_run_for_its_value():
    assert words("--accept_mismatch runs/a --name b runs/c", "judge") == [
        "--accept_mismatch=true",
        "--name=b",
        "runs/a",
        "runs/c",
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_options_win_over_files_wherever_they_stand(order, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.yaml").write_text("max_images: 3\ndata: {init_args: {batch_size: 5}}\n")
    parts = (["--config", "file.yaml"], ["--max_images", "2"], ["--data.batch_size", "7"])
    demo = ["--config", str(shipped_path("demo.yaml"))]
    config = EvaluateCLI([*demo, *(word for place in order for word in parts[place])]).config
    assert (config.max_images, config.data.init_args.batch_size) == (2, 7)


def test_of_several_files_the_last_wins(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.yaml").write_text(f"max_images: {number}\n")
    files = [f"--config={tmp_path / f'{number}.yaml'}" for number in (1, 2)]
    assert EvaluateCLI(files).config.max_images == 2
    assert EvaluateCLI(files[::-1]).config.max_images == 1


@pytest.mark.parametrize(
    "option", ["--max_images 2", "--preset quick", "--device cpu", "--run_dir x", "--data.batch_size 2", "--strict"]
)
def test_an_option_does_not_take_the_demo_away(option, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = EvaluateCLI(option.split())
    assert "attacks the demo network" in capsys.readouterr().err
    assert made.config.checkpoint.endswith("demo/scenes.safetensors")
    assert type(made.datamodule.val).__name__ == "SyntheticScenes"
    assert (made.config.attacks is None) == ("preset" in option)
    name, _, value = option.removeprefix("--").partition(" ")
    assert str(made.config[name.replace("data.", "data.init_args.")]) == (value or "True")


def test_the_demo_runs_the_attack_of_a_file(capsys):
    made = EvaluateCLI(["--config", str(shipped_path("attack/fgsm.yaml"))])
    assert set(made.config_init.attacks) == {"fgsm"}
    assert "attacks the demo network" in capsys.readouterr().err


def test_a_network_of_the_user_is_no_demo(tmp_path, capsys):
    demo = yaml.safe_load(shipped_path("demo.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({key: demo[key] for key in ("model", "data")}))
    made = EvaluateCLI(["--config", str(tmp_path / "mine.yaml")])
    assert capsys.readouterr().err == ""
    assert (made.config.checkpoint, made.config.attacks) == (None, None)
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": demo["data"]}))
    with pytest.raises(SystemExit):
        EvaluateCLI(["--config", str(tmp_path / "data.yaml")])
    assert "no model: name an experiment by --config FILE" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*INTERFACES, ""])
def test_help_is_one_screen(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["segrobust", *name.split(), "--help"])
    cli.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= WIDTH
    assert [number for number, line in enumerate(lines) if line.startswith("usage: ")] == [0]
    assert name in lines[0]
    for option in INTERFACES[name] if name else ():
        assert any(line.startswith(f"  --{option.name}") for line in lines)


@pytest.mark.parametrize(("made", "name"), [(EvaluateCLI, "evaluate"), (TrainCLI, "train")])
def test_the_table_names_every_option_of_the_parser(made, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = set(option_names(made([]).parser)) - {"print_shtab"}  # of jsonargparse, where shtab is installed
    parsed = {option.split(".")[0] for option in names}
    listed = {option.name.split(".")[0] for option in INTERFACES[name]}
    assert parsed == listed | set(INTERFACES[name].hidden)
    assert {option.name.rstrip("+") for option in INTERFACES[name]} <= names


@pytest.mark.parametrize(
    ("arguments", "shown", "left_out"),
    [
        ("evaluate --help all", "--stalled_after", "--trainer.max_epochs"),
        ("evaluate --help attacks", "segrobust.attacks.PGD", "--run_dir"),
        ("train --help=trainer", "--trainer.barebones", "--checkpoint.monitor"),
    ],
)
def test_help_of_a_group(arguments, shown, left_out, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["segrobust", *arguments.split()])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert shown in text
    assert left_out not in text
    assert text.count("usage:") == 1


def test_values_of_the_table_are_those_of_the_code():
    assert INTERFACES["evaluate"].find("preset").choices == get_args(PresetName)
    assert INTERFACES["evaluate"].find("checks").choices == get_args(CheckLevel)
    assert INTERFACES["data download"].positionals[0].choices == tuple(sorted(ARCHIVES))
    assert nested_names("data") == list(DATA_COMMANDS)
    assert nested_names("bench") == list(BENCH_COMMANDS)
    assert {name.split()[0] for name in INTERFACES} == set(COMMANDS)


@pytest.mark.parametrize(
    ("word", "names", "meant"),
    [
        ("PDG", ["PDPGD", "PGD"], "PGD"),
        ("reprot", ["train", "report"], "report"),
        ("max_epochs", ["max_images", "trainer.max_epochs"], "trainer.max_epochs"),
        ("val/mio", ["val/clean/acc", "val/clean/miou"], "val/clean/miou"),
        ("Max-Images", ["max_images"], "max_images"),
        ("keep", ["strict", "keep_adversarials"], "keep_adversarials"),
        ("PascalVoc", ["PascalVOC"], "PascalVOC"),
    ],
)
def test_the_nearest_name(word, names, meant):
    assert nearest(word, names) == [meant]


def test_what_is_like_nothing_has_no_nearest_name():
    assert nearest("nonsense", ["max_images", "strict"]) == []


def complete(script, line):
    """What bash offers after a command line, whose last word is being written."""
    typed = line.replace(":", " : ").replace("=", " = ").split(" ")
    quoted = " ".join(map(shlex.quote, typed))
    code = f"source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(typed) - 1}; _segrobust; echo ${{COMPREPLY[*]}}"
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_and_values(tmp_path):
    script = tmp_path / "segrobust.bash"
    script.write_text(completion_script())
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert complete(script, "segrobust ev") == ["evaluate"]
    assert set(complete(script, "segrobust data ")) >= {"check", "download"}
    assert complete(script, "segrobust evaluate --max") == ["--max_images"]
    assert complete(script, "segrobust evaluate --strict --split ") == ["val", "test"]
    assert complete(script, "segrobust evaluate --split=t") == ["test"]
    assert complete(script, "segrobust train --trainer.max") == ["--trainer.max_epochs"]
    assert complete(script, "segrobust data check --spl") == ["--split"]
    assert complete(script, "segrobust data download v") == ["voc"]
    assert complete(script, "segrobust configs copy --h") == ["--help"]
    assert "attack/pgd.yaml" in complete(script, "segrobust evaluate --config segrobust:attack/pg")
    assert complete(script, f"segrobust report {tmp_path}/seg") == [str(script)]
