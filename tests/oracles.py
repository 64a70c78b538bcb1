"""Exact optima of linear networks, and slow, obvious versions of what `segrobust.functional` computes fast."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

DUAL = {"linf": 1, "l2": 2, "l1": float("inf")}


class Scaled(nn.Module):
    """A network whose logits are multiplied by a number."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return self.factor * logits


@dataclass(frozen=True)
class LinearCase:
    """A 1x1-conv network, whose logits are affine in each pixel, and images that it classifies as labelled."""

    network: nn.Conv2d
    images: Tensor
    labels: Tensor

    def class_distances(self, norm: str) -> Tensor:
        """Distance of each pixel to where class k beats its label, (z_y - z_k) / ||w_y - w_k||_dual: `(B, H, W, K)`."""
        weight = self.network.weight.detach()[:, :, 0, 0]
        with torch.no_grad():
            logits = self.network(self.images)
        own = logits.gather(1, self.labels[:, None])
        gaps = (own - logits).movedim(1, -1)
        lengths = torch.linalg.vector_norm(weight[:, None] - weight[None], ord=DUAL[norm], dim=2)[self.labels]
        return torch.where(lengths > 0, gaps / lengths, torch.inf)

    def distances(self, norm: str) -> Tensor:
        """Distance of each pixel to its nearest decision boundary: the smallest of its class distances."""
        return self.class_distances(norm).amin(-1)

    def norms_of_choices(self, norm: str, prediction: Tensor, apsr: str = "0.99") -> Tensor:
        """Smallest norm that brings as many pixels as must break to their predicted classes; inf where too few are."""
        reached = self.class_distances(norm).gather(-1, prediction[..., None])[..., 0].flatten(1)
        k = reached.shape[1] - int((1 - Fraction(apsr)) * reached.shape[1])
        cheapest = reached.sort(1).values[:, :k]
        return {"linf": cheapest.amax(1), "l2": cheapest.square().sum(1).sqrt(), "l1": cheapest.sum(1)}[norm]

    def minimal_norms(self, norm: str, valid_mask: Tensor | None = None, apsr: str = "0.99") -> Tensor:
        """Exact minimal norm of each image, for which the box must not bind."""
        distances = self.distances(norm)
        room = torch.minimum(self.images, 1 - self.images).amin(1)
        norms = []
        for i in range(len(distances)):
            counts = torch.ones_like(self.labels[i], dtype=torch.bool) if valid_mask is None else valid_mask[i]
            n = int(counts.sum())
            k = n - int((1 - Fraction(apsr)) * n)
            order = distances[i][counts].argsort()[:k]
            cheapest, space = distances[i][counts][order], room[i][counts][order]
            reach = cheapest.amax() if norm == "linf" else cheapest
            assert (reach <= space).all(), "the box binds, so the closed form does not hold"
            norms.append({"linf": cheapest.amax(), "l2": cheapest.square().sum().sqrt(), "l1": cheapest.sum()}[norm])
        return torch.stack(norms)


def linear_case(seed: int, batch_size: int = 1, num_classes: int = 6, dtype: torch.dtype = torch.float32) -> LinearCase:
    """Standard normal weights, logits zero at mid-grey, images close to mid-grey, labels as predicted."""
    generator = torch.Generator().manual_seed(seed)
    network = nn.Conv2d(3, num_classes, 1)
    weight = torch.randn(num_classes, 3, 1, 1, generator=generator, dtype=torch.float64)
    network.weight.data = weight.to(dtype)
    assert network.bias is not None
    network.bias.data = (-0.5 * weight.sum((1, 2, 3))).to(dtype)
    noise = torch.randn(batch_size, 3, 24, 32, generator=generator, dtype=torch.float64)
    images = (0.5 + 0.03 * noise).to(dtype)
    with torch.no_grad():
        labels = network(images).argmax(1)
    return LinearCase(network, images, labels)


def prox_objective(z: np.ndarray, v: np.ndarray, metric: np.ndarray, weight: float) -> float:
    """1/2 sum_j H_j (z_j - v_j)^2 + weight max_j |z_j|."""
    return float(0.5 * (metric * (z - v) ** 2).sum() + weight * np.abs(z).max())


def prox_linf_sorted(
    v: Tensor, metric: Tensor, weight: float, lower: Tensor, upper: Tensor
) -> tuple[np.ndarray, float]:
    """The prox of one image by sorting, in float64.

    The derivative at t is `weight - sum_{p_j > t} H_j (a_j - t)`; between the k-th and (k+1)-th largest p it is linear.
    """
    point, diagonal, low, high = (x.double().numpy().ravel() for x in (v, metric, lower, upper))
    a, boxed = np.abs(point), np.clip(point, low, high)
    p = np.abs(boxed)
    if (diagonal * a)[p > 0].sum() <= weight:
        return np.zeros_like(point), 0.0
    order = np.argsort(-p, kind="stable")
    p_next = np.append(p[order][1:], 0.0)
    weighted, slope = np.cumsum((diagonal * a)[order]), np.cumsum(diagonal[order])
    k = int(np.argmax(weight - weighted + p_next * slope <= 0))
    t = min(p[order][k], (weighted[k] - weight) / slope[k])
    return np.clip(boxed, -t, t), float(t)


def slow_margin(logits: Tensor, reference: Tensor) -> Tensor:
    """`z_r - max_{c != r} z_c`, by hiding the reference class."""
    hidden = torch.nn.functional.one_hot(reference, logits.shape[1]).movedim(-1, 1).bool()
    own = torch.where(hidden, logits, torch.zeros_like(logits)).sum(1)
    return own - logits.masked_fill(hidden, -torch.inf).amax(1)


def slow_dlr(logits: Tensor, reference: Tensor, sign: int, tolerance: float, full_denominator_gradient: bool) -> Tensor:
    """The signed DLR from sorted logits, with the floor of its denominator."""
    ranked = logits.sort(1, descending=True).values
    spread = ranked[:, 0] - (ranked[:, 2] if sign > 0 else (ranked[:, 2] + ranked[:, 3]) / 2)
    if not full_denominator_gradient:
        below = spread.detach() - ranked[:, 0].detach()
        held = ranked[:, 0].detach() + below
        broken = sign * slow_margin(logits, reference).detach() + tolerance < 0
        spread = torch.where(broken, ranked[:, 0] + below, held)
    floor = 1e-4 * spread.detach().flatten(1).mean(1) + 1e-8
    return (sign * slow_margin(logits, reference) + tolerance) / torch.maximum(spread, floor[:, None, None])
