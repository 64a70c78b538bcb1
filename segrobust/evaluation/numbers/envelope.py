"""How near attacks come to the smallest norms that any run or bench knows of a network."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan

import torch

from segrobust.evaluation.run.records import Record
from segrobust.functional.norms import NormName
from segrobust.metrics import geometric_mean_ratio, local_optimality

Target = tuple[str, str, str]
"""What norms are of: digest of the weights, preprocessing, and criterion."""


@dataclass(frozen=True, kw_only=True)
class KnownNorms:
    """The norms of one attack of a run, or the smallest ones of a bench.

    Attributes:
        source: label of the run or the bench.
        attack: name of the attack; empty for a bench.
        digest: of the attack's identity; empty for a bench.
        target: what they are of.
        norm_name: the norm.
        norms: by digest of image and mask; inf for a failure.
    """

    source: str
    attack: str = ""
    digest: str = ""
    target: Target
    norm_name: NormName
    norms: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """One attack of a run against the smallest norms known of its network.

    Attributes:
        known: its norms.
        optimality: AttackBench's local optimality, in [0, 1]; see `local_optimality`.
        ratio: geometric mean of its norms to the smallest ones, over images that it breaks, at least 1.
        num_missed: images that it fails on and another breaks.
    """

    known: KnownNorms
    optimality: float
    ratio: float
    num_missed: int


def norms_of_run(records: Iterable[Record], source: str, target: Target) -> list[KnownNorms]:
    """The norms of each minimal-norm attack of a run; flagged images are left out.

    Args:
        records: of the run.
        source: label of the run.
        target: what they are of.
    """
    by_attack: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.kind == "minimal-norm" and not record.flags:
            by_attack[record.digest].append(record)
    return [
        KnownNorms(
            source=source,
            attack=found[0].attack,
            digest=digest,
            target=target,
            norm_name=found[0].norm_name or "linf",
            norms={record.sample_digest or f"sample {record.sample_id}": record.norm for record in found},
        )
        for digest, found in by_attack.items()
    ]


def nearness(known: Sequence[KnownNorms]) -> list[Nearness]:
    """Every attack against the smallest norms of all, network by network and norm by norm."""
    envelopes: dict[tuple[Target, NormName], dict[str, float]] = defaultdict(dict)
    for each in known:
        envelope = envelopes[each.target, each.norm_name]
        for image, norm in each.norms.items():
            envelope[image] = min(norm, envelope.get(image, inf))
    return [_nearness(each, envelopes[each.target, each.norm_name]) for each in known if each.attack]


def global_optimality(found: Iterable[Nearness]) -> dict[tuple[str, str], tuple[float, int]]:
    """AttackBench's global optimality: the mean of the local one over networks, for attacks on at least two.

    Returns:
        By name and digest of the attack: the mean, and the number of networks.
    """
    by_attack: dict[tuple[str, str], dict[Target, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in found:
        if not isnan(each.optimality):
            by_attack[each.known.attack, each.known.digest][each.known.target].append(each.optimality)
    means = {attack: [sum(local) / len(local) for local in own.values()] for attack, own in by_attack.items()}
    return {attack: (sum(local) / len(local), len(local)) for attack, local in means.items() if len(local) > 1}


def _nearness(known: KnownNorms, envelope: Mapping[str, float]) -> Nearness:
    own = torch.tensor(list(known.norms.values()), dtype=torch.float64)
    least = torch.tensor([envelope[image] for image in known.norms], dtype=torch.float64)
    compared = geometric_mean_ratio(own, least)
    return Nearness(
        known=known,
        optimality=local_optimality(own, least),
        ratio=compared.ratio,
        num_missed=compared.num_only_b,
    )
