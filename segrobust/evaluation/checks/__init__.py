"""Checks that protect from false robustness: of the network, of the attacks on it, and of the records."""

from segrobust.evaluation.checks.attack_checks import check_attacks
from segrobust.evaluation.checks.check import Check, Status, worst_status
from segrobust.evaluation.checks.checks_file import StoredChecks, read_checks, write_checks
from segrobust.evaluation.checks.network_checks import check_network
from segrobust.evaluation.checks.record_checks import check_records

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
