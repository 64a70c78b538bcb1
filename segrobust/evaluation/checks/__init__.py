"""Checks that protect from false robustness: of the network, of the attacks on it, and of the records.

| check | of | what it finds |
|---|---|---|
| `deterministic` | network | outputs that change from call to call |
| `logits` | network | probabilities in the place of logits |
| `saturation` | network | outputs that saturate or tie, as the scores of networks that classify masks do |
| `gradient` | network | gradients that are zero or not finite |
| `no optimisation inside` | network | a network that computes gradients while it predicts |
| `unquantised input` | network | inputs that are rounded |
| `eps = 0` | network | predictions that change without a perturbation |
| `unbounded attack` | network | images that no perturbation breaks |
| `wiring` | network and data | colours, scale of the input, classes or masks that are not those of the training |
| `clean` | records | a network that predicts one class, or hardly anything right |
| `square` | records | a black-box attack that breaks more than attacks with gradients |
| `monotone` | records | a larger radius that breaks less |
| `censored` | records | a minimal-norm attack that fails where others succeed |
| `agreement` | records | minimal norms and fixed budgets that contradict each other |
| `minimal norms` | records | minimal-norm attacks whose norms differ by a factor of 2 on most images |
| `steps doubled` | attacks | attacks that gain by twice the steps |
| `black box` | attacks | Square, run for this check, that breaks more than attacks with gradients |
"""

from segrobust.evaluation.checks.attack_checks import check_attacks
from segrobust.evaluation.checks.check import Check, Status, worst_status
from segrobust.evaluation.checks.checks_file import StoredChecks, read_checks, write_checks
from segrobust.evaluation.checks.network_checks import check_network
from segrobust.evaluation.checks.record_checks import check_records
from segrobust.evaluation.checks.wiring_checks import WIRING_IMAGES, check_wiring

__all__ = [
    "check_network",
    "check_attacks",
    "check_records",
    "check_wiring",
    "WIRING_IMAGES",
    "Check",
    "Status",
    "worst_status",
    "write_checks",
    "read_checks",
    "StoredChecks",
]
