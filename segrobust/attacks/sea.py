"""SEA, the standard ensemble for the robustness of segmentation networks.

Source: F. Croce, N. Singh, M. Hein, "Towards Reliable Evaluation and Fast Training of Robust Semantic Segmentation
Models", ECCV 2024 (arXiv 2306.12941v2), sections 3 and 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

from segrobust.attacks.apgd import APGD
from segrobust.attacks.core.attack import Attack, check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.losses import Balanced, JensenShannon, Masked, PixelLoss
from segrobust.attacks.ensemble import Ensemble
from segrobust.attacks.shrinking import ShrinkingRadius
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName


@dataclass(frozen=True, kw_only=True)
class SEA(Ensemble):
    """SEA, fixed-budget, l_inf, untargeted or targeted (Croce, Singh and Hein, ECCV 2024).

    APGD with shrinking radius and random start on three losses: class-balanced masked cross-entropy, masked
    cross-entropy, Jensen-Shannon divergence. Per image the result that breaks most pixels; for the mIoU of a data set
    an evaluation chooses among the members as the paper does, greedily. By default 909 forwards and 900 backwards.

    The paper balances classes by their pixels in the training set: pass `class_pixels` for numbers that are compared
    with its tables. Other differences from the released code: void pixels are ignored (there: counted as background, or
    as wrong at the start), the choice is made per image (there: misplaced in a last batch that is not full), and the
    divergence has its closed form (there: NaN if a probability underflows).

    Args:
        num_steps: gradient steps of each member; the paper uses 300.
        eps: radius, image units; None if each call passes its own. The paper reports 4, 8 and 12/255.
        class_pixels: number, or share, of training pixels of each class; None for those of the attacked image itself.
        seed: of the random starts, together with the sample id; each member has its own.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = False
    norm: ClassVar[NormName] = "linf"

    num_steps: int = 300
    eps: Length | None = None
    class_pixels: tuple[float, ...] | None = None
    seed: int = 0
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields((self.norm,), self.norm, self.eps, self.num_steps)
        if self.num_steps < 4:
            raise ValueError(f"num_steps must be at least 4, one for each stage of the radius, got {self.num_steps}")

    @property
    def step_budget(self) -> int:
        """The field `num_steps`."""
        return self.num_steps

    def with_step_budget(self, steps: int) -> Attack:
        """The same ensemble with another `num_steps`."""
        return replace(self, num_steps=steps)

    @property
    def members(self) -> Mapping[str, Attack]:
        """`mce_balanced`, `mce` and `js`."""
        losses: dict[str, PixelLoss] = {
            "mce_balanced": Balanced(loss=Masked(), class_pixels=self.class_pixels),
            "mce": Masked(),
            "js": JensenShannon(),
        }
        return {name: self._member(loss, 3 * self.seed + i) for i, (name, loss) in enumerate(losses.items())}

    def _member(self, loss: PixelLoss, seed: int) -> Attack:
        apgd = APGD(
            num_steps=self.num_steps, eps=self.eps, loss=loss, random_start=True, seed=seed, criterion=self.criterion
        )
        return ShrinkingRadius(attack=apgd)
