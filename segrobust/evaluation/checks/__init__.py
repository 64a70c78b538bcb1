"""Checks that protect from false robustness: of the network, of the attacks on it, and of the records."""

from segrobust.evaluation.checks.attacks import check_attacks
from segrobust.evaluation.checks.files import StoredChecks, read_checks, write_checks
from segrobust.evaluation.checks.network import check_network
from segrobust.evaluation.checks.records import check_records
from segrobust.evaluation.checks.types import Check, Status, worst_status

__all__ = [
    "check_network",
    "check_attacks",
    "check_records",
    "Check",
    "Status",
    "worst_status",
    "write_checks",
    "read_checks",
    "StoredChecks",
]
