"""Per image the smallest norm that any of several minimal-norm attacks finds."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import torch

from segrobust.evaluation.numbers.summary import FoundBy
from segrobust.evaluation.run.records import Record
from segrobust.functional.norms import NormName, norm_order
from segrobust.metrics import geometric_mean_ratio, local_optimality


def minimal_norm_attacks(records: Iterable[Record]) -> dict[NormName, tuple[str, ...]]:
    """Digests of the minimal-norm attacks of each norm, l_inf first; attacks in the order of the records."""
    found: dict[NormName, dict[str, None]] = defaultdict(dict)
    for record in records:
        if record.kind == "minimal-norm" and record.norm_name is not None and not record.flags:
            found[record.norm_name][record.digest] = None
    return {name: tuple(found[name]) for name in sorted(found, key=norm_order)}


def smallest_norms(records: Iterable[Record], digests: Collection[str]) -> list[Record]:
    """Per image the record of the smallest norm, in the order of the images.

    A failure is inf, so it is chosen only if all attacks fail. Ties go to the record that breaks more pixels, then to
    the first. An image without a record of every one of the attacks is left out, because the smallest of fewer attacks
    is another number; so is an image without a valid pixel.

    Args:
        records: one per image and attack; records of other attacks are ignored.
        digests: of minimal-norm attacks of one norm; one attack gives its own records.
    """
    by_image: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        if record.kind == "minimal-norm" and record.digest in digests and not record.flags:
            by_image[record.sample_id].append(record)
    return [
        min(by_image[sample_id], key=lambda record: (record.norm, -record.apsr))
        for sample_id in sorted(by_image)
        if len(by_image[sample_id]) == len(digests)
    ]


def found_by(records: Iterable[Record], smallest: Sequence[Record], digests: Sequence[str]) -> tuple[FoundBy, ...]:
    """The contribution of each attack to the smallest norms.

    Args:
        records: of the attacks.
        smallest: the result of `smallest_norms` for them.
        digests: of the attacks.
    """
    records = tuple(records)
    least = torch.tensor([record.norm for record in smallest], dtype=torch.float64)
    images = {record.sample_id for record in smallest}
    found = []
    for digest in digests:
        own = [record for record in smallest_norms(records, (digest,)) if record.sample_id in images]
        norms = torch.tensor([record.norm for record in own], dtype=torch.float64)
        compared = geometric_mean_ratio(norms, least)
        found.append(
            FoundBy(
                attack=own[0].attack,
                digest=digest,
                num_images=int((norms.isfinite() & (norms == least)).sum()),
                num_missed=compared.num_only_b,
                ratio=compared.ratio,
                optimality=local_optimality(norms, least),
            )
        )
    return tuple(found)
