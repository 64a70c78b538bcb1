"""What a network is beside its weights: modules, settings, buffers, and its logits and gradients on a fixed probe."""

import hashlib
import math
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn

from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.evaluation.dataset import LoadedSample, SampleSource, load_sample
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.run.run_directory import device_name
from segrobust.evaluation.run.strict_json import read_document, write_json
from segrobust.functional.modes import attackable
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import list_of, mapping_of, number, optional, read_fields, text, whole
from segrobust.untrusted.printable import shortened, visible

NETWORK_SCHEMA: Final = 1
"""Version of the format of `network.json`."""

PROBE_TOLERANCE: Final = 1e-3
"""Largest difference of two probes of one network, in standard deviations of its logits.

A probe switches TF32 and autocast off. Then float64, channels_last, other kernels and other numbers of threads changed
the logits of three CamVid networks (convolutions and a transformer) by at most 4e-6. Two orders of magnitude are left
for deeper networks, GPUs and compilation. Rounding the noisy images to 8 bits changed the logits by 1.5e-3 or more.
"""

GRADIENT_TOLERANCE: Final = 0.1
"""Largest difference of two gradients of one network, as a share of their norm.

A last bit moves activations over the kink of a ReLU, where the derivative jumps, so that gradients differ more than
logits. A defence that cuts, replaces or rescales gradients changes them by about their norm.
"""

_ROUNDINGS: Final = (16, 64)
"""Differences of logits and of gradients that are allowed besides, in rounding errors of a network's coarsest type.

A network that computes in bfloat16 inside (its own autocast) differs by a few of these between kernels and GPUs.
"""

_PROBES: Final = 2
_NOISE: Final = 4 / 255
_GRID: Final = 16
_SHOWN: Final = 5
_TRANSPARENT: Final = ("_orig_mod", "module")
"""Where `torch.compile` and data parallelism keep the network that they surround."""


@dataclass(frozen=True, kw_only=True)
class StoredProbe:
    """Outputs of a network on one image with a fixed noise added.

    Attributes:
        sample_id: position of the image in the data set.
        sample_digest: see `LoadedSample.digest`.
        logits: `(K, h, w)` float32, at no more than 16 x 16 positions of the image; None where two passes differ even
            if torch's generator starts at the same seed.
        gradient: `(C, h, w)` float32 at the same positions, of a fixed linear function of all logits with respect to
            the image; zero where it is cut. None for random networks, and where the backward pass raises.
        rounding: relative rounding error (`torch.finfo`) of the coarsest floating-point tensor that the passes store;
            0 where a compiled network does not show it.
        drawn_with: empty for a function of the image. For a random network, device, version of torch and compilation,
            on which the draws of a seed depend: its logits are compared only where these are equal.
    """

    sample_id: int
    sample_digest: str
    logits: np.ndarray | None
    gradient: np.ndarray | None
    rounding: float
    drawn_with: str


