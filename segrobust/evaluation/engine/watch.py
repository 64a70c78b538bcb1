"""What the engine reports while it works."""

from collections.abc import Sequence
from typing import Literal

from segrobust.evaluation.plan import AttackCall
from segrobust.evaluation.run.records import Record
from segrobust.evaluation.signs import give_sign

CallOrClean = AttackCall | Literal["clean"]
"""A measurement of an image: one call of an attack, or that of the clean image."""


class Watch:
    """Follows the work. The engine calls each method in the thread of the work; by default passes are signs of life."""

    def taken(self, sample_id: int) -> None:
        """A sample is read next, if anything of it is missing."""

    def measuring(self, sample_ids: Sequence[int], call: CallOrClean) -> None:
        """A measurement of these samples starts, perhaps again."""

    def passed(self, num_images: int) -> None:
        """A forward or backward pass of the measurement was made on so many images."""
        give_sign()

    def recorded(self, record: Record) -> None:
        """A new record exists."""

    def finished(self, sample_ids: Sequence[int]) -> None:
        """Nothing more is measured of these samples, with or without errors."""
