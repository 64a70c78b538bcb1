"""Networks with channels for void: the advice names the channels that are the classes."""

import pytest
import torch
from torch import nn

import segrobust
from segrobust.attacks import PGD
from segrobust.label_space import LabelSpace
from segrobust.networks import ClassOrder, SigmoidClasses

NAMES = ("sky", "road", "car")


class Colours(nn.Module):
    """Predicts class c where channel c of the image is largest; its own channels are shifted or fewer."""

    def __init__(self, rows):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(rows))

    def forward(self, images):
        return torch.einsum("kc,bchw->bkhw", self.weight, images)


class Data(list):
    def __init__(self, num_images=5):
        images = torch.rand(num_images, 3, 6, 8, generator=torch.Generator().manual_seed(0))
        super().__init__([(image, image.argmax(0)) for image in images])
        self.label_space = LabelSpace(names=NAMES, palette=((1, 0, 0), (0, 1, 0), (0, 0, 1)))


EYE = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
LOW = [-1.0, -1.0, -1.0]


def evaluate(network):
    return segrobust.evaluate(
        network, Data(), attacks={"pgd": PGD(num_steps=1)}, eps=[2 / 255], progress=False, checks="off"
    )


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([LOW, *EYE], "ClassOrder(network, channels=range(1, 4))"),
        ([*EYE, LOW], "ClassOrder(network, channels=range(0, 3))"),
        ([LOW, *EYE, LOW, LOW], "ClassOrder(network, channels=range(1, 4))"),
        ([[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]], "SigmoidClasses(network)"),
    ],
)
def test_the_advice_is_the_line_that_is_right(rows, line):
    network = Colours(rows)
    with pytest.raises(ValueError, match="gives mIoU") as caught:
        evaluate(network)
    assert f"on the first images, {line} gives mIoU" in str(caught.value)
    mended = eval(
        line, {"ClassOrder": ClassOrder, "SigmoidClasses": SigmoidClasses, "network": network, "range": range}
    )
    assert evaluate(mended).summary.clean.miou > 0.9


def test_data_and_networks_that_have_nothing_in_common_get_no_advice():
    with pytest.raises(ValueError, match=r"12 classes, the data set has 3.*belong together"):
        evaluate(Colours([LOW] * 12))
