"""Time and accuracy of the l_inf prox: ours, cold and warm, and the published ternary search, which is uncompiled here.

The inputs are those of a run: gradients of a few heavy-tailed channels, their running root mean square as the metric,
a perturbation that the previous prox has clipped, and the box of 8-bit images. The multipliers' scale is what decides
how many values end on the bound, so three stages of a run are measured. The error is that of the bound on the norm,
against sorting in float64.

    python -m benchmarks.prox --threads 1
"""

from dataclasses import dataclass, fields

import torch
from jsonargparse import auto_cli
from torch import Tensor

from benchmarks.advlib import published_prox
from benchmarks.pairs import PAIRS, compare
from benchmarks.subjects import machine
from segrobust.functional.prox_linf import prox_linf

STEP = 1e-3
STAGES = {"early": 1e3, "middle": 30.0, "late": 3.0}
"""l1 norm of the penalty's gradient; at the optimum it is 1, at the start of a run it is larger by orders."""


@dataclass(frozen=True)
class ProxInputs:
    """One call of the prox in a running attack; `(1, D)` each, `weight` and `guess` `(1,)`."""

    v: Tensor
    metric: Tensor
    weight: Tensor
    lower: Tensor
    upper: Tensor
    guess: Tensor

    def to(self, device: str) -> "ProxInputs":
        """The same on another device."""
        return ProxInputs(*(getattr(self, f.name).to(device) for f in fields(self)))

    def cold(self) -> Tensor:
        """The prox of this package without knowing where to start."""
        return prox_linf(self.v, self.metric, self.weight, self.lower, self.upper)[0]

    def warm(self) -> Tensor:
        """The prox of this package from the bound of the previous step, as in the attack."""
        return prox_linf(self.v, self.metric, self.weight, self.lower, self.upper, self.guess)[0]

    def published(self) -> Tensor:
        """The published prox."""
        return published_prox()(self.v, self.weight, self.lower, self.upper, H=self.metric)


def make_inputs(size: int, gradient_l1: float, *, num_steps: int = 12, seed: int = 0) -> ProxInputs:
    """A few steps of a run on drawn gradients, and the inputs of the prox of the last one."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (1, size), generator=generator).float() / 255
    lower, upper = -images, 1 - images
    direction = torch.randn(1, size, generator=generator) * torch.randn(1, size, generator=generator).exp()
    delta, square = torch.zeros_like(images), torch.zeros_like(images)
    weight, guess = torch.tensor([STEP]), torch.zeros(1, dtype=torch.float64)
    for step in range(num_steps):
        noise = torch.randn(1, size, generator=generator)
        gradient = direction + noise * direction.abs()
        gradient *= gradient_l1 / gradient.abs().sum()
        square = torch.lerp(gradient.square(), square, 0.8)
        metric = (square / (1 - 0.8 ** (step + 1))).sqrt().clamp_min(1e-8)
        v = delta - STEP * gradient / metric
        inputs = ProxInputs(v, metric, weight, lower, upper, guess)
        delta, guess = prox_linf(v, metric, weight, lower, upper, guess)
    return inputs


def sorted_bound(inputs: ProxInputs) -> float:
    """The bound by sorting, in float64: exact, slow, and independent of what is measured."""
    a = inputs.v[0].double().abs()
    p = inputs.v[0].clamp(inputs.lower[0], inputs.upper[0]).double().abs()
    metric, weight = inputs.metric[0].double(), inputs.weight[0].double()
    if (metric * a)[p > 0].sum() <= weight:
        return 0.0
    p, order = p.sort(descending=True)
    weighted, slope = (metric * a)[order].cumsum(0), metric[order].cumsum(0)
    following = torch.cat((p[1:], p.new_zeros(1)))
    k = int((weight - weighted + following * slope <= 0).nonzero()[0])
    return torch.minimum(p[k], (weighted[k] - weight) / slope[k]).item()


def main(
    sizes: tuple[int, ...] = (552_960, 6_291_456), pairs: int = PAIRS, threads: int = 1, device: str = "cpu"
) -> None:
    """Prints a line per size and stage.

    Args:
        sizes: numbers of values of an image: 3x384x480 and 3x1024x2048.
        pairs: measured pairs of each comparison.
        threads: threads of torch.
        device: of torch, such as `cuda`.
    """
    torch.set_num_threads(threads)
    print(f"{machine(device, threads)}; ratio of seconds ours / published; errors in units of 1/255")
    for size in sizes:
        for stage, gradient_l1 in STAGES.items():
            inputs = make_inputs(size, gradient_l1).to(device)
            exact = sorted_bound(inputs)
            ours, published = (255 * abs(z.abs().amax().item() - exact) for z in (inputs.warm(), inputs.published()))
            print(f"D {size} {stage}: bound {255 * exact:.4f}/255, error ours {ours:.1e}, adv-lib {published:.1e}")
            print(f"    cold  {compare(inputs.cold, inputs.published, pairs=pairs, warmup=2)}", flush=True)
            print(f"    warm  {compare(inputs.warm, inputs.published, pairs=pairs, warmup=2)}", flush=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
