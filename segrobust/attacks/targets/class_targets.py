"""Targets by class: one class for all pixels, the second best, a table of classes, or classes to erase."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from segrobust.attacks.core.attack import check_choice
from segrobust.attacks.targets.target_maps import ClassName, Scene, Source, TargetMaps, Targets

Others = Literal["keep", "ignore"]
"""Pixels without a target: they must keep their class, or they are ignored."""


@dataclass(frozen=True, kw_only=True)
class Constant(Targets):
    """The same target class for every pixel (Rony et al., CVPR 2023, on Pascal VOC: all background).

    Args:
        label: the class.
    """

    label: ClassName

    def maps(self, scene: Scene) -> TargetMaps:
        """See `Targets`."""
        return TargetMaps(torch.full_like(scene.labels, scene.index(self.label)))


@dataclass(frozen=True, kw_only=True)
class SecondBest(Targets):
    """The second-best class of the clean prediction as the target of each pixel: the easiest target."""

    def maps(self, scene: Scene) -> TargetMaps:
        """See `Targets`."""
        rest = scene.logits.scatter(1, scene.prediction[:, None], -torch.inf)
        if 0 <= scene.ignore_index < rest.shape[1]:  # void is no target
            rest[:, scene.ignore_index] = -torch.inf
        return TargetMaps(rest.argmax(1))


@dataclass(frozen=True, kw_only=True)
class _OfSomeClasses(Targets):
    """Targets for pixels of some classes.

    Args:
        source: of the classes of an image.
        others: whether all other pixels must keep their class, or are ignored.
    """

    source: Source = "prediction"
    others: Others = "keep"

    def __post_init__(self) -> None:
        check_choice("source", self.source, get_args(Source))
        check_choice("others", self.others, get_args(Others))

    @property
    def localized(self) -> bool:
        """Whether other pixels must keep their class."""
        return self.others == "keep"

    def _target_maps(self, scene: Scene, attacked: Tensor, targets: Tensor) -> TargetMaps:
        """Target maps of the attacked pixels; the others have their class as target."""
        if self.others == "ignore":
            return TargetMaps(targets.masked_fill(~attacked, scene.ignore_index))
        return TargetMaps(torch.where(attacked, targets, scene.read(self.source)), ~attacked)


@dataclass(frozen=True, kw_only=True)
class MapClasses(_OfSomeClasses):
    """Targets for the pixels of some classes, by a table.

    Args:
        pairs: classes and their target classes, such as `(("car", "road"), ("person", "walk"))`.
        source: of the classes of an image: the clean prediction, or the ground truth.
        others: whether pixels of other classes must keep theirs, or are ignored.
    """

    pairs: tuple[tuple[ClassName, ClassName], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        first = [pair[0] for pair in self.pairs]
        if not first or len(set(first)) < len(first):
            raise ValueError(f"pairs must name at least one class, and none twice on the left, got {self.pairs}")

    def maps(self, scene: Scene) -> TargetMaps:
        """See `Targets`."""
        classes = scene.read(self.source)
        targets, attacked = classes.clone(), torch.zeros_like(classes, dtype=torch.bool)
        for before, after in self.pairs:
            pixels = classes == scene.index(before)
            targets[pixels] = scene.index(after)
            attacked |= pixels
        return self._target_maps(scene, attacked, targets)


@dataclass(frozen=True, kw_only=True)
class EraseClasses(_OfSomeClasses):
    """Targets that erase some classes: each of their pixels gets the class of the nearest pixel of another class.

    Nearest is by Euclidean distance among pixels that are not void; ties are broken deterministically. An image without
    pixels of these classes, or of others, is not attacked.

    Source: the dynamic targets of Metzen et al., "Universal Adversarial Perturbations Against Semantic Image
    Segmentation", ICCV 2017 (no pedestrians), which read the prediction.

    Args:
        classes: the classes to erase.
        source: of the classes of an image: the clean prediction, or the ground truth.
        others: whether all other pixels must keep their class, or are ignored.
    """

    classes: tuple[ClassName, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.classes:
            raise ValueError("classes must name at least one class, got ()")

    def maps(self, scene: Scene) -> TargetMaps:
        """See `Targets`."""
        classes = scene.read(self.source)
        erased = scene.having(classes, self.classes)
        filled = [_fill(row, gone, void) for row, gone, void in zip(classes, erased, scene.void, strict=True)]
        target_maps = self._target_maps(scene, erased, torch.stack(filled))
        nothing_else = (erased | scene.void).flatten(1).all(1)[:, None, None]
        return TargetMaps(target_maps.targets.masked_fill(nothing_else, scene.ignore_index), target_maps.keep_mask)


def _fill(classes: Tensor, erased: Tensor, void: Tensor) -> Tensor:
    """A class map whose erased pixels have the class of the nearest pixel that is neither erased nor void: `(H, W)`."""
    hidden = (erased | void).cpu().numpy()
    if hidden.all():
        return classes
    rows, columns = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
    nearest = torch.from_numpy(np.ascontiguousarray(classes.cpu().numpy()[rows, columns])).to(classes.device)
    return torch.where(erased, nearest, classes)
