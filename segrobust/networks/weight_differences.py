"""How the weights of a file differ from those of a network, and what to do."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from segrobust.untrusted.printable import visible

_SHOWN = 5


def describe_differences(
    own: Mapping[str, Tensor], stored: Mapping[str, Tensor], optional: tuple[str, ...] = ()
) -> str:
    """Lists how the weights of a file differ from a network's, the first five of each kind; empty where all fit.

    Args:
        own: weights of the network, by name.
        stored: weights of the file, under the network's names.
        optional: endings of names that the file may lack.
    """
    faults = {
        "missing": [name for name in own if name not in stored and not f".{name}".endswith(optional)],
        "unexpected": [name for name in stored if name not in own],
        "of another shape or kind (file for network)": [
            f"{name} {tuple(stored[name].shape)} for {tuple(weight.shape)}"
            for name, weight in own.items()
            if name in stored and not fits(weight, stored[name])
        ],
    }
    return "; ".join(f"{len(names)} {fault}: {listed(names)}" for fault, names in faults.items() if names)


def what_to_do(own: Mapping[str, Tensor], stored: Mapping[str, Tensor], optional: tuple[str, ...] = ()) -> str:
    """The end of the message about such a difference; empty where its cause is not known.

    Args:
        own: weights of the network, by name.
        stored: weights of the file, under the network's names.
        optional: endings of names that the file may lack.
    """
    missing = [name for name in own if name not in stored and not f".{name}".endswith(optional)]
    unexpected = [name for name in stored if name not in own]
    other = [name for name, weight in own.items() if name in stored and not fits(weight, stored[name])]
    if unexpected and not missing and not other:
        return (
            "; make the network with these layers too (heads for training alone, such as aux_loss=True), or write a "
            "file without them"
        )
    heads = {(own[name].shape[:1], stored[name].shape[:1]) for name in other}
    only_heads = all(own[name].shape[1:] == stored[name].shape[1:] for name in other) and not missing and not unexpected
    if len(heads) == 1 and only_heads and (sizes := heads.pop())[0]:
        (ours,), (theirs,) = sizes
        return (
            f"; the file is of {theirs} classes, it seems, and the network of {ours}: make the network with {theirs}, "
            f"and choose among them by segrobust.networks.ClassOrder"
        )
    if any(".lora_" in f".{name}" for name in unexpected):
        return "; these are weights of LoRA: merge them into the network (merge_and_unload of peft), and save that"
    return ""


def fits(own: Tensor, stored: Tensor) -> bool:
    """Whether a tensor of a file can be a weight of the network."""
    return own.shape == stored.shape and own.is_floating_point() == stored.is_floating_point()


def listed(names: Sequence[str]) -> str:
    """The first names, printable."""
    return f"{', '.join(map(visible, names[:_SHOWN]))}{', ...' if len(names) > _SHOWN else ''}"
