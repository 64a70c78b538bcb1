"""Annealed PGD, robustness curves and SEA on validation images of CamVid at 192x256.

Images are attacked as one batch, float32. Each result is a line of a JSON file, written when it exists; a second call
continues. Passes are (forwards + backwards) / 2 of an image, judging included.

    SEGROBUST_CAMVID=... python -m benchmarks.curve.comparison --network camvid_robust --radii '[8, 4]'
    SEGROBUST_CAMVID=... python -m benchmarks.curve.comparison --table_only true
"""

import json
from pathlib import Path

import torch
from jsonargparse import auto_cli

from benchmarks.camvid import NetworkName, reference_network, report_sample
from benchmarks.choice import check_chosen
from segrobust.attacks import SEA, AnnealedPGD, Attack, AttackResult, RobustnessCurve

RESULTS = Path(__file__).parents[1] / "results" / "curve.jsonl"
REPORTED = (51, 63, 76, 88)  # of the second half; the first half is for tuning
ATTACKS: dict[str, Attack] = {
    "annealed_pgd_50": AnnealedPGD(num_passes=50),
    "annealed_pgd_100": AnnealedPGD(num_passes=100),
    "curve_120": RobustnessCurve(num_passes=120),
    "curve_180": RobustnessCurve(num_passes=180),
    "sea_100": SEA(num_steps=100),
}


def read(path: Path) -> list[dict[str, object]]:
    """The lines so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(network: str, name: str, radii: tuple[float, ...], images: tuple[int, ...], path: Path) -> None:
    """Writes a line for each radius; a curve takes all of them in one search."""
    whole, attack = name.startswith("curve"), ATTACKS[name]
    groups = [radii] if whole else [(radius,) for radius in radii]
    model, (batch, labels) = reference_network(network), report_sample(*images)
    for group in groups:
        key = {"network": network, "attack": name, "radii": list(group), "images": list(images)}
        if any(key.items() <= line.items() for line in read(path)):
            continue
        if isinstance(attack, RobustnessCurve):
            curve = RobustnessCurve(num_passes=attack.num_passes, radii=tuple(radius / 255 for radius in group))
            results = curve.at_radii(model, batch, labels, sample_ids=images)
        else:
            results = (attack(model, batch, labels, eps=group[0] / 255, sample_ids=images),)
        with path.open("a") as file:
            for radius, result in zip(group, results, strict=True):
                file.write(json.dumps(key | {"radius": radius} | outcome(result)) + "\n")


def outcome(result: AttackResult) -> dict[str, object]:
    """Accuracy that is left on each image, per cent, and passes of an image in the mean."""
    passes = (result.num_forwards + result.num_backwards).double().mean().item() / 2
    return {"accuracy": [round(100 * (1 - share), 3) for share in result.apsr.tolist()], "passes": passes}


def table(lines: list[dict[str, object]]) -> str:
    """Mean accuracy of all that was measured, in Markdown."""
    rows = ["| network | eps | attack | images | passes | aAcc | per image |", "|---|---|---|---|---|---|---|"]
    for line in sorted(
        lines, key=lambda each: (str(each["network"]), -float(str(each["radius"])), str(each["attack"]))
    ):
        left = [float(each) for each in json.loads(json.dumps(line["accuracy"]))]
        each = ", ".join(f"{value:.2f}" for value in left)
        rows.append(
            f"| {line['network']} | {line['radius']}/255 | {line['attack']} | {len(left)} | {line['passes']} "
            f"| {sum(left) / len(left):.2f} | {each} |"
        )
    return "\n".join(rows)


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
