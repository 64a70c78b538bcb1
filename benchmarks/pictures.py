"""Draws the pictures of the documentation that show how attacks work, on generated scenes and the demo network.

python -m benchmarks.pictures docs/images
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.camvid import demo_network
from segrobust.attacks import FGSM, PGD, AlmaProx, AnnealedPGD, LagrangianFMN
from segrobust.attacks.core.attack import Attack
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.core.tracker import Iterate
from segrobust.data import SyntheticScenes

COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44")
IGNORE_INDEX = 255


@dataclass
class Trace:
    """What an attack saw on its way.

    Attributes:
        norms: of each iterate, x/255.
        shares: of broken pixels at each iterate, percent.
        states: of the attack after each iterate.
    """

    norms: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)

    def smallest(self) -> list[float]:
        """The smallest norm of a success so far, at each iterate; `inf` before the first."""
        found, so_far = [], float("inf")
        for norm, share in zip(self.norms, self.shares, strict=True):
            so_far = min(so_far, norm) if share >= 99 else so_far
            found.append(so_far)
        return found


def traced(attack: AlmaProx | LagrangianFMN, network: nn.Module, image: Tensor, labels: Tensor) -> Trace:
    """Runs an attack on one image, and writes down each iterate."""
    trace = Trace()

    class Traced(type(attack)):  # type: ignore[misc]
        def observe(self, problem: Problem, iterate: Iterate, state: object) -> object:
            trace.norms.append(iterate.norm.item() * 255)
            trace.shares.append(100 * iterate.num_broken.item() / int(problem.valid_mask.sum()))
            trace.states.append(super().observe(problem, iterate, state))
            return trace.states[-1]

    Traced(**vars(attack))(network, image, labels, ignore_index=IGNORE_INDEX)
    return trace


def searches(network: nn.Module, image: Tensor, labels: Tensor) -> Figure:
    """The norms of the iterates of ALMA-prox and of Lagrangian FMN, and the smallest success so far."""
    figure: Figure
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    contestants: dict[str, AlmaProx | LagrangianFMN] = {
        "ALMA-prox, 500 steps": AlmaProx(),
        "Lagrangian FMN, 100 passes": LagrangianFMN(),
    }
    for (name, attack), axis, color in zip(contestants.items(), axes, COLORS, strict=False):
        trace = traced(attack, network, image, labels)
        axis.plot(trace.norms, color=color, alpha=0.4, linewidth=1, label="iterate")
        axis.plot(trace.smallest(), color=color, linewidth=2, label="smallest norm that breaks the image")
        axis.set(title=f"{name}: {trace.smallest()[-1]:.2f}/255", xlabel="pass", yscale="log")
        _dress(axis)
    axes[0].set_ylabel("l_inf norm, x/255")
    return figure


def multipliers(network: nn.Module, image: Tensor, labels: Tensor) -> Figure:
    """An image, its margins, and the weights that Lagrangian FMN gives its pixels in the end."""
    trace = traced(LagrangianFMN(), network, image, labels)
    with torch.no_grad():
        logits = network(image)[0]
    safe = labels[0].clamp_max(len(logits) - 1)[None]
    others = logits.scatter(0, safe, -torch.inf).amax(0)
    margin = (logits.gather(0, safe)[0] - others).masked_fill(labels[0] == IGNORE_INDEX, torch.nan)
    weight = trace.states[-1].weights[0].masked_fill(labels[0] == IGNORE_INDEX, torch.nan)
    figure: Figure
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
    axes[0].imshow(image[0].permute(1, 2, 0))
    axes[0].set_title("image")
    shown = {"margin of each pixel, without attack": margin, "weight of each pixel after 100 passes": weight.log10()}
    for axis, (name, values) in zip(axes[1:], shown.items(), strict=True):
        drawn = axis.imshow(values, cmap="viridis")
        axis.set_title(name)
        bar = figure.colorbar(drawn, ax=axis, shrink=0.8)
        bar.set_label("logits" if values is margin else "powers of 10")
    for axis in axes:
        axis.set_axis_off()
    return figure


def bounds(network: nn.Module, images: Tensor, labels: Tensor) -> Figure:
    """Accuracy against the radius under attacks of increasing strength, and the share of images that are broken."""
    figure: Figure
    figure, axis = plt.subplots(figsize=(6, 3.6), layout="constrained")
    radii = [0.0, 0.25, 0.5, 1, 1.5, 2, 3, 4]
    attacks: dict[str, Attack] = {
        "FGSM, 1 step": FGSM(),
        "PGD, 10 steps": PGD(num_steps=10),
        "AnnealedPGD, 50 passes": AnnealedPGD(),
    }
    for (name, attack), color in zip(attacks.items(), COLORS, strict=False):
        left = [_accuracy(network, attack, images, labels, radius / 255) for radius in radii]
        axis.plot(radii, left, color=color, marker="o", markersize=4, label=name)
    axis.set(xlabel="radius, x/255", ylabel="accuracy of pixels, %", ylim=(0, 100))
    _dress(axis)
    return figure


def _accuracy(network: nn.Module, attack: Attack, images: Tensor, labels: Tensor, eps: float) -> float:
    valid = labels != IGNORE_INDEX
    if eps > 0:
        images = attack.adversarial_images(network, images, labels, ignore_index=IGNORE_INDEX, eps=eps)
    with torch.no_grad():
        right: float = (network(images).argmax(1) == labels)[valid].double().mean().item()
    return 100 * right


def _dress(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draws all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    network = demo_network()
    scenes = [SyntheticScenes(4, split="val")[index] for index in range(4)]
    images = torch.stack([scene["image"] for scene in scenes])
    labels = torch.stack([scene["mask"] for scene in scenes])
    drawings: dict[str, Callable[[nn.Module, Tensor, Tensor], Figure]] = {
        "searches": lambda *_: searches(network, images[:1], labels[:1]),
        "weights": lambda *_: multipliers(network, images[:1], labels[:1]),
        "bounds": bounds,
    }
    for name, draw in drawings.items():
        draw(network, images, labels).savefig(folder / f"{name}.png", dpi=110)


if __name__ == "__main__":
    main()
