"""Finds the weights of a network in what a file holds, by the longest structure of names that both have in common."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segrobust.inputs import describe_non_finite
from segrobust.networks.weight_differences import describe_differences, fits, listed, what_to_do

COUNTERS = (".num_batches_tracked",)
"""Endings of the names of weights that no prediction depends on, and that files may lack (PyTorch 0.3)."""

_MARKS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What compilation, FSDP and activation checkpointing put into names."""

_USUAL = frozenset({"model", "module", "net", "network"})
"""Attributes that hold the whole network, whatever else lies beside them."""

_RESUMING = re.compile(r"optim|lr_sched|scheduler|scaler|current_model_state$|averaging_state$")
"""Starts of names of entries that serve to resume alone. Lightning's `WeightAveraging`, and so `WeightEMA`, writes the
averages as `state_dict`, and the raw weights as `current_model_state`."""

_AVERAGES = re.compile(r"(?i:(?:^|[._])(?:ema|swa|avg|averaged?|averages|shadow|polyak)(?:$|[._\d]))|(?:^|[a-z._])EMA")
"""Names of averaged weights, whatever form they are stored in."""

_TOP = "."
_DEEPEST = 6
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """Where in a file the weights of a network were.

    Attributes:
        part: entries of the file and the prefix of the names, joined by dots; "." for all of the file.
        entry: entries of the file, joined by dots; empty for the file itself.
        prefix: what was removed from the names.
        num_tensors: number of tensors that were loaded.
        left_out: other tensors of the file, as `name (number)`; without those that serve to resume a training.
        reset: names of the counters of batch normalisation that the file lacks, and that were set to 0.
    """

    part: str
    entry: str
    prefix: str
    num_tensors: int
    left_out: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"entry {self.entry!r}" if self.entry else "the file itself"
        removed = f" without the prefix {self.prefix!r}" if self.prefix else ""
        left_out = f"; left out: {listed(self.left_out)}" if self.left_out else ""
        reset = f"; {len(self.reset)} counters num_batches_tracked are not in it" if self.reset else ""
        return f"{self.num_tensors} tensors of {where}{removed}{left_out}{reset}"


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """What one entry of a file holds under one prefix.

    Attributes:
        entry: names of the entries that lead to it.
        prefix: of its names in the file, the marks of compilation left out.
        removed: the part of it that the names of the network do not have.
        names: names in the file by those of the network.
        weights: the tensors of the entry.
        fits: number of names whose shapes and kinds fit.
        whole: whether all parameters of the network fit.
    """

    entry: tuple[str, ...]
    prefix: str
    removed: str
    names: Mapping[str, str]
    weights: Mapping[str, Tensor]
    fits: int
    whole: bool

    @property
    def part(self) -> str:
        return ".".join((*self.entry, *filter(None, [self.removed.rstrip(".")]))) or _TOP

    def equals(self, other: "_Copy") -> bool:
        return self.names.keys() == other.names.keys() and all(
            torch.equal(self.weights[name], other.weights[other.names[own]]) for own, name in self.names.items()
        )

    def stored(self) -> dict[str, Tensor]:
        """The tensors under what is removed, by names without the prefix."""
        return {
            _unmarked(name).removeprefix(self.prefix): weight
            for name, weight in self.weights.items()
            if _unmarked(name).startswith(self.removed)
        }

    def beside(self) -> list[str]:
        """The names of the entry that belong to something else than this copy."""
        return [name for name in map(_unmarked, self.weights) if not name.startswith(self.removed)]