@dataclass(frozen=True, kw_only=True)
class NetworkIdentity:
    """What a network is beside its weights, kept as `network.json` of a run directory.

    `torch.compile` and data parallelism around a network or its parts leave no trace here.

    Attributes:
        modules: by name in the network, class path and settings (`extra_repr`) of each module.
        buffers: by name, digest of the buffers that are no weights; those that a forward pass changes are left out.
        versions: of the packages that the classes are from, by package.
        probes: what the network computes.
        schema: version of this format.
    """

    modules: Mapping[str, str]
    buffers: Mapping[str, str]
    versions: Mapping[str, str]
    probes: tuple[StoredProbe, ...]
    schema: int = NETWORK_SCHEMA

    @classmethod
    def of(cls, network: nn.Module, samples: Sequence[LoadedSample]) -> Self:
        """The identity of a network, by two forward passes and one backward pass on each sample."""
        before = _buffers(network)
        probes = tuple(probe for sample in samples if (probe := _probe(network, sample)) is not None)
        after = _buffers(network)
        return cls(
            modules={name: _describe(module) for name, module in _modules(network)},
            buffers={name: digest for name, digest in after.items() if before.get(name) == digest},
            versions=_versions(network),
            probes=probes,
        )

    def find_conflicts(self, newer: Self) -> list[str]:
        """In what way a network is not this one; empty where it is.

        Settings of a package's modules are not compared where the package has another version now, because versions
        print them differently; the probe shows whether their outputs agree. Probes are compared if the images are the
        same.
        """
        conflicts = [*self._module_conflicts(newer), *self._buffer_conflicts(newer)]
        others = {(probe.sample_id, probe.sample_digest): probe for probe in newer.probes}
        for probe in self.probes:
            other = others.get((probe.sample_id, probe.sample_digest))
            if other is not None:
                conflicts += _compare(probe, other)
        return conflicts

    def _module_conflicts(self, newer: Self) -> list[str]:
        updated = {name for name, version in self.versions.items() if newer.versions.get(name, version) != version}

        def is_comparable(text: str) -> bool:
            return text.split(".", 1)[0] not in updated

        names = [name for name in {**self.modules, **newer.modules} if _differ(self.modules, newer.modules, name)]
        names = [
            name
            for name in names
            if all(is_comparable(modules.get(name, "")) for modules in (self.modules, newer.modules))
        ]
        lines = [
            f"module {name or '(the network itself)'}: {self.modules.get(name, 'none')} there, "
            f"{newer.modules.get(name, 'none')} now"
            for name in names[:_SHOWN]
        ]
        return [*lines, f"and {len(names) - _SHOWN} modules more"] if len(names) > _SHOWN else lines

    def _buffer_conflicts(self, newer: Self) -> list[str]:
        differing = [name for name in self.buffers if self.buffers[name] != newer.buffers.get(name, self.buffers[name])]
        return [f"buffers that are no weights: {', '.join(differing[:_SHOWN])} differ"] if differing else []

    def write(self, path: Path) -> None:
        """Writes the file in one step.

        Raises:
            OSError: the folder cannot be written.
        """
        write_json(path, {**asdict(self), "probes": [_to_json(probe) for probe in self.probes]})

    @classmethod
    def read(cls, path: Path) -> Self:
        """The inverse of `write`.

        Raises:
            OSError: the file cannot be opened.
            DataFault: it is no such file of this schema, or damaged.
        """
        data = read_document(path, "a description of a network")
        if not isinstance(data, dict) or data.get("schema") != NETWORK_SCHEMA:
            raise DataFault(
                f"{path} is no description of a network of schema {NETWORK_SCHEMA}; use another run directory"
            )
        try:
            return cls(**read_fields(data, _READERS))
        except ValueError as error:
            raise DataFault(f"{path} is damaged: {error}; use another run directory") from error


def examine_network(path: Path, network: nn.Module, dataset: SampleSource, samples: Sequence[int]) -> NetworkIdentity:
    """What a network is, to be written to `path`; refuses one that is not the one of an earlier command.

    Args:
        path: the file `network.json`.
        network: what is attacked.
        dataset: the samples.
        samples: positions of the samples to evaluate; the first two that can be read are the probe of a new run.

    Returns:
        The identity of the earlier command, or the new one where there is none or its images changed.

    Raises:
        ValueError: the network is another one; the message says in what, and what to do.
    """
    older = NetworkIdentity.read(path) if path.exists() else None
    wanted = samples if older is None else (*(probe.sample_id for probe in older.probes), *samples)
    read = _first_readable(dataset, wanted, _PROBES)
    newer = NetworkIdentity.of(network, read)
    if older is None:
        return newer
    conflicts = older.find_conflicts(newer)
    if conflicts:
        raise ValueError(
            "\n".join(
                (
                    f"{path.parent} holds results of a network with the same weights that is another function:",
                    *(f"  {visible(conflict)}" for conflict in conflicts),
                    "use another run directory, or the network as it was",
                )
            )
        )
    digests = {sample.sample_id: sample.digest for sample in read}
    is_changed = any(digests.get(probe.sample_id, probe.sample_digest) != probe.sample_digest for probe in older.probes)
    return newer if is_changed else older


def _first_readable(dataset: SampleSource, ids: Sequence[int], num: int) -> list[LoadedSample]:
    """The first samples that can be read."""
    found: dict[int, LoadedSample] = {}
    for index in ids:
        if len(found) == num:
            break
        if index in found or index >= len(dataset):
            continue
        try:
            found[index] = load_sample(dataset, index)
        except (OSError, ValueError):
            continue
    return list(found.values())


