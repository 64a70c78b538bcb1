"""All minimal-norm attacks at hand on the same images: norms, success and passes, ours and published code.

CamVid validation images of the second half at 192x256, float32, until 99 % of the valid pixels are wrong. Each result
is written when it exists; a second call continues.

    SEGROBUST_CAMVID=... python -m benchmarks.minimal_norm.contest --network camvid_standard
    SEGROBUST_CAMVID=... python -m benchmarks.minimal_norm.contest --network camvid_transformer --device cuda --batch 16
    python -m benchmarks.minimal_norm.contest --table_only true
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from benchmarks.advlib import attack_published, published_alma_prox, published_dag, published_pdpgd
from benchmarks.camvid import NetworkName, attack_ours, judge_each, reference_network, report_images, report_sample
from benchmarks.choice import check_chosen
from benchmarks.stored import ResultFile, norm_ratio, norms_by_image, shared_norms
from benchmarks.suite import against_peers
from benchmarks.suite.duels import ALMA_PROX
from segrobust.attacks import (
    APGD,
    PDPGD,
    PGD,
    AlmaProx,
    Attack,
    CalibratedAlmaProx,
    LagrangianFMN,
    Masked,
    MinimalNormSearch,
    WarmStarted,
)
from segrobust.functional.modes import full_precision_products

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "minimal_norm.jsonl"
PICTURE = HERE / "norm_against_passes.png"
BASELINE = "adv-lib alma_prox 500"
FARTHEST = 6  # medians beyond that many times the smallest are in the table alone

Contender = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, list[int], list[int]]]
"""Network, images and labels to adversarial images, and the forwards and backwards of each."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One attack on one image; `norm` is null where it failed."""

    network: str
    attack: str
    sample_id: int
    norm: float | None
    apsr: float
    forwards: int
    backwards: int


def _ours(attack: Attack) -> Contender:
    return lambda network, images, labels: attack_ours(attack, network, images, labels)


def _published(attack: Callable[[], Callable[..., Tensor]], **settings: float) -> Contender:
    def contend(network: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, list[int], list[int]]:
        adv, forwards, backwards = attack_published(attack(), network, images, labels, **settings)
        return adv, [forwards] * len(adv), [backwards] * len(adv)

    return contend


