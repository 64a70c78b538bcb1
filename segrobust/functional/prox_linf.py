"""Proximal operators of norms with box constraints in a diagonal metric."""

import torch
from torch import Tensor

from segrobust.functional.rows import row_sums, solve_rows

MAX_PASSES = 100
PATIENCE = 8  # passes after which every other one halves the bracket
FAR = 1e30  # larger than every value of p
LARGE = 10_000  # from this number of values on, images are solved one by one on CPU
SHRINK = 4  # the search goes on among the values right of the bracket's left end when they are this many times fewer


def prox_linf(
    v: Tensor, metric: Tensor, weight: Tensor, lower: Tensor, upper: Tensor, guess: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Exact proximal operator of the l_inf norm with a box, in a diagonal metric.

    `argmin_z 1/2 sum_j H_j (z_j - v_j)^2 + weight * ||z||_inf` subject to `lower <= z <= upper`, for each image.

    Because the box contains 0, for a given bound t on `||z||_inf` the minimiser is
    `clip(clip(v, lower, upper), -t, t)`, whatever the metric. What remains is a convex problem in t, solved by
    `threshold_linf`.

    Args:
        v: `(B, ...)` points.
        metric: `(B, ...)` diagonal H > 0.
        weight: `(B,)` weights of the norm, >= 0.
        lower: `(B, ...)` lower bounds, <= 0.
        upper: `(B, ...)` upper bounds, >= 0.
        guess: `(B,)` thresholds to start from, such as those of a previous call; changes the speed only.

    Returns:
        z `(B, ...)`, and the thresholds t `(B,)`: `||z||_inf <= t`.

    Source: problem from Rony, Pesquet & Ben Ayed, CVPR 2023, section 4, solved there by a ternary search.

    Examples:
        >>> v, ones = torch.tensor([[3.0, 1.0]]), torch.ones(1, 2)
        >>> prox_linf(v, ones, torch.tensor([1.0]), lower=-9 * ones, upper=9 * ones)
        (tensor([[2., 1.]]), tensor([2.], dtype=torch.float64))
    """
    boxed = v.clamp(lower, upper)
    t = threshold_linf(v.abs().flatten(1), boxed.abs().flatten(1), metric.flatten(1), weight, guess)
    bound = t.to(v.dtype).view(-1, *[1] * (v.dim() - 1))
    return torch.maximum(torch.minimum(boxed, bound), -bound), t  # clamp with tensor bounds is slower on CPU


def threshold_linf(a: Tensor, p: Tensor, metric: Tensor, weight: Tensor, guess: Tensor | None = None) -> Tensor:
    r"""Bound t on the l_inf norm that minimises the objective of `prox_linf`.

    The derivative of the objective, `d(t) = weight - sum_{p_j > t} H_j (a_j - t)`, does not decrease: it is linear
    between the values of p and jumps up at a p_j where the box binds (`p_j < a_j`). The root is bracketed. From a point
    left of it, a Newton step that does not pass the next value of p ends on the root exactly. Without jumps, Newton
    steps from the left are monotone and few; where a step leaves the bracket, a jump is in the way: the largest one
    inside the bracket is tried from both sides, and a sign change across it makes it the root. From a point right of
    the root, a Newton step that does not pass the previous value of p ends on it too.

    The loop ends when all roots are found. What is known of them is kept on the CPU, wherever the values are: a pass
    gives two numbers per image, and to ask an accelerator for them takes less time than the passes that they save.
    On CPU each large image has its own loop, which leaves values behind that lie left of the root: usually the first
    pass is the only one over all of them.

    Args:
        a: `(B, D)` absolute values before clipping to the box.
        p: `(B, D)` absolute values after it, `0 <= p <= a`.
        metric: `(B, D)` diagonal H > 0.
        weight: `(B,)` weights of the norm, >= 0.
        guess: `(B,)` points to start from.

    Returns:
        `(B,)` float64, in `[0, max p]`.

    Examples:
        >>> a, ones = torch.tensor([[3.0, 1.0]]), torch.ones(1, 2)
        >>> threshold_linf(a, a, ones, torch.tensor([1.0]))
        tensor([2.], dtype=torch.float64)
    """
    on_cpu = p.device.type == "cpu"
    if on_cpu and len(p) > 1 and p.shape[1] > LARGE:
        return solve_rows(threshold_linf, (a, p, metric, weight), guess)
    shrinks = on_cpu and p.shape[1] > LARGE  # by the image's own size, so that its batch has no influence
    weight = weight.double().cpu()  # every decision below is made on the CPU, in float64
    weighted = metric * a
    low = torch.full_like(weight, -1.0)  # no point left of the root is known yet
    high = p.amax(1).double().cpu()
    following = torch.full_like(high, torch.inf)  # smallest p right of `low`
    root = torch.full_like(weight, torch.nan)
    # No root lies right of the largest value, where the derivative is the weight itself.
    t = torch.zeros_like(high) if guess is None else torch.minimum(guess.double().cpu(), high)
    tried_jump = torch.zeros_like(high, dtype=torch.bool)
    for step in range(MAX_PASSES):
        # The one pass over the values: d(t), its slope just right of t, and the root of that line.
        active, slope, total = _right_of(t, p, metric, weighted)
        derivative = weight - total + t * slope
        newton = (total - weight) / slope  # inf or nan right of the largest p, where the slope is 0: never `usable`
        left = derivative < 0
        next_value = _smallest(p, active) if left.any() else following
        last_value = _largest(p, active) if not left.all() else low
        low, following = torch.where(left, t, low), torch.where(left, next_value, following)
        high = torch.where(left, high, t)
        # Within one linear piece the line is d itself, so that its root is the root of d.
        exact = torch.where(left, newton <= following, (newton >= last_value) & (newton <= t))
        found = torch.where(exact, newton, torch.nan)
        across = found.isnan() & (following >= high) & (low >= 0)  # sign change across a value of p
        found = torch.where(across | (high == 0), high, found)
        root = torch.where(root.isnan(), found, root)  # images whose root is known stay in the loop and keep it
        if not root.isnan().any():
            break
        # Values p_j <= t, t left of the root, are below every t still to come: they take no part in d any more.
        if shrinks and left and active.sum() * SHRINK < p.shape[1]:
            right = active[0].nonzero()[:, 0]
            p, a, metric, weighted = p[:, right], a[:, right], metric[:, right], weighted[:, right]
        usable = (newton > low) & (newton < high)
        if step >= PATIENCE and step % 2:  # many jumps of like size: halving bounds the number of passes
            newton, usable = (low.clamp_min(0) + high) / 2, torch.ones_like(usable)
        jump = _largest_jump(p, a, metric, low, high) if not usable.all() else high
        before_jump = tried_jump & ~left  # the jump is right of the root or the root itself: look just left of it
        t = torch.where(usable, newton, torch.where(before_jump, _previous(high, p.dtype), jump)).clamp_min(0)
        tried_jump = ~usable & ~before_jump
    # Without a root after all passes: the upper end of the bracket, at most a slightly larger norm than the best one.
    return torch.where(root.isnan(), high, root).to(p.device)


def _right_of(t: Tensor, p: Tensor, metric: Tensor, weighted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which `p_j > t`, as 0 and 1, and `sum H_j` and `sum H_j a_j` over them in float64, on the CPU as t is.

    Here and below products take the place of selections, which are not vectorised on CPU.
    """
    active = torch.gt(p, _round_down(t, p.dtype).to(p.device)[:, None], out=torch.empty_like(p))
    slope, total = torch.stack((row_sums(metric * active), row_sums(weighted * active))).cpu()
    return active, slope, total


def _smallest(p: Tensor, active: Tensor) -> Tensor:
    """Smallest active p, inf if there is none."""
    smallest = torch.add(p, 1 - active, alpha=FAR).amin(1).double().cpu()
    return smallest.masked_fill(smallest >= FAR, torch.inf)


def _largest(p: Tensor, active: Tensor) -> Tensor:
    """Largest inactive p, 0 if there is none."""
    return torch.addcmul(p, p, active, value=-1).amax(1).double().cpu()


def _largest_jump(p: Tensor, a: Tensor, metric: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Value of p inside `(low, high)` where one element makes the derivative jump most; else their middle."""
    bounds = _round_down(low, p.dtype).to(p.device)[:, None], high.to(p.device, p.dtype)[:, None]
    jumps = torch.where((p > bounds[0]) & (p < bounds[1]), metric * (a - p), -1.0)
    size, index = jumps.max(1)
    values = p.gather(1, index[:, None])[:, 0]
    return torch.where(size.cpu() > 0, values.double().cpu(), (low.clamp_min(0) + high) / 2)


def _round_down(t: Tensor, dtype: torch.dtype) -> Tensor:
    """Largest number of a type that is not above t, so that comparing with it selects what comparing with t does."""
    rounded = t.to(dtype)
    return torch.where(rounded.double() > t, torch.nextafter(rounded, torch.full_like(rounded, -torch.inf)), rounded)


def _previous(t: Tensor, dtype: torch.dtype) -> Tensor:
    """The number of a type just below t."""
    rounded = t.to(dtype)
    return torch.nextafter(rounded, torch.full_like(rounded, -torch.inf)).double()
