"""The comparison of several runs on one page."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from segrobust.evaluation.numbers.envelope import KnownNorms
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.plan import Radius
from segrobust.evaluation.reporting.comparison.compare_page import build_comparison
from segrobust.evaluation.reporting.comparison.compared_runs import ComparedRun
from segrobust.evaluation.reporting.comparison.envelope_tables import optimality_tables
from segrobust.evaluation.reporting.format import radius_text
from segrobust.evaluation.reporting.html.report_page import plot_library, render
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.run.changed_samples import find_changed
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import CLEAN, digests_of, name_samples
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.untrusted.folders import real_path
from segrobust.untrusted.regular_files import replace_file

_SAME: Final[dict[str, Callable[[Manifest], object]]] = {
    "images": lambda manifest: _images(manifest.samples),
    "classes": lambda manifest: None if manifest.label_space is None else ", ".join(manifest.label_space.names),
    "label of void pixels": lambda manifest: manifest.ignore_index,
    "criterion of success": lambda manifest: manifest.criterion,
    "precision": lambda manifest: manifest.precision,
    "range of the values": lambda manifest: manifest.value_range or "0..255",
}
_MOST_SHOWN = 12
Call = tuple[str, Radius]
"""Digest and radius of an attack, or "min"."""


def compare_runs(
    run_dirs: Sequence[Path], output: Path, *, force: bool = False, known: Sequence[KnownNorms] = ()
) -> Path:
    """Writes one page that compares several runs under the attacks that all of them have.

    Args:
        run_dirs: directories of at least two runs; ratios are relative to the first.
        output: the page.
        force: whether to compare runs with different images, data, thresholds or precision, or without a common attack;
            the page warns.
        known: norms of a bench, which are part of the smallest ones that attacks are measured against; see
            `segrobust.evaluation.bench.bench_consistency.norms_of_bench`.

    Raises:
        ValueError: fewer than two runs, a directory twice or without a run, runs that cannot be compared, or the extra
            `report` is not installed.
        OSError: the page cannot be written.
    """
    if len({real_path(path) for path in run_dirs}) < max(2, len(run_dirs)):
        raise ValueError(
            f"a comparison needs at least two different runs, got {', '.join(map(str, run_dirs)) or 'none'}"
        )
    runs = [read_run(RunDirectory(path)) for path in run_dirs]
    labels = run_labels(run_dirs)
    found = tuple(differences(runs, labels))
    if found and not force:
        lines = "\n".join(f"  {line}" for line in found)
        raise ValueError(
            f"these runs cannot be compared:\n{lines}\nevaluate them with the same settings, or compare them anyway: "
            "--force"
        )
    common = _shared(runs)
    compared_runs = [
        ComparedRun(label=label, run=_restricted(run, common), dropped=_dropped(run, common))
        for label, run in zip(labels, runs, strict=True)
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    nearness = tuple(optimality_tables(runs, labels, known))
    replace_file(output, render(build_comparison(compared_runs, found, nearness), "compare.html.j2", plot_library()))
    return output


def differences(runs: Sequence[RunFiles], labels: Sequence[str]) -> Iterable[str]:
    """Settings that should be equal and are not: one line each, with the values of the first run that differs."""
    manifests = [run.manifest for run in runs]
    first = manifests[0]
    for name, value in _SAME.items():
        for manifest, label in zip(manifests[1:], labels[1:], strict=True):
            if value(manifest) != value(first):
                yield f"{name}: {value(first)} in {labels[0]}, {value(manifest)} in {label}"
                break
    for run, label in zip(runs[1:], labels[1:], strict=True):
        changed = find_changed(runs[0].records, digests_of(run.records))
        if changed:
            what = f"the image or the mask of {name_samples(changed)}"
            yield f"data: {what} is not the same in {labels[0]} and in {label}"
            break
    if not _shared(runs):
        parts = (
            f"{', '.join(_named(run, _measured(run))) or 'none'} in {label}"
            for run, label in zip(runs, labels, strict=True)
        )
        yield f"attacks: no attack with the same settings has results in all runs: {'; '.join(parts)}"


def run_labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """Short names: of the folders if these differ, else with the folder above."""
    resolved = [real_path(path) for path in paths]
    names = [path.name for path in resolved]
    if len({*names}) == len(names) and not any(name.startswith("evaluation-") for name in names):
        return tuple(names)
    longer = [f"{path.parent.name}/{path.name}" for path in resolved]
    return tuple(longer if len({*longer}) == len(longer) else map(str, resolved))


def _measured(run: RunFiles) -> set[Call]:
    """The attacks and radii for which a run has results.

    With `asr_only`, an attack may have had no unbroken image at a radius, so the planned radii count.
    """
    planned = {
        (entry.digest, eps)
        for entry in run.manifest.attacks
        for eps in entry.eps
        if run.manifest.asr_only and entry.kind == "fixed-budget"
    }
    return planned | {(r.digest, r.eps) for r in run.records if r.eps is not None}


def _shared(runs: Sequence[RunFiles]) -> set[Call]:
    """The attacks and radii that all runs have: the smallest norm and the worst case of several depend on them."""
    return set.intersection(*map(_measured, runs))


def _restricted(run: RunFiles, shared: set[Call]) -> RunFiles:
    """A run with the records of the shared attacks and radii alone; with all records if there are none."""
    if not shared:
        return run
    records = tuple(r for r in run.records if r.digest == CLEAN or (r.digest, r.eps) in shared)
    return replace(run, records=records, summary=summarize(records, asr_only=run.manifest.asr_only))


def _dropped(run: RunFiles, shared: set[Call]) -> tuple[str, ...]:
    """Names of attacks that are left out, with the radii if all runs have the attack at other radii."""
    return _named(run, _measured(run) - shared, {digest for digest, _ in shared}) if shared else ()


def _named(run: RunFiles, calls: set[Call], partly: Collection[str] = ()) -> tuple[str, ...]:
    """Names of attacks, with the radii of those in `partly`."""
    texts = []
    for entry in run.manifest.attacks:
        radii = sorted(eps for digest, eps in calls if digest == entry.digest and isinstance(eps, float))
        if entry.digest in partly and radii:
            name = entry.name if entry.kind == "fixed-budget" else f"by-products of {entry.name}"
            texts.append(f"{name} at {', '.join(radius_text(eps, entry.norm_name) for eps in radii)}")
        elif any(digest == entry.digest for digest, _ in calls):
            texts.append(entry.name)
    return tuple(texts)


def _images(samples: Iterable[int]) -> str:
    """Positions as a short text that differs between different sets."""
    ordered = sorted(samples)
    shown = ", ".join(map(str, ordered[:_MOST_SHOWN]))
    rest = f", ... (sum {sum(ordered)})" if len(ordered) > _MOST_SHOWN else ""
    return f"{len(ordered)} at {shown}{rest}"