CONTENDERS: dict[str, Contender] = {
    **{f"LagrangianFMN {n}": _ours(LagrangianFMN(num_passes=n)) for n in (25, 50, 100, 300)},
    **{
        f"calibrated AlmaProx {n}": _ours(
            WarmStarted(first=LagrangianFMN(num_passes=n // 4), attack=CalibratedAlmaProx(num_steps=n - n // 4 - 1))
        )
        for n in (100, 300)
    },
    **{f"AlmaProx {n}": _ours(AlmaProx(num_steps=n)) for n in (100, 500)},
    "AlmaProx 500, step 1e-2": _ours(AlmaProx(step_size=1e-2)),
    "PDPGD 500": _ours(PDPGD(num_steps=500)),
    "search over PGD 13 x 40, masked": _ours(MinimalNormSearch(attack=PGD(num_steps=40, loss=Masked()))),
    "search over APGD 13 x 40, masked": _ours(MinimalNormSearch(attack=APGD(num_steps=40, loss=Masked()))),
    BASELINE: _published(published_alma_prox),
    "adv-lib alma_prox 500, lr 1e-2": _published(published_alma_prox, lr_init=1e-2),
    "adv-lib pdpgd 500, lr 1e-2": _published(published_pdpgd, norm=math.inf, primal_lr=1e-2),
    "adv-lib dag 200, step 3e-3": _published(published_dag, p=math.inf, γ=3e-3),
}


ELSEWHERE: dict[tuple[str, against_peers.Side], str] = {
    (ALMA_PROX, "ours"): "AlmaProx 500",
    (ALMA_PROX, "peer"): BASELINE,
    ("PDPGD linf 500", "ours"): "PDPGD 500",
    ("PDPGD linf 500", "peer"): "adv-lib pdpgd 500, lr 1e-2",
    ("DAG linf 3e-3", "peer"): "adv-lib dag 200, step 3e-3",
}
"""Duels of the suite on some of these images, and what their sides are called here."""


def known_elsewhere() -> list[Result]:
    """What the suite has measured on these images with the same settings."""
    return [
        Result(
            network=result.network,
            attack=ELSEWHERE[result.attack, result.side],
            sample_id=result.sample_id,
            norm=result.norm,
            apsr=result.apsr,
            forwards=result.forwards,
            backwards=result.backwards,
        )
        for result in (*against_peers.known_elsewhere(), *against_peers.stored(against_peers.RESULTS).read())
        if (result.attack, result.side) in ELSEWHERE
    ]


def measure(network_name: str, attack: str, sample_ids: Sequence[int], device: str) -> list[Result]:
    """Attacks some images together and judges them by one more pass, alike for all attacks."""
    network = reference_network(network_name).to(device)
    images, labels = (tensor.to(device) for tensor in report_sample(*sample_ids))
    with full_precision_products():  # published code and the judge too: a GPU convolves in TF32 by default
        adv, forwards, backwards = CONTENDERS[attack](network, images, labels)
        judged = judge_each(network, images, labels, adv)
    return [
        Result(
            network=network_name,
            attack=attack,
            sample_id=sample_id,
            norm=norm,
            apsr=apsr,
            forwards=num_forwards,
            backwards=num_backwards,
        )
        for sample_id, (norm, apsr), num_forwards, num_backwards in zip(
            sample_ids, judged, forwards, backwards, strict=True
        )
    ]


STORED = ResultFile(path=RESULTS, kind=Result, key=("network", "attack", "sample_id"))


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one attack did to the images of one network; norms in x/255, inf where it failed."""

    network: str
    attack: str
    norms: dict[int, float]
    forwards: float
    backwards: float

    @property
    def num_broken(self) -> int:
        """Images broken."""
        return sum(math.isfinite(norm) for norm in self.norms.values())

    def ratio(self, other: "Row") -> tuple[float, float, int]:
        """Geometric mean and largest ratio of norms over the images that both break, and their number."""
        compared = norm_ratio(self.norms, other.norms)
        if compared is None or not compared.num_both:
            return math.nan, math.nan, 0
        mine, theirs = shared_norms(self.norms, other.norms)
        ratios = (mine / theirs)[(mine + theirs).isfinite()]
        return compared.ratio, ratios.max().item(), compared.num_both


def rows(results: list[Result]) -> list[Row]:
    """A row per network and attack, in the order of the contenders."""
    found = []
    for network in sorted({result.network for result in results}):
        for attack in CONTENDERS:
            mine = [result for result in results if (result.network, result.attack) == (network, attack)]
            if mine:
                found.append(
                    Row(
                        network=network,
                        attack=attack,
                        norms={i: 255 * norm for i, norm in norms_by_image(mine).items()},
                        forwards=sum(r.forwards for r in mine) / len(mine),
                        backwards=sum(r.backwards for r in mine) / len(mine),
                    )
                )
    return found


def table(found: list[Row]) -> str:
    """Rows in Markdown."""
    lines = [
        "| network | attack | forwards + backwards | broken | median norm "
        "| norm / adv-lib 500 (images both break) | largest ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    baselines = {row.network: row for row in found if row.attack == BASELINE}
    for row in found:
        mean, largest, number = (
            row.ratio(baselines[row.network]) if row.network in baselines else (math.nan,) * 2 + (0,)
        )
        compared = f"{mean:.3f} ({number}) | {largest:.2f}" if number else "- | -"
        lines.append(
            f"| {row.network} | {row.attack} | {row.forwards:.0f} + {row.backwards:.0f} "
            f"| {row.num_broken}/{len(row.norms)} | {median(row.norms.values()):.3f}/255 | {compared} |"
        )
    return "\n".join(lines)


def draw(found: list[Row], path: Path) -> None:
    """Median norm (where not far above the smallest) and share broken against passes, a column of axes per network."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    networks = sorted({row.network for row in found})
    figure = Figure(figsize=(5.6 * len(networks), 7), layout="constrained")
    grid = figure.subplots(2, len(networks), squeeze=False, sharex=True)
    families = dict.fromkeys(_family(row.attack) for row in found)
    colors = (*(f"C{i}" for i in range(10)), "black", "gold")
    styles = {family: (colors[i], "os^Dv<>Pp*hX"[i]) for i, family in enumerate(families)}
    for column, network in enumerate(networks):
        norms, broken = grid[0, column], grid[1, column]
        for family, (color, marker) in styles.items():
            mine = [row for row in found if row.network == network and _family(row.attack) == family]
            mine.sort(key=lambda row: row.forwards + row.backwards)
            passes = [(row.forwards + row.backwards) / 2 for row in mine]
            medians = [median(row.norms.values()) for row in mine]
            shares = [100 * row.num_broken / len(row.norms) for row in mine]
            norms.plot(passes, [m if math.isfinite(m) else math.nan for m in medians], color=color, marker=marker)
            broken.plot(passes, shares, color=color, marker=marker, label=family)
        norms.set(title=network, yscale="log", ylabel="median l_inf norm, units of 1/255")
        medians = [median(row.norms.values()) for row in found if row.network == network]
        farthest = max(m for m in medians if m <= FARTHEST * min(medians))
        norms.set_ylim(0.9 * min(medians), 1.15 * farthest)
        norms.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7)))
        norms.yaxis.set_major_formatter(ScalarFormatter())
        norms.yaxis.set_minor_locator(NullLocator())
        broken.set(xscale="log", xlabel="passes (forwards + backwards) / 2", ylabel="images broken, %", ylim=(-5, 105))
        broken.set_xticks([25, 50, 100, 200, 500], labels=["25", "50", "100", "200", "500"])
        broken.xaxis.set_minor_locator(NullLocator())
        for axes in (norms, broken):
            axes.grid(alpha=0.3)
    grid[1, -1].legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=110)


def _family(attack: str) -> str:
    """An attack without its number of passes."""
    return " ".join(word for word in attack.split() if word != "x" and not word.strip(",").isdigit())


def main(
    network: NetworkName = "camvid_standard",
    attacks: tuple[str, ...] = tuple(CONTENDERS),
    images: int = 16,
    threads: int = 1,
    device: str = "cpu",
    batch: int = 1,
    table_only: bool = False,
) -> None:
    """Measures what is missing, then prints the table of everything measured and draws it.

    Args:
        network: reference network.
        attacks: contenders to run, by the names of the table.
        images: how many, spread over the second half of the validation set.
        threads: threads of torch.
        device: of torch, such as `cuda`.
        batch: images attacked together.
        table_only: only print the table and draw.
    """
    check_chosen(attacks, CONTENDERS)
    torch.set_num_threads(threads)
    if not table_only:
        measured = {(r.network, r.attack, r.sample_id) for r in (*known_elsewhere(), *STORED.read())}
        for attack in attacks:
            missing = [i for i in report_images(images) if (network, attack, i) not in measured]
            for start in range(0, len(missing), batch):
                for result in measure(network, attack, missing[start : start + batch], device):
                    STORED.append(result)
                    norm = "failed" if result.norm is None else f"{255 * result.norm:.3f}/255"
                    print(f"{network} image {result.sample_id} {attack}: {norm}", flush=True)
    found = rows([*known_elsewhere(), *STORED.read()])
    print(table(found))
    draw(found, PICTURE)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
