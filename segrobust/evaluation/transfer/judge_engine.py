"""Images from files in, records of a judging network out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from time import perf_counter
from typing import Any, Final

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from segrobust.attacks import AttackResult, Criterion
from segrobust.attacks.core.problem import Problem
from segrobust.evaluation.dataset import LoadedSample, SampleSource, load_sample
from segrobust.evaluation.engine.work import batches_of
from segrobust.evaluation.forward import batch_problem, device_of, judge, precision_of
from segrobust.evaluation.plan import Radius
from segrobust.evaluation.run.adversarial_images import StoredAdversarial, load_adversarial
from segrobust.evaluation.run.records import CLEAN, NO_VALID_PIXEL, SCHEMA, Key, Record
from segrobust.evaluation.transfer.judgement import flags_of
from segrobust.functional.modes import attackable
from segrobust.functional.norms import norm
from segrobust.metrics import Regions, confusion_counts, find_regions

Unit = tuple[str, Radius | None]
"""Digest and radius of what an image underwent; `("clean", None)` for the image as it is."""

_CLEAN_UNIT: Final[Unit] = (CLEAN, None)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Samples of one size, and what each still lacks.

    Attributes:
        samples: the images as they are.
        lacking: per sample its adversarial images by unit; None stands for the image as it is.
        problem: all of them.
    """

    samples: tuple[LoadedSample, ...]
    lacking: Sequence[Mapping[Unit, StoredAdversarial | None]]
    problem: Problem

    @property
    def units(self) -> tuple[Unit, ...]:
        """All that is to be judged, the images as they are first: the others' records need theirs."""
        units = dict.fromkeys(unit for lacking in self.lacking for unit in lacking)
        return tuple(sorted(units, key=lambda unit: unit != _CLEAN_UNIT))

    def rows(self, unit: Unit) -> list[int]:
        """The samples that lack a unit."""
        return [row for row, lacking in enumerate(self.lacking) if unit in lacking]

    @cached_property
    def regions(self) -> Regions:
        return find_regions(self.problem.labels, self.problem.valid_mask)


