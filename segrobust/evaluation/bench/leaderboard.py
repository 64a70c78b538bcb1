"""The leaderboard: the numbers of a bench as a page of Markdown."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import torch

from segrobust.evaluation.bench.bench_consistency import read_bench
from segrobust.evaluation.bench.bench_file import BenchFile, bench_files
from segrobust.evaluation.reporting.format import norm_text, percent, radius_text
from segrobust.evaluation.reporting.markdown import markdown_table
from segrobust.metrics import quantiles
from segrobust.untrusted.printable import for_markdown

_HEAD: Final = """\
# Worst known

Written from `bench/*.json` by `segrobust bench page`; [The bench](bench.md) says what the numbers are and how to lower
them. All are upper bounds on the robustness of these networks on these images. Passes are forwards + backwards that the
attack spent on the image.
"""


def leaderboard(folder: Path) -> str:
    """The page of a bench: a part for each of its files.

    Raises:
        ValueError: the folder holds no bench, or a damaged file.
    """
    parts = (part for path in bench_files(folder) for part in _parts(read_bench(path)))
    return "\n\n".join((_HEAD.rstrip(), *parts)) + "\n"


def _parts(bench: BenchFile) -> Iterator[str]:
    yield f"## {for_markdown(bench.network)}, {bench.norm_name}"
    yield (
        f"{for_markdown(bench.data)}; {len(bench.images)} images; {for_markdown(bench.criterion)}; weights "
        f"`{bench.weights[:16]}`."
    )
    if bench.radii:
        yield markdown_table(
            ("radius", "aAcc, %", "mIoU^D, %", "found by (images: aAcc; mIoU^D)"),
            (
                (
                    radius_text(cell.eps, bench.norm_name),
                    percent(cell.accuracy, 2),
                    percent(cell.miou, 2),
                    f"{_finders(bench, cell.worst_accuracy)}; {_finders(bench, cell.worst_miou)}",
                )
                for cell in bench.radii
            ),
        )
    yield markdown_table(("image", "norm", "found by", "passes", "slack, pixels", "too close to call"), _norms(bench))
    norms = torch.tensor([*bench.envelope.values()], dtype=torch.float64)
    yield f"Median of the norms: {norm_text(quantiles(norms, (0.5,))[0], bench.norm_name)}."


def _norms(bench: BenchFile) -> Iterator[Sequence[str]]:
    for image, witness in zip(bench.images, bench.norms, strict=True):
        if witness is None:
            yield image.name, "not reached", "-", "-", "-", "-"
            continue
        entry = bench.by_witness[witness]
        norm = f"{255 * entry.norm:.4f}/255" if bench.norm_name == "linf" else f"{entry.norm:.5g}"
        passes = f"{entry.num_forwards}+{entry.num_backwards}"
        yield image.name, norm, entry.attack, passes, str(entry.slack), str(entry.close)


def _finders(bench: BenchFile, witnesses: Sequence[str]) -> str:
    found = Counter(bench.by_witness[witness].attack for witness in witnesses)
    return ", ".join(
        f"{attack} {number}" for attack, number in sorted(found.items(), key=lambda each: (-each[1], each[0]))
    )
