"""Annealed PGD, robustness curves and the members of SEA on validation images of CamVid at 192x256.

Images are attacked as one batch, float32. Each result is a line of a JSON file, written when it exists; a second call
continues. A line holds the counts of every image, so that the table has the worst of several attacks: per image for
aAcc, and by the greedy choice of an evaluation for mIoU. Passes are (forwards + backwards) / 2 of an image, judging
included.

    SEGROBUST_CAMVID=... python -m benchmarks.curve.comparison --network camvid_robust --radii '[8, 4, 2, 1]'
    SEGROBUST_CAMVID=... python -m benchmarks.curve.comparison --table_only true
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from benchmarks.camvid import NetworkName, reference_network, report_sample
from benchmarks.choice import check_chosen
from segrobust.attacks import SEA, AnnealedPGD, Attack, AttackResult, Balanced, RobustnessCurve, SoftCount
from segrobust.evaluation.numbers.worst_case import lowest_miou
from segrobust.metrics import confusion_counts

RESULTS = Path(__file__).parents[1] / "results" / "curve.jsonl"
REPORTED = (51, 57, 63, 69, 76, 82, 88, 94)  # of the second half; the first half is for tuning
ATTACKS: dict[str, Attack] = {
    "annealed_pgd_50": AnnealedPGD(num_passes=50),
    "balanced_annealed_pgd_50": AnnealedPGD(num_passes=50, loss=Balanced(loss=SoftCount())),
    "curve_64": RobustnessCurve(num_passes=64),
    "curve_180": RobustnessCurve(num_passes=180),
    "balanced_curve_120": RobustnessCurve(num_passes=120, loss=Balanced(loss=SoftCount())),
    **{f"sea_100.{name}": member for name, member in SEA(num_steps=100).members.items()},
}
SEA_ROW = "SEA, 3 x 100 steps"
ROWS: dict[str, tuple[str, ...]] = {
    SEA_ROW: tuple(name for name in ATTACKS if name.startswith("sea_100.")),
    "`AnnealedPGD`, 50": ("annealed_pgd_50",),
    "`AnnealedPGD`, 50, and balanced, 50": ("annealed_pgd_50", "balanced_annealed_pgd_50"),
    "`RobustnessCurve`, 64 for all radii": ("curve_64",),
    "`RobustnessCurve`, 180 for all radii": ("curve_180",),
    "`RobustnessCurve`, 180, and balanced, 120": ("curve_180", "balanced_curve_120"),
}
Line = dict[str, Any]


def read(path: Path) -> list[Line]:
    """The lines so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(network: str, name: str, radii: tuple[float, ...], images: tuple[int, ...], path: Path) -> None:
    """Writes a line for each radius; a curve takes all of them in one search."""
    attack = ATTACKS[name]
    groups = [radii] if isinstance(attack, RobustnessCurve) else [(radius,) for radius in radii]
    model, (batch, labels) = reference_network(network), report_sample(*images)
    for group in groups:
        key = {"network": network, "attack": name, "radii": list(group), "images": list(images)}
        if any(key.items() <= line.items() for line in read(path)):
            continue
        if isinstance(attack, RobustnessCurve):
            curve = replace(attack, radii=tuple(radius / 255 for radius in group))
            results = curve.at_radii(model, batch, labels, sample_ids=images)
        else:
            results = (attack(model, batch, labels, eps=group[0] / 255, sample_ids=images),)
        with path.open("a") as file:
            for radius, result in zip(group, results, strict=True):
                file.write(json.dumps(key | {"radius": radius} | outcome(result, model, labels)) + "\n")


@torch.no_grad()
def outcome(result: AttackResult, model: nn.Module, labels: Tensor) -> Line:
    """Broken share and counts of each image, and passes of an image in the mean."""
    logits = model(result.adv)
    counts = confusion_counts(logits.argmax(1), labels, logits.shape[1], labels != 255)
    return {
        "apsr": [round(share, 6) for share in result.apsr.tolist()],
        "counts": torch.stack((counts.tp, counts.fp, counts.fn), 1).tolist(),
        "passes": (result.num_forwards + result.num_backwards).double().mean().item() / 2,
    }


def scores(lines: Sequence[Line]) -> tuple[float, float, float]:
    """Mean aAcc, mIoU^D and passes of the worst of several attacks, per cent."""
    apsr = np.array([line["apsr"] for line in lines])  # attacks x images
    counts = np.array([line["counts"] for line in lines]).swapaxes(0, 1)  # images x attacks x 3 x classes
    starts = [list(apsr.argmax(0)), *([i] * apsr.shape[1] for i in range(len(lines)))]
    chosen = lowest_miou([*counts], starts)
    tp, fp, fn = counts[np.arange(len(counts)), chosen].sum(0)
    present = tp + fp + fn > 0
    miou = (tp[present] / (tp + fp + fn)[present]).mean()
    return 100 * (1 - apsr.max(0)).mean(), 100 * miou, sum(line["passes"] for line in lines)


def table(lines: Iterable[Line]) -> str:
    """All rows whose attacks were run, in Markdown: aAcc / mIoU at each radius."""
    groups: dict[tuple[str, int, float], dict[str, list[Line]]] = {}
    for line in lines:
        at = groups.setdefault((line["network"], len(line["images"]), line["radius"]), {})
        at.setdefault(line["attack"], []).append(line)
    rows = ["| network | images | eps | attack | passes | aAcc | mIoU | images below SEA |", f"|{'---|' * 8}"]
    for (network, number, radius), attacks in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][2])):
        rows += _rows(f"| {network} | {number} | {radius:g}/255 |", attacks)
    return "\n".join(rows)


def _rows(start: str, attacks: Mapping[str, list[Line]]) -> Iterable[str]:
    rows = {text: members for text, members in ROWS.items() if all(member in attacks for member in members)}
    broken = {text: np.max([attacks[member][0]["apsr"] for member in members], 0) for text, members in rows.items()}
    for text, members in rows.items():
        accuracy, miou, passes = scores([attacks[member][0] for member in members])
        below = "-" if SEA_ROW not in broken or text == SEA_ROW else f"{(broken[text] > broken[SEA_ROW]).sum()}"
        yield f"{start} {text} | {passes:.0f} | {accuracy:.2f} | {miou:.2f} | {below} |"


def main(
    network: NetworkName = "camvid_robust",
    attacks: tuple[str, ...] = tuple(ATTACKS),
    radii: tuple[float, ...] = (8, 4, 2, 1),
    images: tuple[int, ...] = REPORTED,
    threads: int = 1,
    results: Path = RESULTS,
    table_only: bool = False,
) -> None:
    """Measures what is missing, then prints the table of everything in the file.

    Args:
        network: reference network.
        attacks: by the names of the table.
        radii: in units of 1/255.
        images: positions in the validation set.
        threads: threads of torch.
        results: file of the measurements.
        table_only: only print the table.
    """
    check_chosen(attacks, ATTACKS)
    torch.set_num_threads(threads)
    for name in () if table_only else attacks:
        measure(network, name, radii, images, results)
    print(table(read(results)))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
