"""Adversarial training that also uses the parameter gradients of the attack, as in the released code of PIR-AT.

Source: F. Croce, N. D. Singh and M. Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic
Segmentation Models", ECCV 2024, and its training script, which sets gradients to zero before the attack; the attack
calls `backward()` on its losses, and the update sums the gradients of all iterates. The paper describes plain PGD-AT
from a robust backbone, which is `AdversarialTask` with `initial_backbone`.
"""

import torch
from torch import Tensor

from segrobust.attacks.core.tracker import Iterate
from segrobust.functional.modes import evaluation_mode
from segrobust.tasks.adversarial_training import AdversarialTask, Losses


class PublishedPIRATTask(AdversarialTask):
    """PGD-AT that minimises the losses of all iterates of the attack, to reproduce the released code of PIR-AT.

    The loss is the sum of the cross-entropies of the start and of every iterate but the last, with the network in
    evaluation mode, and of the last one in training mode. The published recipe is `PGD(num_steps=5, eps=4/255,
    step_size=0.01)`. K steps cost 2 K forward and 2 K backward passes more than a training step, and the memory of K
    graphs: the losses of the iterates are computed again, because attacks leave no gradient in the parameters.
    """

    def perturb(self, batch: dict[str, Tensor]) -> Tensor:
        """Perturbed images of a batch; stores the iterates before them."""
        images = batch["image"]
        self._iterates: list[Tensor] = []

        def keep(iterate: Iterate) -> None:
            perturbed = self._iterates[-1].clone() if self._iterates else images.clone()
            rows = iterate.rows  # an image whose pixels are all broken stays where it is
            perturbed[rows] = images[rows] + iterate.delta
            self._iterates.append(perturbed)

        self.attack(self.network, images, batch["mask"], observer=keep, **self.attack_inputs(batch, self.eps()))
        return self._iterates.pop()

    def losses(self, batch: dict[str, Tensor], images: Tensor, num_clean: int) -> Losses:
        """See `AdversarialTask`."""
        labels = batch["mask"][num_clean:]
        with evaluation_mode(self.network):  # before the other passes, which move the batch statistics
            inner = [self.loss(self(iterate), labels) for iterate in self._iterates]
        self._iterates.clear()
        outer = super().losses(batch, images, num_clean)
        return Losses(total=outer.total + torch.stack(inner).sum(), adversarial=outer.adversarial, clean=outer.clean)
