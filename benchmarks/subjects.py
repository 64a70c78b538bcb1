"""What the measurements are made on: networks of two sizes with drawn weights, and a drawn street scene."""

import functools
from dataclasses import dataclass
from typing import Literal

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segrobust.data import SyntheticScenes
from segrobust.networks import Normalized

NetworkName = Literal["mobilenet", "resnet18", "resnet101"]

ENCODERS: dict[NetworkName, str] = {
    "mobilenet": "tu-mobilenetv3_small_100",
    "resnet18": "resnet18",
    "resnet101": "resnet101",
}


@dataclass(frozen=True)
class Subject:
    """A frozen network with an image and the classes that it predicts there.

    Attributes:
        network: maps images in [0, 1] to logits of the same size.
        images: `(B, 3, H, W)`.
        labels: `(B, H, W)` int64.
    """

    network: nn.Module
    images: Tensor
    labels: Tensor

    def bare_pass(self) -> Tensor:
        """What a step cannot do without: forward, cross-entropy, backward to the images. Gives the gradient."""
        images = self.images.clone().requires_grad_()
        loss = F.cross_entropy(self.network(images), self.labels)
        (gradient,) = torch.autograd.grad(loss, images)
        return gradient


def make_subject(
    name: NetworkName, *, size: tuple[int, int], num_classes: int, batch_size: int = 1, device: str = "cpu"
) -> Subject:
    """A feature pyramid network on the named encoder, scenes, and labels that the clean images all meet.

    The weights are drawn from a seed: the time of a pass does not depend on them.
    """
    torch.manual_seed(0)
    network = Normalized(smp.FPN(ENCODERS[name], encoder_weights=None, classes=num_classes))
    network.eval().requires_grad_(False).to(device)
    images = torch.cat([scene(size, i) for i in range(batch_size)]).to(device)
    with torch.no_grad():
        labels = network(images).argmax(1)
    return Subject(network, images, labels)


def machine(device: str, threads: int) -> str:
    """What a measurement runs on: the version of torch, and the name of a GPU or the number of threads."""
    where = f"{threads} threads" if device == "cpu" else torch.cuda.get_device_name(device)
    return f"torch {torch.__version__}, {where}"


@functools.cache
def scene(size: tuple[int, int], index: int = 0) -> Tensor:
    """One drawn 8-bit street scene `(1, 3, H, W)` in [0, 1]."""
    return SyntheticScenes(index + 1, split="val", size=size)[index]["image"][None]
