"""What weights were trained for, kept beside them, and compared with what they are to be used for."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

import segrobust
from segrobust.label_space import LabelSpace
from segrobust.networks.adapted import NetworkRecord
from segrobust.networks.preprocessing import Preprocessing
from segrobust.networks.weight_files import is_safetensors, read_content, read_metadata
from segrobust.networks.weight_folders import find_file, is_index
from segrobust.untrusted.documents import parse_json
from segrobust.untrusted.printable import shortened, visible

RECORD = "segrobust"
"""Entry of a Lightning checkpoint that holds the record."""

_VERSION, _LABELS, _NORMALIZATION = "segrobust_version", "label_space", "normalization"


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """What a file of weights says about them; None for what it does not say.

    Attributes:
        version: version of segrobust that wrote the file.
        label_space: classes that the network was trained for.
        preprocessing: normalisation that it was trained with.
    """

    version: str | None = None
    label_space: LabelSpace | None = None
    preprocessing: Preprocessing | None = None


def make_record(network: nn.Module, label_space: LabelSpace | None) -> dict[str, str]:
    """Gives what `read_record` reads, as text by name: metadata of safetensors, or an entry of a checkpoint.

    Args:
        network: its `Normalized` is recorded.
        label_space: the classes of the training data, where these are known.
    """
    record = {_VERSION: segrobust.__version__}
    preprocessing = Preprocessing.of(network)
    if label_space is not None:
        record[_LABELS] = json.dumps(label_space.to_dict())
    if preprocessing is not None:
        record[_NORMALIZATION] = json.dumps(preprocessing.to_dict())
    return record


def read_record(path: str | os.PathLike[str]) -> WeightsRecord:
    """Reads what a file of weights says about them; files of other programs say nothing.

    Args:
        path: safetensors, or a pickle of torch that needs no code; or a folder of one.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is damaged or needs code, or a record that does not mean anything.
    """
    path = find_file(Path(path))
    if is_index(path):  # files in shards are of other programs
        return WeightsRecord()
    held = read_metadata(path) if is_safetensors(path) else read_content(path).get(RECORD, {})
    if not isinstance(held, Mapping):
        raise ValueError(f"{path}: its entry {RECORD!r} must map text to text, got {type(held).__name__}")
    try:
        labels, normalization = (_parse(held, name) for name in (_LABELS, _NORMALIZATION))
        return WeightsRecord(
            version=held.get(_VERSION),
            label_space=None if labels is None else LabelSpace.from_dict(labels),
            preprocessing=None if normalization is None else Preprocessing.from_dict(normalization),
        )
    except ValueError as error:
        raise ValueError(f"{path} has a record that cannot be read: {error}") from error


def _parse(held: Mapping[str, str], name: str) -> dict[str, object] | None:
    text = held.get(name)
    if text is None:
        return None
    value = parse_json(text, name)
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object, got {shortened(text)}")
    return value


def find_conflicts(
    network: nn.Module, label_space: LabelSpace, *, weights: WeightsRecord | None = None, file: str = "the weights"
) -> list[str]:
    """Compares what a network and its weights record with what they are to be used for.

    Names of classes agree if they differ in capitals, spaces and punctuation only; their order and number count. What
    the file of the weights says takes precedence: a network of a library may have been trained further on other data.

    Args:
        network: its `NetworkRecord`, where it has one (`SMPNetwork` and others), and its `Normalized`.
        label_space: the classes of the data.
        weights: what the file of its weights says, where they come from one.
        file: what the file is called.

    Returns:
        One text for each contradiction, with both sides.
    """
    conflicts = []
    trained = None if weights is None else weights.label_space
    if trained is not None:
        conflicts += _class_conflicts(file, trained.num_classes, trained.names, label_space)
    for module in network.modules() if trained is None else ():
        record = getattr(module, "record", None)
        if isinstance(record, NetworkRecord):
            conflicts += _class_conflicts(record.source, record.num_classes, record.class_names, label_space)
    own, trained_with = Preprocessing.of(network), None if weights is None else weights.preprocessing
    if own is not None and trained_with is not None and not own.agrees_with(trained_with):
        conflicts.append(f"{file} was trained with the normalisation {trained_with}, the network has {own}")
    return conflicts


def _class_conflicts(
    source: str, num_classes: int, names: tuple[str, ...] | None, label_space: LabelSpace
) -> list[str]:
    names = None if names is None else tuple(map(visible, names))
    data = f"the data have {label_space.num_classes} ({', '.join(label_space.names)})"
    if num_classes != label_space.num_classes:
        listed = "" if names is None else f" ({', '.join(names)})"
        return [f"{source} has {num_classes} classes{listed}, {data}"]
    if names is None:
        return []
    pairs = list(zip(names, label_space.names, strict=True))
    differ = [index for index, (a, b) in enumerate(pairs) if _folded(a) != _folded(b)]
    if not differ:
        return []
    first = differ[0]
    return [
        f"{source} has the classes {', '.join(names)}; {data}: {len(differ)} differ, the first is class {first}, "
        f"{pairs[first][0]!r} against {pairs[first][1]!r}"
    ]


def _folded(name: str) -> str:
    """A name without capitals, spaces and punctuation; one of nothing else stays as it is."""
    return "".join(character for character in name.lower() if character.isalnum()) or name
