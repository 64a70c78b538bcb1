"""Another order of the colours that a network gets, and of the classes that it gives."""

from collections.abc import Sequence

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
        logits = self.network(images)
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"the network must return a tensor of logits, got {type(logits).__name__}; put FullResolution inside: "
                "ClassOrder(FullResolution(network), ...)"
            )
        if logits.shape[1] <= max(self.channels):
            raise ValueError(
                f"channels={self.channels} need at least {max(self.channels) + 1} channels of logits, the network has "
                f"{logits.shape[1]}"
            )
        return logits[:, list(self.channels)]

    def extra_repr(self) -> str:
        """Shows the channels beside the network in `repr`."""
        return f"channels={self.channels}"
