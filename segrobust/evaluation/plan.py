"""What to measure: attacks with names and radii."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from segrobust.attacks import Attack, Criterion, Ensemble, RobustnessCurve
from segrobust.attacks.core.identity import identity, identity_digest
from segrobust.attacks.core.problem import check_eps
from segrobust.attacks.stored import Stored
from segrobust.attacks.targets import Targets
from segrobust.untrusted.file_names import check_file_name, file_key

Radius = float | Literal["min"]
"""Radius of a measurement, or "min" for a minimal norm."""

STANDARD_EPS: tuple[float, ...] = (1 / 255, 2 / 255, 4 / 255, 8 / 255)
"""Radii of the presets: undefended networks differ at 1/255 and 2/255, defended ones at 4/255 and 8/255."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attack with a name.

    Args:
        name: letters a to z, digits, `_`, `-` and `.`, because it is a part of log keys and of file names; see
            `segrobust.untrusted.file_names.check_file_name`.
        attack: the attack.
        eps: radii, image units. Fixed-budget attacks: the radii to attack at; empty for the attack's own field `eps`.
            Minimal-norm attacks (l_inf or l2): the radii of by-products, which project the perturbation into the ball
            and judge it with one forward pass.
        targets: target classes of the pixels, for an attack with a targeted or a localised criterion.

    Raises:
        ValueError: an invalid name, an invalid radius or one given twice, a fixed-budget attack without radius or with
            two that contradict each other, by-products in l1, an attack or targets that do
            not identify all their settings (see `segrobust.attacks.core.identity`), or targets that do not match its
            criterion.
    """

    name: str
    attack: Attack
    eps: tuple[float, ...] = ()
    targets: Targets | None = None

    def __post_init__(self) -> None:
        check_file_name(self.name, "a job's name")
        if file_key(self.name) == "clean":
            raise ValueError(f"a job's name is not 'clean', which stands for the clean images; got {self.name!r}")
        for radius in self.eps:
            check_eps(radius, self.attack.norm)
        if len(set(self.eps)) != len(self.eps):
            raise ValueError(f"job {self.name!r}: radii must differ, got eps={self.eps}")
        self._check_radii()
        if self.targets is not None:
            self.targets.require_criterion(self.attack.criterion)
        try:
            identity(self)
        except ValueError as error:
            raise ValueError(f"job {self.name!r}: {error}") from error

    def _check_radii(self) -> None:
        own = self.attack.own_radii
        if self.attack.minimal_norm:
            if self.eps and self.attack.norm == "l1":
                raise ValueError(f"job {self.name!r}: by-products need a projection, which l1 lacks; leave eps empty")
        elif self.eps and own:
            radii = own[0] if len(own) == 1 else own
            raise ValueError(
                f"job {self.name!r}: eps={self.eps} would replace eps={radii} of the attack; give only one"
            )
        elif not self.eps and not own:
            raise ValueError(
                f"job {self.name!r}: a fixed-budget attack needs radii, for example eps=(4 / 255, 8 / 255)"
            )

    @cached_property
    def identity(self) -> str:
        """The attack with all its settings, and the identity of its targets."""
        return _towards(self.attack, self.targets)

    @cached_property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of the identity; the key of results.

        For stored perturbations it is the digest of the attack that made them, so that their records can be compared.
        """
        if isinstance(self.attack, Stored) and self.attack.source:
            return self.attack.source
        return identity_digest(self.identity)

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii of this job, else those of the attack."""
        return self.attack.own_radii or self.eps

    @property
    def calls(self) -> tuple[Radius, ...]:
        """`eps` of each call of the attack on an image; a call over several radii has the largest."""
        if self.attack.minimal_norm:
            return ("min",)
        own = self.attack.own_radii
        return (max(own),) if own else self.eps


@dataclass(frozen=True)
class AttackCall:
    """The smallest unit of work: one call of an attack on an image, which gives all its records together.

    Attributes:
        job: the job that it belongs to.
        eps: its radius, the largest one of several, or "min".
    """

    job: Job
    eps: Radius

    @property
    def attacked(self) -> tuple[Radius, ...]:
        """`eps` of the results of the attack: that of the call, or all radii that the attack has of its own."""
        return (self.eps,) if self.eps == "min" else self.job.attack.own_radii or (self.eps,)

    @property
    def recorded(self) -> tuple[Radius, ...]:
        """`eps` of the records that the call gives: those of the attack, and those of the by-products."""
        return (*self.attacked, *(self.job.radii if self.eps == "min" else ()))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs of an evaluation, in the order in which they run on each image.

    Args:
        jobs: attacks with their radii.
        asr_only: whether to compute success rates only. Fixed-budget attacks then skip images that an earlier job
            breaks within their radius; accuracy and mIoU over the others would be biased, and are not reported.

    Raises:
        ValueError: no job, a name or an attack twice, criteria or targets that differ, or a criterion whose targets are
            missing.
    """

    jobs: tuple[Job, ...]
    asr_only: bool = False

    def __post_init__(self) -> None:
        if not self.jobs:
            raise ValueError("a plan needs at least one job")
        for values in ([file_key(job.name) for job in self.jobs], [job.digest for job in self.jobs]):
            twice = [job for job, value in zip(self.jobs, values, strict=True) if values.count(value) > 1]
            if twice:
                raise ValueError(
                    "names and attacks of a plan must differ, names by more than upper and lower case, got "
                    f"{[(job.name, job.attack) for job in twice]}; give one job all the radii of its attack"
                )
        criteria = {identity(job.attack.criterion) for job in self.jobs}
        if len(criteria) > 1:
            raise ValueError(f"attacks that are compared must share their criterion, got {sorted(criteria)}")
        goals = sorted({_towards(self.criterion, job.targets) for job in self.jobs})
        if len(goals) > 1:
            raise ValueError(f"attacks that are compared must share their targets, got {goals}")
        if self.targets is None and (self.criterion.sign < 0 or self.criterion.localized):
            raise ValueError(f"{self.criterion!r} needs targets; see segrobust.attacks.targets")

    @property
    def criterion(self) -> Criterion:
        """The criterion of success, the same for all jobs."""
        return self.jobs[0].attack.criterion

    @property
    def targets(self) -> Targets | None:
        """The targets, the same for all jobs; None for untargeted attacks."""
        return self.jobs[0].targets

    @cached_property
    def goal(self) -> str:
        """Criterion and targets, in words that name them."""
        return _towards(self.criterion, self.targets)

    @property
    def follows_gradients(self) -> bool:
        """Whether an attack makes backward passes."""
        return any(job.attack.follows_gradients for job in self.jobs)

    @property
    def attack_calls(self) -> tuple[AttackCall, ...]:
        """All calls of attacks for one image."""
        return tuple(AttackCall(job, eps) for job in self.jobs for eps in job.calls)


