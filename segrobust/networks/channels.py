"""Another order of the colours that a network gets, and other classes than its channels are."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segrobust.networks.network_wrapper import NetworkWrapper


class ColorOrder(NetworkWrapper):
    """A network that was trained on another order of the colours, such as OpenCV's: `network(images[:, order])`.

    Around `Normalized`: the constants inside are then in the order of the network.

    Args:
        network: maps images `(B, C, H, W)` in its order of the colours to its output, which is handed on unchanged.
        order: for every channel of the network, the channel of the images; BGR by default.

    Raises:
        TypeError: `network` is not an `nn.Module`.
        ValueError: `order` is not a permutation of 0..C-1.

    Examples:
        >>> import torch
        >>> image = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
        >>> ColorOrder(nn.Identity())(image).flatten()
        tensor([0.3000, 0.2000, 0.1000])
    """

    def __init__(self, network: nn.Module, order: Sequence[int] = (2, 1, 0)) -> None:
        super().__init__(network)
        self.order = tuple(order)
        if sorted(self.order) != list(range(len(self.order))) or not self.order:
            raise ValueError(f"order must be a permutation of the channels 0..C-1, such as (2, 1, 0), got {self.order}")

    def forward(self, images: Tensor) -> object:
        """Gives the output of the network for images `(B, C, H, W)`.

        Raises:
            ValueError: the images have another number of channels.
        """
        if images.ndim != 4 or images.shape[1] != len(self.order):
            raise ValueError(
                f"images have the shape {tuple(images.shape)}, expected (B, {len(self.order)}, H, W) for "
                f"order={self.order}"
            )
        return self.network(images[:, list(self.order)])

    def extra_repr(self) -> str:
        """Shows the order beside the network in `repr`."""
        return f"order={self.order}"


class ClassOrder(NetworkWrapper):
    """A network whose channels are other classes than those of the data: logits `network(images)[:, channels]`.

    Args:
        network: maps images `(B, C, H, W)` to logits `(B, L, h, w)`.
        channels: for every class of the data, its channel in the network; channels that are left out are not predicted.

    Raises:
        TypeError: `network` is not an `nn.Module`.
        ValueError: fewer than two channels, a negative one, or one twice.

    Examples:
        >>> import torch
        >>> logits = torch.tensor([5.0, 1.0, 2.0]).view(1, 3, 1, 1)  # channel 0 is void in the network
        >>> ClassOrder(nn.Identity(), channels=(1, 2))(logits).flatten()
        tensor([1., 2.])
    """

    def __init__(self, network: nn.Module, channels: Sequence[int]) -> None:
        super().__init__(network)
        self.channels = tuple(channels)
        if len(self.channels) < 2 or min(self.channels) < 0 or len({*self.channels}) < len(self.channels):
            raise ValueError(
                f"channels must hold one channel of the network per class, at least two and none twice, "
                f"got {self.channels}"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Gives logits in the order of the data's classes: `(B, C, H, W) -> (B, K, h, w)`.

        Raises:
            TypeError: the network returns no tensor.
            ValueError: the network has fewer channels than `channels` names.
        """
        logits = _tensor_of(self.network(images), "ClassOrder(FullResolution(network), ...)")
        if logits.shape[1] <= max(self.channels):
            raise ValueError(
                f"channels={self.channels} need at least {max(self.channels) + 1} channels of logits, the network has "
                f"{logits.shape[1]}"
            )
        return logits[:, list(self.channels)]

    def extra_repr(self) -> str:
        """Shows the channels beside the network in `repr`."""
        return f"channels={self.channels}"


class SigmoidClasses(NetworkWrapper):
    """A network that gives each class but the background a logit for a sigmoid: logits `(0, z_1, ..., z_K)`.

    With one logit z, the softmax of `(0, z)` is the sigmoid of z, so that the two classes have the same probabilities.
    With several, for classes that exclude each other, a pixel is background if all sigmoids are below 1/2, else of the
    class with the largest. `FullResolution` does this for one logit itself. If the background has a logit of its own,
    this is not needed: the largest sigmoid is the largest logit.

    Args:
        network: maps images `(B, C, H, W)` to logits `(B, K, h, w)`, before the sigmoid.

    Raises:
        TypeError: `network` is not an `nn.Module`.

    Examples:
        >>> import torch
        >>> SigmoidClasses(nn.Identity())(torch.tensor([1.5]).view(1, 1, 1, 1)).flatten()
        tensor([0.0000, 1.5000])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Gives one logit more, 0 for the background: `(B, C, H, W) -> (B, K + 1, h, w)`.

        Raises:
            TypeError: the network returns no tensor.
        """
        logits = _tensor_of(self.network(images), "SigmoidClasses(FullResolution(network))")
        return with_background(logits)


def with_background(logits: Tensor) -> Tensor:
    """Logits of sigmoids with a logit 0 before them: `(B, K, h, w) -> (B, K + 1, h, w)`."""
    return torch.cat((torch.zeros_like(logits[:, :1]), logits), dim=1)


def _tensor_of(logits: object, fix: str) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"the network must return a tensor of logits, got {type(logits).__name__}; put FullResolution inside: {fix}"
        )
    return logits
