"""The battery that every attack passes, and the small networks that it runs on."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

import segrobust.attacks
from segrobust.attacks import (
    APGD,
    DAG,
    DDN,
    DLR,
    EOT,
    FGSM,
    FMN,
    KLPGD,
    MIFGSM,
    PDPGD,
    PGD,
    RSE,
    RSFGSM,
    SEA,
    AlmaProx,
    AnnealedPGD,
    Attack,
    AttackResult,
    Balanced,
    CalibratedAlmaProx,
    Clipped,
    CosPGD,
    CosPGDLoss,
    CrossEntropy,
    InBFloat16,
    JensenShannon,
    LagrangianFMN,
    Localized,
    LogitCosine,
    Margin,
    Masked,
    MinimalNormSearch,
    PAdam,
    Polished,
    RegionPGD,
    Restarts,
    RobustnessCurve,
    SegPGD,
    SegPGDLoss,
    ShrinkingRadius,
    SoftCount,
    Square,
    Targeted,
    Tsallis,
    Untargeted,
    WarmStarted,
    WorstOf,
)
from segrobust.functional.modes import attackable

EPS = 8 / 255
LOCALIZED_TARGETED = Localized(apsr=0.7, keep=0.8, targeted=True)


class SmallNetwork(nn.Sequential):
    """Random weights; all classes tie at mid-grey, so that images close to it hold all classes and are fragile."""

    def __init__(self, first: nn.Conv2d, width: int, num_classes: int, dtype: torch.dtype) -> None:
        super().__init__(first, nn.BatchNorm2d(width), nn.Tanh(), nn.Dropout(0.5), nn.Conv2d(width, num_classes, 1))
        self.to(torch.float64)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            self[1].running_mean.fill_(0.1)
            for _ in range(2):  # hidden units in their linear range, then equal logits
                self.eval()
                grey = torch.full((1, first.in_channels, 5, 5), 0.5, dtype=torch.float64)
                self[1].running_mean.add_(self[1](first(grey)).mean((0, 2, 3)) / self[1].weight)
            self[4].bias.sub_(self(grey).mean((0, 2, 3)))
        self.train().to(dtype)


class ConvNetwork(SmallNetwork):
    """Pixels look at their neighbours; the network has everything that has a mode or a buffer."""

    def __init__(self, num_classes: int = 5, dtype: torch.dtype = torch.float64) -> None:
        first = nn.Conv2d(3, 8, 3, padding=1, padding_mode="replicate")
        super().__init__(first, 8, num_classes, dtype)


class PixelNetwork(SmallNetwork):
    """A pixel's logits depend on that pixel alone."""

    def __init__(self, num_classes: int = 5, dtype: torch.dtype = torch.float64, channels: int = 3) -> None:
        super().__init__(nn.Conv2d(channels, 8, 1), 8, num_classes, dtype)


@dataclass(frozen=True)
class Contestant:
    """An attack of the battery with what a call of it needs besides the batch.

    `random` says that it draws random numbers, which may change void pixels.
    """

    name: str
    attack: Attack
    arguments: dict[str, Any] = field(default_factory=dict)
    random: bool = False

    @property
    def targeted(self) -> bool:
        return self.attack.criterion.sign < 0


def fixed_budget(name: str, **settings: Any) -> Contestant:
    attack = PGD(num_steps=4, eps=0.6 if settings.get("norm") == "l2" else EPS, **settings)
    return Contestant(name, attack, random=attack.random_start)


class ShortRSE(RSE):
    """RSE with five steps for each member: as published it takes 3000 passes."""

    @property
    def members(self) -> Mapping[str, Attack]:
        return {name: self._short(attack) for name, attack in super().members.items()}

    def _short(self, attack: Any) -> Attack:
        if isinstance(attack, Clipped):
            return replace(attack, attack=self._short(attack.attack))
        short: Attack = replace(attack, num_steps=5)
        return short


