"""One measurement of a batch as records: of its clean images, or of one attack with its by-products."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from segrobust.attacks import Attack, AttackResult
from segrobust.attacks.core.problem import Problem
from segrobust.attacks.stored import Stored
from segrobust.evaluation.dataset import LoadedSample, SampleSource, name_of, sequence_of, target_maps
from segrobust.evaluation.engine.stored_images import read_stored
from segrobust.evaluation.forward import batch_problem
from segrobust.evaluation.plan import AttackCall, Job, Plan, Radius
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.records import CLEAN, NO_THREAT, NO_VALID_PIXEL, Kind, Record, contradictions
from segrobust.functional.modes import attackable
from segrobust.functional.norms import NormName, norm
from segrobust.functional.projections import project
from segrobust.metrics import Regions, confusion_counts, find_regions

_SEED_STRIDE = 2**32
"""Random starts get the id i + s * 2**32 for sample i of a run with seed s, which is i for seed 0."""


@dataclass(frozen=True)
class LoadedBatch:
    """Samples of one size on a device."""

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
        dataset: gives names, recordings and targets of samples.
        plan: gives the criterion and the targets.
        device: of the images.
        dtype: of the images.
        seed: see `run`.
        ignore_index: label of void pixels.
        stored: adversarial images that the plan's attacks evaluate instead of a search; None to search.
    """

    network: nn.Module
    dataset: SampleSource
    plan: Plan
    device: torch.device
    dtype: torch.dtype
    seed: int
    ignore_index: int
    stored: AdversarialStore | None

    def batch(self, samples: tuple[LoadedSample, ...]) -> LoadedBatch:
        """Samples of one size, checked and moved to the device."""
        with attackable(self.network):
            images = torch.stack([sample.image for sample in samples]).to(self.device, self.dtype)
            return LoadedBatch(samples, batch_problem(images, self._masks(samples), self.ignore_index))

    def clean(self, batch: LoadedBatch) -> list[Record]:
        """Records of the clean images."""
        batch = self._with_targets(batch)
        started = time.perf_counter()
        result = self._evaluate(batch.problem, torch.zeros_like(batch.problem.images), "linf")
        return self._to_records(batch, result, None, CLEAN, None, result.apsr, started)

    def attack(
        self, batch: LoadedBatch, call: AttackCall, clean: Sequence[Record]
    ) -> tuple[list[Record], tuple[Tensor, ...]]:
        """Records of one call, by-products included, and adversarial images `(B, C, H, W)` for each `call.attacked`.

        Args:
            batch: the images.
            call: attack, and radius if it has one.
            clean: records of the clean images.
        """
        batch = self._with_targets(batch)
        problem, job = batch.problem, call.job
        clean_apsr = torch.tensor([record.apsr for record in clean], dtype=torch.float64)
        started = time.perf_counter()
        # The stored image replaces the image, with a zero perturbation: adding `adv - image` to the image again may
        # change a last bit.
        stored = None if self.stored is None else read_stored(self.stored, call, batch.samples)
        images = problem.images if stored is None else stored.images.to(problem.images)
        results = self._call(job.attack, images, problem, eps=call.eps, sample_ids=batch.ids)
        flags = None if stored is None else stored.flags
        kind: Kind = "minimal-norm" if call.eps == "min" else "fixed-budget"
        records = []
        for eps, result in zip(call.attacked, results, strict=True):
            shown = result if stored is None else replace(result, norm=stored.norm)
            records += self._to_records(batch, shown, job, kind, eps, clean_apsr, started, flags)
        for eps in job.radii if call.eps == "min" else ():
            started = time.perf_counter()
            projected = self._project(problem, job, results[0], eps)
            records += self._to_records(batch, projected, job, "by-product", eps, clean_apsr, started, flags)
        return records, tuple(result.adv for result in results)

    def _call(
        self,
        attack: Attack,
        images: Tensor,
        problem: Problem,
        *,
        eps: Radius = "min",
        sample_ids: Sequence[int] | None = None,
        start: Tensor | None = None,
    ) -> tuple[AttackResult, ...]:
        """One call of an attack on images `(B, C, H, W)`, with everything else from `problem`."""
        return attack.at_radii(
            self.network,
            images,
            problem.labels,
            valid_mask=problem.valid_mask,
            ignore_index=self.ignore_index,
            eps=None if eps == "min" or attack.default_eps is not None else eps,
            sample_ids=None if sample_ids is None else [each + self.seed * _SEED_STRIDE for each in sample_ids],
            targets=problem.targets,
            keep_mask=problem.keep_mask,
            start=start,
        )

    def _evaluate(self, problem: Problem, delta: Tensor, norm_name: NormName) -> AttackResult:
        """The result of a perturbation `(B, C, H, W)` inside the box, by one forward pass."""
        attack = Stored(norm=norm_name, criterion=self.plan.criterion)
        (result,) = self._call(attack, problem.images, problem, start=delta)
        return replace(result, norm=norm(delta, norm_name))

    def _masks(self, samples: Sequence[LoadedSample]) -> Tensor:
        return torch.stack([sample.mask for sample in samples]).to(self.device)

    def _with_targets(self, batch: LoadedBatch) -> LoadedBatch:
        """The batch with its targets; an image without a pixel to attack gets no valid pixel."""
        if self.plan.targets is None:
            return batch
        with attackable(self.network):
            images, masks = batch.problem.images, self._masks(batch.samples)
            maps = target_maps(
                self.plan.targets, self.network, self.dataset, batch.ids, images, masks, self.ignore_index
            )
            return LoadedBatch(batch.samples, batch_problem(images, masks, self.ignore_index, maps))

    def _project(self, problem: Problem, job: Job, result: AttackResult, eps: float) -> AttackResult:
        """The result of a minimal-norm perturbation that is projected into the ball of radius `eps`."""
        with attackable(self.network):
            radii = torch.full_like(problem.images[:, 0, 0, 0], eps)
            delta = project(result.adv - problem.images, radii, job.attack.norm, problem.lower, problem.upper)
            return self._evaluate(problem, delta, job.attack.norm)

    def _to_records(
        self,
        batch: LoadedBatch,
        result: AttackResult,
        job: Job | None,
        kind: Kind,
        eps: Radius | None,
        clean_apsr: Tensor,
        started: float,
        flags: Sequence[tuple[str, ...]] | None = None,
    ) -> list[Record]:
        """One record per image."""
        problem = batch.problem
        counts = confusion_counts(result.prediction, problem.labels, result.num_classes, problem.valid_mask)
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
                sample_digest=batch.samples[row].digest,
                sequence=sequence_of(self.dataset, sample_id),
                attack=CLEAN if job is None else job.name,
                digest=CLEAN if job is None else job.digest,
                kind=kind,
                norm_name=None if job is None else job.attack.norm,
                eps=eps,
                threat=NO_THREAT if job is None else f"{job.attack.norm} ball everywhere",
                side="exact" if job is None else "upper",
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
                flags=(*(() if num_valid else (NO_VALID_PIXEL,)), *(() if flags is None else flags[row])),
            )
            for reason in contradictions(record):
                raise ValueError(f"{record.attack} gave a result that cannot be: {reason}")
            records.append(record)
        return records
