"""Records what attacks of adv-lib 0.2.8 do on small networks, for `tests/attacks/test_reference_trajectories.py`.

Run once; the files name the version. Each holds a network's weights, 8-bit images, labels, targets, and for each
recorded attack the l1 and l2 norms of each image's perturbation at the first 20 iterates, whatever the attack's own
norm, nan once an image has stopped: for an iterate on a sphere, the other norm depends on the direction.

Attacks for segmentation run on a 3x3 convolution with void pixels; PDPGD on the same with steep logits, because on the
others its norm keeps it at zero for more steps than are recorded. Attacks that adv-lib has for classification only run
on images of one pixel and many channels, of which a segmentation network is a classifier. FMN's first-order distances
are Newton steps, which may end on a boundary to the last bit, and then rounding decides about success: such images are
left out.

    python -m benchmarks.make_attack_fixtures
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.advlib import VERSION, CalledBefore, published_dag, published_pdpgd
from benchmarks.make_alma_prox_fixture import NUM_CLASSES, NUM_IMAGES, NUM_VOID_ROWS, grey_images, small_network

FOLDER = Path(__file__).parents[1] / "tests" / "fixtures" / "attacks_advlib"
STEPS, TRACED = 40, 20  # schedules move within what is recorded
STEEPNESS = 1024
CHANNELS, HIDDEN = 48, 16
DECIDED = 1e-6  # gap of logits from which on rounding decides nothing
LINF = float("inf")
ALPHA, GAMMA = "\u03b1", "\u03b3"  # adv-lib spells its arguments in Greek


@dataclass(frozen=True)
class Recording:
    """One attack to record.

    Args:
        attack: the published function.
        settings: its keyword arguments.
        targeted: whether it is given the targets.
    """

    attack: Callable[..., Tensor]
    settings: dict[str, Any]
    targeted: bool = False


def segmentation_recordings() -> dict[str, Recording]:
    """Attacks that take `(network, images, labels, masks=)`."""
    dag = published_dag()
    linf: dict[str, Any] = {"p": LINF, GAMMA: 3e-3, "max_iter": STEPS}
    l2: dict[str, Any] = {"p": 2, GAMMA: 0.015, "max_iter": STEPS}
    return {
        "dag_linf": Recording(dag, linf),
        "dag_l2": Recording(dag, l2),
        "dag_l2_stops": Recording(dag, l2 | {GAMMA: 0.05}),
        "dag_linf_targeted": Recording(dag, linf, targeted=True),
    }


def saturated_recordings() -> dict[str, Recording]:
    """The same where the box binds."""
    return {name: recording for name, recording in segmentation_recordings().items() if not recording.targeted}


def steep_recordings() -> dict[str, Recording]:
    """The same on steep logits."""
    settings: dict[str, Any] = {"num_steps": STEPS, "primal_lr": 0.01}
    pdpgd = published_pdpgd()
    return {
        "pdpgd_linf": Recording(pdpgd, settings | {"norm": LINF}),
        "pdpgd_l2": Recording(pdpgd, settings | {"norm": 2}),
        "pdpgd_l1": Recording(pdpgd, settings | {"norm": 1}),
        "pdpgd_l2_targeted": Recording(pdpgd, settings | {"norm": 2}, targeted=True),
    }


def classification_recordings() -> dict[str, Recording]:
    """Attacks that take `(network, images, labels)` with logits `(B, K)`."""
    advlib = importlib.import_module("adv_lib.attacks")
    fmn, ddn = advlib.fmn, advlib.ddn
    linf: dict[str, Any] = {"norm": LINF, "steps": STEPS, f"{ALPHA}_init": 10}
    l2: dict[str, Any] = {"norm": 2, "steps": STEPS, f"{ALPHA}_init": 1}
    l1: dict[str, Any] = {"norm": 1, "steps": STEPS, f"{ALPHA}_init": 1}
    ddn_settings: dict[str, Any] = {"steps": STEPS, "levels": None}
    return {
        "fmn_linf": Recording(fmn, linf),
        "fmn_l2": Recording(fmn, l2),
        "fmn_l1": Recording(fmn, l1),
        "fmn_linf_targeted": Recording(fmn, linf, targeted=True),
        "fmn_l2_short_steps": Recording(fmn, l2 | {f"{ALPHA}_init": 0.01}),
        "ddn": Recording(ddn, ddn_settings),
        "ddn_8_bits": Recording(ddn, ddn_settings | {"levels": 256}),
        "ddn_targeted": Recording(ddn, ddn_settings | {"init_norm": 0.0625}, targeted=True),
    }


def saturated(pixels: Tensor) -> Tensor:
    """Images with a first channel one or two of 255 levels off black or white.

    Exactly there, the gradient of the clamp that the released code differentiates depends on torch's version.
    """
    generator = torch.Generator().manual_seed(3)
    level = 1 + torch.randint(2, pixels[:, 0].shape, generator=generator)
    white = torch.rand(level.shape, generator=generator) < 0.5
    return torch.cat([torch.where(white, 255 - level, level).byte()[:, None], pixels[:, 1:]], 1)


def steep_network() -> nn.Conv2d:
    """The small network with all logits times a power of two: the same classes."""
    network = small_network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(STEEPNESS)
    return network


def one_pixel_network() -> nn.Sequential:
    """A network of two layers for images `(B, 48, 1, 1)`."""
    torch.manual_seed(2)
    first, second = nn.Conv2d(CHANNELS, HIDDEN, 1), nn.Conv2d(HIDDEN, NUM_CLASSES, 1)
    first.weight.data *= 4  # curved within the perturbations
    first.bias = nn.Parameter(-0.5 * first.weight.detach().sum((1, 2, 3)))  # mid-grey is in the middle of the tanh
    return nn.Sequential(first, nn.Tanh(), second).eval().requires_grad_(False)


def one_pixel_images() -> Tensor:
    """8-bit noise around mid-grey, `(5 N, 48, 1, 1)` uint8; a third of the channels black or white: the box binds."""
    images = 0.5 + 0.06 * torch.randn(5 * NUM_IMAGES, CHANNELS, 1, 1)
    images[:, : CHANNELS // 3] = images[:, : CHANNELS // 3].round()
    return (255 * images).round().byte()


def trace(
    recording: Recording, network: nn.Module, images: Tensor, references: Tensor, **masks: Tensor
) -> tuple[Tensor, Tensor]:
    """What an attack did with each image alone.

    Returns:
        l1 and l2 norms `(N, TRACED, 2)` of the first iterates, nan where there were fewer; and `(N,)` the smallest gap
        between the two largest logits of a pixel.
    """
    norms = torch.full((len(images), TRACED, 2), torch.nan, dtype=images.dtype)
    gaps = torch.empty(len(images), dtype=images.dtype)
    for i in range(len(images)):
        one = slice(i, i + 1)
        iterates: list[Tensor] = []
        recorded = CalledBefore(network, lambda adv, seen=iterates: seen.append(adv.detach()))  # type: ignore[misc]
        chosen = {name: mask[one] for name, mask in masks.items()}
        recording.attack(
            recorded, images[one], references[one], targeted=recording.targeted, **chosen, **recording.settings
        )
        first = torch.cat(iterates[:TRACED])
        deltas = (first - images[one]).flatten(1)
        norms[i, : len(deltas)] = torch.stack([torch.linalg.vector_norm(deltas, ord=p, dim=1) for p in (1, 2)], 1)
        gaps[i] = -network(first).topk(2, dim=1).values.diff(dim=1).amax()
    return norms, gaps


def main(folder: Path = FOLDER) -> None:
    """Writes the fixtures.

    Args:
        folder: where to.
    """
    torch.set_num_threads(1)
    network, grey = small_network(), grey_images()
    for kind, attacked, pixels, recordings in (
        ("segmentation", network.double(), grey, segmentation_recordings()),
        ("saturated", network.double(), saturated(grey), saturated_recordings()),
        ("steep", steep_network().double(), grey, steep_recordings()),
    ):
        images = pixels.double() / 255
        labels = network(images).argmax(1)
        labels[:, :NUM_VOID_ROWS] = 255
        targets = torch.where(labels == 255, labels, (labels + 1) % NUM_CLASSES)
        norms = {
            name: trace(recording, attacked, images, targets if recording.targeted else labels, masks=labels != 255)[0]
            for name, recording in recordings.items()
        }
        _save(folder / f"{kind}.safetensors", attacked, pixels, labels, targets, norms)

    classifier, pixels = one_pixel_network(), one_pixel_images()
    images = pixels.double() / 255
    labels = classifier.double()(images).argmax(1)
    targets = (labels + 1) % NUM_CLASSES
    flat = nn.Sequential(classifier, nn.Flatten())
    traces = {
        name: trace(recording, flat, images, (targets if recording.targeted else labels).flatten())
        for name, recording in classification_recordings().items()
    }
    chosen = torch.stack([gaps for _, gaps in traces.values()]).amin(0).gt(DECIDED).nonzero()[:NUM_IMAGES, 0]
    norms = {name: values[chosen] for name, (values, _) in traces.items()}
    _save(folder / "classification.safetensors", classifier, pixels[chosen], labels[chosen], targets[chosen], norms)


def _save(
    path: Path, network: nn.Module, pixels: Tensor, labels: Tensor, targets: Tensor, norms: dict[str, Tensor]
) -> None:
    tensors = {f"network.{name}": weight.float() for name, weight in network.state_dict().items()}
    tensors |= {"images": pixels, "labels": labels.byte(), "targets": targets.byte()}
    tensors |= {f"norms.{name}": values for name, values in norms.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"adv-lib": VERSION, "torch": torch.__version__, "num_steps": str(STEPS)})
    for name, values in norms.items():
        print(f"{path.stem}/{name}: {[round(value, 5) for value in values[0, :, 1].tolist()]}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
