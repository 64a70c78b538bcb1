"""Random numbers and random starts that depend on the image alone, not on its batch."""

import numpy as np
import torch
from torch import Tensor

from segrobust.attacks.core.problem import Problem
from segrobust.functional.norms import NormName, per_image


def random_start(problem: Problem, eps: Tensor, name: NormName, seed: int) -> Tensor:
    """A random point of each image's ball, drawn from a generator seeded by (seed, sample id).

    l_inf: uniform in the ball; l2: uniform direction, radius uniform in [0, eps]. The box is not applied.

    Args:
        problem: the batch.
        eps: `(B,)` radii.
        name: `"linf"` or `"l2"`.
        seed: shared by all images.

    Returns:
        `(B, C, H, W)` perturbations.
    """
    shape, dtype = problem.images.shape[1:], problem.images.dtype
    noise = []
    for generator in image_generators(problem, seed):
        if name == "linf":
            noise.append(torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1)
        else:
            direction = torch.randn(shape, generator=generator, dtype=dtype)
            noise.append(direction * torch.rand((), generator=generator, dtype=dtype) / direction.norm())
    delta = torch.stack(noise).to(problem.images.device)
    return delta * per_image(eps, delta)


def image_generators(problem: Problem, seed: int) -> list[torch.Generator]:
    """A source of random numbers for each image, on CPU, seeded by (seed, sample id)."""
    return [_generator(seed, sample_id) for sample_id in problem.sample_ids.tolist()]


def _generator(seed: int, sample_id: int) -> torch.Generator:
    entropy = np.random.SeedSequence([seed, sample_id % 2**64]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(entropy >> np.uint64(1)))
