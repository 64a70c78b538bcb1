"""What one run of a trainer validates: images, weights and function, for the attacks on these."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import nn

from segrobust.callbacks.access import Entry, NetworkPlace, find_network
from segrobust.callbacks.chosen_masks import report_masks
from segrobust.callbacks.seen_by_validation import require_same_view
from segrobust.callbacks.validated_images import ValidatedImages, loaders_of, validated_images
from segrobust.callbacks.validated_weights import ValidatedWeights
from segrobust.evaluation.dataset import SampleSource, label_space_of, load_sample
from segrobust.evaluation.engine.work import choose_samples
from segrobust.evaluation.forward import count_classes
from segrobust.label_space import LabelSpace

_COMPARED = 2
"""Images whose way to the network is compared: one may be of one colour, which hides a normalisation. And one more of
each further loader, as hooks and steps get its number."""


class Validated:
    """Finds what is validated, and keeps it for a run of the trainer.

    Args are those of `RobustnessEvaluation`; `compare` is its `compare_with_validation`.
    """

    def __init__(
        self,
        *,
        network: NetworkPlace,
        image: Entry,
        mask: Entry,
        data: SampleSource | None,
        ignore_index: int | None,
        max_images: int | None,
        seed: int,
        compare: bool,
    ) -> None:
        self._place = network
        self._image = image
        self._mask = mask
        self._data = data
        self._void = ignore_index
        self._max_images = max_images
        self._seed = seed
        self._compare = compare
        self._weights = ValidatedWeights()
        self._images: ValidatedImages | None = None
        self._loaders: tuple[Any, ...] = ()
        self._called: nn.Module | None = None

    def clear(self) -> None:
        """Lets go of loaders, modules and weights: the next run is another one."""
        self._images, self._loaders, self._called = None, (), None
        self._weights.clear()

    def images(self, trainer: Trainer) -> ValidatedImages:
        """The images of the validation, found once for its loaders. All processes call it."""
        loaders = loaders_of(trainer)
        if self._images is None or [*map(id, loaders)] != [*map(id, self._loaders)]:
            self._images = validated_images(trainer, self._image, self._mask, seed=self._seed, data=self._data)
            self._loaders = loaders
        return self._images

    def chosen(self, trainer: Trainer) -> tuple[int, ...]:
        """Positions of the images to attack."""
        return choose_samples(len(self.images(trainer)), self._max_images, self._seed)

    def ignore_index(self, trainer: Trainer) -> int:
        """The label of void pixels: as given, else that of the label space of data set or data module, else 255."""
        if self._void is not None:
            return self._void
        own = label_space_of(self.images(trainer))
        space = own or getattr(getattr(trainer, "datamodule", None), "label_space", None)
        return space.ignore_index if isinstance(space, LabelSpace) else 255

    def examine(self, trainer: Trainer, module: LightningModule) -> None:
        """Once in a run: refuses to attack what is not validated, and reports what the masks hold.

        All processes call it.

        Raises:
            ValueError: as `require_same_view` and `report_masks`.
        """
        if self._called is not None:
            return
        network = find_network(module, self._place)
        with isolate_rng(), torch.inference_mode(False):
            images, chosen, void = self.images(trainer), self.chosen(trainer), self.ignore_index(trainer)
            called = network
            if self._compare:
                compared = _compared(images, chosen)
                called = require_same_view(trainer, module, self._place, images, compared, ignore_index=void)
            report_masks(
                images,
                chosen,
                num_classes=count_classes(network, load_sample(images, chosen[0]).image),
                ignore_index=void,
            )
        self._called = called

    def watch_weights(self, module: LightningModule) -> None:
        """Waits for the first call of the network, to copy the weights that it has then."""
        network = find_network(module, self._place)
        self._weights.watch(network, self._called or network, module)

    def take_weights(self, module: LightningModule) -> None:
        """Ends the wait, if there is one."""
        if self._weights.watching:
            self._weights.take(find_network(module, self._place))

    @contextmanager
    def weights_in(self, module: LightningModule) -> Iterator[bool]:
        """Puts the weights that were validated into the network, and drops them at the end.

        Gives whether they had been taken out.
        """
        with self._weights.restored(find_network(module, self._place)) as swapped:
            yield swapped
        self._weights.clear()


def _compared(images: ValidatedImages, chosen: Sequence[int]) -> list[int]:
    """Positions of the images to compare: the first of those to attack, and the first of each loader."""
    by_loader: dict[int, int] = {}
    for position in chosen:
        by_loader.setdefault(images.locate(position)[0].number, position)
    return list(dict.fromkeys((*chosen[:_COMPARED], *by_loader.values())))
