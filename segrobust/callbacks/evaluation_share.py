"""The results of one process of a training: records of its share of the images, panels, checks."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segrobust.callbacks.image_loggers import Panel
from segrobust.evaluation.checks import Check
from segrobust.evaluation.engine.runner import Outputs
from segrobust.evaluation.jobs.progress import Progress
from segrobust.evaluation.jobs.session import Session
from segrobust.evaluation.reporting.figures.panel_files import write_panels
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.claim import Claim
from segrobust.evaluation.run.network_identity import examine_network
from segrobust.evaluation.run.records import Record, RecordWriter
from segrobust.evaluation.run.run_directory import RunDirectory


@dataclass(frozen=True)
class Share:
    """The results of one process."""

    records: tuple[Record, ...]
    panels: tuple[Panel, ...]
    checks: tuple[Check, ...]


def evaluate_share(
    session: Session,
    path: Path | None,
    *,
    drawn: Sequence[int],
    checks: bool,
    progress: Progress,
) -> Share:
    """Evaluates the fixed share of this process, without waiting for others or reading their files.

    Args:
        session: what is evaluated.
        path: run directory for records and panels, whose records are not made again; None to write no files.
        drawn: samples that get a panel.
        checks: whether process 0 checks for false robustness, by a few passes on one image.
        progress: follows the work.

    Raises:
        ValueError: the directory cannot be written, or holds results of something else, such as the same weights in
            another network.
    """
    found = session.check_network(session.samples[:1]) if checks and session.distributed.is_main else ()
    if path is None:
        return Share(session.measure(session.share, Outputs(watch=progress)), (), found)
    with Claim(path, session.manifest, session.distributed.rank) as claim:
        file = RunDirectory(path).network
        identity = examine_network(file, session.network, session.dataset, session.samples)
        claim.write_manifest()
        identity.write(file)
        return _evaluate_claimed(session, claim, drawn, found, progress)


def _evaluate_claimed(
    session: Session, claim: Claim, drawn: Sequence[int], found: tuple[Check, ...], progress: Progress
) -> Share:
    path = claim.directory
    done, shown = session.recorded_share(path), [each for each in session.shared_samples if each in drawn]
    progress.begin(done)
    # Adversarial images are stored for the panels alone: many evaluations of a training would fill the disk.
    with tempfile.TemporaryDirectory() as kept, RecordWriter(path, session.distributed.rank, claim=claim) as writer:
        store = AdversarialStore(kept, shown)
        outputs = Outputs(writer=writer, store=store, watch=progress)
        made = session.measure(session.share, outputs, done=done)
        files = write_panels(
            session.network,
            session.dataset,
            session.plan,
            RunDirectory(path),
            store,
            shown,
            session.ignore_index,
            tiles_too=False,
        )
    return Share((*done, *made), tuple(Panel.read(file, path) for file in files), found)
