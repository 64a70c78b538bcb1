"""The only engine: images in, records out."""

import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segrobust.attacks.core.oracle import passes_reported
from segrobust.attacks.stored import Stored
from segrobust.evaluation.dataset import LoadedSample, SampleSource, load_sample, name_of
from segrobust.evaluation.engine.measure import LoadedBatch, Measurer
from segrobust.evaluation.engine.watch import CallOrClean, Watch
from segrobust.evaluation.engine.work import WorkSource
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.plan import AttackCall, Plan
from segrobust.evaluation.run.adversarial_images import AdversarialStore, StoredImageError
from segrobust.evaluation.run.changed_samples import require_unchanged
from segrobust.evaluation.run.failures import Fault, FaultLog
from segrobust.evaluation.run.records import CLEAN, Key, Record, RecordWriter
from segrobust.functional.norms import NormName
from segrobust.inputs import require_network


def never_stops() -> bool:
    """A stop signal that is never given."""
    return False


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where results go, and when to stop.

    Attributes:
        writer: writes the records of a batch before they are yielded.
        store: stores adversarial images.
        faults: records the errors of single images; their other attacks and the other images of the batch continue.
            None to raise the errors.
        stop: asked before each attack on a batch; True ends the work there.
        watch: follows the work, pass by pass.
    """

    writer: RecordWriter | None = None
    store: AdversarialStore | None = None
    faults: FaultLog | None = None
    stop: Callable[[], bool] = never_stops
    watch: Watch = Watch()  # noqa: RUF009  it has no state


def run(
    network: nn.Module,
    dataset: SampleSource,
    plan: Plan,
    *,
    work: WorkSource,
    seed: int = 0,
    ignore_index: int = 255,
    done: Iterable[Record] = (),
    outputs: Outputs = Outputs(),
    stored: AdversarialStore | None = None,
) -> Iterator[Record]:
    """Evaluates the images that a work source hands out, and yields each record as soon as it exists.

    Per image: one clean record; per fixed-budget attack one record per radius; per minimal-norm attack one record of
    the minimal norm, and one per radius of its by-products `clip(delta, -eps, eps)` (l2: scaled), with one forward pass
    each. A result is a function of image, weights, attack and seed. Targets are computed again for each measurement, by
    one forward pass that is not counted. Images that are handed out together form a batch if they have one size and
    lack the same records. An image without a valid pixel gets a record with a flag and shares of nan.

    If a batch does not fit in the memory of a GPU, it is halved, and so are all later ones, with one warning.

    The network is evaluated in evaluation mode, full precision and without parameter gradients, whatever the settings
    of the caller, which are restored.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; it is not moved.
        dataset: see `SampleSource`.
        plan: attacks and radii.
        work: samples of this process, batch by batch.
        seed: of random starts, beside the attacks' own seeds; at least 0 and below 2**31.
        ignore_index: label of void pixels.
        done: records that exist already; they are not made again.
        outputs: where results go, and when to stop.
        stored: adversarial images of an earlier run, for a plan of attacks `Stored`.

    Raises:
        ChangedSampleError: the image or mask of a sample differs from the one that its records in `done` are of.
        ValueError: an argument, image, mask or network output that is not allowed; the message gives the fix. An image
            that cannot be read, unless `outputs.faults` records it.
        TypeError: a sample or network output of another type.
        FloatingPointError: the network returned NaN.
        StoredImageError: a file of `stored` is damaged or of another size.
        RecordWriteError: the disk is full.
    """
    require_network(network, by_gradients=False)
    if not 0 <= seed < 2**31:
        raise ValueError(f"seed must be at least 0 and below 2**31, got {seed}")
    if any(isinstance(job.attack, Stored) != (stored is not None) for job in plan.jobs):
        raise ValueError(
            f"adversarial images of an earlier run are evaluated by attacks Stored alone: got stored={stored} for "
            f"{[job.attack for job in plan.jobs]}"
        )
    measurer = Measurer(
        network=network,
        dataset=dataset,
        plan=plan,
        device=device_of(network),
        dtype=precision_of(network),
        seed=seed,
        ignore_index=ignore_index,
        stored=stored,
    )
    engine = _Engine(measurer=measurer, outputs=outputs, done={record.key: record for record in done})
    return engine.records(work)


@dataclass(kw_only=True)
class _Engine:
    measurer: Measurer
    outputs: Outputs
    done: dict[Key, Record]
    limit: int = sys.maxsize

    def records(self, work: WorkSource) -> Iterator[Record]:
        """All missing records for the samples of `work`."""
        for sample_ids in work:
            groups: dict[tuple[object, ...], list[LoadedSample]] = defaultdict(list)
            for sample_id in sample_ids:
                self.outputs.watch.taken(sample_id)
                calls = self._lacking(sample_id)
                sample = self._load(sample_id) if calls else None
                if sample is not None:
                    groups[calls, sample.image.shape].append(sample)
            for samples in groups.values():
                yield from self._evaluate_all(tuple(samples))
            if self.outputs.stop():
                return
            self.outputs.watch.finished(sample_ids)

    def _evaluate_all(self, samples: tuple[LoadedSample, ...]) -> Iterator[Record]:
        """Evaluates samples of one size that lack the same records, as many at a time as fit in memory."""
        while samples and not self.outputs.stop():
            now, samples = samples[: self.limit], samples[self.limit :]
            yield from self._evaluate(now, self._lacking(now[0].sample_id))

    def _lacking(self, sample_id: int) -> tuple[CallOrClean, ...]:
        """The measurements that are missing for a sample."""
        clean: tuple[CallOrClean, ...] = () if (sample_id, CLEAN, None) in self.done else ("clean",)
        return (*clean, *(call for call in self.measurer.plan.attack_calls if self._lacks(sample_id, call)))

    def _lacks(self, sample_id: int, call: AttackCall) -> bool:
        if self.measurer.stored is not None and not self.measurer.stored.holds(call, sample_id):
            return False
        asr_only = self.measurer.plan.asr_only
        radii = [eps for eps in call.attacked if eps != "min"]
        if asr_only and radii and self._is_broken(sample_id, call.job.attack.norm, min(radii)):
            return False
        unrecorded = any((sample_id, call.job.digest, eps) not in self.done for eps in call.recorded)
        return unrecorded or (self.outputs.store is not None and self.outputs.store.lacks(call, sample_id))

    def _is_broken(self, sample_id: int, norm_name: NormName, eps: float) -> bool:
        """Whether anything measured so far breaks the image within `eps`."""
        rivals = [call for call in self.measurer.plan.attack_calls if call.job.attack.norm == norm_name]
        keys = [(sample_id, call.job.digest, radius) for call in rivals for radius in call.recorded]
        known = (self.done.get(key) for key in ((sample_id, CLEAN, None), *keys))
        return any(record.breaks(norm_name, eps) for record in known if record is not None)

    def _load(self, sample_id: int) -> LoadedSample | None:
        """A sample; None if it cannot be read and such images are skipped."""
        try:
            sample = load_sample(self.measurer.dataset, sample_id)
        except (OSError, ValueError) as error:
            name = name_of(self.measurer.dataset, sample_id)
            if self.outputs.faults is None or not self.outputs.faults.skip_unreadable:
                raise ValueError(
                    f"image {sample_id} ({name}) cannot be read: {error}; repair it, or leave such images out by "
                    "skip_unreadable"
                ) from error
            self.outputs.faults.add(Fault.of(error, sample_id, name, "load"))
            return None
        known = self.done.get((sample_id, CLEAN, None))
        if known is not None:
            require_unchanged((known,), {sample_id: sample.digest})
        return sample

    def _evaluate(self, samples: tuple[LoadedSample, ...], calls: tuple[CallOrClean, ...]) -> Iterator[Record]:
        batch = self.measurer.batch(samples)
        for call in calls:
            rows = [row for row, sample_id in enumerate(batch.ids) if self._is_open(sample_id, call)]
            if self.outputs.stop():
                return
            if rows:
                yield from self._attempt(batch.part(rows), call)

    def _is_open(self, sample_id: int, call: CallOrClean) -> bool:
        """Whether a measurement is possible and, since the batch was formed, has not become unnecessary."""
        if call == "clean":
            return True
        return (sample_id, CLEAN, None) in self.done and self._lacks(sample_id, call)

    def _attempt(self, batch: LoadedBatch, call: CallOrClean) -> Iterator[Record]:
        """One measurement of a batch, in smaller batches if it does not fit in memory or one image raises an error."""
        size = len(batch.samples)
        if size > self.limit:
            yield from self._attempt_parts(batch, call, self.limit)
            return
        try:
            found, adv = self._measure(batch, call)
        except StoredImageError:
            raise
        except Exception as error:  # any error of an attack or a network is recorded for its image
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
            if self.outputs.faults is None and not (out_of_memory and size > 1):
                raise
            if size == 1:
                self._record_fault(error, batch.ids[0], call)
                return
            step = self._halve(size) if out_of_memory else 1
        else:
            yield from self._emit(found)
            if self.outputs.store is not None and call != "clean":
                for sample_id, *images in zip(batch.ids, *adv, strict=True):
                    self.outputs.store.keep(call, sample_id, images)
            return
        if self.measurer.device.type == "cuda":
            torch.cuda.empty_cache()
        yield from self._attempt_parts(batch, call, step)

    def _measure(self, batch: LoadedBatch, call: CallOrClean) -> tuple[list[Record], tuple[Tensor, ...]]:
        """Records, and the adversarial images of an attack at each radius of the call."""
        self.outputs.watch.measuring(batch.ids, call)
        with passes_reported(self.outputs.watch.passed):
            if call == "clean":
                return self.measurer.clean(batch), ()
            clean = [self.done[sample_id, CLEAN, None] for sample_id in batch.ids]
            return self.measurer.attack(batch, call, clean)

    def _attempt_parts(self, batch: LoadedBatch, call: CallOrClean, step: int) -> Iterator[Record]:
        """One measurement of a batch, `step` images at a time."""
        for start in range(0, len(batch.samples), step):
            yield from self._attempt(batch.part(range(start, min(start + step, len(batch.samples)))), call)

    def _halve(self, size: int) -> int:
        """Halves the size of this and all later batches."""
        if self.limit == sys.maxsize:
            device = self.measurer.device
            warnings.warn(
                f"batches of {size} images do not fit in the memory of {device}; batches are halved until they fit",
                stacklevel=2,
            )
        self.limit = -(-size // 2)
        return self.limit

    def _record_fault(self, error: Exception, sample_id: int, call: CallOrClean) -> None:
        """Records the error of one image."""
        assert self.outputs.faults is not None
        name = name_of(self.measurer.dataset, sample_id)
        if call == "clean":
            self.outputs.faults.add(Fault.of(error, sample_id, name, "clean"))
        else:
            for eps in call.attacked:
                self.outputs.faults.add(Fault.of(error, sample_id, name, "attack", AttackCall(call.job, eps)))

    def _emit(self, records: list[Record]) -> Iterator[Record]:
        """Writes and yields the new records of one batch."""
        new = [record for record in records if record.key not in self.done]
        if self.outputs.writer is not None and new:
            self.outputs.writer.write(new)
        for record in new:
            self.done[record.key] = record
            self.outputs.watch.recorded(record)
        yield from new