HAND_MADE = (
    Contestant("alma_prox", AlmaProx(num_steps=12, step_size=8e-3)),
    Contestant(
        "alma_prox_published",
        AlmaProx(
            num_steps=12,
            step_size=8e-3,
            initial_multiplier=0.1,
            penalty_derivative="published",
            full_denominator_gradient=True,
        ),
    ),
    Contestant(
        "alma_prox_targeted", AlmaProx(num_steps=12, step_size=8e-3, initial_multiplier=0.1, criterion=Targeted())
    ),
    *(Contestant(f"calibrated_{norm}", CalibratedAlmaProx(num_steps=25, norm=norm)) for norm in ("linf", "l2")),
    Contestant("calibrated_targeted", CalibratedAlmaProx(num_steps=25, criterion=Targeted())),
    Contestant("calibrated_localized", CalibratedAlmaProx(num_steps=25, criterion=Localized(keep=0.5))),
    Contestant(
        "warm_started",
        WarmStarted(first=LagrangianFMN(num_passes=8), attack=CalibratedAlmaProx(num_steps=8)),
    ),
    Contestant("lagrangian_fmn", LagrangianFMN(num_passes=13)),
    Contestant("lagrangian_fmn_l2", LagrangianFMN(num_passes=13, norm="l2")),
    Contestant("polished", Polished(attack=LagrangianFMN(num_passes=13))),
    Contestant("lagrangian_fmn_targeted", LagrangianFMN(num_passes=13, criterion=Targeted())),
    *(
        fixed_budget(f"pgd_{type(loss).__name__}_{norm}", loss=loss, norm=norm)
        for loss in (CrossEntropy(), DLR(), Margin())
        for norm in ("linf", "l2")
    ),
    *(
        fixed_budget(f"pgd_{type(loss).__name__}", loss=loss)
        for loss in (
            JensenShannon(),
            LogitCosine(),
            Tsallis(),
            Masked(),
            Balanced(),
            SegPGDLoss(),
            CosPGDLoss(),
        )
    ),
    fixed_budget("pgd_masked_spherical", loss=Masked(loss=LogitCosine())),
    fixed_budget("pgd_sigmoid_weights", loss=CosPGDLoss(activation="sigmoid")),
    *(
        fixed_budget(f"pgd_{type(loss).__name__}_targeted", loss=loss, criterion=Targeted())
        for loss in (JensenShannon(), Tsallis(), Masked(), Balanced(), SegPGDLoss(), CosPGDLoss())
    ),
    Contestant("dag", DAG(num_steps=30, step_size=2e-3)),
    Contestant("dag_l2", DAG(num_steps=30, step_size=0.03, norm="l2")),
    Contestant("dag_targeted", DAG(num_steps=30, step_size=2e-3, criterion=Targeted())),
    *(Contestant(f"fmn_{norm}", FMN(num_steps=20, norm=norm)) for norm in ("linf", "l2", "l1")),
    Contestant("fmn_mean", FMN(num_steps=20, margin="mean", step_size=0.5)),
    Contestant("fmn_targeted", FMN(num_steps=20, criterion=Targeted())),
    Contestant("ddn", DDN(num_steps=20, initial_radius=0.1)),
    Contestant("ddn_masked", DDN(num_steps=20, initial_radius=0.1, loss=Masked())),
    Contestant("ddn_8_bits", DDN(num_steps=20, initial_radius=0.1, levels=256)),
    Contestant("ddn_targeted", DDN(num_steps=20, initial_radius=0.1, criterion=Targeted())),
    *(Contestant(f"pdpgd_{norm}", PDPGD(num_steps=30, norm=norm)) for norm in ("linf", "l2", "l1")),
    Contestant("pdpgd_targeted", PDPGD(num_steps=30, criterion=Targeted())),
    *(Contestant(f"pdpgd_published_{norm}", PDPGD(num_steps=30, norm=norm, published=True)) for norm in ("linf", "l2")),
    *(Contestant(f"alma_prox_{norm}", AlmaProx(num_steps=12, step_size=8e-3, norm=norm)) for norm in ("l2", "l1")),
    Contestant("alma_prox_l2_targeted", AlmaProx(num_steps=12, step_size=8e-3, norm="l2", criterion=Targeted())),
    Contestant("square", Square(num_queries=60, eps=EPS), random=True),
    Contestant("square_l2", Square(num_queries=60, eps=0.6, norm="l2"), random=True),
    Contestant("square_targeted", Square(num_queries=60, eps=EPS / 4, criterion=Targeted()), random=True),
    Contestant("search_square", MinimalNormSearch(attack=Square(num_queries=20), num_rounds=4), random=True),
    Contestant("fgsm_rs", RSFGSM(eps=EPS), random=True),
    Contestant("fgsm_rs_seeded", RSFGSM(eps=EPS, seed=4, loss=Masked()), random=True),
    Contestant("mifgsm", MIFGSM(num_steps=4, eps=EPS)),
    Contestant("mifgsm_l2", MIFGSM(num_steps=4, eps=0.6, norm="l2", decay=0.5)),
    Contestant("mifgsm_targeted", MIFGSM(num_steps=4, eps=EPS, criterion=Targeted())),
    Contestant("segpgd", SegPGD(num_steps=4, eps=EPS), random=True),
    Contestant("segpgd_from_zero", SegPGD(num_steps=4, eps=EPS, random_start=False)),
    Contestant("cospgd", CosPGD(num_steps=4, eps=EPS, seed=2), random=True),
    Contestant("cospgd_l2", CosPGD(num_steps=4, eps=0.6, norm="l2"), random=True),
    Contestant("padam", PAdam(num_steps=4, eps=EPS), random=True),
    Contestant("padam_cosine", PAdam(num_steps=4, eps=EPS, loss=LogitCosine(), random_start=False)),
    Contestant("padam_targeted", PAdam(num_steps=4, eps=EPS, criterion=Targeted()), random=True),
    Contestant("region_pgd", RegionPGD(num_steps=5, eps=EPS), random=True),
    Contestant("region_pgd_targeted", RegionPGD(num_steps=5, eps=EPS, criterion=Targeted(), random_start=False)),
    Contestant("pgd_kl", KLPGD(num_steps=8, eps=EPS), random=True),
    Contestant("apgd", APGD(num_steps=12, eps=EPS)),
    Contestant("apgd_random", APGD(num_steps=12, eps=EPS, loss=Masked(), random_start=True), random=True),
    Contestant("apgd_l2", APGD(num_steps=12, eps=0.6, norm="l2", loss=JensenShannon())),
    Contestant("apgd_targeted", APGD(num_steps=12, eps=EPS, criterion=Targeted())),
    Contestant("apgd_soft_count", APGD(num_steps=12, eps=EPS, loss=SoftCount())),
    Contestant("annealed_pgd", AnnealedPGD(num_passes=13, eps=EPS)),
    Contestant("annealed_pgd_l2", AnnealedPGD(num_passes=13, eps=0.6, norm="l2")),
    Contestant("annealed_pgd_random", AnnealedPGD(num_passes=13, eps=EPS, random_start=True, seed=2), random=True),
    Contestant("annealed_pgd_targeted", AnnealedPGD(num_passes=13, eps=EPS, criterion=Targeted())),
    Contestant("annealed_pgd_localized", AnnealedPGD(num_passes=13, eps=EPS, criterion=Localized())),
    Contestant("annealed_pgd_localized_targeted", AnnealedPGD(num_passes=13, eps=EPS, criterion=LOCALIZED_TARGETED)),
    Contestant("search_annealed_pgd", MinimalNormSearch(attack=AnnealedPGD(num_passes=5), num_rounds=4)),
    Contestant("robustness_curve", RobustnessCurve(num_passes=19, radii=(EPS / 2, EPS))),
    Contestant("robustness_curve_l2", RobustnessCurve(num_passes=19, radii=(0.6, 0.3), norm="l2")),
    Contestant(
        "robustness_curve_localized", RobustnessCurve(num_passes=19, radii=(EPS, EPS / 2), criterion=Localized())
    ),
    Contestant("shrinking", ShrinkingRadius(attack=APGD(num_steps=10, eps=EPS, loss=Masked()))),
    Contestant("shrinking_pgd", ShrinkingRadius(attack=PGD(num_steps=6, eps=EPS), factors=(3, 1), shares=(0.5, 0.5))),
    Contestant("restarts", Restarts(attack=PGD(num_steps=4, eps=EPS), num_runs=2), random=True),
    Contestant("worst_of", WorstOf(attacks=(PGD(num_steps=2, eps=EPS), APGD(num_steps=3, eps=EPS)))),
    Contestant("worst_of_minimal", WorstOf(attacks=(LagrangianFMN(num_passes=13), AlmaProx(num_steps=5)))),
    Contestant("clipped", Clipped(attack=LagrangianFMN(num_passes=13), eps=EPS)),
    Contestant("sea", SEA(num_steps=8, eps=EPS), random=True),
    Contestant("sea_targeted", SEA(num_steps=8, eps=EPS, seed=1, criterion=Targeted()), random=True),
    Contestant("rse", ShortRSE(eps=EPS), random=True),
    Contestant("in_bfloat16", InBFloat16(attack=PGD(num_steps=4, eps=EPS))),
    Contestant("eot", EOT(attack=PGD(num_steps=4, eps=EPS), num_draws=2)),
    Contestant(
        "search_of_restarts", MinimalNormSearch(attack=Restarts(attack=PGD(num_steps=4)), num_rounds=4), random=True
    ),
    Contestant(
        "search_of_shrinking", MinimalNormSearch(attack=ShrinkingRadius(attack=APGD(num_steps=4)), num_rounds=4)
    ),
    fixed_budget("pgd_random_linf", random_start=True, seed=3),
    fixed_budget("pgd_random_l2", random_start=True, norm="l2"),
    fixed_budget("pgd_targeted", criterion=Targeted()),
    fixed_budget("pgd_half", loss=Margin(), criterion=Untargeted(apsr=0.5)),
    Contestant("fgsm", FGSM(eps=EPS)),
    Contestant("search_pgd", MinimalNormSearch(attack=PGD(num_steps=4, loss=Margin()), num_rounds=4)),
    Contestant(
        "search_pgd_l2",
        MinimalNormSearch(
            attack=PGD(num_steps=4, loss=Margin(), norm="l2"), num_rounds=4, initial_eps=0.3, max_eps=50.0
        ),
    ),
    Contestant("search_fgsm", MinimalNormSearch(attack=FGSM(), num_rounds=4)),
    Contestant("alma_prox_localized", AlmaProx(num_steps=12, step_size=8e-3, criterion=Localized(keep=0.5))),
    Contestant("alma_prox_localized_targeted", AlmaProx(num_steps=12, step_size=8e-3, criterion=LOCALIZED_TARGETED)),
    Contestant("lagrangian_fmn_localized", LagrangianFMN(num_passes=13, criterion=Localized())),
    Contestant("dag_localized", DAG(num_steps=30, step_size=2e-3, criterion=Localized(apsr=0.8))),
    Contestant("fmn_localized", FMN(num_steps=20, criterion=Localized(keep=0.9))),
    Contestant("pdpgd_localized", PDPGD(num_steps=30, criterion=Localized(apsr=0.9))),
    Contestant("apgd_localized", APGD(num_steps=12, eps=EPS, loss=Masked(), criterion=Localized())),
    Contestant("search_localized", MinimalNormSearch(attack=PGD(num_steps=4, criterion=Localized()), num_rounds=4)),
    fixed_budget("pgd_CosPGDLoss_localized", loss=CosPGDLoss(), criterion=Localized()),
    fixed_budget("pgd_Margin_localized_targeted", loss=Margin(), criterion=LOCALIZED_TARGETED),
)


