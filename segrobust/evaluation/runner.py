"""The only engine: images in, records out."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segrobust.attacks import AttackResult
from segrobust.attacks.problem import Problem
from segrobust.evaluation.adversarials import AdversarialStore
from segrobust.evaluation.judging import batch_problem, device_of, judge, precision_of
from segrobust.evaluation.plan import Job, Plan, Radius, Unit
from segrobust.evaluation.records import CLEAN, NO_VALID_PIXEL, Key, Kind, Record, RecordWriter
from segrobust.evaluation.samples import LoadedSample, SampleSource, load_sample, name_of
from segrobust.evaluation.work import WorkSource
from segrobust.functional.modes import attackable
from segrobust.functional.projections import project
from segrobust.metrics import confusion_counts

_SEED_STRIDE = 2**32
"""Sample i of a run with seed s is known to random starts as i + s * 2**32: as i itself for seed 0."""


def run(
    network: nn.Module,
    dataset: SampleSource,
    plan: Plan,
    *,
    work: WorkSource,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    seed: int = 0,
    ignore_index: int = 255,
    done: Iterable[Record] = (),
    writer: RecordWriter | None = None,
    store: AdversarialStore | None = None,
) -> Iterator[Record]:
    """Evaluates the images that a work source hands out, and yields each record when it exists.

    Per image: one clean record; per fixed-budget attack one record per radius; per minimal-norm attack one record of
    the minimal norm, and one per radius of its by-products `clip(delta, -eps, eps)` (l2: scaled), with one forward pass
    each. A result is a function of image, weights, attack and seed. Consecutive images of one size that lack the same
    work form a batch. An image without a valid pixel is recorded with a flag, and its shares are nan.

    The network is seen in evaluation mode, full precision and without parameter gradients, whatever surrounds the call,
    and is left as it was found.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; it is not moved.
        dataset: see `SampleSource`.
        plan: attacks and radii.
        work: ids of the samples of this process.
        batch_size: images that are attacked together.
        device: where images go; None for the device of the network's parameters.
        seed: of random starts, beside the attacks' own seeds; at least 0 and below 2**31.
        ignore_index: label of void pixels.
        done: records that exist already; they are not made again.
        writer: writes each record before it is yielded.
        store: keeps adversarial images.

    Raises:
        ValueError: an argument, image, mask or network output outside what is allowed; the message names the mend.
        TypeError: a sample or network output of another type.
        FloatingPointError: the network returned NaN.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must be at least 0 and below 2**31, got {seed}")
    engine = _Engine(
        network=network,
        dataset=dataset,
        plan=plan,
        batch_size=batch_size,
        device=torch.device(device) if device is not None else device_of(network),
        dtype=precision_of(network),
        seed=seed,
        ignore_index=ignore_index,
        done={record.key: record for record in done},
        store=store,
    )
    return _written(engine.records(work), writer)


def _written(records: Iterator[Record], writer: RecordWriter | None) -> Iterator[Record]:
    for record in records:
        if writer is not None:
            writer.write(record)
        yield record


@dataclass(frozen=True)
class _Lacking:
    """What is still to be measured for a sample; samples of equal `_Lacking` and size share a batch."""

    clean: bool
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class _Batch:
    """Samples of one size on their device, and what the clean images gave: shares `(B,)` and the number of classes."""

    samples: tuple[LoadedSample, ...]
    problem: Problem
    clean_apsr: Tensor
    num_classes: int

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(sample.sample_id for sample in self.samples)


