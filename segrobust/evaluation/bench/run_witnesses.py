"""The stored perturbations of a run as witnesses: rounded to whole steps, and judged again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor, nn

from segrobust.evaluation.bench.bench_file import BenchFile, BenchImage, Entry
from segrobust.evaluation.bench.rejudge import MOST_CLOSE, Judged, rejudge
from segrobust.evaluation.bench.witness import Levels, Origin, Witness, content_digest, quantized
from segrobust.evaluation.dataset import LoadedSample
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.records import CLEAN, Record
from segrobust.metrics.norm_statistics import ROUNDING

_STRETCHES: Final = (1.0, 1.0005, 1.001, 1.002, 1.005, 1.01, 1.02)
"""Factors on a perturbation that barely breaks its image, so that rounding it to whole steps does not undo this."""

_WORTH: Final = 1.002
"""Ratio of norms above which integers of 16 bits are stored instead of 8."""


@dataclass(frozen=True, kw_only=True)
class JudgedWitness:
    """A witness, and what a forward pass says of it."""

    sample_id: int
    witness: Witness
    judged: Judged

    @property
    def refusal(self) -> str:
        """Why no cell can name it; empty if one can."""
        eps, judged = self.witness.origin.eps, self.judged
        if isinstance(eps, float) and judged.norm > eps + ROUNDING:
            return f"its norm {judged.norm:.8g} is above its radius"
        if not judged.is_stable:
            return (
                f"{judged.close} of {judged.num_valid} pixels are too close to call on other machines, more than "
                f"{MOST_CLOSE:.0%}"
            )
        return ""

    @property
    def entry(self) -> Entry:
        """Its line in the file of a bench."""
        origin, judged = self.witness.origin, self.judged
        return Entry(
            witness=content_digest(self.witness.to_bytes()),
            sample_id=self.sample_id,
            attack=origin.attack,
            attack_digest=origin.attack_digest,
            eps=origin.eps,
            num_forwards=origin.num_forwards,
            num_backwards=origin.num_backwards,
            seed=origin.seed,
            norm=judged.norm,
            slack=judged.slack,
            close=judged.close,
            tp=judged.tp,
            fp=judged.fp,
            fn=judged.fn,
        )


@dataclass(frozen=True, kw_only=True)
class WitnessMaker:
    """Makes the witnesses for one file of a bench.

    Attributes:
        bench: the file.
        network: of the bench.
        samples: its images and labels, by sample id.
        store: adversarial images of a run.
        seed: of the run.
    """

    bench: BenchFile
    network: nn.Module
    samples: Mapping[int, LoadedSample]
    store: AdversarialStore
    seed: int

    def make(self, records: Sequence[Record]) -> Iterator[JudgedWitness]:
        """A witness of each clean image, and one of the adversarial image of each record.

        Raises:
            StoredImageError: a file of the run is damaged.
        """
        for image in self.bench.images:
            sample, clean = self.samples[image.sample_id], self._clean(image)
            yield self._judged(sample, quantized(sample.image, sample.image, clean))
            for record in records:
                if record.sample_id == image.sample_id and record.eps is not None:
                    adv = self.store.load(record.digest, record.eps, record.sample_id, sample.image.shape)
                    yield self._nearest(sample, adv, _origin(clean, record), success=record.success)

    def _clean(self, image: BenchImage) -> Origin:
        return Origin(
            image=image.image,
            label=image.label,
            weights=self.bench.weights,
            norm_name=self.bench.norm_name,
            attack=CLEAN,
            attack_digest=CLEAN,
            eps=None,
            num_forwards=0,
            num_backwards=0,
            seed=self.seed,
        )

    def _nearest(self, sample: LoadedSample, adv: Tensor, origin: Origin, *, success: bool) -> JudgedWitness:
        """The witness of a perturbation; of a minimal norm the one that loses least and still breaks the image."""
        if isinstance(origin.eps, float) or not success:
            return self._judged(sample, quantized(sample.image, adv, origin))
        small, large = (self._stretched(sample, adv, origin, levels) for levels in ("int8", "int16"))
        norms = [each.judged.norm if each.judged.is_certain else float("inf") for each in (small, large)]
        return small if norms[0] <= _WORTH * norms[1] else large

    def _stretched(self, sample: LoadedSample, adv: Tensor, origin: Origin, levels: Levels) -> JudgedWitness:
        """The witness of the smallest stretch that breaks the image for certain; of the largest if none does."""
        *others, last = _STRETCHES
        for stretch in others:
            found = self._judged(sample, quantized(sample.image, adv, origin, levels=levels, stretch=stretch))
            if found.judged.is_certain:
                return found
        return self._judged(sample, quantized(sample.image, adv, origin, levels=levels, stretch=last))

    def _judged(self, sample: LoadedSample, witness: Witness) -> JudgedWitness:
        (judged,) = rejudge(
            self.network,
            [sample],
            [witness.adversarial(sample.image)],
            self.bench.untargeted,
            norm_name=self.bench.norm_name,
            ignore_index=self.bench.ignore_index,
        )
        return JudgedWitness(sample_id=sample.sample_id, witness=witness, judged=judged)


def _origin(clean: Origin, record: Record) -> Origin:
    """What is said of the perturbation of a record."""
    return replace(
        clean,
        attack=record.attack,
        attack_digest=record.digest,
        eps=record.eps,
        num_forwards=record.num_forwards,
        num_backwards=record.num_backwards,
    )