def parts(value: Any) -> Iterator[type]:
    """Types of a value and of everything that its fields hold, with all types that these extend."""
    yield from type(value).__mro__
    if isinstance(value, list | tuple):
        for item in value:
            yield from parts(item)
    if is_dataclass(value):
        for each in fields(value):
            yield from parts(getattr(value, each.name))


def kind_of(attack: Attack) -> tuple[object, ...]:
    """What tells the defaults of an attack from its variants: anything but the number and the length of its steps."""
    return type(attack), *(getattr(attack, name, None) for name in ("norm", "criterion", "loss"))


def made_by_default() -> Iterator[Contestant]:
    """Exported attacks whose defaults nobody added by hand, where steps and a radius are all that they need."""
    present = {kind_of(contestant.attack) for contestant in HAND_MADE}
    for name in segrobust.attacks.__all__:
        cls = getattr(segrobust.attacks, name)
        if inspect.isclass(cls) and issubclass(cls, Attack) and not inspect.isabstract(cls):
            taken = inspect.signature(cls).parameters
            given = {"num_steps": 8} | ({"eps": EPS} if "eps" in taken else {})
            needed = {key for key, parameter in taken.items() if parameter.default is parameter.empty}
            if "num_steps" in taken and needed <= set(given) and kind_of(attack := cls(**given)) not in present:
                yield Contestant(name, attack, random=getattr(attack, "random_start", False))


