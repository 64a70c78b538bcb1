"""The inexact proximal operator of the released PDPGD code."""

import torch
from torch import Tensor

from segrobust.functional.norms import NormName, norm, per_image
from segrobust.functional.prox import prox

NUM_ITERATIONS = 5
LEAST_CHANGE = 1e-2


def prox_iterated(name: NormName, v: Tensor, metric: Tensor, weight: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    r"""A few proximal gradient steps towards the prox of a norm in a diagonal metric, each followed by the box.

    With v clipped to the box, h the largest value of the metric, and `prox` the Euclidean one without a box, five times

        z <- clip(prox(z - H / h (z - v), weight / h), lower, upper)

    from z = v, as long as the step before changed z by more than 1 % of its l2 norm. That stops far from the minimiser
    of `segrobust.functional.prox.prox` where H is small beside h. Kept to reproduce published figures.

    Args as there.

    Returns:
        z `(B, ...)`.

    Source: released code of Rony et al., CVPR 2023, after Melchior et al., arXiv 1910.10094.

    Example:
        >>> v, ones = torch.tensor([[3.0, 1.0]]), torch.ones(1, 2)
        >>> prox_iterated("linf", v, ones, torch.tensor([1.0]), lower=-9 * ones, upper=9 * ones)
        tensor([[2., 1.]])
    """
    v = torch.maximum(torch.minimum(v, upper), lower)
    largest = metric.flatten(1).amax(1)
    share, weight = metric / per_image(largest, v), weight / largest
    ones, far = torch.ones_like(v), torch.full_like(v, torch.inf)
    z, change = v, torch.ones_like(largest)
    for _ in range(NUM_ITERATIONS):
        goes_on = change > LEAST_CHANGE
        if not goes_on.any():
            break
        nearer, _ = prox(name, torch.addcmul(z, share, z - v, value=-1), ones, weight, -far, far)
        nearer = torch.where(per_image(goes_on, z), torch.maximum(torch.minimum(nearer, upper), lower), z)
        change = norm(nearer - z, "l2") / norm(nearer, "l2").clamp_min(1e-30)
        z = nearer
    return z