def match_weights(
    own: Mapping[str, Tensor],
    parameters: Sequence[str],
    content: Mapping[str, object],
    part: str | None,
    tied: Sequence[Sequence[str]] = (),
) -> tuple[dict[str, Tensor], LoadedWeights]:
    """Finds the weights of a network in the entries of a file.

    Args:
        own: parameters and buffers of the network, by name.
        parameters: names of the parameters among them.
        content: entries of the file, nested as they are.
        part: which copy to take where there are several, as the error lists them; None for the only one.
        tied: groups of names of one parameter, of which a file may hold a single one.

    Returns:
        Tensors of the file by the network's names, and where they were.

    Raises:
        ValueError: no tensors, weights of another architecture, several copies, or values that are NaN or infinite; the
            message continues "the file".
    """
    entries = list(_entries(content))
    if not entries:
        resuming = [name for name in content if _RESUMING.match(name)]
        if resuming:
            raise ValueError(f"holds what resumes a training ({listed(resuming)}), but no weights: name another file")
        kinds = {name: type(value).__name__ for name, value in content.items()}
        raise ValueError(
            f"holds no state dict: {dict(list(kinds.items())[:_SHOWN]) or 'it is empty'}; expected tensors by name, or "
            f"a training checkpoint that holds them in one of its entries. If an entry is the network itself, write "
            f"its state_dict() to a file where its code is installed; write arrays of NumPy by torch.from_numpy"
        )
    shared = _shared_prefix([_unmarked(name) for name in own])
    bare = {_unmarked(name).removeprefix(shared): name for name in own}
    found = [
        copy for entry, weights in entries for copy in _copies(entry, weights, own, parameters, bare, shared, tied)
    ]
    usable = found if part is None else _named(found, part)
    whole: list[_Copy] = []
    for copy in usable:
        if copy.whole and not any(copy.equals(other) for other in whole):
            whole.append(copy)
    if len(whole) > 1:
        copies = ", ".join(f"{copy.part!r} ({len(copy.names)} tensors)" for copy in whole)
        raise ValueError(
            f"holds several copies of these weights, such as raw and averaged ones: {copies}; {_choice(whole)}"
        )
    nearest = max(usable, key=lambda copy: (copy.fits, len(copy.names)), default=None)
    if nearest is None:
        entry, weights = max(entries, key=lambda entry: len(entry[1]))
        nearest = _Copy(entry=entry, prefix="", removed="", names={}, weights=weights, fits=0, whole=False)
    copy = whole[0] if whole else nearest
    _require_fit(copy, own, bare)
    if part is None:
        _require_obvious(copy, found, entries, len(parameters))
    _require_finite(copy, own, parameters)
    reset = tuple(name for name in own if name not in copy.names)
    return {name: copy.weights[stored] for name, stored in copy.names.items()}, LoadedWeights(
        part=copy.part,
        entry=".".join(copy.entry),
        prefix=copy.removed,
        num_tensors=len(copy.names),
        left_out=tuple(f"{name} ({number})" for name, number in _others(copy, entries).items()),
        reset=reset,
    )


