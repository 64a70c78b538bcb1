"""Which attacks are measured side by side: ours and the published code, with the same settings and number of passes.

Minimal-norm attacks are compared with adv-lib 0.2.8 at the settings of the published tables, fixed-budget attacks with
the loops of the package cospgd. Attacks without a peer stand alone: there is no code of them that can be installed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from benchmarks.advlib import attack_published, published_alma_prox, published_dag, published_pdpgd
from benchmarks.cospgd import LoopName, attack_by_loop, published_start
from segrobust import attacks
from segrobust.attacks import Attack
from segrobust.functional.norms import NormName

Peer = Callable[[nn.Module, Tensor, Tensor, float | None, Tensor | None], tuple[Tensor, int, int]]
"""Network, images, labels, radius and where to start to adversarial images, forwards and backwards."""

Start = Callable[[Tensor, float, int], Tensor]
"""Images, radius and sample id to a random point of each image's ball."""

L2_DAG_STEP = 3e-3 * math.sqrt(3 * 192 * 256)  # l2 norm of 3e-3 in every value of an image
ORDER: dict[NormName, float] = {"linf": math.inf, "l2": 2, "l1": 1}

LINF_RADII = {"camvid_standard": (1 / 255, 2 / 255, 4 / 255, 8 / 255), "camvid_robust": (2 / 255, 4 / 255, 8 / 255)}
L2_RADII = (64 / 255, 128 / 255, 512 / 255)  # the first two as published


@dataclass(frozen=True, kw_only=True)
class Duel:
    """One attack, ours and the peer's.

    Args:
        norm: what both minimise or bound.
        ours: our attack for a radius, None for minimal-norm attacks.
        peer: the published one; None where there is none.
        start: where both start, of fixed-budget attacks.
    """

    norm: NormName
    ours: Callable[[float | None], Attack]
    peer: Peer | None = None
    start: Start | None = None

    def radii(self, network: str) -> tuple[float | None, ...]:
        """Radii on one network, image units."""
        if self.start is None:
            return (None,)
        return LINF_RADII[network] if self.norm == "linf" else L2_RADII


def _advlib(attack: Callable[[], Callable[..., Tensor]], **settings: float) -> Peer:
    return lambda network, images, labels, eps, start: attack_published(attack(), network, images, labels, **settings)


def _dag(norm: NormName, step: float) -> Duel:
    return Duel(
        norm=norm,
        ours=lambda _: attacks.DAG(num_steps=200, step_size=step, norm=norm),
        peer=_advlib(published_dag, max_iter=200, p=ORDER[norm], γ=step),
    )


def _pdpgd(norm: NormName) -> Duel:
    return Duel(
        norm=norm,
        ours=lambda _: attacks.PDPGD(num_steps=500, step_size=1e-2, norm=norm),
        peer=_advlib(published_pdpgd, num_steps=500, primal_lr=1e-2, norm=ORDER[norm]),
    )


def _search(published: Attack, ours: Attack, num_rounds: int) -> Duel:
    """Bisection as published, 13 rounds in linear scale from the clean image, against ours at a third of its passes."""

    def peer(
        network: nn.Module, images: Tensor, labels: Tensor, eps: float | None, start: Tensor | None
    ) -> tuple[Tensor, int, int]:
        search = attacks.MinimalNormSearch(attack=published, bisection="linear", warm_start=False)
        result = search(network, images, labels, sample_ids=[0])
        return result.adv, int(result.num_forwards), int(result.num_backwards)

    return Duel(norm="linf", ours=lambda _: attacks.MinimalNormSearch(attack=ours, num_rounds=num_rounds), peer=peer)


def _alone(norm: NormName, attack: Callable[[], Attack]) -> Duel:
    return Duel(norm=norm, ours=lambda _: attack())


def _fmn(norm: NormName, margin: Literal["masked", "mean"]) -> Duel:
    return _alone(norm, lambda: attacks.FMN(num_steps=500, norm=norm, margin=margin))


