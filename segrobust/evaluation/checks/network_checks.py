"""`check_network`: the checks of a network that every evaluation makes, in their order; they are cheap.

The checks themselves are functions of `output_checks`, `saturation_checks` and `gradient_checks`.
"""

from collections.abc import Sequence

import torch
from torch import nn

from segrobust.attacks import Criterion
from segrobust.evaluation.checks.check import Check
from segrobust.evaluation.checks.gradient_checks import check_gradient, check_no_optimisation, check_unbounded
from segrobust.evaluation.checks.output_checks import (
    check_deterministic,
    check_logits,
    check_unquantised,
    check_zero_radius,
)
from segrobust.evaluation.checks.probes import make_probes
from segrobust.evaluation.checks.saturation_checks import check_saturation
from segrobust.evaluation.dataset import SampleSource
from segrobust.evaluation.forward import device_of
from segrobust.functional.modes import attackable
from segrobust.inputs import require_network

_CHECKS = (
    check_deterministic,
    check_logits,
    check_saturation,
    check_gradient,
    check_no_optimisation,
    check_unquantised,
    check_zero_radius,
    check_unbounded,
)


def check_network(
    network: nn.Module,
    dataset: SampleSource,
    sample_ids: Sequence[int],
    *,
    ignore_index: int = 255,
    criterion: Criterion,
    batch_size: int = 1,
) -> tuple[Check, ...]:
    """Looks for properties that make a network seem more robust than it is.

    Costs 13 passes for each image (12 forwards, 1 backward), and about 20 to 35 more for the unbounded attack, 83 at
    most. The network is evaluated as attacks evaluate it; its state, and that of the global random generators, is
    restored.

    Args:
        network: maps images in [0, 1] to logits `(B, K, H, W)`; it is not moved.
        dataset: see `SampleSource`.
        sample_ids: positions of the images to check; two are usually enough.
        ignore_index: label of void pixels.
        criterion: when an image is broken.
        batch_size: images per batch; one check doubles it, without gradients.

    Returns:
        One check per property.

    Raises:
        ValueError: no sample, or images, masks or outputs that do not fit.
        TypeError: a sample or an output of the wrong type.
        FloatingPointError: the network returned NaN without attack.
    """
    require_network(network, by_gradients=False)
    device = device_of(network)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), attackable(network):
        probes = make_probes(
            network, dataset, sample_ids, criterion=criterion, ignore_index=ignore_index, batch_size=batch_size
        )
        return tuple(check(probes) for check in _CHECKS)
