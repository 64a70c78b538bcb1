"""The result of an evaluation as a run of Weights & Biases."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from PIL import Image

from segrobust.callbacks.log_keys import CLEAN_SUBSET, at_radius
from segrobust.callbacks.measurement import log_values
from segrobust.callbacks.wandb_runs import best_of, is_offline, require_login
from segrobust.evaluation.numbers.metrics import METRICS, in_place, written
from segrobust.evaluation.numbers.summary import Numbers, SmallestNormSummary, Summary
from segrobust.evaluation.reporting.figures.picture_faults import warned
from segrobust.evaluation.reporting.format import norm_source, norm_text, radius_text
from segrobust.evaluation.reporting.run_files import RunFiles, read_run
from segrobust.evaluation.reporting.score_lines import norm_lines, score_lines
from segrobust.evaluation.run.manifest import Manifest
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.untrusted.folders import require_folder
from segrobust.untrusted.pictures import opened_picture
from segrobust.untrusted.printable import visible

if TYPE_CHECKING:
    import wandb

PREFIX: Final = "eval"
"""First part of all keys."""

MAX_PANELS: Final = 12

_RESULTS: Final = in_place(METRICS, "results")
RESULT_COLUMNS: Final = (
    *("attack", "kind", "norm", "eps", "images"),
    *(metric.label for metric in _RESULTS),
    *("median norm", "bound", "checks"),
)
CHECK_COLUMNS: Final = ("check", "status", "attacks", "detail", "meaning", "fix")

_UNCHECKED: Final = "not checked"
_ARTIFACT_PARTS: Final = ("report.html", "summary.json", "summary.md", "tables", "records")

Row = list[str | float | int | None]


@dataclass(frozen=True, kw_only=True)
class WandbOptions:
    """The run of Weights & Biases to which an evaluation is logged.

    Args:
        project: of Weights & Biases.
        entity: user or team; None for the default one of the account.
        name: of the run; None for one that wandb generates.
        group: of runs.
        tags: of the run.
        mode: "online" or "offline"; None for that of WANDB_MODE, else online.
    """

    project: str
    entity: str | None = None
    name: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    mode: Literal["online", "offline"] | None = None


def require_wandb(options: WandbOptions) -> None:
    """Refuses an online run without credentials, before an evaluation of hours.

    Raises:
        ValueError: wandb is not logged in on this machine, or the options contradict WANDB_MODE.
    """
    surrounding = os.environ.get("WANDB_MODE")
    if options.mode == "online" and is_offline(surrounding):
        raise ValueError(f"mode: online contradicts WANDB_MODE={surrounding}; leave one of them out")
    if not is_offline(options.mode or surrounding):
        require_login("log offline (mode: offline, or WANDB_MODE=offline), or leave the options of wandb out")


def log_evaluation(directory: RunDirectory, options: WandbOptions) -> str:
    """Logs the results of a finished run: numbers, tables, panels, and the report as an artifact.

    Keys are those of `segrobust.callbacks.measurement.log_values`, under `eval`; `eval/clean/*` are scores without
    attack, `eval/any_<norm>/asr_at_<e>` the images broken by any attack. Shares are in percent, norms in image units.
    The id of the run depends only on what was evaluated: a later call for the same directory updates the same run.

    Args:
        directory: of the run.
        options: of the run of Weights & Biases.

    Returns:
        The address of the run; of an offline run its folder, for `wandb sync`.

    Raises:
        ValueError: the directory holds no run, damaged files, or no image with a valid pixel.
        OSError: wandb refuses the run, or cannot be reached.
    """
    import wandb  # here, because it takes a second

    files = read_run(directory)
    _require_own_folder(directory.path / "wandb")
    values = evaluation_values(files.summary)
    try:
        return _log(files, values, options)
    except wandb.Error as error:
        raise OSError(
            f"wandb did not take the run ({error}); all results are in {directory.path}, and the same command logs them"
        ) from error


def _require_own_folder(path: Path) -> None:
    """Refuses the folder that wandb is about to write to where it leads elsewhere; wandb itself makes links in it."""
    if os.path.lexists(path):
        require_folder(os.lstat(path).st_mode, path)


def _log(files: RunFiles, values: Mapping[str, float], options: WandbOptions) -> str:
    """Opens the run, logs everything, and ends it."""
    import wandb

    with wandb.init(
        project=options.project,
        entity=options.entity,
        name=options.name,
        group=options.group,
        tags=list(options.tags),
        mode=options.mode,
        id=run_id(files.manifest),
        resume="allow",
        allow_val_change=True,
        job_type="evaluation",
        dir=str(files.directory.path),
        config=_config(files.manifest),
        settings=wandb.Settings(console="off"),
    ) as run:
        _log_numbers(run, values, _status(files))
        run.log(_media(files))
        run.log_artifact(_artifact(files))
        return str(run.settings.sync_dir if run.offline else run.url)


def run_id(manifest: Manifest) -> str:
    """16 hex digits that depend on the locked fields of a manifest."""
    locked = (
        *(manifest.weights, manifest.preprocessing, manifest.data, manifest.image_size, manifest.ignore_index),
        *(manifest.criterion, manifest.seed, manifest.precision),
    )
    return hashlib.sha256(repr(locked).encode()).hexdigest()[:16]


def evaluation_values(summary: Summary) -> dict[str, float]:
    """Numbers by log key, all finite.

    Raises:
        ValueError: no image has a valid pixel.
    """
    values = {
        key.replace(f"{PREFIX}/{CLEAN_SUBSET}", f"{PREFIX}/clean/"): value
        for key, value in log_values(summary, PREFIX).items()
    }
    for entry in summary.any_attack:
        for eps, asr in zip(entry.eps, entry.asr, strict=True):
            values[f"{PREFIX}/any_{entry.norm_name}/{at_radius('asr', eps)}"] = written("%", asr)
    return values


def result_rows(files: RunFiles) -> list[Row]:
    """One row per attack and radius, as `RESULT_COLUMNS` says; shares in percent, norms as people read them."""
    summary = files.summary
    rows = [] if summary.clean is None else [_row(("clean", "clean", "", ""), summary.clean)]
    for entry in (entry for entries in norm_lines(summary).values() for entry in entries):
        kind = "smallest norm" if isinstance(entry, SmallestNormSummary) else "minimal-norm"
        names, median = (norm_source(entry), kind, entry.norm_name, "min"), norm_text(entry["median"], entry.norm_name)
        rows.append(_row(names, entry, _status(files, *entry.digests), median=median))
    for line in score_lines(summary):
        kind, status = "fixed-budget" if line.scope == "attack" else line.scope, _status(files, *line.digests)
        for scores in line.scores:
            names = (line.label, kind, line.norm_name, radius_text(scores.eps, line.norm_name))
            rows.append(_row(names, scores, status))
    for rates in summary.any_attack:
        name, status = f"any of {len(rates.attacks)} attacks", _status(files)
        for eps, asr in zip(rates.eps, rates.asr, strict=True):
            numbers = Numbers(num_images=rates.num_images, values={"asr": asr}, intervals={}, bound=rates.bound)
            rows.append(_row((name, "any attack", rates.norm_name, radius_text(eps, rates.norm_name)), numbers, status))
    return rows


def _row(names: tuple[str, str, str, str], numbers: Numbers, status: str = "", *, median: str | None = None) -> Row:
    """A row; metrics that the numbers do not hold are left empty."""
    values = (written(m.unit, numbers[m.key]) if m.key in numbers.values else None for m in _RESULTS)
    return [*names, numbers.num_images, *values, median, numbers.bound, status]


def _status(files: RunFiles, *digests: str) -> str:
    """The worst status of the checks of some attacks; of all if none are given."""
    return files.status_of(*digests) if files.checks else _UNCHECKED


def _log_numbers(run: "wandb.Run", values: Mapping[str, float], status: str) -> None:
    """Logs values, each summarised by its direction; a later call for the same run replaces the summary."""
    for key in values:
        run.define_metric(key, summary=best_of(key))
    run.log(dict(values))
    run.summary.update({key: {best_of(key): value} for key, value in values.items()})
    run.summary.update({f"{PREFIX}/checks/status": status})


def _media(files: RunFiles) -> dict[str, Any]:
    """Tables and pictures by key."""
    import wandb

    names = {entry.digest: entry.name for entry in files.manifest.attacks}
    checks = [
        [c.name, c.status, ", ".join(names.get(digest, digest) for digest in c.attacks), c.detail, c.meaning, c.fix]
        for c in files.checks
    ]
    media: dict[str, Any] = {
        f"{PREFIX}/results": wandb.Table(columns=list(RESULT_COLUMNS), data=result_rows(files)),
        f"{PREFIX}/checks/table": wandb.Table(columns=list(CHECK_COLUMNS), data=checks),
    }
    panels = sorted(files.directory.panels.glob("*.png"))[:MAX_PANELS]
    if panels:
        with warned("panels in wandb"):
            media[f"{PREFIX}/panels"] = [
                wandb.Image(_opened(path, files.directory.path), caption=visible(path.stem)) for path in panels
            ]
    return media


def _opened(path: Path, root: Path) -> Image.Image:
    """A picture in memory, so that wandb neither moves the file nor holds it open."""
    with opened_picture(path, root=root) as image:
        return image.copy()


def _artifact(files: RunFiles) -> "wandb.Artifact":
    """The report and the files from which it is made, as far as they exist."""
    import wandb

    manifest, path = files.manifest, files.directory.path
    metadata = {"weights": manifest.weights, "data": manifest.data, "criterion": manifest.criterion}
    artifact = wandb.Artifact(f"robustness-{manifest.weights[:16]}", type="robustness-report", metadata=metadata)
    for part in _existing(path / name for name in _ARTIFACT_PARTS):
        if part.is_dir():
            artifact.add_dir(str(part), name=part.name)
        else:
            artifact.add_file(str(part), name=part.name)
    return artifact


def _existing(paths: Iterable[Path]) -> Iterable[Path]:
    return (path for path in paths if path.exists())


def _config(manifest: Manifest) -> dict[str, Any]:
    """The manifest without the list of samples; attacks by name."""
    config = asdict(manifest)
    space = manifest.label_space
    attacks = {entry.name: {k: v for k, v in asdict(entry).items() if k != "name"} for entry in manifest.attacks}
    named = {"label_space": None if space is None else space.to_dict(), "attacks": attacks}
    left_out = {"samples", "planned"}
    known = {key: value for key, value in config.items() if key not in left_out}
    return {**known, **named, "num_samples": len(manifest.samples)}
