"""The only timer of the benchmarks: two sides run in turn, and the ratio is taken within each pair.

On a machine that does other work too, seconds drift by tens of percent within a minute. Two runs that follow each other
see nearly the same machine, so the median of their ratios is steady where the ratio of two averages is not.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

WARMUP = 5
PAIRS = 30


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Seconds of a first side over those of a second.

    Attributes:
        ratio: median over pairs of first / second.
        low: lower end of an interval that holds the median ratio with at least 95 % confidence.
        high: its upper end.
        first_seconds: median of the first side.
        second_seconds: median of the second side.
        num_pairs: pairs measured.
    """

    ratio: float
    low: float
    high: float
    first_seconds: float
    second_seconds: float
    num_pairs: int

    def __str__(self) -> str:
        milliseconds = f"{1e3 * self.first_seconds:.1f} ms / {1e3 * self.second_seconds:.1f} ms"
        return f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}] ({milliseconds}, {self.num_pairs} pairs)"


def compare(
    first: Callable[[], object], second: Callable[[], object], *, pairs: int = PAIRS, warmup: int = WARMUP
) -> Comparison:
    """Times two callables in turn: first, second, first, second, ...

    Args:
        first: timed side.
        second: what it is compared with.
        pairs: how many pairs count.
        warmup: how many pairs are run before, uncounted.

    Raises:
        ValueError: fewer pairs than an interval needs, before anything is run.
    """
    _check_pairs(pairs)
    times = [(_seconds(first), _seconds(second)) for _ in range(warmup + pairs)][warmup:]
    return summarize([a for a, _ in times], [b for _, b in times])


def compare_steps(
    run: Callable[[Callable[[], None]], object], second: Callable[[], object], *, warmup: int = WARMUP
) -> Comparison:
    """Times the steps of a loop in turn with a callable, inside the running loop.

    Args:
        run: a loop that calls its argument once per step. From one such call to the next is one step of the first
            side; the second side runs inside the call. What comes before the first call and after the last is not
            timed.
        second: what a step is compared with.
        warmup: how many steps pass uncounted.
    """
    times: list[tuple[float, float]] = []
    resumed: float | None = None

    def between_steps() -> None:
        nonlocal resumed
        paused = _now()
        seconds = _seconds(second)
        if resumed is not None:
            times.append((paused - resumed, seconds))
        resumed = _now()

    run(between_steps)
    return summarize([a for a, _ in times[warmup:]], [b for _, b in times[warmup:]])


def summarize(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """The median of the ratios of pairs with its distribution-free interval.

    The interval runs between two order statistics: the i-th smallest and the i-th largest ratio miss the median on
    either side with the probability that at most i - 1 of n fair coins show heads, kept at 2.5 % or less.

    Args:
        first: seconds of the first side, one per pair.
        second: seconds of the second side.

    Raises:
        ValueError: fewer than 6 pairs, from which no such interval can be made.
    """
    ratios = sorted(a / b for a, b in zip(first, second, strict=True))
    count = len(ratios)
    _check_pairs(count)
    tails = [sum(math.comb(count, heads) for heads in range(i + 1)) / 2**count for i in range(count // 2)]
    rank = max(i for i, tail in enumerate(tails) if tail <= 0.025)
    return Comparison(
        ratio=statistics.median(ratios),
        low=ratios[rank],
        high=ratios[-1 - rank],
        first_seconds=statistics.median(first),
        second_seconds=statistics.median(second),
        num_pairs=count,
    )


def _seconds(run: Callable[[], object]) -> float:
    start = _now()
    run()
    return _now() - start


def _now() -> float:
    """The clock, after all pending work of the GPU."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def _check_pairs(count: int) -> None:
    if count < 6:
        raise ValueError(f"an interval of 95 % for a median needs at least 6 pairs, got {count}")
