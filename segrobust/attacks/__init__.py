"""Attacks: frozen sets of numbers that map a network and a batch to judged perturbations."""

from segrobust.attacks.alma_prox import AlmaProx
from segrobust.attacks.base import Attack, AttackResult
from segrobust.attacks.criteria import Criterion, Targeted, Untargeted
from segrobust.attacks.fgsm import FGSM, FGSMRS
from segrobust.attacks.lagrangian_fmn import LagrangianFMN
from segrobust.attacks.losses import (
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
from segrobust.attacks.pgd import PGD
from segrobust.attacks.polish import Polished
from segrobust.attacks.search import MinimalNormSearch

__all__ = (
    "AlmaProx",
    "LagrangianFMN",
    "MinimalNormSearch",
    "Polished",
    "PGD",
    "FGSM",
    "FGSMRS",
    "PixelLoss",
    "Pixels",
    "Weighted",
    "CrossEntropy",
    "Margin",
    "DLR",
    "JensenShannon",
    "LogitCosine",
    "Tsallis",
    "Masked",
    "Balanced",
    "SegPGDLoss",
    "CosPGDLoss",
    "Attack",
    "AttackResult",
    "Criterion",
    "Untargeted",
    "Targeted",
)
