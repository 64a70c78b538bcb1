"""Base class of targets: frozen settings that give the target class of each pixel of a batch."""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from segrobust.attacks.core.criteria import Criterion
from segrobust.attacks.core.identity import identity_of_fields
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.functional.modes import attackable
from segrobust.label_space import LabelSpace

ClassName = int | str
"""A class by its index, or by its name if the data set has a label space."""

Source = Literal["prediction", "label"]
"""Source of the classes of an image: the prediction without attack, or the ground truth."""


@dataclass(frozen=True)
class Scene:
    """The inputs of targets for a batch.

    Attributes:
        labels: `(B, H, W)` int64, the ground truth.
        logits: `(B, K, H, W)` of the clean images.
        names: name of each sample; None if not given.
        ignore_index: label of void pixels.
        label_space: classes by name, if known.
    """

    labels: Tensor
    logits: Tensor
    names: tuple[str, ...] | None
    ignore_index: int
    label_space: LabelSpace | None

    @property
    def prediction(self) -> Tensor:
        """Classes predicted for the clean images: `(B, H, W)` int64."""
        return self.logits.argmax(1)

    @property
    def void(self) -> Tensor:
        """Pixels without a label: `(B, H, W)` bool."""
        return self.labels == self.ignore_index

    def read(self, source: Source) -> Tensor:
        """Classes from one of the sources: `(B, H, W)` int64; labels include the void value."""
        return self.prediction if source == "prediction" else self.labels

    def index(self, name: ClassName) -> int:
        """The index of a class.

        Raises:
            ValueError: a name that the label space lacks, a name without a label space, a class that the network
                does not have, or one that is void.
        """
        label = self._index(name)
        if label == self.ignore_index:
            raise ValueError(f"class {name!r} is void (ignore_index={label}), whose pixels are ignored: give another")
        return label

    def _index(self, name: ClassName) -> int:
        num_classes = self.logits.shape[1]
        if isinstance(name, str):
            if self.label_space is None:
                raise ValueError(
                    f"class {name!r} is given by its name, but the data has no label space; give its index"
                )
            if name not in self.label_space.names:
                raise ValueError(f"there is no class {name!r}; the data has {', '.join(self.label_space.names)}")
            return self.label_space.names.index(name)
        if not 0 <= name < num_classes:
            raise ValueError(f"there is no class {name}; the network has 0..{num_classes - 1}")
        return name

    def having(self, classes: Tensor, names: Sequence[ClassName]) -> Tensor:
        """Pixels of a class map `(B, H, W)` that hold one of some classes: `(B, H, W)` bool."""
        return torch.isin(classes, classes.new_tensor([self.index(name) for name in names]))


@dataclass(frozen=True)
class TargetMaps:
    """The targets of an attack on a batch.

    Attributes:
        targets: `(B, H, W)` int64: the class that an attacked pixel must reach (its label if it only has to leave its
            class), or that a pixel to keep must keep; the void value for pixels that are ignored.
        keep_mask: `(B, H, W)` bool, pixels that must keep their class; None if there are none.
        targeted: whether attacked pixels have a target.
    """

    targets: Tensor
    keep_mask: Tensor | None = None
    targeted: bool = True


class Targets(abc.ABC):
    """A rule for the target of each pixel: a frozen, keyword-only dataclass of numbers and names, without tensors.

    A target is a function of an image, its label and the clean prediction, never of other images of a batch.
    """

    @property
    def localized(self) -> bool:
        """Whether some pixels must keep their class, which takes a `Localized` criterion."""
        return False

    @property
    def targeted(self) -> bool:
        """Whether attacked pixels have a target."""
        return True

    @property
    def identity(self) -> str:
        """Identifies results: all fields, with digests of files instead of their paths."""
        return identity_of_fields(self)

    @abc.abstractmethod
    def maps(self, scene: Scene) -> TargetMaps:
        """The target maps of a batch; the attack itself ignores void pixels of the labels.

        Raises:
            ValueError: a class or a file that does not match the data; the message says how to fix it.
        """

    def __call__(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        names: Sequence[str] | None = None,
        ignore_index: int = 255,
        label_space: LabelSpace | None = None,
    ) -> TargetMaps:
        """The target maps of a batch, by one forward pass over the clean images.

        Args:
            network: maps images in [0, 1] to logits `(B, K, H, W)`.
            images: `(B, C, H, W)` in [0, 1].
            labels: `(B, H, W)` int64 ground truth.
            names: name of each sample, for targets that are files by name.
            ignore_index: label of void pixels.
            label_space: classes, if they are given by name.

        Returns:
            Arguments `targets` and `keep_mask` of an attack.
        """
        with attackable(network):
            images = images.detach().clone()
            logits = NetworkOracle(network, images).logits(torch.zeros_like(images), differentiable=False)
            return self.maps(Scene(labels, logits, None if names is None else tuple(names), ignore_index, label_space))

    def require_criterion(self, criterion: Criterion) -> None:
        """Refuses a criterion that cannot judge these targets.

        Raises:
            ValueError: the message names the right criterion.
        """
        if (self.targeted, self.localized) == (criterion.sign < 0, criterion.localized):
            return
        name = f"Localized(targeted={self.targeted})" if self.localized else "Targeted()"
        raise ValueError(f"{type(self).__name__} needs attacks with criterion={name}, got {criterion!r}")