@dataclass(frozen=True, kw_only=True)
class JudgeEngine:
    """Judges kept images and the images as they are.

    Args:
        network: the judge.
        dataset: the samples.
        ignore_index: label of void pixels.
        seed: of the run, for the records.
        criterion: of success.
        sources: the run's records by key.
        kept: the images that the run kept, by sample and unit.
        batch_size: images that are judged together.
    """

    network: nn.Module
    dataset: SampleSource
    ignore_index: int
    seed: int
    criterion: Criterion
    sources: Mapping[Key, Record]
    kept: Mapping[int, Mapping[Unit, StoredAdversarial]]
    batch_size: int

    def records(self, done: Iterable[Record], title: str | None) -> Iterator[list[Record]]:
        """What is missing, one list per forward pass.

        Args:
            done: records that exist.
            title: of the progress that is shown on stderr; None for no progress.
        """
        known = {record.key: record for record in done}
        lacking = {sample_id: units for sample_id in sorted(self.kept) if (units := self._lacking(sample_id, known))}
        chunks = track(
            batches_of(tuple(lacking), self.batch_size),
            description=title or "",
            console=Console(stderr=True),
            disable=title is None,
        )
        for chunk in chunks:
            loaded = (load_sample(self.dataset, sample_id) for sample_id in chunk)
            for _, group in groupby(loaded, key=lambda sample: sample.image.shape):
                samples = tuple(group)
                batch = self._batch(samples, [lacking[sample.sample_id] for sample in samples])
                for unit in batch.units:
                    records = self._judge(batch, unit, batch.rows(unit), known)
                    known |= {record.key: record for record in records}
                    yield records

    def _lacking(self, sample_id: int, known: Mapping[Key, Record]) -> dict[Unit, StoredAdversarial | None]:
        units: dict[Unit, StoredAdversarial | None] = {_CLEAN_UNIT: None, **self.kept[sample_id]}
        return {unit: image for unit, image in units.items() if (sample_id, *unit) not in known}

    def _batch(
        self, samples: tuple[LoadedSample, ...], lacking: Sequence[Mapping[Unit, StoredAdversarial | None]]
    ) -> _Batch:
        device, dtype = device_of(self.network), precision_of(self.network)
        with attackable(self.network):
            images = torch.stack([sample.image for sample in samples]).to(device, dtype)
            masks = torch.stack([sample.mask for sample in samples]).to(device)
            return _Batch(samples, lacking, batch_problem(images, masks, self.ignore_index))

    def _judge(self, batch: _Batch, unit: Unit, rows: list[int], known: Mapping[Key, Record]) -> list[Record]:
        """Records of one unit, by one forward pass."""
        started = perf_counter()
        shown = [_shown(batch.samples[row], batch.lacking[row][unit]) for row in rows]
        with attackable(self.network):
            problem = batch.problem.select(torch.tensor(rows))
            # The file's own bits are judged: image + (adv - image) may differ in the last one.
            problem = replace(problem, images=torch.stack(shown).to(problem.images))
            result, num_classes = judge(
                self.network, problem, torch.zeros_like(problem.images), self.criterion, norm_name="linf"
            )
        self._require_classes(num_classes)
        counts = confusion_counts(result.prediction, problem.labels, num_classes, problem.valid_mask)
        table = [[tuple(row) for row in count.tolist()] for count in (counts.tp, counts.fp, counts.fn)]
        right = torch.zeros_like(batch.problem.valid_mask)
        right[rows] = result.prediction == problem.labels
        boundary, objects = batch.regions.count_boundary(right), batch.regions.count_objects(right)
        seconds = (perf_counter() - started) / len(rows)
        records = []
        for place, row in enumerate(rows):
            source = self.sources[batch.samples[row].sample_id, *unit]
            record = replace(
                source,
                **_outcome(result, place, batch.samples[row], shown[place], source),
                num_valid=int(problem.num_valid[place]),
                tp=table[0][place],
                fp=table[1][place],
                fn=table[2][place],
                boundary=boundary[row],
                objects=objects[row],
                seconds=seconds,
                seed=self.seed,
            )
            clean = record if unit == _CLEAN_UNIT else known[record.sample_id, *_CLEAN_UNIT]
            void = () if record.num_valid else (NO_VALID_PIXEL,)
            records.append(replace(record, clean_apsr=clean.apsr, flags=(*void, *record.flags)))
        return records

    def _require_classes(self, num_classes: int) -> None:
        """Refuses a network for other classes."""
        there = len(next(iter(self.sources.values())).tp)
        if num_classes != there:
            raise ValueError(
                f"the network tells {num_classes} classes apart, the run's network {there}; judge with one for the "
                "same classes"
            )


def _shown(sample: LoadedSample, kept: StoredAdversarial | None) -> Tensor:
    """The image `(C, H, W)` to be judged: that of a file, or the sample as it is."""
    if kept is None:
        return sample.image
    adv = load_adversarial(kept.path)
    if adv.shape != sample.image.shape:
        raise ValueError(
            f"{kept.path} is of size {tuple(adv.shape)}, image {sample.sample_id} of {tuple(sample.image.shape)}; give "
            "the transforms that the run's data set had"
        )
    return adv


def _outcome(result: AttackResult, place: int, sample: LoadedSample, shown: Tensor, source: Record) -> dict[str, Any]:
    """The fields that a judgement alone decides."""
    delta = shown.double() - sample.image.double()
    length = norm(delta[None], source.norm_name or "linf").item()
    forbidden = flags_of(shown.min().item(), shown.max().item(), length, source)
    return {
        "success": bool(result.success[place]),
        "norm": length,
        "apsr": float(result.apsr[place]),
        "first_success": int(result.first_success[place]),
        "num_forwards": int(result.num_forwards[place]),
        "num_backwards": int(result.num_backwards[place]),
        "flags": forbidden,
        "schema": SCHEMA,
    }
