"""Values that are checked before Lightning and the command are imported, which takes seconds."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from segrobust.cli.class_paths import argument_names, nearest_class
from segrobust.cli.command_line import CommandLine
from segrobust.cli.lightning_source import argument_names_in_source
from segrobust.cli.nearest import did_you_mean, nearest
from segrobust.cli.training_options import CLASSES

_ATTACKS = "segrobust.attacks"


def check_early(line: CommandLine, files: Sequence[Mapping[str, Any]], *, trains: bool) -> None:
    """Checks radii, names of Lightning's settings, attacks of this package, and the device.

    The parser, which knows all types, checks everything again.

    Args:
        line: the arguments of a command on a network.
        files: the settings of its files, in their order.
        trains: whether it is a training, which has settings of Lightning in place of the others.

    Raises:
        ValueError: one is wrong; the message names it and what is meant.
    """
    if trains:
        _check_names_of_lightning(line, files)
        return
    for value in _given("eps", line, files):
        _check_radii(value)
    _check_attacks(line, files)
    for device in _given("device", line, files):
        if isinstance(device, str):
            # imports torch, which the checks before do not need
            import_module("segrobust.functional.devices").require_device(device)


def _given(name: str, line: CommandLine, files: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """The values of an option in files and on the command line."""
    yield from (settings[name] for settings in files if name in settings)
    yield from map(_read, line.values(name))


def _read(value: str) -> Any:
    """What YAML makes of a value; invalid YAML stays text."""
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _check_radii(value: Any) -> None:
    # imports jsonargparse, which pages of help do not need
    lengths = import_module("segrobust.functional.lengths")
    for radius in value if isinstance(value, list) else [] if value is None else [value]:
        try:
            lengths.read_length(radius)
        except ValueError as error:
            raise ValueError(f"--eps: {error}") from None


def _check_names_of_lightning(line: CommandLine, files: Sequence[Mapping[str, Any]]) -> None:
    for group, (file, name) in CLASSES.items():
        known = argument_names_in_source(file, name)
        written = [f"--{option}" for option, _ in line.options if option.startswith(f"{group}.")]
        within = [key for settings in files if isinstance(settings.get(group), Mapping) for key in settings[group]]
        for option in (*written, *(f"{group}.{key}" for key in within)):
            given = option.removeprefix("--").split(".")[1].rstrip("+")
            if known and given not in (*known, "help"):
                prefix = f"--{group}." if option.startswith("--") else ""
                what = f"there is no option {option}" if prefix else f"{group} has no setting {given}"
                raise ValueError(f"{what}: {did_you_mean(given, known, prefix=prefix)}")


def _check_attacks(line: CommandLine, files: Sequence[Mapping[str, Any]]) -> None:
    """Looks for classes and arguments that this package does not have; those of others are not imported."""
    classes: dict[str, str] = {}
    for name, path, arguments in _written_attacks(line, files):
        if path is not None:
            classes[name] = _require_attack(path)
        known = argument_names(classes[name]) if arguments and classes.get(name, "").startswith(_ATTACKS) else []
        for argument in arguments if known else ():
            if argument not in known:
                meant = did_you_mean(argument, known)
                raise ValueError(f"--attacks: {classes[name]} has no argument {argument}: {meant}")


def _written_attacks(
    line: CommandLine, files: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str | None, list[str]]]:
    """Names of attacks, with the class if it is written there, and the names of arguments."""
    for attacks in _given("attacks", line, files):
        if isinstance(attacks, str) and not Path(attacks).is_file():
            raise ValueError(f"--attacks: expected a mapping of names, such as --attacks.pgd PGD, got {attacks!r}")
        for name, attack in attacks.items() if isinstance(attacks, Mapping) else ():
            yield str(name), *_written(attack)
    for option, value in line.options:
        top, *parts = option.split(".")
        parts = [part for part in parts if part != "init_args"]
        if top == "attacks" and parts and parts[-1] != "help":
            if len(parts) == 1 or parts[1] == "class_path":
                yield parts[0], *_written(_read(value or ""))
            elif parts[1] != "dict_kwargs":
                yield parts[0], None, [parts[1]]


def _written(attack: Any) -> tuple[str | None, list[str]]:
    """The class of an attack and the names of its arguments, as YAML gives them."""
    if isinstance(attack, str):
        return attack, []
    if not isinstance(attack, Mapping):
        return None, []
    path, arguments = attack.get("class_path"), attack.get("init_args")
    return path if isinstance(path, str) else None, list(map(str, arguments if isinstance(arguments, Mapping) else ()))


def _require_attack(path: str) -> str:
    """The import path of an attack; a name alone is one of this package."""
    package = import_module(_ATTACKS)
    module, _, name = path.rpartition(".")
    if module == _ATTACKS and not hasattr(package, name):
        meant = nearest_class(path)
        raise ValueError(f"--attacks: there is no {path}: {f'did you mean {meant}?' if meant else 'see its module'}")
    if module or name in package.__all__:
        return path if module else f"{_ATTACKS}.{name}"
    near = nearest(name, package.__all__)
    if near:
        raise ValueError(f"--attacks: there is no {path}: did you mean {_ATTACKS}.{near[0]}?")
    return path
