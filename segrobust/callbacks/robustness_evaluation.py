"""Attacks on a fixed subset of the validation images while a network trains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from segrobust.attacks import Attack
from segrobust.callbacks.access import Entry, NetworkPlace, SampleView, evaluated_dataset, find_network, is_dry_run
from segrobust.callbacks.evaluation_share import Share, evaluate_share
from segrobust.callbacks.history_picture import send_history
from segrobust.callbacks.image_loggers import send_panels
from segrobust.callbacks.log_keys import FAILED_CHECKS, log_keys
from segrobust.callbacks.measurement import Measurement, log_values, sorted_norms
from segrobust.callbacks.smoke import smoke_test
from segrobust.callbacks.trainer_progress import ProgressLines
from segrobust.callbacks.wandb_runs import define_summaries
from segrobust.evaluation.checks import Check, check_records
from segrobust.evaluation.dataset import label_space_of
from segrobust.evaluation.engine.work import choose_samples
from segrobust.evaluation.jobs.distributed import Distributed
from segrobust.evaluation.jobs.session import Session
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.plan import plan_attacks, preset
from segrobust.evaluation.run.records import Record, merge_records
from segrobust.functional.lengths import Length
from segrobust.label_space import LabelSpace
from segrobust.networks import weights_digest
from segrobust.tasks.log_directory import log_directory


class RobustnessEvaluation(Callback):
    """Attacks a fixed subset of the validation images every few epochs, and logs what is left of the network.

    Serves any LightningModule: it is told where the network is and what a sample looks like. It runs the engine of
    `segrobust.evaluation` at the end of validation epochs of `fit`, and in `validate` and `test`; the keys that it logs
    are those of `segrobust.callbacks.measurement.log_values`. The attacked images are read from the data set of the
    validation loaders, past loaders, samplers and batch hooks; all randomness is put back, so that a training with and
    without this callback gives the same weights.

    The network is seen in evaluation mode and float32 whatever the precision of the training (networks whose weights
    are in lower precision are refused). In distributed trainings each process attacks its share with the bare network,
    records are gathered once, and all processes log the same numbers. Processes that finish early wait for the others:
    give `DDPStrategy(timeout=...)` more than an evaluation takes.

    Where there is a logger, files go to `<save_dir>/<name>/<version>/robustness/epoch=NNN-step=NNNNNN-<weights>`, a run
    directory as `segrobust.evaluate` writes it: an evaluation that was killed goes on there, and `summarize_run` reads
    it. It is named by the weights, so that records of a network that was trained anew from an earlier checkpoint never
    mix with those of the first one. `robustness_history.png` beside them shows scores and norms over the
    training.

    In the sanity check before training, and in `fast_dev_run`, one image undergoes two steps of each attack, and
    nothing is logged.

    Args:
        attacks: attacks by the name that logs know them by; None for those of the preset `validation`.
        every_n_epochs: epochs that are completed between two evaluations. An evaluation needs a validation: with
            `check_val_every_n_epoch=2` and 3 here, epochs 4, 8, ... are evaluated.
        max_images: images to attack, chosen at random by the seed alone; None for all.
        eps: radii, image units, of fixed-budget attacks without radius of their own and of the by-products of
            minimal-norm attacks; None for the standard radii, or no by-products in norms other than l_inf.
        network: where the network is that maps images in [0, 1] to logits `(B, K, H, W)`: dotted path of an attribute
            of the LightningModule, or a function of it.
        image: where the image `(C, H, W)` in [0, 1] is in a sample of the data set: key of a mapping, position in a
            tuple, or a function of the sample.
        mask: where the mask `(H, W)` of integer classes is.
        ignore_index: label of void pixels; None for that of the label space of data set or datamodule, else 255.
        seed: of the choice of images, and of random starts.
        batch_size: images that are attacked together.
        panels: attacked images to draw, always the same ones; fixed budgets at their largest radius. They go beside
            the records, and to wandb and TensorBoard.
        run_on_last_epoch: also evaluate in the last validation of the training, whatever `every_n_epochs` says.
        checks: also look for false robustness, by a few passes on one image and in the records; failed checks are
            counted as `<prefix>/robust_subset/failed_checks`, told, and keep `RobustCheckpoint` from trusting them.

    Attributes:
        history: all measurements of this training, kept in checkpoints.

    Raises:
        ValueError: settings outside what is allowed; see also `segrobust.evaluation.plan.Job` and `Plan`.
    """

    def __init__(
        self,
        attacks: Mapping[str, Attack] | None = None,
        *,
        every_n_epochs: int = 5,
        max_images: int | None = 8,
        eps: Sequence[Length] | None = (2 / 255, 4 / 255, 8 / 255),
        network: NetworkPlace = "network",
        image: Entry = "image",
        mask: Entry = "mask",
        ignore_index: int | None = None,
        seed: int = 0,
        batch_size: int = 4,
        panels: int = 4,
        run_on_last_epoch: bool = True,
        checks: bool = True,
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}; leave the callback out instead")
        if max_images is not None and max_images < 1:
            raise ValueError(f"max_images must be at least 1, or None for all, got {max_images}")
        if batch_size < 1 or panels < 0:
            raise ValueError(f"batch_size is at least 1 and panels at least 0, got {batch_size} and {panels}")
        if attacks is None:
            attacks = {job.name: job.attack for job in preset("validation").jobs}
        self.plan = plan_attacks(attacks, eps)
        self.keys = log_keys(self.plan, "val") + ((f"val/robust_subset/{FAILED_CHECKS}",) if checks else ())
        self.every_n_epochs = every_n_epochs
        self.max_images = max_images
        self.network = network
        self.image = image
        self.mask = mask
        self.ignore_index = ignore_index
        self.seed = seed
        self.batch_size = batch_size
        self.panels = panels
        self.run_on_last_epoch = run_on_last_epoch
        self.checks = checks
        self.history: list[Measurement] = []
        self._epochs_at_last = 0

    @property
    def state_key(self) -> str:
        """Identifies what is measured: history of other attacks is not taken over from a checkpoint."""
        return self._generate_state_key(
            attacks={job.name: (job.identity, job.radii) for job in self.plan.jobs},
            max_images=self.max_images,
            network=self.network if isinstance(self.network, str) else self.network.__qualname__,
            seed=self.seed,
        )

    def state_dict(self) -> dict[str, Any]:
        """History, as plain Python."""
        return {
            "history": [measurement.to_state() for measurement in self.history],
            "epochs_at_last": self._epochs_at_last,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the history of the training that goes on."""
        self.history = [Measurement.from_state(state) for state in state_dict["history"]]
        self._epochs_at_last = state_dict["epochs_at_last"]

    def fresh(self, trainer: Trainer) -> Measurement | None:
        """The measurement of the network as it is now; None if there is none of this very step."""
        if not self.history or (self.history[-1].epoch, self.history[-1].step) != _now(trainer):
            return None
        return self.history[-1]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks for the network, and whether the last epoch will be validated; tells wandb which values are good."""
        find_network(pl_module, self.network)
        if trainer.is_global_zero:
            define_summaries(trainer.loggers, self.keys)
        every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
        if self.run_on_last_epoch and every and epochs is not None and epochs > 0 and epochs % every:
            rank_zero_warn(
                f"max_epochs={epochs} is no multiple of check_val_every_n_epoch={every}: the last epoch is not "
                "validated, so its robustness will not be known"
            )

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attacks, if it is time to."""
        if trainer.sanity_checking or is_dry_run(trainer):
            self._smoke_test(trainer, pl_module)
        elif trainer.state.fn != TrainerFn.FITTING:
            self._evaluate(trainer, pl_module, "val")
        elif self._is_due(trainer):
            self.history.append(self._evaluate(trainer, pl_module, "val"))
            self._epochs_at_last = _completed_epochs(trainer)
            send_history(trainer, self.history, log_directory(trainer), "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attacks images of the test set."""
        self._evaluate(trainer, pl_module, "test")

    def _is_due(self, trainer: Trainer) -> bool:
        if _completed_epochs(trainer) - self._epochs_at_last >= self.every_n_epochs:
            return True
        return self.run_on_last_epoch and _is_last_validation(trainer)

    def _smoke_test(self, trainer: Trainer, module: LightningModule) -> None:
        with isolate_rng(), torch.inference_mode(False):
            dataset = self._dataset(trainer)
            smoke_test(
                find_network(module, self.network),
                dataset,
                self.plan,
                sample_id=choose_samples(len(dataset), self.max_images, self.seed)[0],
                ignore_index=self._ignore_index(trainer, dataset),
            )

    def _evaluate(self, trainer: Trainer, module: LightningModule, prefix: str) -> Measurement:
        """Attacks and logs; all processes call it, and get the same measurement."""
        epoch, step = _now(trainer)
        with isolate_rng(), torch.inference_mode(False):
            session = self._session(trainer, module)
            progress = ProgressLines(trainer, self.plan, len(session.shared_samples))
            share = evaluate_share(
                session,
                _run_directory(trainer, session),
                drawn=choose_samples(len(session.dataset), self.panels, self.seed) if self.panels else (),
                checks=self.checks,
                advance=progress.advance,
            )
            shares = _gathered(trainer, share)
        records = merge_records(record for share in shares for record in share.records)
        summary = summarize(records, sample_ids=session.samples)
        failed = self._failed_checks(shares, records)
        values = log_values(summary, prefix)
        if self.checks:
            values[f"{prefix}/robust_subset/{FAILED_CHECKS}"] = float(len(failed))
        module.log_dict(values, sync_dist=False)
        send_panels(trainer, [panel for share in shares for panel in share.panels], prefix)
        progress.line(f"{summary.num_images} images in {progress.elapsed}")
        return Measurement(
            epoch=epoch,
            step=step,
            num_images=summary.num_images,
            values=values,
            failed_checks=tuple(check.name for check in failed),
            norms=sorted_norms(records, summary),
        )

    def _failed_checks(self, shares: Sequence[Share], records: Sequence[Record]) -> tuple[Check, ...]:
        """Checks of the network and of the records that failed; they are told."""
        if not self.checks:
            return ()
        identities = {job.digest: job.identity for job in self.plan.jobs}
        found = (*(check for share in shares for check in share.checks), *check_records(records, identities))
        failed = tuple(check for check in found if check.status == "fail")
        for check in failed:
            rank_zero_warn(f"check {check.name} failed: {check.detail} {check.mend}")
        return failed

    def _session(self, trainer: Trainer, module: LightningModule) -> Session:
        network, dataset = find_network(module, self.network), self._dataset(trainer)
        weights: str = trainer.strategy.broadcast(weights_digest(network))
        return Session(
            network=network,
            weights=weights,
            dataset=dataset,
            plan=self.plan,
            samples=choose_samples(len(dataset), self.max_images, self.seed),
            ignore_index=self._ignore_index(trainer, dataset),
            batch_size=self.batch_size,
            seed=self.seed,
            distributed=Distributed(rank=trainer.global_rank, world_size=trainer.world_size),
        )

    def _dataset(self, trainer: Trainer) -> SampleView:
        return SampleView(evaluated_dataset(trainer), self.image, self.mask)

    def _ignore_index(self, trainer: Trainer, dataset: SampleView) -> int:
        if self.ignore_index is not None:
            return self.ignore_index
        space = label_space_of(dataset) or getattr(getattr(trainer, "datamodule", None), "label_space", None)
        return space.ignore_index if isinstance(space, LabelSpace) else 255


def _run_directory(trainer: Trainer, session: Session) -> Path | None:
    """Folder of the files of an evaluation; None where nothing is logged to a folder."""
    folder, (epoch, step) = log_directory(trainer), _now(trainer)
    if folder is None:
        return None
    return folder / "robustness" / f"epoch={epoch:03d}-step={step:06d}-{session.manifest.weights[:8]}"


def _gathered(trainer: Trainer, share: Share) -> list[Share]:
    """What all processes made; the only time that they wait for each other."""
    if trainer.world_size == 1:
        return [share]
    shares = [share] * trainer.world_size
    torch.distributed.all_gather_object(shares, share)
    return shares


def _now(trainer: Trainer) -> tuple[int, int]:
    return trainer.current_epoch, trainer.global_step


def _completed_epochs(trainer: Trainer) -> int:
    """Epochs of which all batches have been trained on; a validation in the middle of an epoch does not count it."""
    return trainer.current_epoch + int(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def _is_last_validation(trainer: Trainer) -> bool:
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return True
    return trainer.max_epochs not in (None, -1) and _completed_epochs(trainer) == trainer.max_epochs
