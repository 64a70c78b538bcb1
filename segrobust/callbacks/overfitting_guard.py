"""A guard against catastrophic overfitting: robustness to the attack of the training alone."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from segrobust.attacks import PGD, Attack
from segrobust.callbacks.access import Entry, is_dry_run
from segrobust.callbacks.validated_images import ValidatedImages, validated_images
from segrobust.evaluation.dataset import load_sample
from segrobust.evaluation.engine.work import choose_samples
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.functional.modes import attackable
from segrobust.tasks import AdversarialTask

Action = Literal["stop", "warn"]

SLACK = 0.05
"""Relative loss of the accuracy under the training attack, from the best epoch, that does not count as a drop."""

CONFIRMED = 2
"""Consecutive validations that must look like overfitting, because accuracies fluctuate early in a training."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Pixel accuracies after an epoch, in [0, 1].

    Attributes:
        epoch: from 0.
        weak: under the attack of the training.
        strong: under the stronger one.
    """

    epoch: int
    weak: float
    strong: float


class OverfittingGuard(Callback):
    """Stops adversarial training when catastrophic overfitting sets in (Wong, Rice and Kolter, ICLR 2020).

    Training with one-step attacks can fail from one epoch to the next: the network becomes robust to that step alone,
    and a few smaller steps break it. After every validation of the training, the training attack and a stronger one are
    run on a fixed subset of the validation images. The alarm is raised if, in two consecutive validations, the accuracy
    under the stronger attack is more than `drop` (relative) below its best value so far, while that under the training
    attack has not dropped.

    Logs `guard/training_attack_acc` and `guard/strong_attack_acc`, in percent. Process 0 evaluates, and broadcasts the
    result.

    Args:
        attack: the stronger attack; None for PGD with 10 steps and the radius of the training.
        max_images: number of images, chosen at random by the seed alone.
        drop: share of the best accuracy, in (0, 1).
        action: `"stop"` ends the training, `"warn"` only warns; both warnings name the best epoch.
        seed: of the choice of images and of random starts.
        image: where the image is in a sample, as in `RobustnessEvaluation`.
        mask: where the mask is.

    Attributes:
        history: accuracies so far, stored in checkpoints.
        alarm: epoch of the first alarm; None before one.

    Raises:
        ValueError: a setting outside of its range. At the start of `fit`: a task that is not adversarial, or whose
            attack has no radius.
    """

    def __init__(
        self,
        attack: Attack | None = None,
        *,
        max_images: int = 8,
        drop: float = 0.3,
        action: Action = "stop",
        seed: int = 0,
        image: Entry = "image",
        mask: Entry = "mask",
    ) -> None:
        if max_images < 1 or not 0 < drop < 1:
            raise ValueError(f"max_images is at least 1 and drop a share in (0, 1), got {max_images} and {drop}")
        if action not in get_args(Action):
            raise ValueError(f"action must be 'stop' or 'warn', got {action!r}")
        self.attack = attack
        self.max_images = max_images
        self.drop = drop
        self.action = action
        self.seed = seed
        self.image = image
        self.mask = mask
        self.history: list[Watched] = []
        self.alarm: int | None = None
        self._suspicions = 0  # in a row

    def state_dict(self) -> dict[str, Any]:
        """History and alarm, as plain Python."""
        history = [asdict(watched) for watched in self.history]
        return {"history": history, "alarm": self.alarm, "suspicions": self._suspicions}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores history and alarm."""
        self.history = [Watched(**watched) for watched in state_dict["history"]]
        self.alarm, self._suspicions = state_dict["alarm"], state_dict["suspicions"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checks that the task is adversarial and that there is an attack to run."""
        if not isinstance(pl_module, AdversarialTask):
            raise ValueError(
                f"OverfittingGuard guards an AdversarialTask, got {type(pl_module).__name__}; leave it out"
            )
        if self.attack is None and pl_module.attack.default_eps is None:
            raise ValueError(f"{pl_module.attack!r} has no radius: give the guard an attack, such as PGD(num_steps=10)")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluates both attacks, and raises the alarm."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or is_dry_run(trainer):
            return
        assert isinstance(pl_module, AdversarialTask)
        watched = Watched(epoch=trainer.current_epoch, weak=0, strong=0)
        images = validated_images(trainer, self.image, self.mask, seed=self.seed)
        if trainer.is_global_zero:
            with isolate_rng(), torch.inference_mode(False):
                watched = self._look(trainer, pl_module, images)
        watched = trainer.strategy.broadcast(watched)
        best = max(self.history, key=lambda earlier: earlier.strong, default=watched)
        self.history.append(watched)
        pl_module.log_dict(
            {"guard/training_attack_acc": 100 * watched.weak, "guard/strong_attack_acc": 100 * watched.strong}
        )
        self._suspicions = self._suspicions + 1 if is_overfitting(watched, best, self.drop) else 0
        if self.alarm is None and self._suspicions == CONFIRMED:
            self._raise_alarm(trainer, watched, best)

    def _look(self, trainer: Trainer, task: AdversarialTask, dataset: ValidatedImages) -> Watched:
        strong = self.attack or PGD(num_steps=10, eps=task.attack.default_eps, random_start=True, seed=self.seed)
        accuracies = []
        for sample_id in choose_samples(len(dataset), self.max_images, self.seed):
            sample = load_sample(dataset, sample_id)
            images = sample.image[None].to(device_of(task.network), precision_of(task.network))
            labels = sample.mask[None].to(images.device)
            if (labels != task.ignore_index).any():
                accuracies.append([self._accuracy(task, images, labels, a, sample_id) for a in (task.attack, strong)])
        if not accuracies:
            raise ValueError(f"none of the {self.max_images} images of the guard has a valid pixel; raise max_images")
        weak, strongest = torch.tensor(accuracies).mean(0).tolist()
        return Watched(epoch=trainer.current_epoch, weak=weak, strong=strongest)

    def _accuracy(self, task: AdversarialTask, images: Tensor, labels: Tensor, attack: Attack, sample_id: int) -> float:
        """Share of valid pixels that are correct at the last iterate, on which the network is trained."""
        adv = attack.perturb(task.network, images, labels, ignore_index=task.ignore_index, sample_ids=[sample_id])
        with attackable(task.network), torch.no_grad():
            right: Tensor = task.network(adv).argmax(1) == labels
        return float(right[labels != task.ignore_index].float().mean())

    def _raise_alarm(self, trainer: Trainer, watched: Watched, best: Watched) -> None:
        self.alarm = watched.epoch
        fix = (
            "use a random start (RSFGSM), more steps (PGD), a growing radius (ramp), or a lower learning rate; "
            "RobustCheckpoint saves the best network before it"
        )
        rank_zero_warn(
            f"catastrophic overfitting in epoch {watched.epoch}: accuracy {100 * watched.weak:.1f} % under the attack "
            f"of the training, but {100 * watched.strong:.1f} % under a stronger one, down from "
            f"{100 * best.strong:.1f} % in epoch {best.epoch}. "
            f"{'The training stops. ' if self.action == 'stop' else ''}To avoid it, {fix}"
        )
        if self.action == "stop":
            trainer.should_stop = True


def is_overfitting(watched: Watched, best: Watched, drop: float) -> bool:
    """Whether the accuracy dropped since the best epoch, under the stronger attack alone."""
    return watched.strong < (1 - drop) * best.strong and watched.weak >= (1 - SLACK) * best.weak
