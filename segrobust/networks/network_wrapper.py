"""What modules around a network have in common."""

from torch import nn


class NetworkWrapper(nn.Module):
    """A module that changes what a network sees or gives.

    Args:
        network: the network inside.

    Raises:
        TypeError: `network` is not an `nn.Module`.
    """

    def __init__(self, network: nn.Module) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}")
        super().__init__()
        self.network = network
