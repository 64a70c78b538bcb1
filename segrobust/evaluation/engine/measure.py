"""What is measured of a batch in one go: its clean images, or one attack with its by-products. Records come out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from segrobust.attacks import AttackResult
from segrobust.attacks.core.problem import Problem
from segrobust.evaluation.dataset import LoadedSample, SampleSource, name_of, sequence_of, target_maps
from segrobust.evaluation.forward import batch_problem, judge
from segrobust.evaluation.plan import Job, Plan, Radius, Unit
from segrobust.evaluation.run.records import CLEAN, NO_VALID_PIXEL, Kind, Record
from segrobust.functional.modes import attackable
from segrobust.functional.projections import project
from segrobust.metrics import Regions, confusion_counts, find_regions

_SEED_STRIDE = 2**32
"""Sample i of a run with seed s is known to random starts as i + s * 2**32: as i itself for seed 0."""


@dataclass(frozen=True)
class LoadedBatch:
    """Samples of one size on their device."""

    samples: tuple[LoadedSample, ...]
    problem: Problem

    @property
    def ids(self) -> tuple[int, ...]:
        """Sample ids, in order."""
        return tuple(sample.sample_id for sample in self.samples)

    @cached_property
    def regions(self) -> Regions:
        """Objects and boundaries of the labels."""
        return find_regions(self.problem.labels, self.problem.valid_mask)

    def part(self, rows: Sequence[int]) -> "LoadedBatch":
        """Some of the images."""
        if len(rows) == len(self.samples):
            return self
        return LoadedBatch(tuple(self.samples[row] for row in rows), self.problem.select(torch.tensor(rows)))


@dataclass(frozen=True, kw_only=True)
class Measurer:
    """Measures batches of one data set on one network; every record is a function of image, weights, attack and seed.

    Args:
        network: under attack.
        dataset: where names, recordings and targets of samples come from.
        plan: what breaks a pixel, and what it is to become.
        device: of the images.
        dtype: of the images.
        seed: see `run`.
        ignore_index: label of void pixels.
    """

    network: nn.Module
    dataset: SampleSource
    plan: Plan
    device: torch.device
    dtype: torch.dtype
    seed: int
    ignore_index: int

    def batch(self, samples: tuple[LoadedSample, ...]) -> LoadedBatch:
        """Samples of one size, checked and on their device."""
        with attackable(self.network):
            images = torch.stack([sample.image for sample in samples]).to(self.device, self.dtype)
            return LoadedBatch(samples, batch_problem(images, self._masks(samples), self.ignore_index))

    def clean(self, batch: LoadedBatch) -> list[Record]:
        """Records of the images as they are."""
        batch = self._aimed(batch)
        started = time.perf_counter()
        with attackable(self.network):
            zero = torch.zeros_like(batch.problem.images)
            result, num_classes = judge(self.network, batch.problem, zero, self.plan.criterion, "linf")
        return self._to_records(batch, result, num_classes, None, CLEAN, None, result.apsr, started)

    def attack(self, batch: LoadedBatch, unit: Unit, clean: Sequence[Record]) -> tuple[list[Record], Tensor]:
        """Records of one call of an attack, by-products included, and the adversarial images `(B, C, H, W)`.

        Args:
            batch: the images.
            unit: attack, and radius if it has one.
            clean: records of the same images as they are.
        """
        batch = self._aimed(batch)
        problem, job = batch.problem, unit.job
        clean_apsr = torch.tensor([record.apsr for record in clean], dtype=torch.float64)
        num_classes = len(clean[0].tp)
        started = time.perf_counter()
        result = job.attack(
            self.network,
            problem.images,
            problem.labels,
            valid_mask=problem.valid_mask,
            ignore_index=self.ignore_index,
            eps=None if unit.eps == "min" or job.attack.default_eps is not None else unit.eps,
            sample_ids=[sample_id + self.seed * _SEED_STRIDE for sample_id in batch.ids],
            targets=problem.targets,
            keep_mask=problem.keep_mask,
        )
        kind: Kind = "minimal-norm" if unit.eps == "min" else "fixed-budget"
        records = self._to_records(batch, result, num_classes, job, kind, unit.eps, clean_apsr, started)
        for eps in job.radii if unit.eps == "min" else ():
            started = time.perf_counter()
            projected = self._project(batch, job, result, eps)
            records += self._to_records(batch, projected, num_classes, job, "by-product", eps, clean_apsr, started)
        return records, result.adv

    def _masks(self, samples: Sequence[LoadedSample]) -> Tensor:
        return torch.stack([sample.mask for sample in samples]).to(self.device)

    def _aimed(self, batch: LoadedBatch) -> LoadedBatch:
        """The batch with what its pixels are to become; no pixel is valid of an image that has none to attack."""
        if self.plan.targets is None:
            return batch
        with attackable(self.network):
            images, masks = batch.problem.images, self._masks(batch.samples)
            maps = target_maps(
                self.plan.targets, self.network, self.dataset, batch.ids, images, masks, self.ignore_index
            )
            return LoadedBatch(batch.samples, batch_problem(images, masks, self.ignore_index, maps))

    def _project(self, batch: LoadedBatch, job: Job, result: AttackResult, eps: float) -> AttackResult:
        """What a minimal-norm perturbation does when it is projected into the ball of radius `eps`."""
        with attackable(self.network):
            problem = batch.problem
            radii = torch.full_like(problem.images[:, 0, 0, 0], eps)
            delta = project(result.adv - problem.images, radii, job.attack.norm, problem.lower, problem.upper)
            judged, _ = judge(self.network, problem, delta, self.plan.criterion, job.attack.norm)
        return judged

    def _to_records(
        self,
        batch: LoadedBatch,
        result: AttackResult,
        num_classes: int,
        job: Job | None,
        kind: Kind,
        eps: Radius | None,
        clean_apsr: Tensor,
        started: float,
    ) -> list[Record]:
        """One record per image."""
        problem = batch.problem
        counts = confusion_counts(result.prediction, problem.labels, num_classes, problem.valid_mask)
        tp, fp, fn = ([tuple(row) for row in count.tolist()] for count in (counts.tp, counts.fp, counts.fn))
        right = result.prediction == problem.labels
        boundary, objects = batch.regions.count_boundary(right), batch.regions.count_objects(right)
        seconds = (time.perf_counter() - started) / len(batch.samples)
        records = []
        for row, sample_id in enumerate(batch.ids):
            num_valid = int(problem.num_valid[row])
            record = Record(
                sample_id=sample_id,
                sample_name=name_of(self.dataset, sample_id),
                sequence=sequence_of(self.dataset, sample_id),
                attack=CLEAN if job is None else job.name,
                digest=CLEAN if job is None else job.digest,
                kind=kind,
                norm_name=None if job is None else job.attack.norm,
                eps=eps,
                success=bool(result.success[row]),
                norm=float(result.norm[row]),
                apsr=float(result.apsr[row]),
                clean_apsr=float(clean_apsr[row]),
                num_valid=num_valid,
                tp=tp[row],
                fp=fp[row],
                fn=fn[row],
                boundary=boundary[row],
                objects=objects[row],
                first_success=int(result.first_success[row]),
                num_forwards=int(result.num_forwards[row]),
                num_backwards=int(result.num_backwards[row]),
                seconds=seconds,
                seed=self.seed,
                flags=() if num_valid else (NO_VALID_PIXEL,),
            )
            records.append(record)
        return records
