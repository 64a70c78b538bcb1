"""Every attack of the suite beside published code, on the same CamVid images with the same number of passes.

Validation images of the second half at 192x256, one at a time, float32. Minimal-norm attacks go on until 99 % of the
valid pixels are wrong, and failures count as inf; fixed-budget attacks are judged by the pixel accuracy that they
leave, both sides from one start. Each result is written when it exists; a second call continues. See `duels.py` for
what is compared with what.

    SEGROBUST_CAMVID=... python -m benchmarks.suite.against_peers --network camvid_standard
    python -m benchmarks.suite.against_peers --table_only true
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Literal

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from benchmarks import alma_prox_vs_advlib
from benchmarks.camvid import NetworkName, judge, reference_network, report_images, report_sample
from benchmarks.choice import check_chosen
from benchmarks.stored import ResultFile, norm_ratio, norms_by_image
from benchmarks.suite.duels import ALMA_PROX, DUELS
from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.norms import NormName, norm

RESULTS = Path(__file__).parents[1] / "results" / "against_peers.jsonl"
KEY = ("network", "attack", "sample_id", "eps", "side")
SLACK = 1e-4  # slack of `norm <= eps`, as a share: l2 norms are rounded

Side = Literal["ours", "peer"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One side of a duel on one image.

    Attributes:
        network: reference network.
        attack: name of the duel.
        sample_id: position of the image.
        eps: radius, null for minimal-norm attacks.
        side: ours, or the peer's.
        norm: of the perturbation, in the norm of the duel; null where a minimal-norm attack failed.
        apsr: share of the valid pixels that is wrong.
        last_apsr: the same at the last iterate, which published loops return; null but for ours within a radius.
        forwards: passes.
        backwards: passes.
        seconds: of the call.
    """

    network: str
    attack: str
    sample_id: int
    eps: float | None
    side: Side
    norm: float | None
    apsr: float
    last_apsr: float | None
    forwards: int
    backwards: int
    seconds: float


def measure(network_name: str, attack: str, sample_id: int, eps: float | None, side: Side) -> Result:
    """Attacks one image, and judges it by one more pass, alike for both sides."""
    duel = DUELS[attack]
    network = reference_network(network_name)
    images, labels = report_sample(sample_id)
    last: list[Tensor] = []
    start = duel.start(images, eps, sample_id) if duel.start is not None and eps is not None else None
    started = time.perf_counter()
    if side == "ours":
        delta = None if start is None else start - images
        result = duel.ours(eps)(network, images, labels, start=delta, observer=_keep_last(last))
        adv, forwards, backwards = result.adv, int(result.num_forwards), int(result.num_backwards)
    elif duel.peer is not None:
        adv, forwards, backwards = duel.peer(network, images, labels, eps, start)
    else:
        raise ValueError(f"{attack} has no peer")
    seconds = time.perf_counter() - started
    succeeded, apsr = judge(network, images, labels, adv)
    length = norm(adv - images, duel.norm).item()
    if eps is not None and length > eps * (1 + SLACK):
        raise RuntimeError(f"{attack}, {side}: a perturbation of {length:g} lies outside the radius {eps:g}")
    return Result(
        network=network_name,
        attack=attack,
        sample_id=sample_id,
        eps=eps,
        side=side,
        norm=length if eps is not None or succeeded is not None else None,
        apsr=apsr,
        last_apsr=_apsr(network, images, labels, images + last[0]) if eps is not None and last else None,
        forwards=forwards,
        backwards=backwards,
        seconds=seconds,
    )


def _keep_last(last: list[Tensor]) -> Callable[[Iterate], None]:
    """An observer that leaves the latest perturbation in a list."""

    def observe(iterate: Iterate) -> None:
        last[:] = [iterate.delta.detach()]

    return observe


def _apsr(network: nn.Module, images: Tensor, labels: Tensor, adv: Tensor) -> float:
    return judge(network, images, labels, adv)[1]


def known_elsewhere() -> Iterator[Result]:
    """ALMA-prox in l_inf, which another comparison has measured on these images: `alma_prox_vs_advlib`."""
    sides: dict[str, Side] = {"default": "ours", "adv-lib": "peer"}
    for result in alma_prox_vs_advlib.STORED.read():
        if result.steps == 500 and result.attack in sides:
            yield Result(
                network=result.network,
                attack=ALMA_PROX,
                sample_id=result.sample_id,
                eps=None,
                side=sides[result.attack],
                norm=result.norm,
                apsr=result.apsr,
                last_apsr=None,
                forwards=result.forwards,
                backwards=result.backwards,
                seconds=result.seconds,
            )


@dataclass(frozen=True, kw_only=True)
class Row:
    """Both sides of a duel on one network and, if it has one, at one radius."""

    network: str
    attack: str
    eps: float | None
    ours: list[Result]
    peer: list[Result]

    def each(self, value: Callable[[list[Result]], str]) -> str:
        """A cell `ours / peer`; a side without results is a dash."""
        return " / ".join(value(side) if side else "-" for side in (self.ours, self.peer))


