"""What to write for another wiring of network and data."""

from dataclasses import dataclass

from torch import nn

from segrobust.evaluation.checks.wiring_inputs import Constants, Input, is_nothing, normalized_inside
from segrobust.networks import Normalized


@dataclass(frozen=True)
class Wiring:
    """One way to connect network and data, and how well it does.

    Attributes:
        input: what the network gets.
        output: what its channels mean, or how the mask lies; empty for as it is.
        channels: channel of every class, if `output` is another order of the classes.
        accuracy: of all pixels.
        by_image: accuracy of every image.
        miou: over the classes that occur.
    """

    input: Input
    output: str
    channels: tuple[int, ...]
    accuracy: float
    by_image: tuple[float, ...]
    miou: float

    @property
    def num_changes(self) -> int:
        """Changes of input and output."""
        return self.input.num_changes + bool(self.output)

    @property
    def name(self) -> str:
        """All changes, for messages."""
        return " and ".join(part for part in (self.input.order_name, self.input.name, self.output) if part)


def advise(network: nn.Module, best: Wiring) -> str:
    """The line to write for a wiring."""
    if best.output.startswith("logits"):
        where = "the logits lie beside the objects: upsample them inside the network as in its training, with the same "
        line = where + "align_corners= and without a padding at the top or left"
        return line if best.num_changes == 1 else f"{line}; and {_advise_network(network, best)}"
    if best.output.startswith("masks"):
        turned = {
            "masks mirrored": "mask.flip(-1)",
            "masks upside down": "mask.flip(-2)",
            "masks rotated by 180 degrees": "mask.flip(-1, -2)",
            "masks transposed": "mask.T",
        }[best.output]
        line = f"make the data set return {turned} in place of mask, or turn the image, whichever of the two is wrong"
        return line if best.num_changes == 1 else f"{line}; and {_advise_network(network, best)}"
    return _advise_network(network, best)


def _advise_network(network: nn.Module, best: Wiring) -> str:
    line, imports, remark = "network", [], ""
    if best.input.scaled:
        inside, mean, std = normalized_inside(network), best.input.mean, best.input.std
        if inside is not None:
            mean, std = _combined(inside, best.input)
        if inside is not None and is_nothing(mean, std):
            remark = "leave out Normalized, because the network normalises its input already; "
            line = "network.network" if inside is network else "network"
        elif min(mean) < 0 or max(mean) > 1 or best.input.remedy:
            remark = f"{best.input.remedy or 'remove one of the two normalisations in front of the network'}; "
        elif inside is not None and inside is not network:
            remark = f"give the Normalized inside the network mean={_shown(mean)}, std={_shown(std)}; "
        else:
            inner = "network" if inside is None else "network.network"
            line, imports = f"Normalized({inner}, mean={_shown(mean)}, std={_shown(std)})", ["Normalized"]
    if best.input.order:
        line, imports = f"ColorOrder({line}, order={_short(best.input.order)})", [*imports, "ColorOrder"]
    if best.channels:
        line, imports = f"ClassOrder({line}, channels={_short(best.channels)})", [*imports, "ClassOrder"]
    if not imports:
        return (remark + (f"attack {line}" if line != "network" else "")).removesuffix("; ")
    source = f" (from segrobust.networks import {', '.join(sorted(imports))})"
    return f"{remark}wrap the network: network = {line}{source}"


def _combined(inside: Normalized, changed: Input) -> tuple[Constants, Constants]:
    """Constants of one normalisation that does what a change of the input and the normalisation inside do."""
    mean, std = (buffer.flatten().double().cpu().tolist() for buffer in (inside.mean, inside.std))
    return (
        tuple(a + b * m for a, b, m in zip(changed.mean, changed.std, mean, strict=True)),
        tuple(b * s for b, s in zip(changed.std, std, strict=True)),
    )


def _shown(values: Constants) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"


def _short(channels: tuple[int, ...]) -> str:
    """The channels as Python reads them, long runs as ranges."""
    if len(channels) < 8:
        return str(channels)
    if channels == tuple(range(len(channels)))[::-1]:
        return f"range({len(channels) - 1}, -1, -1)"
    first = channels[0]
    if channels == tuple(range(first, first + len(channels))):
        return f"range({first}, {first + len(channels)})"
    if channels[:-1] == tuple(range(first, first + len(channels) - 1)):
        return f"(*range({first}, {first + len(channels) - 1}), {channels[-1]})"
    if channels[1:] == tuple(range(channels[1], channels[1] + len(channels) - 1)):
        return f"({first}, *range({channels[1]}, {channels[1] + len(channels) - 1}))"
    return str(channels)
