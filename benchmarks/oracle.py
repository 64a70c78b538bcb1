"""Norms found on networks whose exact minimal norm is known, as ratios to it.

The networks are single 1x1 convolutions (3 -> 6 channels, normal weights, logits zero at mid-grey) and the images lie
close to mid-grey, so that a pixel's distance to its nearest decision boundary is `min_k (z_y - z_k) / ||w_y - w_k||_1`
and the minimal l_inf norm of an image is the distance of its last pixel that has to break. `tests/oracles.py` builds
them and checks that the box does not bind.

    PYTHONPATH=tests python -m benchmarks.oracle
"""

from collections.abc import Callable

import torch
from jsonargparse import auto_cli
from oracles import LinearCase, linear_case
from torch import Tensor

from benchmarks.advlib import published_alma_prox
from segrobust.attacks import AlmaProx

Attacked = Callable[[LinearCase], Tensor]
"""The norm of each image, inf where the attack fails."""


def _ours(attack: AlmaProx) -> Attacked:
    return lambda case: attack(case.network, case.images, case.labels).norm


def _published(num_steps: int) -> Attacked:
    """The published attack, image by image, judged by the network on what it returns."""
    alma_prox = published_alma_prox()

    def norms(case: LinearCase) -> Tensor:
        found = []
        for i in range(len(case.images)):
            images, labels = case.images[i : i + 1], case.labels[i : i + 1]
            adv = alma_prox(case.network, images, labels, num_steps=num_steps)
            with torch.no_grad():
                broken = case.network(adv).argmax(1) != labels
            success = broken.sum() * 100 >= broken.numel() * 99
            found.append((adv - images).abs().amax() if success else torch.tensor(torch.inf))
        return torch.stack(found)

    return norms


def main(seeds: tuple[int, ...] = (0, 1, 2, 3), batch_size: int = 4, steps: int = 500, published: bool = True) -> None:
    """Prints a table of success and median ratio per network, and the pooled median and minimum.

    Args:
        seeds: seeds of the networks.
        batch_size: images per network.
        steps: steps of every attack.
        published: whether to run the published attack too (needs adv-lib).
    """
    variants: dict[str, Attacked] = {
        "default": _ours(AlmaProx(num_steps=steps)),
        "published derivative": _ours(AlmaProx(num_steps=steps, penalty_derivative="published")),
        "differentiated denominator": _ours(AlmaProx(num_steps=steps, full_denominator_gradient=True)),
        "both (published code)": _ours(
            AlmaProx(num_steps=steps, penalty_derivative="published", full_denominator_gradient=True)
        ),
    }
    if published:
        variants["adv-lib 0.2.8"] = _published(steps)
    torch.set_num_threads(1)
    titles = [f"seed {seed}" for seed in seeds]
    print("| attack | " + " | ".join(titles) + " | pooled median | smallest | broken |")
    print("|---" * (len(seeds) + 4) + "|")
    for name, attacked in variants.items():
        ratios = []
        for seed in seeds:
            case = linear_case(seed, batch_size=batch_size)
            ratios.append(attacked(case) / case.minimal_norms("linf"))
        pooled = torch.cat(ratios)
        cells = [f"{row.isfinite().sum()}/{batch_size}, {_median(row):.3f}" for row in ratios]
        broken = f"{pooled.isfinite().sum()}/{len(pooled)}"
        print(f"| {name} | {' | '.join(cells)} | {_median(pooled):.3f} | {pooled.min():.4f} | {broken} |", flush=True)


def _median(ratios: Tensor) -> float:
    """Mean of the two middle values where their number is even; inf where a failure is in the middle."""
    ordered = ratios.sort().values
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return middle.mean().item()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