def rows(results: list[Result]) -> list[Row]:
    """A row per network, duel and radius that has results."""
    found = []
    for network in sorted({result.network for result in results}):
        for attack, duel in DUELS.items():
            for eps in duel.radii(network):
                mine = [r for r in results if (r.network, r.attack, r.eps) == (network, attack, eps)]
                ours, peer = ([r for r in mine if r.side == side] for side in ("ours", "peer"))
                if mine:
                    found.append(Row(network=network, attack=attack, eps=eps, ours=ours, peer=peer))
    return found


def minimal_norm_table(found: list[Row]) -> str:
    """Norms in Markdown."""
    lines = [
        "| network | norm | attack | forwards + backwards, ours / peer | broken | median norm "
        "| norm ours / peer (images both break) | only ours / only peer | s/image |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        name = DUELS[row.attack].norm
        compared = norm_ratio(norms_by_image(row.ours), norms_by_image(row.peer))
        ratio, only = "-", "-"
        if compared is not None:
            ratio = f"{compared.ratio:.3f} ({compared.num_both})" if compared.num_both else "- (0)"
            only = f"{compared.num_only_a} / {compared.num_only_b}"
        lines.append(
            f"| {row.network} | {name} | {row.attack} | {row.each(_passes)} | {row.each(_broken)} "
            f"| {row.each(partial(_median_norm, name=name))} | {ratio} | {only} "
            f"| {row.each(_seconds)} |"
        )
    return "\n".join(lines)


def fixed_budget_table(found: list[Row]) -> str:
    """Accuracy that is left, in Markdown, over the images that all columns of a row have."""
    lines = [
        "| network | eps | attack | forwards + backwards, ours / peer | images | accuracy left: ours "
        "| ours, last iterate | peer | images where ours leaves less / more | s/image |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        ours, peer = ({result.sample_id: result for result in side} for side in (row.ours, row.peer))
        shared = ours.keys() & peer.keys()
        if not shared:
            continue
        left = [[1 - ours[i].apsr, _left_at_the_end(ours[i]), 1 - peer[i].apsr] for i in sorted(shared)]
        means = [f"{100 * fmean(column):.2f} %" for column in zip(*left, strict=True)]
        less, more = sum(a < c for a, _, c in left), sum(a > c for a, _, c in left)
        lines.append(
            f"| {row.network} | {_radius(row)} | {row.attack} | {row.each(_passes)} | {len(shared)} "
            f"| {' | '.join(means)} | {less} / {more} | {row.each(_seconds)} |"
        )
    return "\n".join(lines)


def _left_at_the_end(result: Result) -> float:
    assert result.last_apsr is not None, "ours, within a radius"
    return 1 - result.last_apsr


def _radius(row: Row) -> str:
    assert row.eps is not None, "an attack within a radius"
    return f"{255 * row.eps:g}/255" + (" (l2)" if DUELS[row.attack].norm == "l2" else "")


def _passes(results: list[Result]) -> str:
    return f"{fmean(r.forwards for r in results):.0f} + {fmean(r.backwards for r in results):.0f}"


def _broken(results: list[Result]) -> str:
    return f"{sum(result.norm is not None for result in results)}/{len(results)}"


def _median_norm(results: list[Result], name: NormName) -> str:
    middle = median(norms_by_image(results).values())
    return f"{255 * middle:.3f}/255" if name == "linf" else f"{middle:.4g}"


def _seconds(results: list[Result]) -> str:
    return f"{median(result.seconds for result in results):.1f}"


def _described(result: Result) -> str:
    radius = "" if result.eps is None else f" at {255 * result.eps:g}/255"
    return (
        f"{result.network} image {result.sample_id} {result.attack}{radius}, {result.side}: "
        f"norm {result.norm}, wrong {result.apsr:.4f}"
    )


def stored(path: Path) -> ResultFile[Result]:
    """The measurements in a file."""
    return ResultFile(path=path, kind=Result, key=KEY)


def main(
    network: NetworkName = "camvid_standard",
    attacks: tuple[str, ...] = tuple(DUELS),
    images: int = 8,
    threads: int = 1,
    results: Path = RESULTS,
    table_only: bool = False,
) -> None:
    """Measures what is missing, then prints the tables of everything measured.

    Args:
        network: reference network.
        attacks: what to run, by the names of the tables.
        images: how many, spread over the second half of the validation set.
        threads: threads of torch.
        results: file of the measurements.
        table_only: only print the tables.
    """
    check_chosen(attacks, DUELS)
    torch.set_num_threads(threads)
    file = stored(results)
    if not table_only:
        keys = [
            (network, attack, sample_id, eps, side)
            for attack in attacks
            for sample_id in report_images(images)
            for eps in DUELS[attack].radii(network)
            for side in (("ours", "peer") if DUELS[attack].peer else ("ours",))
        ]
        file.complete(keys, measure, _described, known=known_elsewhere())
    found = rows([*known_elsewhere(), *file.read()])
    print(minimal_norm_table([row for row in found if row.eps is None]), end="\n\n")
    print(fixed_budget_table([row for row in found if row.eps is not None]))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
