"""Results on disk, as the comparisons store them: one JSON line per measurement, written when it exists."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from segrobust.metrics import NormRatio, geometric_mean_ratio

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class ResultFile(Generic[R]):
    """Measurements of one kind in one file.

    Args:
        path: the file; it and its folder are made when the first result comes.
        kind: class of a result, a dataclass of what JSON can hold.
        key: fields that say what was measured.
    """

    path: Path
    kind: type[R]
    key: tuple[str, ...]

    def read(self) -> list[R]:
        """Results of earlier calls."""
        if not self.path.exists():
            return []
        return [self.kind(**json.loads(line)) for line in self.path.read_text().splitlines()]

    def complete(
        self,
        keys: Iterable[tuple[object, ...]],
        measure: Callable[..., R],
        describe: Callable[[R], str],
        *,
        known: Iterable[R] = (),
    ) -> None:
        """Measures what is missing, writes each result as soon as it exists, and prints a line.

        Args:
            keys: what there should be, values of the fields `key` in their order.
            measure: called with the values of one key.
            describe: a line to print.
            known: results that are stored elsewhere and need no measurement.
        """
        done = {tuple(getattr(result, name) for name in self.key) for result in (*known, *self.read())}
        for key in keys:
            if key not in done:
                result = measure(*key)
                self.append(result)
                print(describe(result), flush=True)

    def append(self, result: R) -> None:
        """Writes one result."""
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")


class HasNorm(Protocol):
    """A result of a minimal-norm attack on one image; `norm` is None where it failed."""

    @property
    def sample_id(self) -> int: ...  # noqa: D102

    @property
    def norm(self) -> float | None: ...  # noqa: D102


def norms_by_image(results: Iterable[HasNorm]) -> dict[int, float]:
    """Norm of each image, inf where the attack failed."""
    return {result.sample_id: math.inf if result.norm is None else result.norm for result in results}


def shared_norms(first: dict[int, float], second: dict[int, float]) -> tuple[Tensor, Tensor]:
    """Norms of the images that both have results of, failures included, in one order: `(N,)` float64 each."""
    shared = sorted(first.keys() & second.keys())
    one, other = ([norms[i] for i in shared] for norms in (first, second))
    return torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)


def norm_ratio(first: dict[int, float], second: dict[int, float]) -> NormRatio | None:
    """Norms of one attack over those of another, image by image; None where no image has results of both."""
    a, b = shared_norms(first, second)
    return geometric_mean_ratio(a, b) if len(a) else None
