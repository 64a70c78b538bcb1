"""Several runs on one page."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.reporting.comparison.compare_page import build_comparison
from segrobust.evaluation.reporting.comparison.compared_runs import ComparedRun
from segrobust.evaluation.reporting.html.report_page import plot_library, render
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.records import CLEAN
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import replace_file

_SAME: Final[dict[str, Callable[[Manifest], object]]] = {
    "fingerprint of the data": lambda manifest: manifest.data,
    "images": lambda manifest: _images(manifest.samples),
    "size of the first image": lambda manifest: manifest.image_size,
    "classes": lambda manifest: None if manifest.label_space is None else ", ".join(manifest.label_space.names),
    "label of void pixels": lambda manifest: manifest.ignore_index,
    "criterion of success": lambda manifest: manifest.criterion,
    "precision": lambda manifest: manifest.precision,
}
_MOST_SHOWN = 12


def compare_runs(run_dirs: Sequence[Path], output: Path, *, force: bool = False) -> Path:
    """Writes one page on which several runs stand side by side, under the attacks that they have in common.

    Args:
        run_dirs: directories of at least two runs; ratios are to the first.
        output: the page.
        force: whether runs are compared that differ in their images, data, thresholds or precision, or have no attack
            in common; the page says so.

    Raises:
        ValueError: fewer than two runs, a directory twice or without a run, runs that differ in what must be the same,
            or the extra `report` is not installed.
        OSError: the page cannot be written.
    """
    if len({path.resolve() for path in run_dirs}) < max(2, len(run_dirs)):
        raise ValueError(
            f"a comparison needs at least two different runs, got {', '.join(map(str, run_dirs)) or 'none'}"
        )
    runs = [read_run(RunDirectory(path)) for path in run_dirs]
    labels = run_labels(run_dirs)
    found = tuple(differences([run.manifest for run in runs], labels))
    if found and not force:
        lines = "\n".join(f"  {line}" for line in found)
        raise ValueError(
            f"these runs cannot be compared:\n{lines}\nevaluate them alike, or compare them anyway: --force"
        )
    common = _common_attacks([run.manifest for run in runs])
    compared_runs = [
        ComparedRun(label=label, run=_restricted(run, common), dropped=_dropped(run, common))
        for label, run in zip(labels, runs, strict=True)
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    replace_file(output, render(build_comparison(compared_runs, found), "compare.html.j2", plot_library()))
    return output


def differences(manifests: Sequence[Manifest], labels: Sequence[str]) -> Iterable[str]:
    """What should be the same and is not: one line per field, with the values of the first run that differs."""
    first = manifests[0]
    for name, value in _SAME.items():
        for manifest, label in zip(manifests[1:], labels[1:], strict=True):
            if value(manifest) != value(first):
                yield f"{name}: {value(first)} in {labels[0]}, {value(manifest)} in {label}"
                break
    if not _common_attacks(manifests):
        parts = (
            f"{', '.join(entry.name for entry in manifest.attacks) or 'none'} in {label}"
            for manifest, label in zip(manifests, labels, strict=True)
        )
        yield f"attacks: no attack with the same settings is in all runs: {'; '.join(parts)}"


def run_labels(paths: Sequence[Path]) -> tuple[str, ...]:
    """Short names: that of the folder where these differ and say something, else with the folder above it."""
    resolved = [path.resolve() for path in paths]
    names = [path.name for path in resolved]
    if len({*names}) == len(names) and not any(name.startswith("evaluation-") for name in names):
        return tuple(names)
    longer = [f"{path.parent.name}/{path.name}" for path in resolved]
    return tuple(longer if len({*longer}) == len(longer) else map(str, resolved))


def _common_attacks(manifests: Sequence[Manifest]) -> set[str]:
    return set.intersection(*({entry.digest for entry in manifest.attacks} for manifest in manifests))


def _restricted(run: RunFiles, digests: set[str]) -> RunFiles:
    """A run with the records of some attacks alone; with all if there is none in common."""
    if not digests:
        return run
    records = tuple(record for record in run.records if record.digest in {*digests, CLEAN})
    return replace(run, records=records, summary=summarize(records, asr_only=run.manifest.asr_only))


def _dropped(run: RunFiles, digests: set[str]) -> tuple[str, ...]:
    return tuple(e.name for e in run.manifest.attacks if e.digest not in digests) if digests else ()


def _images(samples: Iterable[int]) -> str:
    """The set of positions, so that two sets that differ read differently."""
    ordered = sorted(samples)
    shown = ", ".join(map(str, ordered[:_MOST_SHOWN]))
    rest = f", ... (sum {sum(ordered)})" if len(ordered) > _MOST_SHOWN else ""
    return f"{len(ordered)} at {shown}{rest}"
