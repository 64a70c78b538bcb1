"""Minimal-norm adversarial training: every image gets the smallest perturbation that breaks it.

Source: G. W. Ding et al., "MMA Training: Direct Input Space Margin Maximization through Adversarial Training", ICLR
2020, Algorithm 1; here the margin of an image is the norm at which a share of its pixels breaks.
"""

from typing import Any

import torch
from torch import Tensor, nn

from segrobust.attacks import Attack, LagrangianFMN, Untargeted
from segrobust.functional.lengths import Length
from segrobust.functional.projections import project
from segrobust.tasks.adversarial_training import AdversarialTask

FIRST = 0.25
"""First radius of a sample, as a share of the largest one."""

LEAST = 0.01
"""Smallest radius to start a search from, as a share of the largest one: an image may be broken without attack."""

FARTHEST = 4.0
"""Upper limit on stored radii, as a multiple of the largest one."""

GROWTH = 2.0
"""Growth of the radius from which the next search starts, if the last one did not break the image."""

_MEMORY = "radii"


class MinimalNormTask(AdversarialTask):
    """Trains on the smallest perturbations that break an image, at most as large as `largest_eps`.

    Each image has its own radius, which grows as the network becomes more robust: a curriculum without a schedule. A
    short minimal-norm attack starts at the norm that broke the same sample in the previous epoch. A perturbation larger
    than `largest_eps` is projected to it. An image that is broken without attack stays clean, as in the paper.

    The radii of all samples are shared between processes once per epoch, and stored in checkpoints. A checkpoint in the
    middle of an epoch has, of that epoch, the radii of process 0 alone.

    Args:
        network: see `SegmentationTask`.
        largest_eps: largest radius, image units.
        attack: minimal-norm attack that accepts an initial radius, with few passes, and with a criterion of fewer
            broken pixels than in an evaluation.
        settings: optimiser, schedule, initial weights and so on, see `SegmentationTask`.

    Raises:
        ValueError: another attack, or a radius that is not positive.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        largest_eps: Length,
        attack: Attack = LagrangianFMN(num_passes=4, criterion=Untargeted(apsr=0.5)),  # noqa: B008 - frozen
        **settings: Any,
    ) -> None:
        super().__init__(network, attack=attack, clean_fraction=0.0, ramp=None, **settings)
        if not attack.minimal_norm or not attack.accepts_initial_eps:
            raise ValueError(f"{attack!r} does not accept an initial radius; LagrangianFMN does")
        if not largest_eps > 0 or (attack.norm == "linf" and largest_eps > 1):
            raise ValueError(f"largest_eps is in image units, got {largest_eps}; 4/255 = 0.01569")
        self.largest_eps = largest_eps
        self._radii: dict[int, float] = {}
        self._found: list[Tensor] = []  # (B, 2) ids and radii of each batch of an epoch, float64 on the CPU
        self._found_in = 0  # that epoch

    def perturb(self, batch: dict[str, Tensor]) -> Tensor:
        """Perturbed images of a batch, each by its own radius: `(B, C, H, W)`."""
        if self._found_in != self.current_epoch:
            self._share_radii()
        images, ids = batch["image"], batch["sample_id"]
        first = FIRST * self.largest_eps
        radii = torch.tensor([self._radii.get(key, first) for key in ids.tolist()]).to(images)
        result = self.attack(self.network, images, batch["mask"], **self.attack_inputs(batch, radii))
        next_radii = torch.where(result.success, result.norm, GROWTH * radii)
        next_radii = next_radii.clamp(LEAST * self.largest_eps, FARTHEST * self.largest_eps)
        self._found.append(torch.stack((ids.cpu().double(), next_radii.cpu().double()), 1))
        self.log("train/mean_norm_capped", next_radii.clamp_max(self.largest_eps).mean(), batch_size=len(images))
        reach = result.norm.clamp_max(self.largest_eps)
        delta = project(result.adv - images, reach, self.attack.norm, -images, 1 - images)
        return images + delta

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the radii."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_MEMORY] = {"of": dict(self._radii), "found": list(self._found), "epoch": self._found_in}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the radii."""
        super().on_load_checkpoint(checkpoint)
        memory = checkpoint.get(_MEMORY, {"of": {}, "found": [], "epoch": 0})
        self._radii, self._found, self._found_in = dict(memory["of"]), list(memory["found"]), memory["epoch"]

    def _share_radii(self) -> None:
        """Gathers the radii that all processes found in the last epoch.

        Lightning's hooks around epochs are not called if a training resumes from a checkpoint between two epochs.
        """
        self._found_in = self.current_epoch
        if not self._found:
            return
        found = torch.cat(self._found)
        self._found.clear()
        if self.trainer.world_size > 1:
            gathered = self.all_gather(found.to(self.device))
            if not isinstance(gathered, Tensor):
                raise TypeError(f"gathering a tensor gave {type(gathered).__name__}")
            found = gathered.view(-1, 2)
        self._radii |= {int(key): radius for key, radius in found.tolist()}