def _loop(name: LoopName, norm: Literal["linf", "l2"], num_steps: int) -> Duel:
    """A loop with published steps: in l_inf 0.01 at 8/255, and a quarter of smaller radii; in l2 0.4 of the radius."""
    kinds = {"pgd": attacks.PGD, "segpgd": attacks.SegPGD, "cospgd": attacks.CosPGD}

    def step(eps: float) -> float:
        if norm == "l2":
            return 0.4 * eps
        return 0.01 if eps >= 8 / 255 else eps / 4

    def ours(eps: float | None) -> Attack:
        assert eps is not None, "a radius of this duel"
        return kinds[name](num_steps=num_steps, step_size=step(eps), eps=eps, norm=norm, random_start=False)

    def peer(
        network: nn.Module, images: Tensor, labels: Tensor, eps: float | None, start: Tensor | None
    ) -> tuple[Tensor, int, int]:
        assert eps is not None, "a radius of this duel"
        assert start is not None, "a start of this duel"
        return attack_by_loop(
            name,
            network,
            images,
            labels,
            start=start,
            norm=norm,
            eps=eps,
            step_size=step(eps),
            num_steps=num_steps,
        )

    def start(images: Tensor, eps: float, sample_id: int) -> Tensor:
        return published_start(images, norm=norm, eps=eps, seed=sample_id)

    return Duel(norm=norm, ours=ours, peer=peer, start=start)


ALMA_PROX = "AlmaProx linf 500"

DUELS: dict[str, Duel] = {
    ALMA_PROX: Duel(
        norm="linf", ours=lambda _: attacks.AlmaProx(num_steps=500), peer=_advlib(published_alma_prox, num_steps=500)
    ),
    "AlmaProx l2 500": _alone("l2", lambda: attacks.AlmaProx(num_steps=500, norm="l2")),
    "AlmaProx l1 500": _alone("l1", lambda: attacks.AlmaProx(num_steps=500, norm="l1")),
    "DAG linf 3e-3": _dag("linf", 3e-3),
    "DAG linf 1e-3": _dag("linf", 1e-3),
    "DAG l2": _dag("l2", L2_DAG_STEP),
    **{f"PDPGD {norm} 500": _pdpgd(norm) for norm in ORDER},
    **{f"FMN {norm} 500, {margin}": _fmn(norm, margin) for norm in ORDER for margin in ("masked", "mean")},
    "search MIFGSM 13 x 20": _search(attacks.MIFGSM(), attacks.MIFGSM(num_steps=8), 10),
    "search PGD 13 x 40": _search(attacks.PGD(num_steps=40, step_ratio=1 / 30), attacks.PGD(num_steps=17), 10),
    "search PGD 13 x 4 x 10": _search(
        attacks.Restarts(attack=attacks.PGD(num_steps=10, step_ratio=1 / 8), num_runs=4), attacks.PGD(num_steps=17), 10
    ),
    "search PGD masked 10 x 17": _alone(
        "linf",
        lambda: attacks.MinimalNormSearch(attack=attacks.PGD(num_steps=17, loss=attacks.Masked()), num_rounds=10),
    ),
    "DDN l2 500": _alone("l2", lambda: attacks.DDN(num_steps=500)),
    "LagrangianFMN l2 100": _alone("l2", lambda: attacks.LagrangianFMN(num_passes=100, norm="l2")),
    "PGD linf 20": _loop("pgd", "linf", 20),
    "PGD linf 40": _loop("pgd", "linf", 40),
    "SegPGD linf 20": _loop("segpgd", "linf", 20),
    "SegPGD linf 40": _loop("segpgd", "linf", 40),
    "CosPGD linf 20": _loop("cospgd", "linf", 20),
    "CosPGD linf 40": _loop("cospgd", "linf", 40),
    "CosPGD l2 20": _loop("cospgd", "l2", 20),
    "CosPGD l2 40": _loop("cospgd", "l2", 40),
}
