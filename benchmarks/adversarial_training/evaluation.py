"""What networks of several recipes withstand: SEA, minimal norms by 300 passes, and the checks.

Images of the second half of CamVid val at 192x256, spread evenly, float32; none of them was used to choose anything.
Each network is a reference network or a folder as `train.py` leaves it. An evaluation is a run directory in that
folder, which a second call continues; its numbers become a card, `benchmarks/results/adversarial_training/<name>.json`,
and the cards a table with one row per recipe and length, where seeds are averaged.

    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.evaluation --networks '[camvid_standard]'
    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.evaluation --networks '[runs/my_run]' --sea_steps 300
    python -m benchmarks.adversarial_training.evaluation
"""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import torch
from jsonargparse import auto_cli

import segrobust
from benchmarks.camvid import NetworkName, reference_network, report_images
from benchmarks.suite.sea import class_pixels
from segrobust.attacks import SEA, LagrangianFMN
from segrobust.data import CamVid
from segrobust.data.base import Sample
from segrobust.evaluation import Report, read_records
from segrobust.networks import load_weights

RESULTS = Path(__file__).parents[1] / "results" / "adversarial_training"
SIZE = (192, 256)
EPS = 4 / 255
STANDARD = "camvid_standard"


class ReportImages:
    """The images that are reported on."""

    def __init__(self, number: int) -> None:
        self._all = CamVid(split="val", size=SIZE)
        self._chosen = report_images(number)
        self.names = tuple(self._all.names[i] for i in self._chosen)
        self.label_space = self._all.label_space

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int, /) -> Sample:
        return self._all[self._chosen[index]]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What was measured of one network; scores in percent, norms in x/255 (None where the attack failed)."""

    name: str
    num_images: int
    sea_steps: int
    clean_miou: float
    clean_accuracy: float
    worst_miou: float
    worst_accuracy: float
    norms: tuple[float | None, ...]
    failed_checks: tuple[str, ...]

    @classmethod
    def of(cls, name: str, sea_steps: int, report: Report, run_dir: Path) -> "Card":
        """From an evaluation by `measure`."""
        summary = report.summary
        assert summary.clean is not None, "the images have valid pixels"
        (worst,) = (scores for case in summary.worst_case for scores in case.scores if scores.eps == EPS)
        records = sorted((r for r in read_records(run_dir) if r.kind == "minimal-norm"), key=lambda r: r.sample_id)
        return cls(
            name=name,
            num_images=summary.num_images,
            sea_steps=sea_steps,
            clean_miou=100 * summary.clean.miou,
            clean_accuracy=100 * summary.clean.accuracy,
            worst_miou=100 * worst.miou,
            worst_accuracy=100 * worst.accuracy,
            norms=tuple(255 * r.norm if math.isfinite(r.norm) else None for r in records),
            failed_checks=tuple(check.name for check in report.checks if check.status == "fail"),
        )

    @property
    def recipe(self) -> str:
        """The name without the seed."""
        return self.name.partition("-seed")[0]

    def geometric_mean(self) -> float:
        """Of the minimal norms; inf where the attack failed on an image."""
        if any(norm is None for norm in self.norms):
            return math.inf
        return math.exp(math.fsum(math.log(max(norm or 0, 1e-9)) for norm in self.norms) / len(self.norms))


def measure(name: str, images: int, sea_steps: int) -> Card:
    """Evaluates a reference network, or the network in the folder of a training; or goes on with it."""
    folder = Path(name)
    if name in get_args(NetworkName):
        network, folder = reference_network(name), Path("runs", name)
    else:
        network = reference_network(STANDARD)
        load_weights(network, folder / "weights.safetensors")
    directory = folder / f"sea{sea_steps}_on_{images}_images"
    report = segrobust.evaluate(
        network,
        ReportImages(images),
        attacks={
            "sea": SEA(num_steps=sea_steps, class_pixels=class_pixels(RESULTS.parent / "sea" / "class_pixels.json")),
            "lagrangian_fmn_300": LagrangianFMN(num_passes=300),
        },
        eps=(EPS,),
        run_dir=directory,
        panels=0,
    )
    return Card.of(folder.name, sea_steps, report, directory)


def table(cards: list[Card]) -> str:
    """Cards in Markdown, most robust first, a row for all seeds of a recipe: means, and ranges in brackets."""
    standard = next((card for card in cards if card.name == STANDARD), None)
    lines = [
        "| network | seeds | images | SEA steps | clean mIoU^D | clean aAcc | SEA 4/255 mIoU^D | SEA 4/255 aAcc "
        "| kept of its clean mIoU | clean mIoU / standard | norm in x/255 | norm / standard | failed checks |",
        "|" + "---|" * 13,
    ]
    rows: dict[tuple[str, int, int], list[Card]] = {}
    for card in cards:
        rows.setdefault((card.recipe, card.num_images, card.sea_steps), []).append(card)
    for (recipe, images, steps), group in sorted(rows.items(), key=lambda row: -_mean(c.worst_miou for c in row[1])):
        scores = (
            _cell([card.clean_miou for card in group]),
            _cell([card.clean_accuracy for card in group]),
            _cell([card.worst_miou for card in group]),
            _cell([card.worst_accuracy for card in group]),
            _cell([card.worst_miou / card.clean_miou for card in group], digits=2),
            "-" if standard is None else _cell([c.clean_miou / standard.clean_miou for c in group], digits=2),
            _cell([card.geometric_mean() for card in group], digits=2),
            "-" if standard is None else _cell([c.geometric_mean() / standard.geometric_mean() for c in group]),
            ", ".join(sorted({check for card in group for check in card.failed_checks})) or "none",
        )
        lines.append(f"| {recipe} | {len(group)} | {images} | {steps} | {' | '.join(scores)} |")
    return "\n".join(lines)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _cell(values: list[float], digits: int = 1) -> str:
    mean = f"{_mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.{digits}f}, {max(values):.{digits}f}]"


def read_cards(results: Path) -> list[Card]:
    """All cards of a folder."""
    cards = []
    for path in sorted(results.glob("*.json")):
        entry = json.loads(path.read_text())
        cards.append(Card(**entry | {key: tuple(entry[key]) for key in ("norms", "failed_checks")}))
    return cards


def main(
    networks: tuple[str, ...] = (), images: int = 8, sea_steps: int = 100, threads: int = 1, results: Path = RESULTS
) -> None:
    """Measures networks, writes their cards, and prints the table of all cards.

    Args:
        networks: reference networks by name, or folders of trainings; none to print the table alone.
        images: how many, spread over the second half of the validation set.
        sea_steps: gradient steps of each member of SEA; the paper takes 300.
        threads: threads of torch.
        results: folder of the cards.
    """
    torch.set_num_threads(threads)
    results.mkdir(parents=True, exist_ok=True)
    for name in networks:
        card = measure(name, images, sea_steps)
        (results / f"{card.name}.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
    print(table(read_cards(results)))


if __name__ == "__main__":
    auto_cli(main)
