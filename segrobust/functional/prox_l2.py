"""Proximal operator of the l2 norm with box constraints in a diagonal metric."""

import torch
from torch import Tensor

from segrobust.functional.norms import per_image
from segrobust.functional.rows import row_sums, solve_rows

MAX_PASSES = 100
PATIENCE = 6  # passes after which every other one halves the bracket
ACCURACY = {torch.float32: 3e-7, torch.float64: 1e-13}  # of the length
FAR = 1e30  # larger than every value of the metric


def prox_l2(
    v: Tensor, metric: Tensor, weight: Tensor, lower: Tensor, upper: Tensor, guess: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Proximal operator of the l2 norm with a box, in a diagonal metric.

    `argmin_z 1/2 sum_j H_j (z_j - v_j)^2 + weight * ||z||_2` subject to `lower <= z <= upper`, for each image.

    For z = 0 the slope in a feasible direction is least along H v less its components that point out of a box whose
    bound there is 0. So zero is the minimiser exactly if the l2 norm of what is left is at most the weight. Otherwise,
    because `||z|| = min_tau (||z||^2 / tau + tau) / 2`, which is convex in z and tau together, the minimiser is

        z(tau) = clip(H v / (H + weight / tau), lower, upper)   with tau = ||z(tau)||_2,

    where `||z(tau)|| / tau` falls from more than one as tau grows: one root, found by `length_l2`.

    Args:
        v: `(B, ...)` points.
        metric: `(B, ...)` diagonal H > 0.
        weight: `(B,)` weights of the norm, >= 0.
        lower: `(B, ...)` lower bounds, <= 0.
        upper: `(B, ...)` upper bounds, >= 0.
        guess: `(B,)` lengths to start from, such as those of a previous call; changes the speed only.

    Returns:
        z `(B, ...)`, and the lengths tau `(B,)` float64, 0 where z is.

    Examples:
        >>> v, ones = torch.tensor([[3.0, 4.0]]), torch.ones(1, 2)
        >>> prox_l2(v, ones, torch.tensor([1.0]), lower=-9 * ones, upper=9 * ones)  # the length falls from 5 to 4
        (tensor([[2.4000, 3.2000]]), tensor([4.], dtype=torch.float64))
    """
    boxed = torch.maximum(torch.minimum(v, upper), lower)
    reach, pull = boxed.abs().flatten(1), (metric * v).abs_().flatten(1)
    tau = length_l2(reach, pull, metric.flatten(1), weight, guess)
    held = per_image(torch.where(tau > 0, weight / tau, torch.inf).to(v.dtype), v)
    shrunk = (metric * v).div_(metric + held)
    return torch.maximum(torch.minimum(shrunk, upper), lower), tau


def length_l2(reach: Tensor, pull: Tensor, metric: Tensor, weight: Tensor, guess: Tensor | None = None) -> Tensor:
    r"""Length tau of the minimiser of `prox_l2`.

    Brings `r(tau) = tau / ||z(tau)||_2` to one, with `|z_j| = min(pull_j / (H_j + weight / tau), reach_j)`. r grows
    with tau, from the weight over the norm of the pull, and is nearly linear, as in the secular equation of trust
    region methods. Secants inside a bracket therefore take few passes; bisection takes over if they do not.

    Passes are made at values of `weight / tau` that the type of the data holds, so that rounding it costs nothing.
    What is known of the root is kept on the CPU, as in `segrobust.functional.prox_linf.threshold_linf`.

    Args:
        reach: `(B, D)` absolute values of the points, clipped to the box.
        pull: `(B, D)` absolute values of H v.
        metric: `(B, D)` diagonal H > 0.
        weight: `(B,)` weights of the norm, >= 0.
        guess: `(B,)` lengths to start from.

    Returns:
        `(B,)` float64.

    Examples:
        >>> v, ones = torch.tensor([[3.0, 4.0]]), torch.ones(1, 2)
        >>> length_l2(v, v, ones, torch.tensor([1.0]))
        tensor([4.], dtype=torch.float64)
    """
    if pull.device.type == "cpu" and len(pull) > 1:  # each image takes its own number of passes
        return solve_rows(length_l2, (reach, pull, metric, weight), guess)
    weight = weight.double().cpu()
    slack, longest = torch.stack((_length(pull * reach.ne(0)), _length(reach))).cpu()
    low, high = torch.zeros_like(longest), longest
    before, ratio_before = low, weight / slack
    t = longest
    if guess is not None:
        guess = guess.double().cpu()
        t = torch.where((guess > 0) & (guess < longest), guess, longest)
    root = torch.full_like(longest, torch.nan).masked_fill(slack <= weight, 0)
    work, accuracy = torch.empty_like(pull), ACCURACY[pull.dtype]
    for step in range(MAX_PASSES):
        if not root.isnan().any():
            break
        held = (weight / t).clamp_max(FAR).to(pull.dtype)
        t = torch.where(held > 0, weight / held, t)
        torch.add(metric, held.to(work.device)[:, None], out=work)
        torch.minimum(torch.div(pull, work, out=work), reach, out=work)
        ratio = t / _length(work).cpu()
        low, high = torch.where(ratio < 1, t, low), torch.where(ratio < 1, high, t)
        secant = t + (1 - ratio) * (t - before) / (ratio - ratio_before)
        usable = (secant > low) & (secant < high)
        if step >= PATIENCE and step % 2:
            usable = torch.zeros_like(usable)
        following = torch.where(usable, secant, (low + high) / 2)
        exact = ((ratio - 1).abs() <= accuracy / 10) | (high - low <= accuracy * high)
        settled = (secant - t).abs() <= accuracy * t
        found = torch.where(exact, t, torch.where(settled, secant, torch.nan))
        root = torch.where(root.isnan(), found, root)
        before, ratio_before, t = t, ratio, following
    return torch.where(root.isnan(), t, root).to(pull.device)


def _length(x: Tensor) -> Tensor:
    """l2 norms of rows in float64."""
    return row_sums(x * x).sqrt_()
