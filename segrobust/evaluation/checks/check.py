"""What a check says, and how bad it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

Status = Literal["ok", "warn", "fail"]
"""`fail`: the numbers must not be believed; `warn`: something to look at, or to mention beside the numbers."""

_STATUSES: Final[tuple[Status, ...]] = get_args(Status)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding about a network, or about the attacks on it.

    Attributes:
        name: what was looked at, such as "deterministic".
        status: see `Status`.
        detail: what was measured, one sentence with figures.
        meaning: why it matters: what such a network, or attack, does to the numbers.
        mend: what to do; empty if ok.
        attacks: digests of the attacks whose numbers it touches; empty for all.

    Raises:
        ValueError: another status, or an ok check with a mend, or one that is not ok and has none.
    """

    name: str
    status: Status
    detail: str
    meaning: str
    mend: str
    attacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.status not in _STATUSES:
            raise ValueError(f"status must be one of {', '.join(_STATUSES)}, got {self.status!r}")
        if (self.status == "ok") == bool(self.mend):
            raise ValueError(f"a check has a mend unless it is ok, got status={self.status!r} with mend={self.mend!r}")


def make_check(
    name: str, status: Status, detail: str, *, meaning: str, mend: str, attacks: tuple[str, ...] = ()
) -> Check:
    """A check whose mend is left out if it is ok."""
    left = "" if status == "ok" else mend
    return Check(name=name, status=status, detail=detail, meaning=meaning, mend=left, attacks=attacks)


def worst_status(checks: Iterable[Check]) -> Status:
    """The worst status among checks; ok if there is none."""
    return worst_of(check.status for check in checks)


def worst_of(statuses: Iterable[Status]) -> Status:
    """The worst of some statuses; ok if there is none."""
    return max(statuses, key=_STATUSES.index, default="ok")


def worst_finding(findings: Iterable[tuple[Status, str]]) -> tuple[Status, str]:
    """The first of the worst of some findings, of which there is at least one."""
    return max(findings, key=lambda finding: _STATUSES.index(finding[0]))


def graded(value: float, *, warn: float, fail: float) -> Status:
    """`fail` above one limit, `warn` above the other, else ok."""
    if value > fail:
        return "fail"
    return "warn" if value > warn else "ok"


def unmeasured(name: str, why: str, *, mend: str, attacks: tuple[str, ...] = ()) -> Check:
    """A check that could not be made, which warns: it vouches for nothing."""
    return Check(
        name=name,
        status="warn",
        detail=f"not measured: {why}",
        meaning="nothing is known about it",
        mend=mend,
        attacks=attacks,
    )
