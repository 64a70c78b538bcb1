"""The result of a check and its status."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

Status = Literal["ok", "warn", "fail"]
"""`fail`: do not trust the numbers; `warn`: look into it, or report it with the numbers."""

_STATUSES: Final[tuple[Status, ...]] = get_args(Status)


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check of a network or of attacks.

    Attributes:
        name: what was checked, such as "deterministic".
        status: see `Status`.
        detail: what was measured, in one sentence without full stop.
        meaning: what it means for the numbers if the check is not ok.
        fix: what to do; empty if ok.
        attacks: digests of the attacks that it concerns; empty for all.

    Raises:
        ValueError: another status; an ok check with a fix, or one that is not ok and has none.
    """

    name: str
    status: Status
    detail: str
    meaning: str
    fix: str
    attacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in _STATUSES:
            raise ValueError(f"status must be one of {', '.join(_STATUSES)}, got {self.status!r}")
        if (self.status == "ok") == bool(self.fix):
            raise ValueError(f"a check has a fix unless it is ok, got status={self.status!r} with fix={self.fix!r}")

    @property
    def text(self) -> str:
        """The measurement and, unless ok, the fix: one sentence each."""
        return f"{self.detail}." + (f" {self.fix[0].upper()}{self.fix[1:]}." if self.fix else "")


def make_check(
    name: str, status: Status, detail: str, *, meaning: str, fix: str, attacks: tuple[str, ...] = ()
) -> Check:
    """A check; its fix is left out if it is ok."""
    fix = "" if status == "ok" else fix
    return Check(name=name, status=status, detail=detail, meaning=meaning, fix=fix, attacks=attacks)


def worst_status(checks: Iterable[Check]) -> Status:
    """The worst status among checks; ok if there is none."""
    return worst_of(check.status for check in checks)


def worst_of(statuses: Iterable[Status]) -> Status:
    """The worst of some statuses; ok if there is none."""
    return max(statuses, key=_STATUSES.index, default="ok")


class ProbeFinding(NamedTuple):
    """What a check measured on some images, and what helps in this case."""

    status: Status
    detail: str
    fix: str


def worst_finding(findings: Iterable[ProbeFinding]) -> ProbeFinding:
    """The first of the worst of some findings, of which there is at least one."""
    return max(findings, key=lambda finding: _STATUSES.index(finding.status))


def graded(value: float, *, warn: float, fail: float) -> Status:
    """`fail` above one limit, `warn` above the other, else ok."""
    if value > fail:
        return "fail"
    return "warn" if value > warn else "ok"


def unmeasured(name: str, why: str, *, fix: str, attacks: tuple[str, ...] = ()) -> Check:
    """A check that could not be made, which warns, because nothing was checked."""
    return Check(
        name=name,
        status="warn",
        detail=f"not measured: {why}",
        meaning="this was not checked",
        fix=fix,
        attacks=attacks,
    )