def _towards(what: Attack | Criterion, targets: Targets | None) -> str:
    return identity(what) if targets is None else f"{identity(what)} towards {identity(targets)}"


def plan_attacks(attacks: Mapping[str, Attack], eps: Sequence[float] | None, targets: Targets | None = None) -> Plan:
    """A plan of named attacks.

    A fixed-budget ensemble, such as SEA, is replaced by its members, named `<name>.<member>`, so that the worst case
    can be chosen per image for accuracy and, over the data set, for mIoU. A `RobustnessCurve` without radii of its own
    gets all radii as one attack.

    Args:
        attacks: attacks by name.
        eps: radii for all attacks that have none of their own, and of the by-products of minimal-norm attacks;
            None for `STANDARD_EPS`, or no by-products where the norm is not l_inf.
        targets: for all attacks, which must have a targeted or localised criterion.

    Raises:
        ValueError: as `Job` and `Plan`.
    """
    single = ((n, _over(a, eps)) for name, attack in attacks.items() for n, a in _members(name, attack))
    jobs = (Job(name=name, attack=attack, eps=_radii(attack, eps), targets=targets) for name, attack in single)
    return Plan(jobs=tuple(jobs))


def _members(name: str, attack: Attack) -> Iterator[tuple[str, Attack]]:
    """The attack, or the members of a fixed-budget ensemble as `<name>.<member>`."""
    if isinstance(attack, Ensemble) and not attack.minimal_norm:
        for member, inside in attack.members.items():
            yield from _members(f"{name}.{member}", inside)
    else:
        yield name, attack


def _over(attack: Attack, eps: Sequence[float] | None) -> Attack:
    """A curve over the radii of the evaluation, if it has none of its own; every other attack as it is."""
    radii = _radii(attack, eps)
    return replace(attack, radii=radii) if isinstance(attack, RobustnessCurve) and radii else attack


def _radii(attack: Attack, eps: Sequence[float] | None) -> tuple[float, ...]:
    if attack.own_radii:
        return ()
    if eps is not None:
        return tuple(eps)
    return STANDARD_EPS if attack.norm == "linf" else ()
