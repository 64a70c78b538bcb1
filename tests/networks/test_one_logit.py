"""One logit for a sigmoid as two classes, wherever it comes from."""

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import nn

import segrobust
from segrobust.attacks import PGD
from segrobust.networks import ClassOrder, FullResolution, SigmoidClasses, TorchvisionNetwork

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def one_logit(num_logits=1):
    torch.manual_seed(0)
    return nn.Conv2d(3, num_logits, 3, padding=1)


@pytest.mark.parametrize("around", [SigmoidClasses, FullResolution])
def test_probabilities_are_those_of_the_sigmoid(around):
    found = around(one_logit())(IMAGES).softmax(1)
    torch.testing.assert_close(found[:, 1:], one_logit()(IMAGES).sigmoid())


def test_several_sigmoids_are_classes_beside_the_background():
    logits = one_logit(3)(IMAGES)
    expected = torch.where((logits.sigmoid() < 0.5).all(1), 0, logits.sigmoid().argmax(1) + 1)
    assert SigmoidClasses(one_logit(3))(IMAGES).argmax(1).equal(expected)


class Several(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.network, self.outputs = one_logit(), outputs

    def forward(self, images):
        return self.outputs(self.network(images))


def test_several_outputs_of_one_logit_must_be_chosen():
    with pytest.raises(ValueError, match="output="):
        FullResolution(Several(lambda z: (z, z)))(IMAGES)
    assert FullResolution(Several(lambda z: {"out": z, "aux": z}))(IMAGES).shape[1] == 2
    edges = Several(lambda z: (z.repeat(1, 3, 1, 1), z))
    assert FullResolution(edges)(IMAGES).shape[1] == 3  # a map of one channel beside is no map of class scores


def test_networks_of_libraries_with_one_class_have_two():
    network = TorchvisionNetwork("lraspp_mobilenet_v3_large", num_classes=1)
    assert network.record.num_classes == 2
    assert network(torch.rand(1, 3, 64, 64)).shape[1] == 2


@pytest.mark.parametrize("name", ["SigmoidClasses", "ClassOrder"])
def test_wrappers_can_be_written_in_yaml(name):
    parser = ArgumentParser()
    parser.add_argument("--network", type=nn.Module)
    settings = {"channels": [2, 1]} if name == "ClassOrder" else {}
    inner = {"class_path": "torch.nn.Conv2d", "init_args": {"in_channels": 3, "out_channels": 3, "kernel_size": 1}}
    text = yaml.safe_dump({"class_path": f"segrobust.networks.{name}", "init_args": {"network": inner} | settings})
    network = parser.instantiate_classes(parser.parse_args([f"--network={text}"])).network
    assert network(IMAGES).shape[1] == (2 if name == "ClassOrder" else 4)


def test_a_network_that_returns_a_dictionary_is_refused():
    for around in (SigmoidClasses, lambda network: ClassOrder(network, (0, 1))):
        with pytest.raises(TypeError, match="put FullResolution inside"):
            around(Several(lambda z: {"out": z}))(IMAGES)


def test_a_sigmoid_taken_for_a_logit_fails_a_check():
    data = [(image, (image[0] > 0.5).long()) for image in IMAGES]
    network = FullResolution(Several(torch.sigmoid))
    report = segrobust.evaluate(network, data, attacks={"pgd": PGD(num_steps=1)}, eps=[2 / 255], progress=False)
    (check,) = (check for check in report.checks if check.name == "logits")
    assert check.status == "fail"
    assert "sigmoid" in check.text
