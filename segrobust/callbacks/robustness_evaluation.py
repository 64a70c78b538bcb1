"""Attacks on a fixed subset of the validation images while a network trains."""

from collections.abc import Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from segrobust.attacks import Attack
from segrobust.callbacks.access import (
    Entry,
    NetworkPlace,
    callbacks_of,
    check_place,
    describe_place,
    find_network,
    has_ended,
    has_no_images,
    is_dry_run,
    log_after_training,
    prepare_validation_data,
)
from segrobust.callbacks.evaluation_share import Share, evaluate_share
from segrobust.callbacks.history_picture import send_history
from segrobust.callbacks.image_loggers import send_panels
from segrobust.callbacks.log_keys import FAILED_CHECKS, log_keys
from segrobust.callbacks.measurement import Measurement, log_values, sorted_norms
from segrobust.callbacks.rare_values import require_values_in_time
from segrobust.callbacks.smoke import smoke_test
from segrobust.callbacks.trainer_progress import TrainerLines
from segrobust.callbacks.validated import Validated
from segrobust.callbacks.wandb_runs import define_summaries
from segrobust.evaluation.checks import Check, check_records
from segrobust.evaluation.dataset import SampleSource
from segrobust.evaluation.engine.work import choose_samples
from segrobust.evaluation.jobs.distributed import Distributed
from segrobust.evaluation.jobs.session import Session
from segrobust.evaluation.numbers.summarize import summarize
from segrobust.evaluation.plan import plan_attacks
from segrobust.evaluation.presets import preset_attacks
from segrobust.evaluation.run.records import Record, merge_records
from segrobust.functional.lengths import Length
from segrobust.networks import weights_digest
from segrobust.tasks.log_directory import log_directory
from segrobust.untrusted.fields import list_of, read_fields, whole
from segrobust.untrusted.file_names import check_file_name, file_key


