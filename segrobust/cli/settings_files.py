"""Configuration files, checked before anything heavy is imported."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from segrobust.cli.nearest import did_you_mean, nearest
from segrobust.shipped import PREFIX, shipped_files

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_settings(value: str) -> Mapping[str, Any]:
    """The settings of a file, or of a text that is given in its place.

    Args:
        value: of `--config`: a path, or YAML that begins with `{` or has several lines.

    Raises:
        ValueError: there is no such file, or it is empty, or not YAML with names at its top; the message names files
            like it.
    """
    if value.lstrip().startswith("{") or "\n" in value:
        return _mapping(value, "--config")
    path = Path(value)
    if path.is_dir():
        raise ValueError(f"--config: {value} is a folder; name a file in it")
    if not path.is_file():
        raise ValueError(
            f"--config: there is no file {value}: {''.join(_files_like(path))}`segrobust configs` lists ours"
        )
    try:
        settings = _mapping(path.read_text(encoding="utf-8"), f"--config {value}")
        if not settings:
            raise ValueError(f"--config {value}: the file holds no settings; leave it out, or write some in it")
        return settings
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--config: {value} cannot be read: {error}") from None


def check_names(settings: Mapping[str, Any], value: str, allowed: Mapping[str, str]) -> None:
    """Compares the names at the top of a file with the options of a command.

    Args:
        settings: of the file.
        value: of `--config`.
        allowed: for each name that some command knows, the command; empty for the command itself.

    Raises:
        ValueError: the command does not have one.
    """
    for key in settings:
        name = str(key).split(".")[0]
        owner = allowed.get(name)
        if owner:
            raise ValueError(f"--config {value}: `{name}` is a setting of `{owner}`, and has no effect here; remove it")
        if owner is None:
            own = [known for known, other in allowed.items() if not other]
            raise ValueError(f"--config {value}: there is no setting {name!r}: {did_you_mean(name, own)}")


def check_keys_once(text: str, place: str) -> None:
    """Looks for a key that one mapping holds twice: a reader of YAML takes the last without a word.

    Args:
        text: YAML or JSON; what is neither passes, as a value that is plain text.
        place: what holds it, for messages.

    Raises:
        ValueError: there is one; the message names it and its two lines.
    """
    try:
        twice = _key_twice(yaml.compose(text, Loader=_LOADER))
    except (yaml.YAMLError, RecursionError):
        return
    if twice is not None:
        key, first, second = twice
        where = f"line {first}" if first == second else f"lines {first} and {second}"
        raise ValueError(f"{place}: `{key}` is set twice, in {where}; only the last would count: keep one")


def _mapping(text: str, place: str) -> Mapping[str, Any]:
    try:
        content: Any = yaml.load(text, Loader=_LOADER)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{place}: not YAML: {' '.join(str(error).split())}") from None
    check_keys_once(text, place)
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{place}: expected settings by name, such as `model:`, got {type(content).__name__}")
    return content


def _key_twice(root: yaml.Node | None) -> tuple[str, int, int] | None:
    """The first key that a mapping holds twice, and the two lines; None if there is none."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if not isinstance(node, yaml.MappingNode):
            waiting.extend(node.value)
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    return key.value, lines[key.value], line
                lines[key.value] = line
            waiting.append(value)
    return None


def _files_like(path: Path) -> Iterator[str]:
    """The nearest file of the same folder, else the nearest one that is shipped."""
    beside = {other.stem: str(other) for other in path.parent.glob("*.y*ml")} if path.parent.is_dir() else {}
    ours = {Path(name).stem: f"{PREFIX}{name}" for name in shipped_files() if name.endswith(".yaml")}
    for files in (beside, ours):
        near = nearest(path.stem, files)
        if near:
            yield f"did you mean {files[near[0]]}? "
            return
