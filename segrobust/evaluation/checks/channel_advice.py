"""Networks with other channels than the data have classes: the line to write, by the mIoU of each choice."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from segrobust.evaluation.dataset import SampleSource, load_sample
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.functional.modes import attackable
from segrobust.metrics import SegmentationConfusion
from segrobust.networks.channels import with_background

_IMAGES = 4
_MOST_EXTRA = 8
"""Channels beside those of the classes; with more, network and data do not belong together."""


def advise_channels(
    network: nn.Module, dataset: SampleSource, sample_ids: Sequence[int], *, num_classes: int, ignore_index: int
) -> str:
    """What to write for a network with up to eight channels too many, or one too few; empty where nothing fits.

    Consecutive channels are tried as the classes, and sigmoids without a channel of the background. One forward on each
    of four images.

    Args:
        network: maps images in [0, 1] to logits `(B, L, H, W)`.
        dataset: see `SampleSource`.
        sample_ids: positions of images.
        num_classes: number K of classes of the data; not L.
        ignore_index: label of void pixels.
    """
    device = device_of(network)
    found: dict[str, SegmentationConfusion] = {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []), attackable(network), torch.no_grad():
        for number, sample_id in enumerate(sample_ids[:_IMAGES]):
            try:
                sample = load_sample(dataset, sample_id)
            except (OSError, ValueError):
                continue
            logits = network(sample.image[None].to(device, precision_of(network), copy=True)).cpu()
            for line, chosen in _choices(logits, num_classes):
                confusion = found.setdefault(line, SegmentationConfusion(num_classes, ignore_index))
                confusion.update(chosen.argmax(1), sample.mask[None].cpu(), torch.tensor([number]))
    if not found:
        return ""
    scores = {line: 100 * confusion.compute().miou for line, confusion in found.items()}
    ranked = sorted(scores, key=lambda line: -scores[line])
    shown = ", ".join(f"{line} gives mIoU {scores[line]:.1f}" for line in ranked[:3])
    return f"on the first images, {shown} (from segrobust.networks; in YAML, channels is a list)"


def _choices(logits: Tensor, num_classes: int) -> Iterator[tuple[str, Tensor]]:
    """Lines to write, and the logits `(1, K, H, W)` that they give."""
    extra = logits.shape[1] - num_classes
    if extra == -1:
        yield "SigmoidClasses(network)", with_background(logits)
    for first in range(extra + 1 if 0 < extra <= _MOST_EXTRA else 0):
        last = first + num_classes
        yield f"ClassOrder(network, channels=range({first}, {last}))", logits[:, first:last]
