"""The usual wrong wirings are named with the line to write; honest networks do not fail."""

import json

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from segrobust import evaluate
from segrobust.attacks import PGD
from segrobust.data import SyntheticScenes
from segrobust.evaluation.checks import check_wiring
from segrobust.networks import ClassOrder, ColorOrder, Normalized, load_weights, read_metadata
from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD
from segrobust.shipped import shipped_path

SCENES = shipped_path("demo/scenes.safetensors")
IDS = range(2)


class Before(nn.Module):
    """A network whose input is changed."""

    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, images):
        return self.network(self.change(images))


class After(Before):
    """A network whose output is changed."""

    def forward(self, images):
        return self.change(self.network(images))


def untrained(num_classes=5, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, num_classes, 1))


def in_imagenet_units(images):
    return (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


@pytest.fixture(scope="module")
def network():
    parser = ArgumentParser()
    parser.add_argument("--network", type=nn.Module)
    made = parser.instantiate(parser.parse_object({"network": json.loads(read_metadata(SCENES)["network"])})).network
    load_weights(made, SCENES)
    assert isinstance(made, Normalized)
    return made.eval()


@pytest.fixture(scope="module")
def scenes():
    data = SyntheticScenes(2, split="val", size=(64, 96))
    return [(data[i]["image"], data[i]["mask"]) for i in IDS]


WRONG = {
    "two classes exchanged": (
        lambda n: After(n, lambda z: z[:, [1, 0, 2, 3, 4, 5, 6, 7, 8]]),
        "classes in another order would",
        "ClassOrder(network, channels=(1, 0, 2, 3, 4, 5, 6, 7, 8))",
    ),
    "classes reversed": (
        lambda n: After(n, lambda z: z.flip(1)),
        "classes in another order would",
        "ClassOrder(network, channels=range(8, -1, -1))",
    ),
    "BGR": (lambda n: Before(n, lambda x: x.flip(1)), "BGR input would", "ColorOrder(network, order=(2, 1, 0))"),
    "times 255": (
        lambda n: Before(n, lambda x: 255 * x),
        "input not multiplied by 255 would",
        "remove the multiplication by 255",
    ),
    "expects 0..255": (
        lambda n: Before(n.network, lambda x: in_imagenet_units(x / 255)),
        "0..255 input would",
        "network = Normalized(network, mean=(0, 0, 0), std=(0.003922, 0.003922, 0.003922))",
    ),
    "not normalised": (
        lambda n: n.network,
        "input normalised by ImageNet's mean and std would",
        "network = Normalized(network, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))",
    ),
    "normalised twice": (
        lambda n: Normalized(Before(n.network, in_imagenet_units)),
        "normalised once by ImageNet's mean and std, not twice would",
        "leave out Normalized, because the network normalises its input already; attack network.network",
    ),
    "other constants": (
        lambda n: Normalized(n.network, mean=(0.0,) * 3, std=(1.0,) * 3),
        "input normalised by ImageNet's mean and std would",
        "network = Normalized(network.network, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))",
    ),
    "background first": (
        lambda n: After(n, lambda z: torch.cat((z[:, :1] - 9, z), 1)),
        "classes that begin one channel later would",
        "network = ClassOrder(network, channels=(*range(1, 10), 0))",
    ),
    "one class earlier": (
        lambda n: After(n, lambda z: z.roll(-1, 1)),
        "classes that begin one channel earlier would",
        "network = ClassOrder(network, channels=(8, *range(0, 8)))",
    ),
    "void last": (
        lambda n: After(n, lambda z: torch.cat((z, z.amax(1, keepdim=True) + 1), 1)),
        "channel 9 left out would",
        "network = ClassOrder(network, channels=range(0, 9))",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_wiring_is_named_with_the_line_that_repairs_it(network, scenes, name):
    change, finding, line = WRONG[name]
    wrong = change(network)
    check = check_wiring(wrong, scenes, IDS)
    assert check.status == ("warn" if name == "BGR" else "fail"), check
    assert finding in check.detail
    assert line in check.fix
    if "network = " in line:  # the line does what it says
        names = {"ClassOrder": ClassOrder, "ColorOrder": ColorOrder, "Normalized": Normalized, "network": wrong}
        exec(line, names)  # our own text
        assert check_wiring(names["network"], scenes, IDS).status == "ok"


@pytest.mark.parametrize(("pixels", "status"), [(4, "warn"), (-8, "fail")])
def test_logits_beside_their_pixels_are_named(network, pixels, status):
    data = SyntheticScenes(4, split="val", size=(64, 96))
    wrong = After(network, lambda logits: logits.roll((pixels, pixels), (2, 3)))
    check = check_wiring(wrong, [(data[i]["image"], data[i]["mask"]) for i in range(4)], range(4))
    assert check.status == status
    assert f"logits moved by {-pixels} pixels down and right would" in check.detail
    assert "align_corners" in check.fix


@pytest.mark.parametrize(("place", "advice"), [(-1, "mask.flip(-1)"), (-2, "mask.flip(-2)")])
def test_masks_that_are_turned_are_named(network, scenes, place, advice):
    check = check_wiring(network, [(image, mask.flip(place)) for image, mask in scenes], IDS)
    assert check.status == "fail"
    assert advice in check.fix


def test_the_right_wiring_is_ok(network, scenes):
    check = check_wiring(network, scenes, IDS)
    assert check.status == "ok", check
    assert "on 2 clean images, the mIoU is " in check.detail


def test_on_grey_images_the_order_of_colours_is_of_no_interest(network, scenes):
    grey = [(image.mean(0, keepdim=True).expand(3, -1, -1), mask) for image, mask in scenes]
    assert check_wiring(network, grey, IDS).status != "fail"


@pytest.mark.parametrize("num_classes", [2, 3, 9])
def test_untrained_networks_do_not_fail(scenes, num_classes):
    data = [(image, mask.clamp_max(num_classes - 1)) for image, mask in scenes]
    for seed in range(6):
        check = check_wiring(untrained(num_classes, seed), data, IDS)
        assert check.status != "fail", check


def test_a_binary_network_whose_classes_are_exchanged_only_warns():
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    bright = nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        bright.weight.copy_(torch.tensor([[0.5], [-0.5]]).expand(2, 3)[..., None, None])
        mask = bright(image[None] - 0.5).argmax(1)[0]
    shifted = Before(bright, lambda x: 0.5 - x)
    assert check_wiring(shifted, [(image, mask), (image, mask)], IDS).status == "warn"


def test_what_cannot_be_tried_is_left_out(scenes):
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = untrained()

        def forward(self, images):
            if images.amin() < 0 or images.amax() > 1:
                raise ValueError("images must lie in [0, 1]")
            return self.network(images)

    data = [(image, mask.clamp_max(4)) for image, mask in scenes]
    assert check_wiring(Strict(), data, IDS).status != "fail"
    void = [(image, torch.full_like(mask, 255)) for image, mask in scenes]
    assert check_wiring(untrained(), void, IDS).detail.startswith("not measured")
    mixed = [(scenes[0][0], scenes[0][1]), (scenes[1][0][:1], scenes[1][1])]
    assert check_wiring(untrained(9), mixed, IDS).detail.startswith("not measured: the images differ")


@pytest.mark.parametrize(
    "change",
    [
        lambda logits: logits[..., ::4, ::4],
        lambda logits: logits.transpose(2, 3),
        lambda logits: logits.permute(0, 2, 3, 1),
    ],
)
def test_logits_that_are_not_of_the_pixels_are_refused_by_their_shape(network, scenes, change):
    with pytest.raises(ValueError, match=r"must return logits of the shape \(1, K, 64, 96\) for images of the shape"):
        check_wiring(After(network, change), scenes, IDS)


def test_an_evaluation_names_a_wrong_wiring_before_its_attacks(network, scenes, capsys):
    seen = []

    def forward(images):
        seen.append(len(capsys.readouterr().err.split("check wiring: fail")) > 1)
        return images

    wrong = Before(network.network, forward)
    report = evaluate(wrong, scenes, attacks={"pgd": PGD(num_steps=2)}, eps=[1 / 255])
    assert report.checks[0].name == "wiring"
    assert report.checks[0].status == "fail"
    assert sum(seen) == 1  # printed once
    assert not seen[-1]  # and forwards follow


LEVEL = 0.45


class Bands(nn.Module):
    """The largest band, or none above a level: C + 1 classes; in the network's order and units."""

    def __init__(self, order, mean, std):
        super().__init__()
        self.bands = nn.Conv2d(len(order), len(order) + 1, 1)
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
        with torch.no_grad():
            self.bands.weight.zero_()
            self.bands.weight[list(order), range(len(order))] = 1
            self.bands.bias.copy_(torch.tensor([0.0] * len(order) + [LEVEL]))

    def forward(self, images):
        return self.bands((images * self.std + self.mean).clamp(0, 1))


class Scenes(list):
    """Images of C bands, with a range."""

    value_range = None


def bands_of(num_bands, limits=None):
    generator = torch.Generator().manual_seed(0)
    scenes = Scenes()
    for _ in IDS:
        image = torch.rand(num_bands, 24, 32, generator=generator) * 0.5 + 0.1
        scenes.append((image, torch.cat((image, torch.full((1, 24, 32), LEVEL))).argmax(0)))
    scenes.value_range = limits
    return scenes


OF_BANDS = {
    "first three": ((2, 1, 0, 3), 0.0, 1.0, None, "the first three channels reversed would", "order=(2, 1, 0, 3)"),
    "all": ((3, 2, 1, 0), 0.0, 1.0, None, "all channels reversed would", "order=(3, 2, 1, 0)"),
    "infrared first": ((3, 0, 1, 2), 0.0, 1.0, None, "the last channel first would", "order=(3, 0, 1, 2)"),
    "of five": ((2, 1, 0, 3, 4), 0.0, 1.0, None, "the first three channels reversed would", "order=(2, 1, 0, 3, 4)"),
    "of thirteen": (tuple(range(13))[::-1], 0.0, 1.0, None, "all channels reversed would", "range(12, -1, -1)"),
    "bytes": ((0, 1, 2, 3), 0.0, 1 / 255, None, "0..255 input would", "std=(0.003922,"),
    "bytes and order": ((2, 1, 0, 3), 0.0, 1 / 255, None, "reversed and 0..255 input would", "order=(2, 1, 0, 3)"),
    "sensor": ((0, 1, 2, 3), 0.0, 1e-4, ((0, 10000),), "input in the sensor's units would", "std=(0.0001,"),
    "thousands": ((0, 1, 2, 3, 4), 0.0, 1e-4, None, "0..10000 input would", "std=(0.0001,"),
}


@pytest.mark.parametrize("name", OF_BANDS)
def test_other_numbers_of_channels_are_tried_in_other_orders_and_units(name):
    order, mean, std, limits, finding, line = OF_BANDS[name]
    size = len(order)
    wrong = Bands(order, (mean,) * size, (std,) * size)
    scenes = bands_of(size, limits)
    check = check_wiring(wrong, scenes, IDS)
    assert check.status == "fail", check
    assert finding in check.detail
    assert line in check.fix
    names = {"ColorOrder": ColorOrder, "Normalized": Normalized, "network": wrong, "range": range}
    exec(check.fix.split("wrap the network: ")[1].split(" (from")[0], names)  # our own text
    assert check_wiring(names["network"], scenes, IDS).status == "ok"


def test_every_channel_has_its_own_range():
    """The range of the data differs by channel; the network was trained on shares of one range, or on the values."""
    limits = ((0, 10000), (0, 2000), (0, 10000), (0, 500))
    for divisor, finding in ((1, "input in the sensor's units would"), (10000, "sensor's units over 10000 would")):
        wrong = Bands((0, 1, 2, 3), (0.0,) * 4, tuple(divisor / high for _, high in limits))
        check = check_wiring(wrong, bands_of(4, limits), IDS)
        assert check.status == "fail"
        assert finding in check.detail, check


def test_constants_of_the_channels_are_those_of_the_images_if_no_others_fit():
    scenes = bands_of(4)
    wrong = Bands((0, 1, 2, 3), (0.33, 0.37, 0.35, 0.34), (0.13, 0.15, 0.14, 0.16))
    check = check_wiring(wrong, scenes, IDS)
    assert "input standardised by the mean and std of these images would" in check.detail
    assert "mean=(0.3" in check.fix


def test_ranges_that_no_normalisation_gives_are_explained():
    limits = ((-30, -5),) * 4
    wrong = Before(Bands((0, 1, 2, 3), (0.0,) * 4, (1.0,) * 4), lambda values: (values + 30) / 25)
    check = check_wiring(wrong, bands_of(4, limits), IDS)
    assert check.status == "fail"
    assert check.fix == "call the network with low + (high - low) * images in a module, for -30..-5"