def _modules(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """All modules by name, without what compiles them or runs them in parallel."""
    network = _innermost(network)
    yield name, network
    for child_name, child in network.named_children():
        yield from _modules(child, f"{name}.{child_name}" if name else child_name)


def _innermost(module: nn.Module) -> nn.Module:
    """A module without what compiles it or runs it in parallel."""
    while (inner := _surrounded(module)) is not None:
        module = inner
    return module


def _surrounded(module: nn.Module) -> nn.Module | None:
    """The network inside a module of torch that compiles it or runs it in parallel."""
    path = f"{type(module).__module__}.{type(module).__qualname__}"
    if not path.startswith(("torch._dynamo.", "torch.nn.parallel.", "torch.distributed.")):
        return None
    inner = (getattr(module, name, None) for name in _TRANSPARENT)
    return next((each for each in inner if isinstance(each, nn.Module)), None)


def _describe(module: nn.Module) -> str:
    kind = type(module)
    # A class of a script has another module's name where the script is imported.
    path = kind.__qualname__ if kind.__module__ == "__main__" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{path}({module.extra_repr()})"


def _differ(older: Mapping[str, str], newer: Mapping[str, str], name: str) -> bool:
    """Whether a module differs; a class of a script is the same under the name of the script's module."""
    there, now = older.get(name), newer.get(name)
    if there is None or now is None or there == now:
        return there != now
    (a, _, a_settings), (b, _, b_settings) = (description.partition("(") for description in (there, now))
    return a_settings != b_settings or not (a.endswith(f".{b}") or b.endswith(f".{a}"))


def _versions(network: nn.Module) -> dict[str, str]:
    packages = {type(module).__module__.split(".")[0] for _, module in _modules(network)}
    versions = {name: getattr(sys.modules.get(name), "__version__", "") for name in sorted(packages)}
    return {name: str(version) for name, version in versions.items()}


def _buffers(network: nn.Module) -> dict[str, str]:
    """Digests of the buffers that are not among the weights, in float64 so that the precision does not count."""
    found = {}
    for name, module in _modules(network):
        persistent = module.state_dict(keep_vars=True)
        for key, buffer in module.named_buffers(recurse=False):
            if key not in persistent:
                value = buffer.detach().cpu()
                value = value.double() if value.is_floating_point() else value
                content = value.reshape(-1).contiguous().view(torch.uint8).numpy()
                found[f"{name}.{key}" if name else key] = hashlib.sha256(content.tobytes()).hexdigest()[:16]
    return found


def _probe(network: nn.Module, sample: LoadedSample) -> StoredProbe | None:
    """The outputs of a network on a sample; None if it raises: the evaluation reports errors of single images.

    Noise is added because a defence that rounds images leaves those of 8 bits as they are. The gradient is compared
    too, because attacks follow it, and a defence may cut it without a change of the logits.
    """
    noise = _fixed_noise(sample.image.shape)
    image = (sample.image.cpu().float() + _NOISE * noise).clamp(0, 1)
    device = device_of(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), attackable(network):
        images = image[None].to(device, precision_of(network))
        try:
            with _noted_rounding(network) as rounding:
                first, gradient = _pass(network, images, seed=0, differentiable=True)
            tolerance, _ = _tolerances(max(rounding, default=0.0))
            second, _ = _pass(network, images, seed=1)
            is_random = not spread_difference(first, second) <= tolerance
            again = _pass(network, images, seed=0)[0] if is_random else first
        except Exception:  # errors of single images are recorded by the evaluation
            return None
    is_repeatable = spread_difference(first, again) <= tolerance
    return StoredProbe(
        sample_id=sample.sample_id,
        sample_digest=sample.digest,
        logits=first.numpy() if is_repeatable else None,
        gradient=None if is_random or gradient is None else gradient.numpy(),
        rounding=max(rounding, default=0.0),
        drawn_with=_conditions(network) if is_random else "",
    )


def _fixed_noise(shape: torch.Size) -> Tensor:
    """The same float32 numbers in [-1, 1] on every device, whatever torch's default type."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1


@contextmanager
def _noted_rounding(network: nn.Module) -> Iterator[set[float]]:
    """The rounding errors of the types of floating-point tensors that are stored for a backward pass inside."""
    found: set[float] = set()

    def note(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            found.add(torch.finfo(tensor.dtype).eps)
        return tensor

    if _is_compiled(network):
        yield found
        return
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield found


def _tolerances(rounding: float) -> tuple[float, float]:
    """Allowed differences of logits and of gradients."""
    logits, gradients = _ROUNDINGS
    return max(PROBE_TOLERANCE, logits * rounding), max(GRADIENT_TOLERANCE, gradients * rounding)


def _pass(
    network: nn.Module, images: Tensor, *, seed: int, differentiable: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Logits and, if it is asked for and can be had, gradient of one image `(1, C, H, W)`, on the grid."""
    torch.default_generator.manual_seed(seed)
    if images.is_cuda:
        torch.cuda.default_generators[images.get_device()].manual_seed(seed)
    oracle = NetworkOracle(network, images)
    logits = oracle.logits(torch.zeros_like(images), differentiable=differentiable)
    if not differentiable:
        return _on_grid(logits[0]), None
    weights = _fixed_noise(logits.shape)
    try:
        gradient = oracle.pullback(weights.to(logits))[0]
    except ValueError:  # a graph without the image
        gradient = torch.zeros_like(images[0])
    except RuntimeError:  # too little memory, or an operation without derivative
        return _on_grid(logits[0]), None
    return _on_grid(logits[0]), _on_grid(gradient)


def _conditions(network: nn.Module) -> str:
    """On what the draws of a seed depend."""
    compiled = ", compiled" if _is_compiled(network) else ""
    return f"{device_name(device_of(network))}, torch {torch.__version__}{compiled}"


def _is_compiled(network: nn.Module) -> bool:
    """Whether a part is compiled, or runs in parallel."""
    return any(module is not _innermost(module) or module._compiled_call_impl for module in network.modules())


def _on_grid(logits: Tensor) -> Tensor:
    """`(K, H, W)` at no more than 16 x 16 positions, evenly spaced, float32 on the CPU."""
    rows, columns = (torch.linspace(0, size - 1, min(size, _GRID)).round().long() for size in logits.shape[1:])
    return logits.detach().float().cpu()[:, rows][:, :, columns].contiguous()


def spread_difference(there: Tensor, now: Tensor) -> float:
    """Largest difference of logits in standard deviations of the first; inf where only one is finite."""
    finite = there.isfinite()
    if there.shape != now.shape or not torch.equal(finite, now.isfinite()):
        return math.inf
    if not torch.equal(there[~finite].nan_to_num(nan=0.5), now[~finite].nan_to_num(nan=0.5)):
        return math.inf
    difference = (there[finite].double() - now[finite].double()).abs()
    if not difference.numel() or not difference.max():
        return 0.0
    spread = there[finite].double().std(correction=0)
    return float(difference.max() / spread) if spread else math.inf


def _compare(older: StoredProbe, newer: StoredProbe) -> list[str]:
    """What contradicts in two probes on one image."""
    where = f"on the probe (image {older.sample_id})"
    if bool(older.drawn_with) != bool(newer.drawn_with):
        was, is_ = ("random", "a function") if older.drawn_with else ("a function", "random")
        return [f"the network was {was} and is {is_} {where}"]
    if older.drawn_with != newer.drawn_with or older.logits is None or newer.logits is None:
        return []
    if older.logits.shape != newer.logits.shape:
        return [f"the network has {newer.logits.shape[0]} classes {where}, {older.logits.shape[0]} there"]
    known = [probe.rounding for probe in (older, newer) if probe.rounding]
    allowed, allowed_gradient = _tolerances(min(known, default=0.0))
    difference = spread_difference(torch.from_numpy(older.logits), torch.from_numpy(newer.logits))
    if not difference <= allowed:
        return [
            f"the network's logits differ {where}: largest difference {difference:.3g} of their standard deviation, "
            f"allowed {allowed:g}"
        ]
    if older.gradient is None or newer.gradient is None:
        return []
    difference = gradient_difference(torch.from_numpy(older.gradient), torch.from_numpy(newer.gradient))
    if not difference <= allowed_gradient:
        return [
            f"the network's gradients differ {where}: by {difference:.3g} of their norm, allowed {allowed_gradient:g}"
        ]
    return []


def gradient_difference(there: Tensor, now: Tensor) -> float:
    """Norm of the difference of two gradients over the larger of their norms; inf where only one is finite."""
    if there.shape != now.shape or not torch.equal(there.isfinite(), now.isfinite()):
        return math.inf
    a, b = (each.double().nan_to_num(0, 0, 0) for each in (there, now))
    largest = max(a.norm().item(), b.norm().item())
    return (a - b).norm().item() / largest if largest else 0.0


def _to_json(probe: StoredProbe) -> dict[str, object]:
    return {**asdict(probe), "logits": _encoded(probe.logits), "gradient": _encoded(probe.gradient)}


def _encoded(values: np.ndarray | None) -> dict[str, object] | None:
    if values is None:
        return None
    return {"shape": list(values.shape), "float32": b64encode(values.astype("<f4").tobytes()).decode()}


def _read_probe(value: object) -> StoredProbe:
    found = StoredProbe(**read_fields(value, _PROBE))
    if found.logits is None and found.gradient is not None:
        raise ValueError("must have logits where it has a gradient")
    return found


def _read_values(value: object) -> np.ndarray:
    found = read_fields(value, {"shape": list_of(whole(1, 2**16), least=3, most=3), "float32": text(2**24)})
    try:
        content = b64decode(found["float32"], validate=True)
    except ValueError as error:
        raise ValueError(f"must be in base64: {error}") from error
    if len(content) != 4 * math.prod(found["shape"]):
        raise ValueError(f"must be 4 bytes for each value of shape {shortened(found['shape'])}, got {len(content)}")
    return np.frombuffer(content, "<f4").astype(np.float32).reshape(found["shape"])


_PROBE: Final = {
    "sample_id": whole(),
    "sample_digest": text(256),
    "logits": optional(_read_values),
    "gradient": optional(_read_values),
    "rounding": number(0, 1),
    "drawn_with": text(),
}
_READERS: Final = {
    **dict.fromkeys(("modules", "buffers", "versions"), mapping_of(text())),
    "probes": list_of(_read_probe, most=_PROBES),
    "schema": whole(NETWORK_SCHEMA, NETWORK_SCHEMA),
}