class RobustnessEvaluation(Callback):
    """Attacks a fixed subset of the validation images every few epochs, and logs the robustness.

    Works with any LightningModule: arguments give the place of the network and the format of a sample. It runs the
    engine of `segrobust.evaluation` at the end of validation epochs of `fit`, and in `validate` and `test`;
    `segrobust.callbacks.measurement.log_values` lists the logged keys. The states of all random generators are
    restored, so that a training with and without this callback gives the same weights.

    What is attacked is what is validated:

    - **Images** are chosen among those that the loaders would give, as their samplers and `limit_val_batches` say. They
      are read from the data set by the keys of the sampler (positions, or bounding boxes in torchgeo).
    - **Weights** are those of the network's first call in the validation, whoever swaps averages in and out around it.
    - **Function.** Before the first attack, in the sanity check if there is one, two of the chosen images, and one of
      each further loader, go through collate function, transfer hooks and `validation_step`, up to the network. If it
      gets another input there, as where batches are normalised after their transfer or in `forward`, or returns other
      logits, the run stops, and the error has the line to write, such as
      `network=lambda module: Normalized(module.model, mean=..., std=...)`.

    The network is evaluated in evaluation mode and float32, whatever the precision of the training (weights in lower
    precision are refused). In distributed trainings each process attacks its share with the unwrapped network, records
    are gathered once, and all processes log the same numbers. Processes that finish early wait for the others, so set
    `DDPStrategy(timeout=...)` to more than an evaluation takes.

    With a logger, files go to `<save_dir>/<name>/<version>/robustness/epoch=NNN-step=NNNNNN-<weights>`, a run directory
    as in `segrobust.evaluate`: an evaluation that was killed is resumed there, and `summarize_run` reads it. The name
    contains a digest of the weights, so that records of a second training from an earlier checkpoint never mix with
    those of the first. `robustness_history.png` beside them shows scores and norms over the training.

    In the sanity check before training, and in `fast_dev_run`, each attack takes two steps on one image, and nothing is
    logged. Before the first attack, one line says which classes are absent from the masks, and how much of them is
    void.

    Args:
        attacks: attacks by their name in log keys; None for those of the preset `validation`.
        every_n_epochs: completed epochs between two evaluations. An evaluation needs a validation: with
            `check_val_every_n_epoch=2` and 3 here, epochs 4, 8, ... are evaluated.
        max_images: images to attack, chosen at random by the seed alone; None for all.
        eps: radii, image units, of fixed-budget attacks without radius of their own and of the by-products of
            minimal-norm attacks; None for the standard radii, or no by-products in norms other than l_inf.
        network: place of the network, which maps images in [0, 1] to logits `(B, K, H, W)`: dotted path of an attribute
            of the LightningModule, or a function of it.
        image: place of the image `(C, H, W)` in [0, 1] in a sample of the data set: key of a mapping, position in a
            tuple, or a function of the sample.
        mask: place of the mask `(H, W)` of integer classes.
        ignore_index: label of void pixels; None for that of the label space of data set or datamodule, else 255.
        seed: of the choice of images, and of random starts.
        batch_size: images that are attacked together.
        panels: number of attacked images to draw, always the same ones; fixed-budget attacks at their largest radius.
            They are written beside the records, and sent to wandb, TensorBoard and MLflow.
        run_on_last_epoch: also evaluate in the last validation of the training, whatever `every_n_epochs` says, and
            after the training if its last step was not evaluated: it was stopped early, or ended without a validation.
        checks: also check for false robustness, by a few passes on one image and in the records. Failed checks are
            counted in `<prefix>/robust_subset/failed_checks`, cause warnings, and stop `RobustCheckpoint` from saving.
        name: distinguishes several evaluations of one trainer, such as `"student"` and `"teacher"`: keys become
            `val/<name>/<attack>/...`, and files go to the folder `<name>` of the log folder. One evaluation of a
            trainer may have none.
        data: samples to attack in place of those of the loaders, in the same form; for loaders without samples that can
            be read by position. None for those of the loaders.
        compare_with_validation: whether to stop unless the network gets and returns in `validation_step` what it does
            when it is attacked. False for a network that the validation does not call, such as a teacher; nothing then
            shows that it gets the images that it was trained on.

    Attributes:
        history: all measurements of this training, stored in checkpoints.
        swapped: whether the last measurement was of weights that had been taken out of the task already.

    Raises:
        ValueError: settings outside what is allowed; see also `segrobust.evaluation.plan.Job` and `Plan`. At the start
            of `fit`, `validate` and `test`: another evaluation of the trainer with the same name; in `fit`, an
            `EarlyStopping`, `ModelCheckpoint` or `ReduceLROnPlateau` that looks at a key more often than it is
            measured. Before the first attack: a network that is validated on other images than it is attacked on, or
            masks with values that are neither a class nor void.
        TypeError: a network that is neither a path nor a function; loaders whose images cannot be read by position.
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
        name: str | None = None,
        data: SampleSource | None = None,
        compare_with_validation: bool = True,
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}; leave the callback out instead")
        if max_images is not None and max_images < 1:
            raise ValueError(f"max_images must be at least 1, or None for all, got {max_images}")
        if batch_size < 1 or panels < 0:
            raise ValueError(f"batch_size is at least 1 and panels at least 0, got {batch_size} and {panels}")
        if name is not None:
            check_file_name(name, "name")
        check_place(network)
        if attacks is None:
            attacks = preset_attacks("validation")
        self.plan = plan_attacks(attacks, eps)
        self.name = name
        self.keys = log_keys(self.plan, self.prefix("val"))
        if checks:
            self.keys += (f"{self.prefix('val')}/robust_subset/{FAILED_CHECKS}",)
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
        self.data = data
        self.compare_with_validation = compare_with_validation
        self.history: list[Measurement] = []
        self.swapped = False
        self._epochs_at_last = 0
        self._validated = Validated(
            network=network,
            image=image,
            mask=mask,
            data=data,
            ignore_index=ignore_index,
            max_images=max_images,
            seed=seed,
            compare=compare_with_validation,
        )

    def prefix(self, stage: str) -> str:
        """First part of the log keys: `"val"`, or `"val/<name>"`."""
        return stage if self.name is None else f"{stage}/{self.name}"

    @property
    def state_key(self) -> str:
        """Identifies what is measured: the history of other attacks is not restored from a checkpoint."""
        named = {} if self.name is None else {"name": self.name}
        return self._generate_state_key(
            attacks={job.name: (job.identity, job.radii) for job in self.plan.jobs},
            max_images=self.max_images,
            network=describe_place(self.network),
            seed=self.seed,
            **named,
        )

    # As a wrapper of its parent's, it is no override to Lightning, whose trainer would refuse two equal state keys in
    # words that name no fix; `setup` refuses them.
    @wraps(Callback.state_dict, assigned=(), updated=())
    def state_dict(self) -> dict[str, Any]:  # type: ignore[override]  # of functools.wraps
        """History, as plain Python."""
        return {
            "history": [measurement.to_state() for measurement in self.history],
            "epochs_at_last": self._epochs_at_last,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the history of a training that is resumed.

        Raises:
            ValueError: the checkpoint holds a state that this class does not give.
        """
        try:
            state = read_fields(state_dict, {"history": list_of(Measurement.from_state), "epochs_at_last": whole()})
        except ValueError as error:
            raise ValueError(f"the checkpoint's history of RobustnessEvaluation is damaged: {error}") from error
        self.history, self._epochs_at_last = [*state["history"]], state["epochs_at_last"]

    def fresh(self, trainer: Trainer) -> Measurement | None:
        """The measurement of the current weights; None if there is none of this step.

        For callers in validations and in `on_train_end`.
        """
        if not self.history or (self.history[-1].epoch, self.history[-1].step) != _now(trainer):
            return None
        return self.history[-1]

    @property
    def _file_key(self) -> str | None:
        """Equal for evaluations whose folders are one on some disk."""
        return None if self.name is None else file_key(self.name)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses another evaluation that logs under the same keys."""
        self._validated.clear()
        if has_no_images(trainer, stage):
            rank_zero_warn(
                "RobustnessEvaluation measures nothing: the trainer has no images to validate or test; give a loader "
                "and a limit above 0 (limit_val_batches, limit_test_batches)"
            )
        for other in callbacks_of(trainer):
            if isinstance(other, RobustnessEvaluation) and other is not self and other._file_key == self._file_key:
                raise ValueError(
                    f"two RobustnessEvaluation of this trainer have name={self.name!r}, so that keys such as "
                    f"{self.keys[0]!r} and files would mix: {_described(self)}, and {_described(other)}; name one of "
                    'them, such as name="teacher"'
                )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the network, refuses monitors that look more often, and defines summaries in wandb."""
        find_network(pl_module, self.network)
        if not is_dry_run(trainer):
            require_values_in_time(trainer, self.keys, self.every_n_epochs)
        if trainer.is_global_zero:
            define_summaries(trainer.loggers, self.keys)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses monitors that look more often, where that depends on the number of batches."""
        if not is_dry_run(trainer):
            require_values_in_time(trainer, self.keys, self.every_n_epochs)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Waits for the first call of the network, if an evaluation is due, to attack the weights of that call."""
        if batch_idx or dataloader_idx or trainer.sanity_checking:
            return
        if trainer.state.fn != TrainerFn.FITTING or self._is_due(trainer):
            self._validated.watch_weights(pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Copies the weights, if an evaluation is due and the network was not called."""
        self._validated.take_weights(pl_module)

    on_test_batch_start = on_validation_batch_start
    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attacks, if an evaluation is due; before the first one, compares what is attacked with what is validated."""
        if trainer.sanity_checking or is_dry_run(trainer):
            self._smoke_test(trainer, pl_module)
            self._validated.examine(trainer, pl_module)
        elif trainer.state.fn != TrainerFn.FITTING:
            self._evaluate_validated(trainer, pl_module, "val")
        elif self._is_due(trainer):
            self._measure(trainer, pl_module)
        else:
            self._validated.examine(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses keys that the task logs too: in the sanity check, where nothing of this callback is logged yet."""
        taken = sorted({*self.keys} & {*trainer.callback_metrics}) if trainer.sanity_checking else []
        if taken:
            raise ValueError(
                f"{taken[0]!r} is logged by {type(pl_module).__name__} or another callback too, so that loggers would "
                'mix two numbers; name the evaluation, such as name="network"'
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attacks the network that the training left, if it has not been; not called where an exception ended it."""
        if not self.run_on_last_epoch or is_dry_run(trainer) or not trainer.enable_validation:
            return
        if trainer.strategy.broadcast(self.fresh(trainer) is None):
            prepare_validation_data(trainer)
            for averaging in callbacks_of(trainer):
                if isinstance(averaging, WeightAveraging):
                    averaging.on_train_end(trainer, pl_module)  # the averages are what the training leaves
            self._measure(trainer, pl_module)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attacks images of the test set."""
        self._evaluate_validated(trainer, pl_module, "test")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of loaders and weights."""
        self._validated.clear()

    def _measure(self, trainer: Trainer, module: LightningModule) -> None:
        self.history.append(self._evaluate_validated(trainer, module, "val"))
        self._epochs_at_last = _completed_epochs(trainer)
        send_history(trainer, self.history, self._folder(trainer), self.prefix("val"))

    def _is_due(self, trainer: Trainer) -> bool:
        if _completed_epochs(trainer) - self._epochs_at_last >= self.every_n_epochs:
            return True
        return self.run_on_last_epoch and _is_last_validation(trainer)

    def _smoke_test(self, trainer: Trainer, module: LightningModule) -> None:
        with isolate_rng(), torch.inference_mode(False):
            smoke_test(
                find_network(module, self.network),
                self._validated.images(trainer),
                self.plan,
                sample_id=self._validated.chosen(trainer)[0],
                ignore_index=self._validated.ignore_index(trainer),
            )

    def _evaluate_validated(self, trainer: Trainer, module: LightningModule, stage: str) -> Measurement:
        """Attacks the network with the weights that were validated; before the first time, examines what it attacks."""
        with torch.inference_mode(False), self._validated.weights_in(module) as self.swapped:
            self._validated.examine(trainer, module)
            return self._evaluate(trainer, module, stage)

    def _evaluate(self, trainer: Trainer, module: LightningModule, stage: str) -> Measurement:
        """Attacks and logs. All processes call it, and get the same measurement."""
        prefix = self.prefix(stage)
        epoch, step = _now(trainer)
        with isolate_rng(), torch.inference_mode(False):
            session = self._session(trainer, find_network(module, self.network))
            progress = TrainerLines(trainer, self.plan, session.shared_samples)
            share = evaluate_share(
                session,
                self._run_directory(trainer, session),
                drawn=choose_samples(len(session.dataset), self.panels, self.seed) if self.panels else (),
                checks=self.checks,
                progress=progress,
            )
            shares = _gathered(trainer, share)
        records = merge_records(record for share in shares for record in share.records)
        summary = summarize(records, sample_ids=session.samples)
        failed = self._failed_checks(shares, records)
        values = log_values(summary, prefix)
        if self.checks:
            values[f"{prefix}/robust_subset/{FAILED_CHECKS}"] = float(len(failed))
        if has_ended(trainer):
            log_after_training(trainer, values, epoch)
        else:
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
        """Failed checks of the network and of the records, with a warning each."""
        if not self.checks:
            return ()
        identities = {job.digest: job.identity for job in self.plan.jobs}
        found = (*(check for share in shares for check in share.checks), *check_records(records, identities))
        failed = tuple(check for check in found if check.status == "fail")
        for check in failed:
            rank_zero_warn(f"check {check.name} failed. {check.text}")
        return failed

    def _session(self, trainer: Trainer, network: nn.Module) -> Session:
        weights: str = trainer.strategy.broadcast(weights_digest(network))
        return Session(
            network=network,
            weights=weights,
            dataset=self._validated.images(trainer),
            plan=self.plan,
            samples=self._validated.chosen(trainer),
            ignore_index=self._validated.ignore_index(trainer),
            batch_size=self.batch_size,
            seed=self.seed,
            distributed=Distributed(rank=trainer.global_rank, world_size=trainer.world_size),
        )

    def _folder(self, trainer: Trainer) -> Path | None:
        """Folder of the files of this callback; None where nothing is logged to a folder. All processes call it."""
        folder = log_directory(trainer)
        return folder if folder is None or self.name is None else folder / self.name

    def _run_directory(self, trainer: Trainer, session: Session) -> Path | None:
        """Folder of the files of an evaluation; None where nothing is logged to a folder."""
        folder, (epoch, step) = self._folder(trainer), _now(trainer)
        if folder is None:
            return None
        return folder / "robustness" / f"epoch={epoch:03d}-step={step:06d}-{session.manifest.weights[:8]}"


def _described(evaluation: RobustnessEvaluation) -> str:
    """Distinguishes an evaluation from others, for messages."""
    attacks = ", ".join(job.name for job in evaluation.plan.jobs)
    place = describe_place(evaluation.network)
    return f"network={place!r} with attacks {attacks}, max_images={evaluation.max_images}, seed={evaluation.seed}"


def _gathered(trainer: Trainer, share: Share) -> list[Share]:
    """The results of all processes; only here they wait for each other."""
    if trainer.world_size == 1:
        return [share]
    shares = [share] * trainer.world_size
    torch.distributed.all_gather_object(shares, share)
    return shares


def _now(trainer: Trainer) -> tuple[int, int]:
    """Epoch and step of the network as it is; the counter of epochs is one past the last after the training."""
    return trainer.current_epoch - int(has_ended(trainer)), trainer.global_step


def _completed_epochs(trainer: Trainer) -> int:
    """Completed epochs; a validation in the middle of an epoch does not count that epoch."""
    return _now(trainer)[0] + int(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def _is_last_validation(trainer: Trainer) -> bool:
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return True
    return trainer.max_epochs not in (None, -1) and _completed_epochs(trainer) == trainer.max_epochs
