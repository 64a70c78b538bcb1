"""What networks of several recipes withstand: SEA, minimal norms by 300 passes, and the checks.

Images of the second half of CamVid val at 192x256, spread evenly, float32; none of them was used to choose anything.
Each network is a folder as `train.py` leaves it. An evaluation is a run directory in that folder, which a second call
continues; its numbers become a card, `benchmarks/results/adversarial_training/<name>.json`, and the cards a table.

    SEGROBUST_CAMVID=... python -m benchmarks.adversarial_training.evaluation --runs '[runs/camvid_pgd_at]'
    python -m benchmarks.adversarial_training.evaluation
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jsonargparse import auto_cli

import segrobust
from benchmarks.camvid import reference_network, report_images
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
    clean_miou: float
    clean_accuracy: float
    worst_miou: float
    worst_accuracy: float
    norms: tuple[float | None, ...]
    failed_checks: tuple[str, ...]

    @classmethod
    def of(cls, name: str, report: Report, run_dir: Path) -> "Card":
        """From an evaluation by `measure`."""
        summary = report.summary
        assert summary.clean is not None, "the images have valid pixels"
        (worst,) = (scores for case in summary.worst_case for scores in case.scores if scores.eps == EPS)
        records = sorted((r for r in read_records(run_dir) if r.kind == "minimal-norm"), key=lambda r: r.sample_id)
        return cls(
            name=name,
            num_images=summary.num_images,
            clean_miou=100 * summary.clean.miou,
            clean_accuracy=100 * summary.clean.accuracy,
            worst_miou=100 * worst.miou,
            worst_accuracy=100 * worst.accuracy,
            norms=tuple(255 * r.norm if math.isfinite(r.norm) else None for r in records),
            failed_checks=tuple(check.name for check in report.checks if check.status == "fail"),
        )

    def geometric_mean(self) -> float:
        """Of the minimal norms; inf where the attack failed on an image."""
        if any(norm is None for norm in self.norms):
            return math.inf
        return math.exp(math.fsum(math.log(max(norm or 0, 1e-9)) for norm in self.norms) / len(self.norms))


def measure(run: Path, images: int) -> Card:
    """Evaluates the network of a training, or goes on with it."""
    network = reference_network(STANDARD)
    load_weights(network, run / "weights.safetensors")
    directory = run / "report_evaluation"
    report = segrobust.evaluate(
        network,
        ReportImages(images),
        attacks={
            "sea": SEA(num_steps=300, class_pixels=class_pixels(RESULTS.parent / "sea" / "class_pixels.json")),
            "lagrangian_fmn_300": LagrangianFMN(num_passes=300),
        },
        eps=(EPS,),
        run_dir=directory,
        panels=0,
    )
    return Card.of(run.name, report, directory)


def table(cards: list[Card]) -> str:
    """Cards in Markdown, most robust first; the standard network is what clean scores and norms are compared with."""
    standard = next((card for card in cards if card.name == STANDARD), None)
    lines = [
        "| network | images | clean mIoU^D | clean aAcc | SEA 4/255 mIoU^D | SEA 4/255 aAcc | kept of its clean mIoU "
        "| clean mIoU / standard | norm, geometric mean | norm / standard | failed checks |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for card in sorted(cards, key=lambda card: -card.worst_miou):
        against = ("-", "-")
        if standard is not None:
            against = (
                f"{card.clean_miou / standard.clean_miou:.2f}",
                f"{card.geometric_mean() / standard.geometric_mean():.1f}",
            )
        lines.append(
            f"| {card.name} | {card.num_images} | {card.clean_miou:.1f} | {card.clean_accuracy:.1f} "
            f"| {card.worst_miou:.1f} | {card.worst_accuracy:.1f} | {card.worst_miou / card.clean_miou:.2f} "
            f"| {against[0]} | {card.geometric_mean():.2f}/255 | {against[1]} "
            f"| {', '.join(card.failed_checks) or 'none'} |"
        )
    return "\n".join(lines)


def main(runs: list[Path] | None = None, images: int = 8, threads: int = 1, results: Path = RESULTS) -> None:
    """Measures networks, writes their cards, and prints the table of all cards.

    Args:
        runs: folders of trainings; none to print the table alone.
        images: how many, spread over the second half of the validation set.
        threads: threads of torch.
        results: folder of the cards.
    """
    torch.set_num_threads(threads)
    results.mkdir(parents=True, exist_ok=True)
    for run in runs or []:
        card = measure(run, images)
        (results / f"{card.name}.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
    cards = []
    for path in sorted(results.glob("*.json")):
        entry = json.loads(path.read_text())
        cards.append(Card(**entry | {key: tuple(entry[key]) for key in ("norms", "failed_checks")}))
    print(table(cards))


if __name__ == "__main__":
    auto_cli(main)
