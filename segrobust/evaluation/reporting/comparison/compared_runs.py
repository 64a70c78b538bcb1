"""The runs of a comparison, and what they have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from segrobust.evaluation.numbers.summary import Scores
from segrobust.evaluation.reporting.run_files import RunFiles
from segrobust.evaluation.reporting.score_lines import strongest
from segrobust.functional.norms import NormName


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run with the attacks that all runs have, and the names of its other attacks."""

    label: str
    run: RunFiles
    dropped: tuple[str, ...]


def shared_radius(compared_runs: Sequence[ComparedRun]) -> tuple[float, NormName, list[Scores]] | None:
    """The radius of the headline, and the lowest scores of each run there; None without a common radius."""
    entries = [entry for c in compared_runs for entry in strongest(c.run.summary)[:1]]
    if len(entries) < len(compared_runs) or len({entry.norm_name for entry in entries}) > 1:
        return None
    radii = set.intersection(*({s.eps for s in entry.scores} for entry in entries))
    if not radii:
        return None
    usual = entries[0].headline[0].eps
    eps = usual if usual in radii else max(radii)
    return eps, entries[0].norm_name, [next(s for s in entry.scores if s.eps == eps) for entry in entries]


def same_classes(compared_runs: Sequence[ComparedRun]) -> bool:
    """Whether all runs have the same classes."""
    return all(a.run.label_space.names == b.run.label_space.names for a, b in pairwise(compared_runs))
