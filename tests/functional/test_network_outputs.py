"""Networks of several outputs are refused with what there is to choose from, and the line to write."""

import re
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from callbacks.tiny import TinyPairs, loader, make_trainer, tiny_network
from lightning.pytorch import LightningModule
from torch import nn

import segrobust
from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation
from segrobust.networks import FullResolution

Named = namedtuple("Named", "auxiliary main")


@dataclass
class Output:
    auxiliary: torch.Tensor
    main: torch.Tensor


FORMS = {
    "list": lambda auxiliary, main: [auxiliary, main],
    "tuple": lambda auxiliary, main: (auxiliary, main),
    "mapping": lambda auxiliary, main: {"auxiliary": auxiliary, "main": main},
    "named tuple": Named,
    "dataclass": Output,
    "features": lambda auxiliary, main: [main, auxiliary[:, :, ::4, ::4].repeat(1, 9, 1, 1)],
}


class TwoOutputs(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.auxiliary, self.main, self.form = tiny_network(1), tiny_network(0), form

    def forward(self, images):
        return FORMS[self.form](self.auxiliary(images), self.main(images))


class Project(LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def validation_step(self, batch, batch_idx):
        self.network(batch[0])


def attack(network):
    image, mask = TinyPairs()[0]
    FGSM(eps=0.01)(network, image[None], mask[None], ignore_index=-1)


def evaluate(network):
    segrobust.evaluate(network, TinyPairs(), attacks={"fgsm": FGSM()}, ignore_index=-1, progress=False)


def callback(network):
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, image=0, mask=1, ignore_index=-1)
    make_trainer("unused", evaluation).validate(Project(network), loader(TinyPairs()), verbose=False)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ask", [attack, evaluate, callback])
def test_the_refusal_has_a_line_that_works(form, ask):
    network = TwoOutputs(form).eval()
    with pytest.raises(TypeError, match=r"say which entry holds the logits, of .*\(\d, 3, 24, 32\)") as caught:
        ask(network)
    (line,) = re.findall(r"FullResolution\(network, output=.*?\)", str(caught.value))
    wrapped = eval(line, {"FullResolution": FullResolution, "network": network})
    images = torch.rand(1, 3, 24, 32)
    assert wrapped(images).equal(network.main(images))
    ask(wrapped)


@pytest.mark.parametrize(
    ("output", "fix"),
    [
        (None, "return the logits"),
        ("logits", r"FullResolution\(network, output=function\)"),
        (iter([1]), r"FullResolution\(network, output=function\)"),
    ],
)
def test_what_has_no_entries_is_refused(output, fix):
    class Other(nn.Module):
        def forward(self, images):
            return output

    with pytest.raises(TypeError, match=fix):
        attack(Other())
