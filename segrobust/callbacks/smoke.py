"""Two steps of every attack on one image, so that a wrong setting fails at once and not after an epoch."""

import contextlib

from torch import nn

from segrobust.attacks.core.tracker import Iterate
from segrobust.evaluation.dataset import SampleSource, load_sample
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.plan import Plan

_STEPS = 2


class _EnoughError(Exception):
    """Ends an attack early."""


def smoke_test(network: nn.Module, dataset: SampleSource, plan: Plan, *, sample_id: int, ignore_index: int) -> None:
    """Runs two steps of every attack on one sample, and raises the errors of an evaluation.

    Args:
        network: maps images in [0, 1] to logits.
        dataset: the samples.
        plan: the attacks.
        sample_id: position of the sample.
        ignore_index: label of void pixels.

    Raises:
        ValueError: images outside [0, 1], labels that the network does not know, outputs that are no logits.
        TypeError: samples or outputs of another type.
        FloatingPointError: the network returned NaN.
    """
    sample = load_sample(dataset, sample_id)
    images = sample.image[None].to(device_of(network), precision_of(network))
    labels = sample.mask[None].to(images.device)
    for job in plan.jobs:
        attack, eps = job.attack, job.calls[0]
        with contextlib.suppress(_EnoughError):
            attack(
                network,
                images,
                labels,
                ignore_index=ignore_index,
                eps=None if eps == "min" or attack.default_eps is not None else eps,
                sample_ids=[sample_id],
                observer=_stop_early,
            )


def _stop_early(iterate: Iterate) -> None:
    """An observer that stops at the third iterate, after two steps."""
    if iterate.step >= _STEPS:
        raise _EnoughError
