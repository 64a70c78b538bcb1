"""The attacks of RSE: the worst of many, per image.

Source: L. Halmosi, B. Mohos, M. Jelasity, "Evaluating the Adversarial Robustness of Semantic Segmentation: Trying
Harder Pays Off", ECCV 2024 (arXiv 2407.09150).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from segrobust.attacks.alma_prox import AlmaProx
from segrobust.attacks.apgd import APGD
from segrobust.attacks.clipped import Clipped
from segrobust.attacks.core.attack import Attack, check_attack_fields
from segrobust.attacks.core.criteria import Criterion, Untargeted
from segrobust.attacks.core.losses import CrossEntropy, JensenShannon, LogitCosine, Masked, PixelLoss, SegPGDLoss
from segrobust.attacks.dag import DAG
from segrobust.attacks.ensemble import Ensemble
from segrobust.attacks.padam import PAdam
from segrobust.attacks.pdpgd import PDPGD
from segrobust.functional.lengths import Length
from segrobust.functional.norms import NormName


@dataclass(frozen=True, kw_only=True)
class RSE(Ensemble):
    """The attacks of RSE, fixed-budget, l_inf, untargeted or targeted (Halmosi et al., ECCV 2024).

    PAdam on cross-entropy and cosine, 200 steps; APGD on masked cross-entropy, SegPGD's loss, Jensen-Shannon divergence
    and masked spherical loss, 300 steps; and the clipped results of DAG with steps of 0.001 and 0.003, PDPGD and
    ALMA-prox with a step of 1e-4. At most 3000 backwards per image.

    The members are this toolkit's forms of the attacks, not the released ones. The released code also judges the clean
    image, and chooses among attacks once per batch; here, once per image.

    Args:
        eps: radius, image units; None if each call passes its own.
        seed: of the random starts, together with the sample id; each member has its own.
        criterion: when a pixel, and when an image, is broken.
    """

    minimal_norm: ClassVar[bool] = False
    norm: ClassVar[NormName] = "linf"

    eps: Length | None = None
    seed: int = 0
    criterion: Criterion = field(default_factory=Untargeted)

    def __post_init__(self) -> None:
        check_attack_fields((self.norm,), self.norm, self.eps, num_steps=1)

    @property
    def members(self) -> Mapping[str, Attack]:
        """`padam_*`, `apgd_*`, and the minimal-norm attacks by name."""
        padam: dict[str, PixelLoss] = {"ce": CrossEntropy(), "cosine": LogitCosine()}
        apgd: dict[str, PixelLoss] = {
            "mce": Masked(),
            "segpgd": SegPGDLoss(),
            "js": JensenShannon(),
            "msl": Masked(loss=LogitCosine()),
        }
        seeds = iter(range(6 * self.seed, 6 * self.seed + 6))
        return {
            **{f"padam_{name}": self._padam(loss, next(seeds)) for name, loss in padam.items()},
            **{f"apgd_{name}": self._apgd(loss, next(seeds)) for name, loss in apgd.items()},
            "dag_small": self._clipped(DAG(num_steps=200, step_size=1e-3, criterion=self.criterion)),
            "dag": self._clipped(DAG(num_steps=200, step_size=3e-3, criterion=self.criterion)),
            "pdpgd": self._clipped(PDPGD(num_steps=500, criterion=self.criterion)),
            "alma_prox": self._clipped(AlmaProx(num_steps=500, step_size=1e-4, criterion=self.criterion)),
        }

    def _padam(self, loss: PixelLoss, seed: int) -> Attack:
        return PAdam(num_steps=200, eps=self.eps, loss=loss, seed=seed, criterion=self.criterion)

    def _apgd(self, loss: PixelLoss, seed: int) -> Attack:
        return APGD(num_steps=300, eps=self.eps, loss=loss, random_start=True, seed=seed, criterion=self.criterion)

    def _clipped(self, attack: Attack) -> Attack:
        return Clipped(attack=attack, eps=self.eps)
