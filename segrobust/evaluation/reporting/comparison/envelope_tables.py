"""Tables of a comparison: how near attacks come to the smallest norms known of a network."""

from collections.abc import Iterable, Sequence

from segrobust.evaluation.numbers.envelope import KnownNorms, global_optimality, nearness, norms_of_run
from segrobust.evaluation.reporting.format import envelope_texts
from segrobust.evaluation.reporting.headline import NORM_LABELS
from segrobust.evaluation.reporting.html.page import Table, rows_of
from segrobust.evaluation.reporting.run_files import RunFiles


def optimality_tables(runs: Sequence[RunFiles], labels: Sequence[str], known: Sequence[KnownNorms]) -> Iterable[Table]:
    """Local optimality and ratio of every minimal-norm attack of the runs, and the mean over networks.

    Args:
        runs: with all of their attacks, also those that only one has.
        labels: of the runs.
        known: norms of a bench, which are part of the smallest ones.
    """
    every = [*known]
    for run, label in zip(runs, labels, strict=True):
        manifest = run.manifest
        every += norms_of_run(run.records, label, (manifest.weights, manifest.preprocessing, manifest.criterion))
    found = nearness(every)
    if not found:
        return
    sources = ", ".join(dict.fromkeys(each.source for each in every))
    yield Table(
        title="Attacks against the smallest norms known",
        head=("run", "attack", "norm", "images", "missed", "optimality", "ratio"),
        rows=rows_of(
            [
                (
                    each.known.source,
                    each.known.attack,
                    NORM_LABELS[each.known.norm_name],
                    str(len(each.known.norms)),
                    str(each.num_missed),
                    *envelope_texts(each.optimality, each.ratio),
                )
                for each in found
            ]
        ),
        note=f"Smallest norms of each network over all attacks of {sources}. Optimality: AttackBench's local one, 1 at "
        "best. Ratio: geometric mean of the norms to the smallest. Missed: images that only others break.",
        sortable=True,
    )
    means = global_optimality(found)
    if means:
        yield Table(
            title="Global optimality",
            head=("attack", "networks", "optimality"),
            rows=rows_of([(name, str(num), f"{mean:.3f}") for (name, _), (mean, num) in means.items()]),
            note="AttackBench's global optimality: the mean of the local one over networks.",
            sortable=True,
        )
