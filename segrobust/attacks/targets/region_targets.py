"""Regions of pixels to attack, and of pixels to keep."""

import abc
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from segrobust.attacks.core.attack import check_choice
from segrobust.attacks.core.identity import identity_of_fields
from segrobust.attacks.targets.label_maps import digest_of, read_maps
from segrobust.attacks.targets.target_maps import ClassName, Scene, Source, TargetMaps, Targets


class Region(abc.ABC):
    """A set of pixels of each image; a frozen, keyword-only dataclass of numbers and names."""

    @property
    def identity(self) -> str:
        """The repr, with digests of files instead of their paths."""
        return identity_of_fields(self)

    @abc.abstractmethod
    def pixels(self, scene: Scene) -> Tensor:
        """The set: `(B, H, W)` bool."""


@dataclass(frozen=True, kw_only=True)
class OfClasses(Region):
    """Pixels of some classes.

    Args:
        classes: by index, or by name if the data set has a label space.
        source: of the classes: the ground truth, or the clean prediction.
    """

    classes: tuple[ClassName, ...]
    source: Source = "label"

    def __post_init__(self) -> None:
        check_choice("source", self.source, get_args(Source))
        if not self.classes:
            raise ValueError("classes must name at least one class, got ()")

    def pixels(self, scene: Scene) -> Tensor:
        """See `Region`."""
        return scene.having(scene.read(self.source), self.classes)


@dataclass(frozen=True, kw_only=True)
class Box(Region):
    """A rectangle, in shares of height and width, rounded to whole pixels.

    Args:
        top: first row, in [0, 1).
        left: first column.
        bottom: row behind the last one, above `top`, at most 1.
        right: column behind the last one.
    """

    top: float
    left: float
    bottom: float
    right: float

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom <= 1 and 0 <= self.left < self.right <= 1):
            raise ValueError(f"a box is given in shares of height and width, 0 <= top < bottom <= 1, got {self}")

    def pixels(self, scene: Scene) -> Tensor:
        """See `Region`."""
        height, width = scene.labels.shape[1:]
        inside = torch.zeros_like(scene.labels, dtype=torch.bool)
        rows = slice(round(self.top * height), round(self.bottom * height))
        inside[:, rows, round(self.left * width) : round(self.right * width)] = True
        return inside


@dataclass(frozen=True, kw_only=True)
class MaskFile(Region):
    """Pixels that are not 0 in an image file, which is resized to the image by nearest neighbour.

    Args:
        path: an image for all samples, or a folder with `<sample name>.png` for each.
    """

    path: str

    @property
    def identity(self) -> str:
        """With the digest of the content."""
        return f"MaskFile(content={digest_of(self.path)!r})"

    def pixels(self, scene: Scene) -> Tensor:
        """See `Region`."""
        return read_maps(self.path, scene) != 0


@dataclass(frozen=True, kw_only=True)
class Outside(Region):
    """All pixels outside another region.

    Args:
        region: the other region.
    """

    region: Region

    def pixels(self, scene: Scene) -> Tensor:
        """See `Region`."""
        return ~self.region.pixels(scene)


@dataclass(frozen=True, kw_only=True)
class Localize(Targets):
    """Attacks the pixels of one region and keeps the class of those of another; all other pixels are ignored.

    An image whose region is empty is not attacked.

    Args:
        attacked: pixels that must leave their true class, or reach their target.
        keep: pixels that must keep their class, without attacked ones; None for all that are not attacked.
        targets: of attacked pixels; None if they only have to leave their true class.
        source: of the class of pixels to keep: the clean prediction, or the ground truth.
    """

    attacked: Region
    keep: Region | None = None
    targets: Targets | None = None
    source: Source = "prediction"

    def __post_init__(self) -> None:
        check_choice("source", self.source, get_args(Source))
        if self.targets is not None and self.targets.localized:
            raise ValueError(f"targets inside Localize must not be localised themselves, got {self.targets!r}")

    @property
    def localized(self) -> bool:
        """Always."""
        return True

    @property
    def targeted(self) -> bool:
        """Whether attacked pixels have a target."""
        return self.targets is not None

    def maps(self, scene: Scene) -> TargetMaps:
        """See `Targets`."""
        attacked = self.attacked.pixels(scene)
        keep_mask = ~attacked if self.keep is None else self.keep.pixels(scene) & ~attacked
        wanted = scene.labels if self.targets is None else self.targets.maps(scene).targets
        targets = torch.where(keep_mask, scene.read(self.source), wanted)
        return TargetMaps(targets.masked_fill(~attacked & ~keep_mask, scene.ignore_index), keep_mask, self.targeted)