BATTERY = (*HAND_MADE, *made_by_default())


@dataclass(frozen=True)
class Batch:
    """What a person hands to an attack."""

    images: Tensor
    labels: Tensor
    valid_mask: Tensor
    targets: Tensor
    sample_ids: Tensor

    def rows(self, rows: list[int]) -> "Batch":
        return Batch(*(getattr(self, f.name)[rows] for f in fields(self)))


def make_batch(
    network: nn.Module,
    batch_size: int = 4,
    num_classes: int = 5,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    size: tuple[int, int] = (8, 9),
    channels: int = 3,
) -> Batch:
    """Images, the labels that the network gives to them, and a number of void pixels of its own for each image."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch_size, channels, *size, generator=generator, dtype=torch.float64)
    images = (0.5 + 0.01 * noise).to(dtype)
    with torch.no_grad(), attackable(network):
        labels = network(images).argmax(1)
    share = torch.linspace(0, 0.6, batch_size)[:, None, None]
    valid = torch.rand(batch_size, *size, generator=generator) >= share
    labels = labels.masked_fill(~valid, 255)
    targets = torch.full_like(labels, num_classes - 1)
    return Batch(images, labels, valid, targets, torch.arange(batch_size) + 100)


def call(contestant: Contestant, network: nn.Module, batch: Batch, **changes: Any) -> AttackResult:
    """Calls an attack on a batch with what it needs: targets, pixels to keep, sample ids."""
    return contestant.attack(network, batch.images, batch.labels, **(needs(contestant, batch) | changes))


def needs(contestant: Contestant, batch: Batch) -> dict[str, Any]:
    """What a call needs besides images and labels."""
    arguments: dict[str, Any] = {"sample_ids": batch.sample_ids, **contestant.arguments}
    if contestant.targeted:
        arguments["targets"] = batch.targets
    if contestant.attack.criterion.localized:
        arguments["keep_mask"] = kept_pixels(batch.labels)
    return arguments


def kept_pixels(labels: Tensor) -> Tensor:
    """Two columns in three: a function of the place alone, so that it goes with any rows of a batch."""
    return (torch.arange(labels.shape[2], device=labels.device) % 3 > 0).expand_as(labels)


def assert_same(one: AttackResult, other: AttackResult, rows: list[int] | slice = slice(None)) -> None:
    """Every field of `one` is bit-equal to those rows of `other`."""
    for f in fields(AttackResult):
        mine, theirs = getattr(one, f.name), getattr(other, f.name)
        if not isinstance(mine, Tensor):
            assert mine == theirs, f.name
            continue
        theirs = theirs[rows]
        assert (
            torch.equal(mine.nan_to_num(-7), theirs.nan_to_num(-7))
            if mine.is_floating_point()
            else torch.equal(mine, theirs)
        ), f.name
