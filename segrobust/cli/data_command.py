"""`segrobust data`: describes data sets, checks them before training or evaluation, downloads published ones."""

import json
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from jsonargparse import ArgumentParser, Namespace
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TimeRemainingColumn

from segrobust.cli.command_line import read_command_line
from segrobust.cli.console import say, stop, without_traceback
from segrobust.cli.data_init_command import init_command
from segrobust.cli.data_output import draw, print_findings, print_survey
from segrobust.cli.interfaces import INTERFACES
from segrobust.cli.parser_messages import one_line
from segrobust.cli.parsers import add_options, option_names, parse
from segrobust.cli.settings_files import read_settings
from segrobust.data import SegmentationDataModule, SegmentationDataset
from segrobust.data.files.archives import ARCHIVES, fetch
from segrobust.data.files.faults import gathered_faults
from segrobust.data.files.unpacking import unpack
from segrobust.data.survey.survey import Finding, Survey, between_splits, survey
from segrobust.untrusted.data_fault import DataDoubt, DataFault

SPOILED: Final = 1
"""Exit status if the data have faults."""

_SPLITS: Final = ("train", "val", "test")


def data_command(arguments: Sequence[str]) -> None:
    """Entry point of `segrobust data`: a command on data sets.

    Args:
        arguments: what follows `data` on the command line, a name of a command first.
    """
    _COMMANDS[arguments[0]](arguments[1:])


def check_command(arguments: Sequence[str]) -> None:
    """Reads data sets, and reports their contents and faults.

    The exit status is 1 if a file cannot be read or paired, contains undefined labels or has a different size, or if an
    image is in two splits; with --strict also for empty masks, nearly black or duplicate images, and absent classes.
    """
    options = _check_options(arguments)
    if options.data is None:
        stop("no data: pass --config FILE, or --data CLASS with --data.root and the like")
    for name in ("picture", "json"):  # reported before hours of reading
        if getattr(options, name) is not None and not getattr(options, name).parent.is_dir():
            stop(f"--{name}: there is no folder {getattr(options, name).parent}")
    specified = _datasets(options.data, options.split)
    if not specified:
        stop(f"the data module has no {options.split} data; choose another --split")
    with without_traceback(OSError):
        surveys, findings = _survey_all(specified, options)
    found = [*findings, *(finding for each in surveys for finding in each.findings)]
    wrong = [finding for finding in found if finding.severity == "fault" or options.strict]
    sys.exit(SPOILED if wrong else 0)


def _check_options(arguments: Sequence[str]) -> Namespace:
    """The options; those that are wrong end the process with one line."""
    parser = ArgumentParser(exit_on_error=False)
    add_options(parser, "data check", {"data": SegmentationDataset | SegmentationDataModule | None})
    with without_traceback(ValueError):
        words = [*_with_configs(read_command_line(arguments, INTERFACES["data check"]).words())]
    try:
        return parser.parse_args(words)
    except ArgumentError as error:
        stop(one_line(str(error), option_names(parser)))


def _with_configs(arguments: Sequence[str]) -> Iterator[str]:
    """The arguments, with each configuration file replaced by its data; other keys are left out.

    Raises:
        ValueError: A file that cannot be read, is not YAML or has no `data`.
    """
    for argument in arguments:
        name, _, path = argument.partition("=")
        if name != "--config":
            yield argument
            continue
        content = read_settings(path)
        if "data" not in content:
            raise ValueError(f"{path} has no `data`")
        yield f"--data={json.dumps(content['data'])}"


def _datasets(data: Namespace, split: str) -> dict[str, dict[str, Any]]:
    """Class path and arguments of each data set, by split."""
    given = data.as_dict()
    arguments = given["init_args"]
    if not {"train", "val", "test"} <= set(arguments):  # a data set
        return {str(arguments.get("split", "data")): given}
    wanted = _SPLITS if split == "all" else (split,)
    return {name: arguments[name] for name in wanted if arguments[name] is not None}


