"""Minimal norms of one Mask2Former through its logs, its published scores, and the clamped logarithm of these.

python -m benchmarks.queries.norms --images 40
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segrobust.attacks import LagrangianFMN, Untargeted
from segrobust.data import SyntheticScenes
from segrobust.networks import HuggingFaceNetwork, QueryNetwork

FOLDER = Path(__file__).parent / "mask2former"
SIZE = (64, 96)
CLAMP = 1e-6


class Scores(nn.Module):
    """The sum over queries of products of probabilities, in the place of its logarithm.

    Args:
        network: gives class and mask logits of queries.
        clamped: take the logarithm after a clamp from below.
    """

    def __init__(self, network: nn.Module, clamped: bool) -> None:
        super().__init__()
        self.network = network
        self.clamped = clamped

    def forward(self, images: Tensor) -> Tensor:
        """Gives scores at the size of the images: `(B, C, H, W) -> (B, K, H, W)`."""
        output = self.network(images)
        masks = F.interpolate(output.masks_queries_logits, size=images.shape[2:], mode="bilinear")
        classes = output.class_queries_logits.softmax(-1)[..., :-1]
        scores = torch.einsum("bqk,bqhw->bkhw", classes, masks.sigmoid())
        return scores.clamp_min(CLAMP).log() if self.clamped else scores


def make_ways(scale: float) -> dict[str, nn.Module]:
    """The network's three outputs; `scale` multiplies its class and mask logits."""
    ways: dict[str, nn.Module] = {}
    for name in ("logs", "scores", "clamped logarithm"):
        network = HuggingFaceNetwork(str(FOLDER)).eval().requires_grad_(False)
        place: Any = next(module for module in network.modules() if _holds_queries(module))
        inner = Scaled(place.network.network, scale)
        place.network = QueryNetwork(inner) if name == "logs" else Scores(inner, clamped=name != "scores")
        ways[name] = network
    return ways


def _holds_queries(module: nn.Module) -> bool:
    return isinstance(getattr(module, "network", None), QueryNetwork)


class Scaled(nn.Module):
    """A network whose class and mask logits are multiplied, as those of a longer training are."""

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(self, images: Tensor) -> object:
        """Gives the output of the network, scaled."""
        output = self.network(images)
        output.class_queries_logits = self.scale * output.class_queries_logits
        output.masks_queries_logits = self.scale * output.masks_queries_logits
        return output


def main() -> None:
    """Prints for each way its failures, its norms, and the pixels that are wrong and unbroken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--passes", type=int, default=50)
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scenes = SyntheticScenes(arguments.images, split="val", size=SIZE)
    samples = [scenes[index] for index in range(arguments.images)]
    images = torch.stack([sample["image"] for sample in samples])
    labels = torch.stack([sample["mask"] for sample in samples])
    valid = labels != 255
    criterion = Untargeted()
    attack = LagrangianFMN(num_passes=arguments.passes, criterion=criterion)
    print(f"{' '.join(sys.argv[1:])}; torch {torch.__version__}, CPU", flush=True)
    norms: dict[str, list[float]] = {}
    for name, network in make_ways(arguments.scale).items():
        found: list[float] = []
        wrong = right = 0
        for first in range(0, arguments.images, 10):
            rows = slice(first, first + 10)
            result = attack(network, images[rows], labels[rows], ignore_index=255)
            found += [float(norm) if ok else math.inf for norm, ok in zip(result.norm, result.success, strict=True)]
            with torch.no_grad():
                clean, moved = network(images[rows]), network(result.adv)
            own = moved.gather(1, labels[rows].clamp_max(moved.shape[1] - 1)[:, None])[:, 0]
            others = moved.scatter(1, labels[rows].clamp_max(moved.shape[1] - 1)[:, None], -math.inf).amax(1)
            wrong += int(((moved.argmax(1) != labels[rows]) & ~(own < others) & valid[rows]).sum())
            right += int(((clean.argmax(1) == labels[rows]) & valid[rows]).sum())
        norms[name] = found
        failures = sum(map(math.isinf, found))
        print(
            f"{name}: accuracy {right / int(valid.sum()):.3f}, {failures} of {len(found)} failures, geometric mean "
            f"{mean(found):.3f}/255, median {255 * sorted(found)[len(found) // 2]:.3f}/255, {wrong} pixels wrong and "
            "unbroken",
            flush=True,
        )
    for name in list(norms)[1:]:
        pairs = [(a, b) for a, b in zip(norms["logs"], norms[name], strict=True) if max(a, b) < math.inf]
        ours, theirs = zip(*pairs, strict=True)
        print(f"logs over {name}, on {len(pairs)} images that both break: {mean(ours) / mean(theirs):.3f}", flush=True)


def mean(norms: "list[float] | tuple[float, ...]") -> float:
    """Geometric mean, in units of 1/255; infinite if one is."""
    return 255 * math.exp(sum(math.log(norm) for norm in norms) / len(norms)) if max(norms) < math.inf else math.inf


if __name__ == "__main__":
    main()
