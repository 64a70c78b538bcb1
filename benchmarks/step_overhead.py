"""What a step of an attack costs beside a bare pass of the network, ours and the published ALMA-prox.

A bare pass is forward, cross-entropy and backward to the input of the same frozen network. A step is everything between
one iterate and the next inside the running attack: both passes, judging, tracking, multipliers, prox or projection.

    python -m benchmarks.step_overhead --threads 2
"""

import torch
from jsonargparse import auto_cli

from benchmarks.advlib import CalledBefore, published_alma_prox
from benchmarks.pairs import PAIRS, WARMUP, Comparison, compare_steps
from benchmarks.subjects import NetworkName, Subject, make_subject
from segrobust.attacks import AlmaProx, Attack, LagrangianFMN

NETWORKS: tuple[NetworkName, ...] = ("mobilenet", "resnet18")


def ours(subject: Subject, attack: Attack) -> Comparison:
    """Steps of one of our attacks over bare passes."""
    return compare_steps(
        lambda between: attack(subject.network, subject.images, subject.labels, observer=lambda _: between()),
        subject.bare_pass,
    )


def published(subject: Subject, num_pairs: int) -> Comparison:
    """Steps of the published attack over bare passes."""
    alma_prox = published_alma_prox()
    return compare_steps(
        lambda between: alma_prox(
            CalledBefore(subject.network, lambda _: between()),
            subject.images,
            subject.labels,
            num_steps=num_pairs + WARMUP + 1,
        ),
        subject.bare_pass,
    )


def main(
    pairs: int = PAIRS,
    threads: int = 2,
    size: tuple[int, int] = (384, 480),
    networks: tuple[NetworkName, ...] = NETWORKS,
) -> None:
    """Measures the attacks on each network and prints a line for each.

    Args:
        pairs: steps that count.
        threads: threads of torch.
        size: height and width of the image.
        networks: which networks.
    """
    torch.set_num_threads(threads)
    print(f"torch {torch.__version__}, {threads} threads, {size[0]}x{size[1]}, 11 classes, batch 1")
    for name in networks:
        subject = make_subject(name, size=size, num_classes=11)
        steps = pairs + WARMUP
        for attack in (AlmaProx(num_steps=steps), LagrangianFMN(num_passes=steps + 1)):
            print(f"{name:10} {type(attack).__name__} step / bare pass  {ours(subject, attack)}", flush=True)
        print(f"{name:10} adv-lib step / bare pass  {published(subject, pairs)}", flush=True)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