def _survey_all(specified: Mapping[str, dict[str, Any]], options: Namespace) -> tuple[list[Survey], list[Finding]]:
    """Reads all data sets; prints, draws and writes the findings."""
    surveys, pictures = [], {}
    for name, specification in specified.items():
        dataset, faults, doubts = _make(specification)
        if dataset is None:
            found = tuple(Finding(kind=fault.kind, severity="fault", message=str(fault)) for fault in faults)
            surveys.append(Survey(split=name, findings=found))
        else:
            seen = _survey_one(dataset, name, faults, options)
            surveys.append(replace(seen, findings=(*seen.findings, *doubts)))
            pictures[name] = dataset
        print_survey(surveys[-1])
    findings = list(between_splits(surveys))
    print_findings(findings)
    if options.picture is not None:
        draw(pictures, options.picture, options.samples)
    if options.json is not None:
        content = {"splits": [each.to_dict() for each in surveys], "findings": [vars(finding) for finding in findings]}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        say(f"json     {options.json}")
    number = {
        severity: sum(each.count(severity) for each in surveys) + sum(f.severity == severity for f in findings)
        for severity in ("fault", "warning")
    }
    say(f"\n{number['fault']} faults, {number['warning']} warnings")
    return surveys, findings


def _make(specification: dict[str, Any]) -> tuple[SegmentationDataset | None, list[DataFault], list[Finding]]:
    """The data set without faulty files, the faults, and what is doubtful by headers; None if no file remains."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--dataset", type=SegmentationDataset)
    with gathered_faults() as faults, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataDoubt)
        try:
            made = parser.instantiate(parser.parse_object({"dataset": specification})).dataset
        except DataFault as fault:
            return None, [*faults, fault], []
        except (ValueError, OSError) as error:
            return None, [*faults, DataFault(str(error), kind="layout")], []
    found = [each.message for each in caught if isinstance(each.message, DataDoubt)]
    doubts = [Finding(kind=each.kind, severity="warning", message=str(each)) for each in found]
    return made, faults, [each for each in doubts if each.kind != "turned"]  # of which a survey reads all images


def _progress(amount: ProgressColumn) -> Progress:
    """A bar on stderr that vanishes at its end: what is done, `amount` of it, and the time that is left."""
    columns = ("{task.description}", BarColumn(), amount, "ETA", TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _survey_one(dataset: SegmentationDataset, name: str, faults: list[DataFault], options: Namespace) -> Survey:
    """Reads one data set behind a progress bar."""
    with _progress(MofNCompleteColumn()) as progress:
        task = progress.add_task(f"reading {name}", total=min(len(dataset), options.max_images or len(dataset)))
        return survey(
            dataset,
            split=name,
            faults=faults,
            max_images=options.max_images,
            num_workers=options.num_workers,
            advance=lambda: progress.advance(task),
        )


def download_command(arguments: Sequence[str]) -> None:
    """Downloads a published archive, checks its digest, and unpacks it.

    Cityscapes and CamVid are not available: Cityscapes needs an account at cityscapes-dataset.com, and CamVid is
    published without a digest.
    """
    options = parse("data download", arguments)
    if options.root is None:
        stop("expected --root FOLDER, for the archive and its contents")
    archive = ARCHIVES[options.name]
    say(f"{archive.url}\nterms    {archive.terms}")
    with without_traceback(ValueError, OSError):
        with _progress(DownloadColumn()) as progress:
            task = progress.add_task(archive.name, total=None)
            path = fetch(archive, options.root, lambda done, total: progress.update(task, completed=done, total=total))
        unpack(path, options.root)
    say(f"data     {options.root}\narchive  {path} (can be deleted)")


_COMMANDS: Final[dict[str, Callable[[Sequence[str]], None]]] = {
    "init": init_command,
    "check": check_command,
    "download": download_command,
}
