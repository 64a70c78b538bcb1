"""Rows of a batch: exact sums of many values, and solutions one by one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

ROW = 256  # values that are added in their own type


def row_sums(x: Tensor) -> Tensor:
    """Sum over the second dimension in float64: short pieces in their own type, the pieces' sums in float64.

    As exact as the float32 terms, at a fraction of the cost of converting them: `(B, D) -> (B,)`.

    Examples:
        >>> row_sums(torch.tensor([[1.0, 2.0, 4.0]]))
        tensor([7.], dtype=torch.float64)
    """
    whole = x.shape[1] // ROW * ROW
    pieces = x[:, :whole].view(len(x), whole // ROW, ROW).sum(2)
    return pieces.sum(1, dtype=torch.float64) + x[:, whole:].sum(1, dtype=torch.float64)


def solve_rows(solve: Callable[..., Tensor], values: Sequence[Tensor], guess: Tensor | None) -> Tensor:
    """Calls a solver for each row by itself, so that each takes its own number of passes: `(B,)`.

    Args:
        solve: takes `values` and the guess of some rows, and gives `(B,)`.
        values: `(B, ...)` each.
        guess: `(B,)`, or None.

    Examples:
        >>> solve_rows(lambda x, guess: x.sum(1), (torch.tensor([[1.0, 2.0], [3.0, 4.0]]),), None)
        tensor([3., 7.])
    """
    rows = [slice(row, row + 1) for row in range(len(values[0]))]
    return torch.cat([solve(*(value[i] for value in values), None if guess is None else guess[i]) for i in rows])
