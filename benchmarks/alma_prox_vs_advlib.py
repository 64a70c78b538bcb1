"""ALMA-prox of the toolkit against the released code, on real images: norms, passes, seconds per step.

Both attack the same CamVid validation images at 192x256, one at a time, in float32, until 99 % of the valid pixels are
wrong. Each result is written when it exists; a second call continues.

    SEGROBUST_CAMVID=... python -m benchmarks.alma_prox_vs_advlib --network camvid_standard
    python -m benchmarks.alma_prox_vs_advlib --table_only true
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import auto_cli

from benchmarks.advlib import attack_published, published_alma_prox
from benchmarks.camvid import NetworkName, attack_ours, judge, reference_network, report_images, report_sample
from benchmarks.stored import ResultFile, norm_ratio, norms_by_image
from segrobust.attacks import AlmaProx
from segrobust.metrics import asr, quantiles

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "alma_prox_vs_advlib.jsonl"

VARIANTS = {
    "default": AlmaProx(),
    "published": AlmaProx(penalty_derivative="published", full_denominator_gradient=True),
    "exact-derivative": AlmaProx(full_denominator_gradient=True),
    "guarded-denominator": AlmaProx(penalty_derivative="published"),
}
AttackName = Literal["adv-lib", "default", "published", "exact-derivative", "guarded-denominator"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One attack on one image; `norm` is null where it failed."""

    network: str
    attack: str
    steps: int
    sample_id: int
    norm: float | None
    apsr: float
    forwards: int
    backwards: int
    seconds: float


def measure(network_name: str, attack_name: AttackName, steps: int, sample_id: int) -> Result:
    """Attacks one image and judges it by one more pass, alike for both sides."""
    network = reference_network(network_name)
    images, labels = report_sample(sample_id)
    before = time.perf_counter()
    if attack_name == "adv-lib":
        adv, forwards, backwards = attack_published(published_alma_prox(), network, images, labels, num_steps=steps)
    else:
        attack = replace(VARIANTS[attack_name], num_steps=steps)
        adv, (forwards,), (backwards,) = attack_ours(attack, network, images, labels)
    seconds = time.perf_counter() - before
    norm, apsr = judge(network, images, labels, adv)
    return Result(
        network=network_name,
        attack=attack_name,
        steps=steps,
        sample_id=sample_id,
        norm=norm,
        apsr=apsr,
        forwards=forwards,
        backwards=backwards,
        seconds=seconds,
    )


STORED = ResultFile(path=RESULTS, kind=Result, key=("network", "attack", "steps", "sample_id"))


def table(results: list[Result]) -> str:
    """A row per network and attack, in Markdown."""
    rows = [
        "| network | attack | images | ASR | median norm | norm / adv-lib (images both break) "
        "| only this / only adv-lib | forwards + backwards | s/step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for network in sorted({result.network for result in results}):
        mine = [result for result in results if result.network == network]
        by_attack = {
            name: [result for result in mine if result.attack == name]
            for name in dict.fromkeys(result.attack for result in mine)
        }
        published = norms_by_image(by_attack.get("adv-lib", []))
        for name, runs in by_attack.items():
            norms = norms_by_image(runs)
            ratio = "-"
            counts = "-"
            compared = norm_ratio(norms, published)
            if compared is not None and name != "adv-lib":
                ratio = f"{compared.ratio:.3f} ({compared.num_both})"
                counts = f"{compared.num_only_a} / {compared.num_only_b}"
            values = torch.tensor(list(norms.values()))
            (median,) = quantiles(values, (0.5,))
            seconds = sorted(result.seconds / result.backwards for result in runs)[len(runs) // 2]
            passes = f"{runs[0].forwards} + {runs[0].backwards}"
            found = f"{100 * asr(values):.0f} % | {255 * median:.3f}/255"
            rows.append(
                f"| {network} | {name} | {len(runs)} | {found} | {ratio} | {counts} | {passes} | {seconds:.3f} |"
            )
    return "\n".join(rows)


def main(
    network: NetworkName = "camvid_standard",
    attacks: tuple[AttackName, ...] = ("adv-lib", "default", "published"),
    images: int = 16,
    steps: int = 500,
    threads: int = 1,
    table_only: bool = False,
) -> None:
    """Measures what is missing, then prints the table of everything measured with this number of steps.

    Args:
        network: reference network.
        attacks: what to run.
        images: how many, spread over the second half of the validation set.
        steps: iterations of each attack.
        threads: threads of torch.
        table_only: only print the table.
    """
    torch.set_num_threads(threads)
    if not table_only:
        STORED.complete(
            [(network, attack, steps, sample_id) for sample_id in report_images(images) for attack in attacks],
            measure,
            lambda r: f"{r.network} image {r.sample_id} {r.attack}: norm {r.norm and r.norm * 255}",
        )
    print(table([result for result in STORED.read() if result.steps == steps]))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
