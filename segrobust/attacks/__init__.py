"""Attacks: frozen sets of numbers that map a network and a batch to judged perturbations."""

from segrobust.attacks.alma_prox import AlmaProx
from segrobust.attacks.annealed_pgd import AnnealedPGD
from segrobust.attacks.apgd import APGD
from segrobust.attacks.calibrated_alma_prox import CalibratedAlmaProx
from segrobust.attacks.clipped import Clipped
from segrobust.attacks.core.attack import Attack, AttackResult
from segrobust.attacks.core.criteria import Criterion, Localized, Targeted, Untargeted
from segrobust.attacks.core.losses import (
    DLR,
    Balanced,
    CosPGDLoss,
    CrossEntropy,
    JensenShannon,
    LogitCosine,
    Margin,
    Masked,
    PixelLoss,
    Pixels,
    SegPGDLoss,
    Tsallis,
    Weighted,
)
from segrobust.attacks.core.padding import PaddedBatch, pad_batch
from segrobust.attacks.core.soft_count import SoftCount
from segrobust.attacks.cospgd import CosPGD
from segrobust.attacks.dag import DAG
from segrobust.attacks.ddn import DDN
from segrobust.attacks.ensemble import Ensemble, WorstOf
from segrobust.attacks.eot import EOT
from segrobust.attacks.fgsm import FGSM, RSFGSM
from segrobust.attacks.fmn import FMN
from segrobust.attacks.in_bfloat16 import InBFloat16
from segrobust.attacks.kl_pgd import KLPGD
from segrobust.attacks.lagrangian_fmn import LagrangianFMN
from segrobust.attacks.mifgsm import MIFGSM
from segrobust.attacks.padam import PAdam
from segrobust.attacks.pdpgd import PDPGD
from segrobust.attacks.pgd import PGD
from segrobust.attacks.polish import Polished
from segrobust.attacks.region_pgd import RegionPGD
from segrobust.attacks.restarts import Restarts
from segrobust.attacks.robustness_curve import RobustnessCurve
from segrobust.attacks.rse import RSE
from segrobust.attacks.sea import SEA
from segrobust.attacks.search import MinimalNormSearch
from segrobust.attacks.segpgd import SegPGD
from segrobust.attacks.shrinking import ShrinkingRadius
from segrobust.attacks.square import Square
from segrobust.attacks.warm_started import WarmStarted

__all__ = (
    "AlmaProx",
    "CalibratedAlmaProx",
    "LagrangianFMN",
    "FMN",
    "PDPGD",
    "DDN",
    "DAG",
    "MinimalNormSearch",
    "Polished",
    "WarmStarted",
    "PGD",
    "SegPGD",
    "RegionPGD",
    "CosPGD",
    "APGD",
    "AnnealedPGD",
    "RobustnessCurve",
    "PAdam",
    "KLPGD",
    "Square",
    "MIFGSM",
    "FGSM",
    "RSFGSM",
    "Ensemble",
    "WorstOf",
    "SEA",
    "RSE",
    "ShrinkingRadius",
    "Restarts",
    "Clipped",
    "EOT",
    "InBFloat16",
    "PixelLoss",
    "Pixels",
    "Weighted",
    "CrossEntropy",
    "Margin",
    "DLR",
    "JensenShannon",
    "LogitCosine",
    "Tsallis",
    "SoftCount",
    "Masked",
    "Balanced",
    "SegPGDLoss",
    "CosPGDLoss",
    "Attack",
    "AttackResult",
    "PaddedBatch",
    "pad_batch",
    "Criterion",
    "Untargeted",
    "Targeted",
    "Localized",
)
