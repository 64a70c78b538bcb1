"""What networks of libraries have in common once they are adapted: one interface, one check, and what they record."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from segrobust.networks.adapters import FullResolution
from segrobust.networks.gradient_check import check_differentiable
from segrobust.networks.preprocessing import Preprocessing
from segrobust.untrusted.printable import visible


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """What the source of a network says about it.

    Attributes:
        source: what the source is called in messages.
        num_classes: number of logits of a pixel.
        class_names: one name per class; None where the source has none.
        pretrained: whether the weights of all layers came with the source, so that it can be evaluated as it is.
    """

    source: str
    num_classes: int
    class_names: tuple[str, ...] | None = None
    pretrained: bool = False


class AdaptedNetwork(nn.Module):
    """A network of a library as attacks want it: images in [0, 1] of any size to float32 logits at their resolution.

    On construction it is asked for a gradient once, on one random image (`check_differentiable`).

    Args:
        network: the library's network; its output may be wrapped and of lower resolution (`FullResolution`).
        preprocessing: what it does to images in [0, 1], one value per channel that it takes.
        record: what its source says about it; one class becomes two, background first, as one logit becomes two.
        stride: the sizes that it takes are multiples of it, in pixels.
        check_size: height and width of the random image, in pixels.

    Raises:
        ValueError: it takes no such image, has no gradient that attacks could follow, or another number of classes than
            recorded.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        preprocessing: Preprocessing,
        record: NetworkRecord,
        stride: int = 1,
        check_size: Sequence[int] = (64, 64),
    ) -> None:
        super().__init__()
        self.network = preprocessing.around(FullResolution(network, stride))
        self.record = record = record if record.num_classes != 1 else _as_two_classes(record)
        try:
            found = check_differentiable(self, size=check_size, channels=len(preprocessing.mean))
        except (ValueError, TypeError) as error:
            raise type(error)(f"{record.source}: {error}") from error
        except RuntimeError as error:
            said = visible(str(error).split("\n")[0])
            raise ValueError(f"{record.source}: its network takes no image of {tuple(check_size)}: {said}") from error
        if found != record.num_classes:
            raise ValueError(f"{record.source} records {record.num_classes} classes, its network gives {found} logits")

    def forward(self, images: Tensor) -> Tensor:
        """Gives logits of images in [0, 1]: `(B, C, H, W) -> (B, K, H, W)`, float32 (float64 is kept)."""
        logits: Tensor = self.network(images)
        return logits

    def extra_repr(self) -> str:
        """Shows the source beside the network in `repr`."""
        return repr(self.record)


def _as_two_classes(record: NetworkRecord) -> NetworkRecord:
    """The record of a network of one class, whose logit `FullResolution` turns into two."""
    names = None if record.class_names is None else ("background", *record.class_names)
    return replace(record, num_classes=2, class_names=names)
