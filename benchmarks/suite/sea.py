"""SEA, member by member, beside single losses under the same schedule, on CamVid.

Validation images at 192x256 of the second half, one at a time, float32; each member and loss is an attack of its own:
APGD with shrinking radius. The evaluation's records hold the confusion counts of every image, from which the accuracy
(per image the worst) and mIoU^D (greedy choice) of the ensemble are made. Each record is written when it exists; a
second call continues.

    SEGROBUST_CAMVID=... python -m benchmarks.suite.sea --network camvid_robust
    python -m benchmarks.suite.sea --network camvid_robust --table_only true
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jsonargparse import auto_cli

from benchmarks.camvid import NetworkName, reference_network, report_images
from benchmarks.choice import check_chosen
from segrobust import attacks as suite
from segrobust.attacks import Attack, CosPGDLoss, CrossEntropy, LogitCosine, Masked, SegPGDLoss, Tsallis
from segrobust.data import CamVid
from segrobust.evaluation.engine.runner import Outputs, run
from segrobust.evaluation.engine.work import StridedWork
from segrobust.evaluation.numbers.bootstrap import Bootstrap
from segrobust.evaluation.numbers.scores import scores
from segrobust.evaluation.numbers.worst_case import worst_for_accuracy, worst_for_miou
from segrobust.evaluation.plan import Job, Plan
from segrobust.evaluation.run.records import Record, RecordWriter, read_records

RESULTS = Path(__file__).parents[1] / "results" / "sea"
SIZE = (192, 256)
SINGLE_LOSSES = {
    "ce": CrossEntropy(),
    "segpgd": SegPGDLoss(),
    "cospgd": CosPGDLoss(),
    "msl": Masked(loss=LogitCosine()),
    "tsallis": Tsallis(),
}
MEMBERS = ("mce_balanced", "mce", "js")
NAMES = (*MEMBERS, *SINGLE_LOSSES)
ENSEMBLE = "SEA"


def class_pixels(path: Path) -> tuple[int, ...]:
    """Training pixels of each class, counted once and stored in a file."""
    if not path.exists():
        data = CamVid(split="train", size=SIZE)
        counts = torch.zeros(256, dtype=torch.int64)
        for i in range(len(data)):
            counts += torch.bincount(data[i]["mask"].flatten(), minlength=256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(counts[: data.label_space.num_classes].tolist()) + "\n")
    return tuple(json.loads(path.read_text()))


def contenders(num_steps: int, pixels: tuple[int, ...]) -> dict[str, Attack]:
    """Members of SEA, and single losses in the place of theirs."""
    members = suite.SEA(num_steps=num_steps, class_pixels=pixels).members
    schedule: Any = members["mce"]
    singles = {
        name: replace(schedule, attack=replace(schedule.attack, loss=loss)) for name, loss in SINGLE_LOSSES.items()
    }
    return {**members, **singles}


def measure(network_name: str, plan: Plan, samples: Sequence[int], directory: Path) -> None:
    """Measures what is missing."""
    with RecordWriter(directory) as writer:
        records = run(
            reference_network(network_name),
            CamVid(split="val", size=SIZE),
            plan,
            work=StridedWork(samples),
            done=read_records(directory),
            outputs=Outputs(writer=writer),
        )
        deque(map(_print, records), maxlen=0)


def _print(record: Record) -> None:
    radius = "" if record.eps is None else f" at {255 * record.eps:g}/255"
    print(
        f"image {record.sample_id} {record.attack}{radius}: wrong {record.apsr:.4f}, {record.seconds:.0f} s", flush=True
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """What an attack, or a choice among several, leaves of a network at one radius; shares of 1."""

    name: str
    num_images: int
    accuracy: float
    miou: float
    passes: str = "-"
    seconds: str = "-"


def rows(records: Sequence[Record], plan: Plan, eps: float) -> list[Row]:
    """A row per attack measured at this radius, and one of SEA, over the images that all of them have."""
    found = {job.name: {r.sample_id: r for r in records if (r.digest, r.eps) == (job.digest, eps)} for job in plan.jobs}
    found = {"clean": {r.sample_id: r for r in records if r.kind == "clean"}} | {k: v for k, v in found.items() if v}
    shared = sorted(set.intersection(*(set(by_image) for by_image in found.values())))
    if not shared or len(found) == 1:
        return []
    common = {name: [by_image[i] for i in shared] for name, by_image in found.items()}
    made = [_row(name, [mine], mine, mine) for name, mine in common.items()]
    if common.keys() >= set(MEMBERS):
        members = [common[name] for name in MEMBERS]
        candidates = list(zip(*members, strict=True))
        made.insert(1, _row(ENSEMBLE, members, worst_for_accuracy(candidates), worst_for_miou(candidates)))
    return made


def _row(name: str, runs: Sequence[list[Record]], for_accuracy: list[Record], for_miou: list[Record]) -> Row:
    """A row from the records chosen for either score; passes and seconds are those of all runs."""

    def per_image(field: str) -> float:
        return sum(fmean(getattr(record, field) for record in of_run) for of_run in runs)

    return Row(
        name=name,
        num_images=len(for_accuracy),
        accuracy=scores(for_accuracy, 0.0, "", Bootstrap.of(for_accuracy)).accuracy,
        miou=scores(for_miou, 0.0, "", Bootstrap.of(for_miou)).miou,
        passes=f"{per_image('num_forwards'):.0f} + {per_image('num_backwards'):.0f}",
        seconds=f"{per_image('seconds'):.0f}",
    )


def table(network: str, by_radius: dict[float, list[Row]]) -> str:
    """Rows in Markdown."""
    lines = [
        "| network | eps | attack | images | forwards + backwards | aAcc | mIoU^D | s/image |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {network} | {radius:g}/255 | {row.name} | {row.num_images} | {row.passes} "
        f"| {100 * row.accuracy:.2f} | {100 * row.miou:.2f} | {row.seconds} |"
        for radius, found in by_radius.items()
        for row in found
    ]
    return "\n".join(lines)


def checks(found: list[Row]) -> Iterator[str]:
    """Whether SEA is below each of its members, and how the losses stand to each other."""
    by_name = {row.name: row for row in found}
    if ENSEMBLE in by_name:
        members = [by_name[name] for name in MEMBERS]
        for score, short in (("accuracy", "aAcc"), ("miou", "mIoU^D")):
            worst, best = getattr(by_name[ENSEMBLE], score), min(getattr(row, score) for row in members)
            verdict = "below all" if worst < best else "equal to the best" if worst == best else "ABOVE THE BEST"
            yield f"{short}: SEA {100 * worst:.2f}, best member {100 * best:.2f}: {verdict}"
    losses = sorted((row for row in found if row.name in NAMES), key=lambda row: row.accuracy)
    yield "aAcc by loss, strongest first: " + ", ".join(f"{row.name} {100 * row.accuracy:.2f}" for row in losses)
    if "ce" in by_name and len(losses) > 1:
        stronger = [row.name for row in losses if row.accuracy < by_name["ce"].accuracy]
        yield f"stronger than plain cross-entropy: {', '.join(stronger) or 'none'}; of {len(losses) - 1} losses"


def main(
    network: NetworkName = "camvid_robust",
    attacks: tuple[str, ...] = NAMES,
    radii: tuple[float, ...] = (4, 8, 12),
    images: int = 16,
    steps: int = 300,
    threads: int = 1,
    results: Path = RESULTS,
    table_only: bool = False,
) -> None:
    """Measures what is missing, then prints the table of everything measured with this number of steps.

    Args:
        network: reference network.
        attacks: members of SEA and single losses to run, by the names of the table.
        radii: in units of 1/255.
        images: how many, spread over the second half of the validation set.
        steps: of each attack.
        threads: threads of torch.
        results: folder of the measurements, and the training pixels of each class.
        table_only: only print the table.
    """
    check_chosen(attacks, NAMES)
    torch.set_num_threads(threads)
    eps = {radius: radius / 255 for radius in radii}
    known = contenders(steps, class_pixels(results / "class_pixels.json"))
    plan = Plan(jobs=tuple(Job(name=name, attack=known[name], eps=tuple(eps.values())) for name in NAMES))
    directory = results / network
    if not table_only:
        chosen = Plan(jobs=tuple(job for job in plan.jobs if job.name in attacks))
        measure(network, chosen, report_images(images), directory)
    records = read_records(directory)
    by_radius = {radius: rows(records, plan, value) for radius, value in eps.items()}
    print(table(network, by_radius), end="\n\n")
    for radius, found in by_radius.items():
        for line in checks(found):
            print(f"{radius:g}/255, {line}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