@dataclass(frozen=True, kw_only=True)
class _Engine:
    network: nn.Module
    dataset: SampleSource
    plan: Plan
    batch_size: int
    device: torch.device
    dtype: torch.dtype
    seed: int
    ignore_index: int
    done: dict[Key, Record]
    store: AdversarialStore | None

    def records(self, work: WorkSource) -> Iterator[Record]:
        """All records that are missing for the samples of `work`."""
        group: list[LoadedSample] = []
        shared: _Lacking | None = None
        for sample_id in work:
            lacking = self._lacking(sample_id)
            if not lacking.clean and not lacking.units:
                continue
            sample = load_sample(self.dataset, sample_id)
            fits = not group or (lacking == shared and sample.image.shape == group[0].image.shape)
            if shared is not None and (len(group) == self.batch_size or not fits):
                yield from self._evaluate(tuple(group), shared)
                group = []
            group.append(sample)
            shared = lacking
        if shared is not None:
            yield from self._evaluate(tuple(group), shared)

    def _lacking(self, sample_id: int) -> _Lacking:
        def is_lacking(unit: Unit) -> bool:
            unrecorded = any((sample_id, unit.job.digest, eps) not in self.done for eps in unit.recorded)
            return unrecorded or (self.store is not None and self.store.lacks(unit, sample_id))

        clean = (sample_id, CLEAN, None) not in self.done
        return _Lacking(clean, tuple(unit for unit in self.plan.units if is_lacking(unit)))

    def _evaluate(self, samples: tuple[LoadedSample, ...], lacking: _Lacking) -> Iterator[Record]:
        started = time.perf_counter()
        with attackable(self.network):
            problem = self._problem(samples)
            known = None if lacking.clean else [self.done[sample.sample_id, CLEAN, None] for sample in samples]
            if known is None:
                result, num_classes = judge(
                    self.network, problem, torch.zeros_like(problem.images), self.plan.criterion, "linf"
                )
                batch = _Batch(samples, problem, result.apsr.cpu(), num_classes)
            else:
                apsr = torch.tensor([record.apsr for record in known], dtype=self.dtype)
                batch = _Batch(samples, problem, apsr, len(known[0].tp))
        if known is None:
            yield from self._to_records(batch, result, None, CLEAN, None, started)
        for unit in lacking.units:
            yield from self._attack(batch, unit)

    def _problem(self, samples: tuple[LoadedSample, ...]) -> Problem:
        """The batch without attack: checks images and labels, tells valid pixels apart. Inside `attackable`."""
        images = torch.stack([sample.image for sample in samples]).to(self.device, self.dtype)
        masks = torch.stack([sample.mask for sample in samples]).to(self.device)
        return batch_problem(images, masks, self.ignore_index)

    def _attack(self, batch: _Batch, unit: Unit) -> Iterator[Record]:
        """Records of one call of an attack that are missing."""
        problem, attack = batch.problem, unit.job.attack
        started = time.perf_counter()
        result = attack(
            self.network,
            problem.images,
            problem.labels,
            valid_mask=problem.valid_mask,
            ignore_index=self.ignore_index,
            eps=None if unit.eps == "min" or unit.job.attack.radius_field is not None else unit.eps,
            sample_ids=[sample_id + self.seed * _SEED_STRIDE for sample_id in batch.ids],
        )
        if self.store is not None:
            for sample_id, adv in zip(batch.ids, result.adv, strict=True):
                self.store.keep(unit, sample_id, adv)
        kind: Kind = "minimal-norm" if unit.eps == "min" else "fixed-budget"
        yield from self._to_records(batch, result, unit.job, kind, unit.eps, started)
        if unit.eps == "min":
            for eps in unit.job.radii:
                yield from self._by_product(batch, unit.job, result, eps)

    def _by_product(self, batch: _Batch, job: Job, result: AttackResult, eps: float) -> Iterator[Record]:
        """What a minimal-norm perturbation does when it is projected into the ball of radius `eps`."""
        started = time.perf_counter()
        with attackable(self.network):
            problem = batch.problem
            radii = torch.full_like(problem.images[:, 0, 0, 0], eps)
            delta = project(result.adv - problem.images, radii, job.attack.norm, problem.lower, problem.upper)
            judged, _ = judge(self.network, problem, delta, self.plan.criterion, job.attack.norm)
        yield from self._to_records(batch, judged, job, "by-product", eps, started)

    def _to_records(
        self, batch: _Batch, result: AttackResult, job: Job | None, kind: Kind, eps: Radius | None, started: float
    ) -> Iterator[Record]:
        """One record per image, those left out that exist already."""
        problem = batch.problem
        counts = confusion_counts(result.prediction, problem.labels, batch.num_classes, problem.valid_mask)
        tp, fp, fn = ([tuple(row) for row in count.tolist()] for count in (counts.tp, counts.fp, counts.fn))
        seconds = (time.perf_counter() - started) / len(batch.samples)
        for row, sample_id in enumerate(batch.ids):
            num_valid = int(problem.num_valid[row])
            record = Record(
                sample_id=sample_id,
                sample_name=name_of(self.dataset, sample_id),
                attack=CLEAN if job is None else job.name,
                digest=CLEAN if job is None else job.digest,
                kind=kind,
                norm_name=None if job is None else job.attack.norm,
                eps=eps,
                success=bool(result.success[row]),
                norm=float(result.norm[row]),
                apsr=float(result.apsr[row]),
                clean_apsr=float(batch.clean_apsr[row]),
                num_valid=num_valid,
                tp=tp[row],
                fp=fp[row],
                fn=fn[row],
                first_success=int(result.first_success[row]),
                num_forwards=int(result.num_forwards[row]),
                num_backwards=int(result.num_backwards[row]),
                seconds=seconds,
                seed=self.seed,
                flags=() if num_valid else (NO_VALID_PIXEL,),
            )
            if record.key not in self.done:
                yield record
