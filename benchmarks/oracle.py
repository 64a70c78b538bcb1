"""Norms found on networks whose exact minimal norm is known, as ratios to it: every minimal-norm attack in its norms.

The networks are single 1x1 convolutions (3 -> 6 channels, normal weights, logits zero at mid-grey) and the images lie
close to mid-grey, so that a pixel's distance to its nearest decision boundary is `min_k (z_y - z_k) / ||w_y - w_k||`
in the dual norm. The minimal norm of an image is, in l_inf, the distance of its last pixel that has to break; in l2 and
l1 it is the length of the distances of all that have to. `tests/oracles.py` builds them and checks that the box does
not bind.

Which pixels stay unbroken is a choice of the attack, and so is the class where each of the others ends up. The column
"of its choices" is the smallest norm that makes the same choices, over the exact one. The rest of an attack's ratio is
what it pays for them in excess.

    PYTHONPATH=tests python -m benchmarks.oracle
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jsonargparse import auto_cli
from oracles import LinearCase, linear_case
from torch import Tensor

from benchmarks.advlib import attack_published, published_alma_prox, published_dag, published_pdpgd
from benchmarks.choice import check_chosen
from segrobust import attacks as suite
from segrobust.attacks import PGD, AlmaProx, Attack, LagrangianFMN, Margin, Masked, MinimalNormSearch
from segrobust.functional.norms import NormName, norm

L2_DAG_STEP = 3e-3 * math.sqrt(3 * 24 * 32)  # l2 norm of 3e-3 in every value of an image
ORDER: dict[NormName, float] = {"linf": math.inf, "l2": 2, "l1": 1}


@dataclass(frozen=True)
class Found:
    """What an attack did to a batch: norms `(B,)`, inf where it failed, classes `(B, H, W)`, and passes `(B,)`."""

    norms: Tensor
    prediction: Tensor
    forwards: Tensor
    backwards: Tensor


@dataclass(frozen=True)
class Contender:
    """An attack, the norm that it minimises, and how it is run with a number of steps."""

    norm: NormName
    run: Callable[[LinearCase, int], Found]


def _ours(name: NormName, make: Callable[[int], Attack]) -> Contender:
    def run(case: LinearCase, num_steps: int) -> Found:
        result = make(num_steps)(case.network, case.images, case.labels)
        return Found(result.norm, result.prediction, result.num_forwards, result.num_backwards)

    return Contender(name, run)


def _published(
    name: NormName, attack: Callable[[], Callable[..., Tensor]], steps: str = "num_steps", **settings: float
) -> Contender:
    """A published attack, image by image, judged by the network on what it returns."""

    def one(case: LinearCase, i: int, num_steps: int) -> tuple[Tensor, ...]:
        images, labels = case.images[i : i + 1], case.labels[i : i + 1]
        adv, *passes = attack_published(attack(), case.network, images, labels, **{steps: num_steps}, **settings)
        with torch.no_grad():
            prediction = case.network(adv).argmax(1)
        broken = prediction != labels
        success = broken.sum() * 100 >= broken.numel() * 99
        length = norm(adv - images, name)[0] if success else torch.tensor(math.inf)
        return (length, prediction[0], *map(torch.tensor, passes))

    def run(case: LinearCase, num_steps: int) -> Found:
        return Found(*map(torch.stack, zip(*(one(case, i, num_steps) for i in range(len(case.images))), strict=True)))

    return Contender(name, run)


def _alma_prox(name: NormName, **fields: Any) -> Contender:
    return _ours(name, lambda n: AlmaProx(num_steps=n, norm=name, **fields))


def _lagrangian_fmn(name: Literal["linf", "l2"], passes: int) -> Contender:
    return _ours(name, lambda _: LagrangianFMN(num_passes=passes, norm=name))


def _fmn(name: NormName, margin: Literal["masked", "mean"]) -> Contender:
    return _ours(name, lambda n: suite.FMN(num_steps=n, norm=name, margin=margin))


def _pdpgd(name: NormName) -> Contender:
    return _ours(name, lambda n: suite.PDPGD(num_steps=n, norm=name))


def _dag(name: NormName, step: float) -> dict[str, Contender]:
    return {
        f"DAG, step {step:.3g}": _ours(name, lambda n: suite.DAG(num_steps=n, step_size=step, norm=name)),
        f"adv-lib dag, step {step:.3g}": _published(name, published_dag, "max_iter", p=ORDER[name], γ=step),
    }


def _search(name: NormName) -> Contender:
    pgd = PGD(num_steps=20, loss=Masked(loss=Margin()), norm=name)
    return _ours(name, lambda _: MinimalNormSearch(attack=pgd))


VARIANTS: dict[str, dict[str, bool | str]] = {
    "default": {},
    "published derivative": {"penalty_derivative": "published"},
    "differentiated denominator": {"full_denominator_gradient": True},
    "both (published code)": {"penalty_derivative": "published", "full_denominator_gradient": True},
}
CONTENDERS: dict[str, Contender] = {
    **{f"AlmaProx, {variant}": _alma_prox("linf", **fields) for variant, fields in VARIANTS.items()},
    "adv-lib alma_prox": _published("linf", published_alma_prox),
    "AlmaProx l2": _alma_prox("l2"),
    "AlmaProx l1": _alma_prox("l1"),
    **{
        f"LagrangianFMN {name} {passes}": _lagrangian_fmn(name, passes)
        for name in ("linf", "l2")
        for passes in (25, 50, 100)
    },
    **{f"FMN {name}, {margin}": _fmn(name, margin) for name in ORDER for margin in ("masked", "mean")},
    "DDN": _ours("l2", lambda n: suite.DDN(num_steps=n)),
    **{f"PDPGD {name}": _pdpgd(name) for name in ORDER},
    **{f"adv-lib pdpgd {name}": _published(name, published_pdpgd, primal_lr=1e-2, norm=ORDER[name]) for name in ORDER},
    **_dag("linf", 3e-3),
    **_dag("linf", 1e-3),
    **_dag("l2", L2_DAG_STEP),
    "search over PGD 13 x 20 linf": _search("linf"),
    "search over PGD 13 x 20 l2": _search("l2"),
}


def main(
    seeds: tuple[int, ...] = (0, 1, 2, 3),
    batch_size: int = 4,
    steps: int = 500,
    attacks: tuple[str, ...] = tuple(CONTENDERS),
    published: bool = True,
) -> None:
    """Prints a table of success and median ratio per network, and the pooled median and minimum.

    Args:
        seeds: seeds of the networks.
        batch_size: images per network.
        steps: steps of every attack that does not have them in its name.
        attacks: which, by the names of the table.
        published: whether to run the published attacks too (needs adv-lib).
    """
    check_chosen(attacks, CONTENDERS)
    torch.set_num_threads(1)
    titles = [f"seed {seed}" for seed in seeds]
    titles = [
        "attack",
        "norm",
        "forwards + backwards",
        *titles,
        "pooled median",
        "of its choices",
        "smallest",
        "broken",
    ]
    print(f"| {' | '.join(titles)} |")
    print("|---" * len(titles) + "|")
    for attack in attacks:
        if published or not attack.startswith("adv-lib"):
            print(_row(attack, seeds, batch_size, steps), flush=True)


def _row(attack: str, seeds: tuple[int, ...], batch_size: int, steps: int) -> str:
    """One attack on all networks, in Markdown."""
    contender = CONTENDERS[attack]
    cases = [linear_case(seed, batch_size=batch_size) for seed in seeds]
    found = [contender.run(case, steps) for case in cases]
    ratios = [one.norms / case.minimal_norms(contender.norm) for one, case in zip(found, cases, strict=True)]
    pooled = torch.cat(ratios)
    choices = torch.cat(
        [
            case.norms_of_choices(contender.norm, one.prediction) / case.minimal_norms(contender.norm)
            for one, case in zip(found, cases, strict=True)
        ]
    )
    cells = [f"{row.isfinite().sum()}/{batch_size}, {_median(row):.3f}" for row in ratios]
    forwards = torch.cat([one.forwards for one in found]).double().mean()
    backwards = torch.cat([one.backwards for one in found]).double().mean()
    return (
        f"| {attack} | {contender.norm} | {forwards:.0f} + {backwards:.0f} | {' | '.join(cells)} "
        f"| {_median(pooled):.3f} | {_median(choices):.3f} | {pooled.min():.4f} "
        f"| {pooled.isfinite().sum()}/{len(pooled)} |"
    )


def _median(ratios: Tensor) -> float:
    """Mean of the two middle values where their number is even; inf where a failure is in the middle."""
    ordered = ratios.sort().values
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return middle.mean().item()


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
