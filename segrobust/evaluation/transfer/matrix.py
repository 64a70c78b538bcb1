"""Transfer of adversarial images between networks: source networks in rows, judging networks in columns."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from segrobust.evaluation.numbers.metrics import METRICS, UNITS, in_units
from segrobust.evaluation.numbers.scores import compute
from segrobust.evaluation.plan import Radius
from segrobust.evaluation.reporting.format import in_units_of, percent, plain_text, radius_text
from segrobust.evaluation.reporting.run_files import read_manifest
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.changed_samples import find_changed
from segrobust.evaluation.run.consistency import read_run_records
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import CLEAN, Key, Record, digests_of, name_samples, read_records
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.transfer.transfer_result import TargetNetwork, judgements_of
from segrobust.functional.norms import NormName
from segrobust.value_range import ValueRange

TRANSFER_SCHEMA: Final = 2
"""Version of the format of `transfer.json`."""

_WIDTH: Final = 10_000  # of the console, so that wide tables are not cut
_SHARES: Final = ("miou", "accuracy", "asr")
_SAME: Final = ("ignore_index", "criterion")


@dataclass(frozen=True, kw_only=True)
class TransferCell:
    """Scores of one network on the images of a row; shares in [0, 1].

    Attributes:
        miou: mIoU^D.
        accuracy: aAcc.
        asr: share of images that are broken.
        is_source: whether the images were made against this network.
    """

    miou: float
    accuracy: float
    asr: float
    is_source: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """Images made against one network by one attack at one radius.

    Attributes:
        source: name of the network.
        attack: name of the job; "clean" for the clean images.
        digest: of the attack; "clean" for the clean images.
        norm_name: norm of the attack; None if clean.
        eps: radius, or "min"; None if clean.
        num_images: images behind the numbers, the same for all judges.
        cells: one per judge; None where it judged none of these.
    """

    source: str
    attack: str
    digest: str
    norm_name: NormName | None
    eps: Radius | None
    num_images: int
    cells: tuple[TransferCell | None, ...]

    @property
    def label(self) -> str:
        """Attack and radius as text."""
        if self.norm_name is None or self.eps is None:
            return self.attack
        return f"{self.attack} {'minimal norm' if self.eps == 'min' else radius_text(self.eps, self.norm_name)}"


@dataclass(frozen=True, kw_only=True)
class TransferMatrix:
    """Scores of networks on the adversarial images of others; `print(matrix)` shows a table.

    Within a row, all numbers are over the same images: those that the run stored, that every judge of the row has
    evaluated, and that have no flag.

    Attributes:
        judges: names of the judging networks.
        weights: digests of their weights.
        rows: per source network its clean images, then its attacks.
        value_range: of the images, for radii in the sensor's units; None if the data do not say.
        schema: version of the format.
    """

    judges: tuple[str, ...]
    weights: tuple[str, ...]
    rows: tuple[Row, ...]
    value_range: ValueRange | None = None
    schema: int = TRANSFER_SCHEMA

    def to_dict(self) -> dict[str, object]:
        """Nested dictionaries and lists, for JSON: shares in percent, as `units` says."""
        limits = None if self.value_range is None else self.value_range.to_list()
        plain = in_units(asdict(replace(self, value_range=None)))
        return {**plain, "value_range": limits, "units": {key: UNITS[key] for key in _SHARES}}

    def renderable(self) -> RenderableType:
        """The table, for a console of `rich`."""
        with in_units_of(self.value_range):
            return self._table()

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="not bold", padding=(0, 3, 0, 0))
        for heading in ("made against", "attack"):
            table.add_column(heading, no_wrap=True)
        for heading in ("images", *self.judges):
            table.add_column(heading, justify="right", no_wrap=True)
        before = ""
        for row in self.rows:
            cells = [Text("-") if cell is None else _cell_text(cell) for cell in row.cells]
            table.add_row(Text(row.source if row.source != before else ""), row.label, str(row.num_images), *cells)
            before = row.source
        title = Text("transfer: mIoU^D  aAcc  ASR, %, of each network (columns) on images made against one (rows)\n")
        note = Text("* the network that the images were made against; upper bounds on mIoU^D and aAcc", "dim italic")
        return Group(title, table, note)

    def __str__(self) -> str:
        return plain_text(self.renderable(), _WIDTH)


def transfer_matrix(run_dirs: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> TransferMatrix:
    """Computes the matrix from the files of runs and of their judgements.

    Args:
        run_dirs: runs on the same data, by the same criterion; each is a source network, and its judges are columns.
        output: folder of the judgements; see `evaluate_stored`.

    Raises:
        ValueError: no run, runs that do not fit together, or damaged files.
    """
    sources = [_Source.read(Path(run_dir), Path(output)) for run_dir in run_dirs]
    if not sources:
        raise ValueError("a transfer matrix needs at least one run")
    for source in sources[1:]:
        _require_comparable(sources[0], source)
    names: dict[str, str] = {}
    for source in sources:
        names |= {judge.weights: judge.name for judge in source.judges}
    for source in sources:
        names.setdefault(source.manifest.weights, source.manifest.network_description.split(",")[0])
    order = tuple(dict.fromkeys([*(source.manifest.weights for source in sources), *names]))
    labels = {
        weights: f"{name} {weights[:8]}" if [*names.values()].count(name) > 1 else name
        for weights, name in names.items()
    }
    return TransferMatrix(
        judges=tuple(labels[weights] for weights in order),
        weights=order,
        rows=tuple(row for source in sources for row in source.rows(order, labels[source.manifest.weights])),
        value_range=sources[0].manifest.value_range,
    )


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A run whose images were judged."""

    path: Path
    manifest: Manifest
    judges: tuple[TargetNetwork, ...]
    records: Mapping[str, Mapping[Key, Record]]  # by weights of the judge; of its own network those of the run

    @classmethod
    def read(cls, path: Path, output: Path) -> "_Source":
        manifest = read_manifest(RunDirectory(path))
        files = sorted(judgements_of(output, path).glob("*/judgement.json"))
        judges = [(TargetNetwork.read(file), file.parent) for file in files]
        records = {judge.weights: {r.key: r for r in read_records(folder)} for judge, folder in judges}
        own = {manifest.weights: {r.key: r for r in read_run_records(path)}}
        return cls(path=path, manifest=manifest, judges=tuple(judge for judge, _ in judges), records={**records, **own})

    @cached_property
    def stored(self) -> frozenset[Key]:
        """Keys of the stored images of the run, and of the same clean images."""
        images = AdversarialStore(self.path).stored()
        return frozenset(key for k in images for key in ((k.sample_id, k.digest, k.eps), (k.sample_id, CLEAN, None)))

    def rows(self, order: Sequence[str], name: str) -> Iterator[Row]:
        """The clean images, then each attack at each radius, in the order of the manifest."""
        for digest in (CLEAN, *(entry.digest for entry in self.manifest.attacks)):
            radii = {key[2] for key in self.stored if key[1] == digest}
            for eps in sorted(radii, key=lambda radius: radius if isinstance(radius, float) else 0.0):
                row = self._row(digest, eps, order, name)
                if row is not None:
                    yield row

    def _row(self, digest: str, eps: Radius | None, order: Sequence[str], name: str) -> Row | None:
        keys = sorted(key for key in self.stored if key[1:] == (digest, eps))
        found = {weights: [r[key] for key in keys if key in r] for weights, r in self.records.items()}
        # A flag of one judge (a mask without valid pixels, an image that is not allowed) counts for all judges.
        barred = {record.sample_id for records in found.values() for record in records if record.flags}
        seen = [{record.sample_id for record in records} for records in found.values() if records]
        common = set.intersection(*seen) - barred if seen else set()
        chosen = {weights: [r for r in records if r.sample_id in common] for weights, records in found.items()}
        if not common or not found[self.manifest.weights]:
            return None
        first = chosen[self.manifest.weights][0]
        return Row(
            source=name,
            attack=first.attack,
            digest=digest,
            norm_name=first.norm_name,
            eps=eps,
            num_images=len(common),
            cells=tuple(self._cell(weights, chosen.get(weights, [])) for weights in order),
        )

    def _cell(self, weights: str, records: Sequence[Record]) -> TransferCell | None:
        if not records:
            return None
        shares, _ = compute([metric for metric in METRICS if metric.key in _SHARES], records)
        return TransferCell(**shares, is_source=weights == self.manifest.weights)


def _require_comparable(first: _Source, other: _Source) -> None:
    unfit = f"{first.path} and {other.path} do not fit into one matrix"
    fix = "give runs on the same data, by the same criterion"
    for field in _SAME:
        here, there = getattr(first.manifest, field), getattr(other.manifest, field)
        if here != there:
            raise ValueError(f"{unfit} ({field}: {here} and {there}); {fix}")
    records, others = (source.records[source.manifest.weights].values() for source in (first, other))
    changed = find_changed(records, digests_of(others))
    if changed:
        raise ValueError(f"{unfit} (the image or the mask of {name_samples(changed)} is not the same in both); {fix}")


def _cell_text(cell: TransferCell) -> Text:
    shares = " ".join(f"{percent(share):>5}" for share in (getattr(cell, key) for key in _SHARES))
    return Text(f"{shares}{'*' if cell.is_source else ' '}", "bold" if cell.is_source else "")
