"""What a step of an attack costs beside a bare pass of the network, ours and the published ALMA-prox.

A bare pass is forward, cross-entropy and backward to the input of the same frozen network; for an attack without
gradients, forward alone. A step is everything between one iterate and the next inside the running attack: passes,
judging, tracking, multipliers, prox or projection. Radii and steps are so small that no attack ends early.

    python -m benchmarks.step_overhead --threads 2
    python -m benchmarks.step_overhead --threads 2 --attacks '[all]'
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jsonargparse import auto_cli
from torch import Tensor

from benchmarks.advlib import CalledBefore, published_alma_prox
from benchmarks.choice import check_chosen
from benchmarks.pairs import PAIRS, WARMUP, Comparison, compare_steps
from benchmarks.subjects import NetworkName, Subject, machine, make_subject
from segrobust import attacks as suite
from segrobust.attacks import AlmaProx, Attack, LagrangianFMN
from segrobust.functional.modes import full_precision_products

NETWORKS: tuple[NetworkName, ...] = ("mobilenet", "resnet18")
PUBLISHED = "adv-lib"
DEFAULT = ("AlmaProx", "LagrangianFMN", PUBLISHED)
ALL = "all"
TINY = 1e-5  # radius, or step of attacks that stop at their first success


@dataclass(frozen=True, kw_only=True)
class Case:
    """An attack whose steps are timed.

    Args:
        make: the attack with a number of steps.
        goal: what a step may cost, in bare passes.
        gradients: whether a step has a backward pass.
    """

    make: Callable[[int], Attack]
    goal: float = 1.15
    gradients: bool = True


CASES: dict[str, Case] = {
    "AlmaProx": Case(make=lambda n: AlmaProx(num_steps=n)),
    "LagrangianFMN": Case(make=lambda n: LagrangianFMN(num_passes=n + 1)),
    "LagrangianFMN l2": Case(make=lambda n: LagrangianFMN(num_passes=n + 1, norm="l2")),
    "AlmaProx l2": Case(make=lambda n: suite.AlmaProx(num_steps=n, norm="l2"), goal=1.25),
    "AlmaProx l1": Case(make=lambda n: suite.AlmaProx(num_steps=n, norm="l1"), goal=1.25),
    "PDPGD": Case(make=lambda n: suite.PDPGD(num_steps=n), goal=1.25),
    "PDPGD l2": Case(make=lambda n: suite.PDPGD(num_steps=n, norm="l2"), goal=1.25),
    "PDPGD l1": Case(make=lambda n: suite.PDPGD(num_steps=n, norm="l1"), goal=1.25),
    "DAG": Case(make=lambda n: suite.DAG(num_steps=n, step_size=TINY)),
    "DAG l2": Case(make=lambda n: suite.DAG(num_steps=n, step_size=TINY, norm="l2")),
    "FMN": Case(make=lambda n: suite.FMN(num_steps=n)),
    "FMN l2": Case(make=lambda n: suite.FMN(num_steps=n, norm="l2")),
    "FMN l1": Case(make=lambda n: suite.FMN(num_steps=n, norm="l1")),
    "DDN": Case(make=lambda n: suite.DDN(num_steps=n)),
    "PGD": Case(make=lambda n: suite.PGD(num_steps=n)),
    "PGD l2": Case(make=lambda n: suite.PGD(num_steps=n, norm="l2")),
    "SegPGD": Case(make=lambda n: suite.SegPGD(num_steps=n)),
    "CosPGD": Case(make=lambda n: suite.CosPGD(num_steps=n)),
    "MIFGSM": Case(make=lambda n: suite.MIFGSM(num_steps=n)),
    "PAdam": Case(make=lambda n: suite.PAdam(num_steps=n)),
    "KLPGD": Case(make=lambda n: suite.KLPGD(num_steps=n)),
    "APGD": Case(make=lambda n: suite.APGD(num_steps=n)),
    "ShrinkingRadius": Case(make=lambda n: suite.ShrinkingRadius(attack=suite.APGD(num_steps=n))),
    "SEA": Case(make=lambda n: suite.SEA(num_steps=n)),
    "Square": Case(make=lambda n: suite.Square(num_queries=n + 1), gradients=False),
}


def ours(subject: Subject, case: Case, num_steps: int) -> Comparison:
    """Steps of one of our attacks over bare passes."""
    attack = case.make(num_steps)
    return compare_steps(
        lambda between: attack(
            subject.network,
            subject.images,
            subject.labels,
            eps=None if attack.minimal_norm else TINY,
            sample_ids=range(len(subject.images)),
            observer=lambda _: between(),
        ),
        subject.bare_pass if case.gradients else lambda: bare_forward(subject),
    )


def bare_forward(subject: Subject) -> Tensor:
    """What a step without gradient cannot do without."""
    with torch.no_grad():
        logits: Tensor = subject.network(subject.images)
    return logits


def published(subject: Subject, num_steps: int) -> Comparison:
    """Steps of the published attack over bare passes."""
    alma_prox = published_alma_prox()
    with full_precision_products():  # as in ours: a GPU convolves in TF32 by default
        return compare_steps(
            lambda between: alma_prox(
                CalledBefore(subject.network, lambda _: between()),
                subject.images,
                subject.labels,
                num_steps=num_steps + 1,
            ),
            subject.bare_pass,
        )


def table(measured: dict[tuple[str, str], Comparison], networks: tuple[str, ...]) -> str:
    """A row per attack in Markdown: ratios with their intervals, and the goal."""
    lines = [f"| attack | {' | '.join(networks)} | goal |", "|---" * (len(networks) + 2) + "|"]
    for attack in dict.fromkeys(attack for _, attack in measured):
        found = [measured[network, attack] for network in networks]
        cells = " | ".join(f"{one.ratio:.3f} [{one.low:.3f}, {one.high:.3f}]" for one in found)
        lines.append(f"| {attack} | {cells} | {CASES[attack].goal if attack in CASES else '-'} |")
    return "\n".join(lines)


def main(
    pairs: int = PAIRS,
    threads: int = 2,
    size: tuple[int, int] = (384, 480),
    networks: tuple[NetworkName, ...] = NETWORKS,
    attacks: tuple[str, ...] = DEFAULT,
    batch: int = 1,
    device: str = "cpu",
) -> None:
    """Measures the attacks on each network, prints a line for each, and a table.

    Args:
        pairs: steps that count.
        threads: threads of torch.
        size: height and width of the image.
        networks: which networks.
        attacks: which attacks; `[all]` for every one.
        batch: images attacked together.
        device: of torch, such as `cuda`.
    """
    known = (*CASES, PUBLISHED)
    attacks = known if attacks == (ALL,) else attacks
    check_chosen(attacks, known)
    torch.set_num_threads(threads)
    print(f"{machine(device, threads)}, {size[0]}x{size[1]}, 11 classes, batch {batch}")
    measured: dict[tuple[str, str], Comparison] = {}
    for network in networks:
        subject = make_subject(network, size=size, num_classes=11, batch_size=batch, device=device)
        for attack in attacks:
            steps = pairs + WARMUP
            compared = published(subject, steps) if attack == PUBLISHED else ours(subject, CASES[attack], steps)
            measured[network, attack] = compared
            print(f"{network:10} {attack} step / bare pass  {compared}", flush=True)
    print(f"\n{table(measured, networks)}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
