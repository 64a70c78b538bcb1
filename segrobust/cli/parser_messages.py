"""Errors of jsonargparse, which are trees of many lines, as one line with the nearest name."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from segrobust.cli.class_paths import argument_names, nearest_class
from segrobust.cli.nearest import did_you_mean
from segrobust.untrusted.printable import shortened

_VALUES: Final = re.compile(r"^\s*Given value( type)?:.*$", re.MULTILINE)
_LONGEST: Final = 400
_TYPES: Final = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
    "<class 'list'>": "a list",
    "<class 'dict'>": "a mapping of names",
}


def one_line(message: str, options: Iterable[str] = ()) -> str:
    """The part of a message that says what is wrong, in one line.

    Args:
        message: of jsonargparse, when it parses or when it creates objects.
        options: names of all options of the parser, among which a wrong one is looked for.
    """
    tree = _VALUES.sub("", message)
    for pattern, explain in _RULES:
        found = list(re.finditer(pattern, tree))
        if found:
            line = explain(_Place(tree, found[-1], message, tuple(options)))
            if line:
                return f"{_where(tree, found[-1])}{line}"
    return _flat(tree)


def is_of_parser(message: str) -> bool:
    """Whether a message is a tree of jsonargparse, and not one of a constructor alone."""
    return any(
        words in message for words in ("Does not validate against", "Parser key", "Problem with given class_path")
    )


class _Place:
    """A match in a message, with what surrounds it.

    Args:
        tree: the message without the values that it repeats.
        match: of a rule.
        message: the whole message.
        options: names of all options.
    """

    def __init__(self, tree: str, match: re.Match[str], message: str, options: tuple[str, ...]) -> None:
        self.match, self.message, self.options = match, message, options
        before = tree[: match.end()]
        paths = re.findall(r"Problem with given class_path '([^']+)'", before)
        self.path: str = paths[-1] if paths else ""
        bases = re.findall(r"Subtypes: \[(?:dict\[str, )?(?:<class ')?([\w.]+)", before[before.rfind("Parser key") :])
        self.base: str = bases[-1] if bases else ""


def _where(tree: str, match: re.Match[str]) -> str:
    """The option, and the arguments below it, as far as the message names them."""
    keys = re.findall(r"Parser key \"([^\"]+)\"", tree[: match.start()])
    return f"--{' '.join(keys)}: " if keys and keys != ["config"] else ""


def _missing_class(place: _Place) -> str:
    path = place.match[1]
    absent = re.search(r"No module named '([^']+)'", place.match[0])
    if absent and not f"{path}.".startswith(f"{absent[1]}."):
        return f"{path} cannot be imported: there is no module {absent[1]}"
    if absent and (Path(absent[1]).is_dir() or Path(f"{absent[1]}.py").is_file()):
        return f"{path} cannot be imported: {absent[1]} lies in this folder, so set PYTHONPATH=."
    near = nearest_class(path, place.base)
    if absent and not near:
        return f"there is no module {absent[1]}; if {path} is yours, name the folder of its module in PYTHONPATH"
    meant = f"did you mean {near}?" if near else "write its import path, such as torch.nn.Conv2d"
    return f"there is no {path}: {meant}"


def _wrong_argument(place: _Place) -> str:
    name = place.match[1].split(".")[0].split("=")[0]
    if not place.path:
        return f"there is no setting {place.match[1]}: {did_you_mean(name, place.options)}"
    return f"{place.path} has no argument {name}: {did_you_mean(name, argument_names(place.path))}"


def _wrong_option(place: _Place) -> str:
    name = place.match[1].split("=")[0]
    group = f"{name.split('.')[0]}."
    options = [option for option in place.options if option.startswith(group)] or place.options
    return f"there is no option --{name}: {did_you_mean(name, options, prefix='--')}"


def _wrong_of_group(place: _Place) -> str:
    group, name = place.match[1], place.match[2]
    inside = [option.removeprefix(f"{group}.") for option in place.options if option.startswith(f"{group}.")]
    return f"{group} has no setting {name}: {did_you_mean(name, inside)}"


def _not_a_subclass(place: _Place) -> str:
    near = nearest_class(place.match[1].rsplit(".", 1)[-1], place.base)
    return f"{place.match[1]} is no {place.match[2]}{f': did you mean {near}?' if near else ''}"


def _of_another_type(place: _Place) -> str:
    return f"{_given(place)} is no {place.match[1]}"


def _ambiguous(place: _Place) -> str:
    return f"there are several classes {place.match[1]}: write the import path, such as {place.match[2]}"


def _abstract(place: _Place) -> str:
    return f"name a class first: {place.match[1]} has several; `--help all` lists them"


def _required(place: _Place) -> str:
    names = place.match[1].replace("init_args.", "")
    if place.path:
        return f"{place.path} needs {names}"
    return f"no {' and no '.join(sorted(names.split(', '), reverse=True))}: name an experiment by --config FILE"


def _wrong_literal(place: _Place) -> str:
    """A value of a list: those of all alternatives count."""
    given = _given(place)
    lists = re.findall(r"Literal\[([^\]]*)\]", place.message[place.message.rfind("Parser key") :])
    allowed = dict.fromkeys(word.strip().strip("'") for words in lists for word in words.split(","))
    return f"there is no {given!r}: {did_you_mean(given, allowed)}"


def _wrong_type(place: _Place) -> str:
    kinds = re.findall(r"Expected an? (<class '\w+'>)", place.message[place.message.rfind("Parser key") :])
    known = [_TYPES.get(kind, kind) for kind in dict.fromkeys(kinds) if kind != "<class 'NoneType'>"]
    of_attacks = known == [_TYPES["<class 'dict'>"]] and 'Parser key "attacks"' in place.message
    example = ", such as --attacks.pgd PGD" if of_attacks else ""
    return f"expected {' or '.join(known)}{example}, got {shortened(_given(place))}" if known else ""


def _given(place: _Place) -> str:
    """The value that the deepest part of a message was about."""
    values = re.findall(r"Got value: (.+)|Given value: (.+)", place.message[place.match.start() :])
    given = (values[0][0] or values[0][1]).strip() if values else ""
    nested = re.fullmatch(r"NestedArg\(key='(.*)', val='(.*)'\)", given)
    return nested[2] if nested else given


def _own_words(place: _Place) -> str:
    return place.match[1].strip()


def _first_error(place: _Place) -> str:
    """What a constructor said, behind the words of the parser."""
    return _flat(place.match[1].strip().strip('"'))


def _missing_file(place: _Place) -> str:
    return f"there is no file {place.match[1]}"


def _not_yaml(place: _Place) -> str:
    return f"the file is not YAML: {_flat(place.match[1])}"


_RULES: Final[tuple[tuple[str, Callable[[_Place], str]], ...]] = (
    (r"Problems parsing config: ([\s\S]+)", _not_yaml),
    (
        r"Problem with given class_path '([^']+)':\s+(?:module '\S+' has no attribute|No module named '[^']+')",
        _missing_class,
    ),
    (r"has no attribute '\w+'. Got value: (\S+)", _missing_class),
    (r"No module named '[^']+'. Got value: (\S+)", _missing_class),
    (r"Expected a dot import path string: (\S+)", _missing_class),
    (r"Group '([\w.]+)' does not accept option '([\w.]+)'", _wrong_of_group),
    (r"Option '([\w.]+)' is not accepted", _wrong_argument),
    (r"class_path '[^']+':\s+unrecognized arguments: --(\S+)", _wrong_argument),
    (r"unrecognized arguments: --(\S+)", _wrong_option),
    (r"the following arguments are required: ([\w., ]+)", _required),
    (r"Key \"?([\w.]+)\"? is required", _required),
    (r"Not of type \w+: (.+)", _own_words),
    (r"Expected an? typing.Literal", _wrong_literal),
    (r"Import path (\S+) does not correspond to a subclass of (\w+)", _not_a_subclass),
    (r"Import path does not correspond to a subclass of (\w+)", _of_another_type),
    (r"Multiple subclasses with name (\w+)\.[^:]*: ([\w.]+)", _ambiguous),
    (r"Expected an instantiatable class, but (\S+) is abstract", _abstract),
    (r"Expected an? <class '(?:int|float|bool|str|list|dict)'>", _wrong_type),
    (r"\[Errno 2\] No such file or directory: '([^']+)'", _missing_file),
    (r"Errors:\s+- (?!Expected)([\s\S]+?)(?=\n\s*- |\Z)", _first_error),
)
"""Patterns from the most to the least specific; of several matches the last one lies deepest."""


def _flat(text: str) -> str:
    """All lines as one, and long ones shortened, with the nearest of the names that they list."""
    line = " ".join(text.split())
    if len(line) <= _LONGEST:
        return line
    quoted = re.findall(r"[`'\"]([\w.:+-]+)[`'\"]", line)
    meant = f": {did_you_mean(quoted[0], quoted[1:])}" if len(quoted) > 1 else ""
    return f"{line[: _LONGEST // 2].rsplit(' ', 1)[0]} ...{meant}"