def _entries(
    content: Mapping[str, object], at: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Gives the entries that hold tensors, the outermost first; sequences of tensors by position."""
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor) and _has_values(value)}
    if tensors:
        yield at, tensors
    for name, value in content.items():
        if isinstance(value, list | tuple):
            value = dict(enumerate(value))
        if isinstance(value, Mapping) and len(at) < _DEEPEST and not _RESUMING.match(name):
            yield from _entries({str(key): item for key, item in value.items()}, (*at, name))


def _has_values(tensor: Tensor) -> bool:
    """Whether a tensor is stored as weights are: neither sparse, nested nor without values (device meta)."""
    return tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_nested


def _copies(
    entry: tuple[str, ...],
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    parameters: Sequence[str],
    bare: Mapping[str, str],
    shared: str,
    tied: Sequence[Sequence[str]],
) -> Iterator[_Copy]:
    """Gives one copy for each prefix under which an entry has a name of the network."""
    found: dict[str, dict[str, str]] = {}
    for name in weights:
        plain = _unmarked(name)
        for start in (0, *(dot.end() for dot in re.finditer(r"\.", plain))):
            if plain[start:] in bare:
                found.setdefault(plain[:start], {})[bare[plain[start:]]] = name
    for prefix, names in found.items():
        _add_tied(names, tied, weights)
        fitting = {own_name for own_name, name in names.items() if fits(own[own_name], weights[name])}
        yield _Copy(
            entry=entry,
            prefix=prefix,
            removed=_without_ending(prefix, shared),
            names=names,
            weights=weights,
            fits=len(fitting),
            whole=fitting.issuperset(parameters or own),
        )


def _add_tied(names: dict[str, str], tied: Sequence[Sequence[str]], weights: Mapping[str, Tensor]) -> None:
    """Gives all names of one parameter the same tensor of the file."""
    for group in tied:
        held = [names[name] for name in group if name in names]
        if held and any(not torch.equal(weights[held[0]], weights[other]) for other in held[1:]):
            raise ValueError(f"holds different values for {listed(group)}, which are one parameter of the network")
        names.update((name, held[0]) for name in group if held and name not in names)


def _named(found: Sequence[_Copy], part: str) -> list[_Copy]:
    """The copies that `part` names: by all of their name, else by some of its parts."""
    chosen = [copy for copy in found if copy.part == part]
    chosen = chosen or [copy for copy in found if f".{part.strip('.')}." in f".{copy.part}."]
    if not chosen:
        fitting = sorted(found, key=lambda copy: -copy.fits)[:_SHOWN]
        known = ", ".join(repr(copy.part) for copy in fitting) or "none that fits"
        raise ValueError(f"has no part {part!r} with weights of this network; it has {known}")
    return chosen


def _require_fit(copy: _Copy, weights: Mapping[str, Tensor], bare: Mapping[str, str]) -> None:
    """Refuses a copy that lacks weights, or holds others under its prefix."""
    own = {short: weights[name] for short, name in bare.items()}
    stored = copy.stored()
    tied = {short: copy.weights[copy.names[name]] for short, name in bare.items() if name in copy.names}
    differences = describe_differences(own, tied | stored, COUNTERS)
    if differences:
        raise ValueError(
            f"holds the weights of another architecture ({len(stored)} tensors, the network has {len(own)}; the "
            f"nearest fit is {copy.part!r}, where {copy.fits} fit; the file begins with "
            f"{', '.join(list(stored)[:3])}, the network with {', '.join(list(own)[:3])}): {differences}"
            f"{what_to_do(own, tied | stored, COUNTERS)}"
        )


def _require_finite(copy: _Copy, own: Mapping[str, Tensor], parameters: Sequence[str]) -> None:
    """Refuses values that are NaN or infinite, or become so in the precision of the network."""
    cast = {stored: copy.weights[stored].to(own[name].dtype) for name, stored in copy.names.items()}
    fault = describe_non_finite(cast, {copy.names[name] for name in parameters if name in copy.names})
    if fault:
        raise ValueError(fault)


def _require_obvious(
    copy: _Copy,
    found: Sequence[_Copy],
    entries: Sequence[tuple[tuple[str, ...], Mapping[str, Tensor]]],
    num_parameters: int,
) -> None:
    """Refuses to choose in silence where averages lie beside, or where most of an entry would be left out."""
    averages = [
        name
        for name, number in _others(copy, entries).items()
        if number >= num_parameters and _AVERAGES.search(name) and not _repeats(name, copy, found)
    ]
    if averages:
        raise ValueError(
            f"holds averaged weights ({listed(averages)}) beside {copy.part!r}, in a form that is not read; to "
            f"do without them, {_choice([copy])}"
        )
    beside = len(copy.beside())
    if beside > len(copy.names) and not _USUAL.issuperset(copy.removed.rstrip(".").split(".")):
        raise ValueError(
            f"holds {beside} other tensors beside the {len(copy.names)} of {copy.part!r}, so that these may be a part "
            f"of another network; if they are the whole, {_choice([copy])}"
        )


def _repeats(name: str, copy: _Copy, found: Sequence[_Copy]) -> bool:
    """Whether the others under a name are a copy of equal weights."""
    return any(
        other.whole and f"{other.part}.".startswith(f"{name}.") and other.equals(copy)
        for other in found
        if other is not copy
    )


def _others(copy: _Copy, entries: Sequence[tuple[tuple[str, ...], Mapping[str, Tensor]]]) -> dict[str, int]:
    """The number of other tensors of the file, by entry and first part of their names."""
    counts: dict[str, int] = {}
    for entry, weights in entries:
        names = copy.beside() if entry == copy.entry else list(map(_unmarked, weights))
        for name in names:
            first = name.partition(".")[0]
            where = ".".join((*entry, first) if entry == copy.entry or not entry else entry)
            counts[where] = counts.get(where, 0) + 1
    return counts


def _choice(copies: Sequence[_Copy]) -> str:
    """What to write to take one of some copies."""
    first, *others = [copy.part for copy in copies[:_SHOWN]]
    return (
        f"write load_weights(network, path, part={first!r}){''.join(f' or part={other!r}' for other in others)}; on "
        f"the command line --checkpoint_part {first}, for a training initial_weights_part"
    )


def _shared_prefix(names: Sequence[str]) -> str:
    """The attributes that all names begin with; the items of an `nn.Sequential` are no wrappers."""
    shared = ""
    while names:
        first, dot, _ = names[0].partition(".")
        if not dot or first.isdigit() or not all(name.startswith(f"{first}.") for name in names):
            break
        shared += f"{first}."
        names = [name.removeprefix(f"{first}.") for name in names]
    return shared


def _without_ending(prefix: str, shared: str) -> str:
    """A prefix of the file without what the network has too, from its end on."""
    left, right = prefix.split(".")[:-1], shared.split(".")[:-1]
    while left and right and left[-1] == right[-1]:
        left.pop()
        right.pop()
    return "".join(f"{name}." for name in left)


def _unmarked(name: str) -> str:
    return _MARKS.sub("", name)
