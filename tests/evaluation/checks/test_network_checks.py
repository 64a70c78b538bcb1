import json

import pytest
import torch
from evaluation.checks.fooling import (
    Around,
    BatchStatistics,
    Binarised,
    ClampedLogarithm,
    Constant,
    Counting,
    Detached,
    Floored,
    GuardedAgainstGradients,
    HalfDead,
    HardRounded,
    LogSoftmax,
    Misleading,
    Noisy,
    Overconfident,
    Purifying,
    PurifyingBackward,
    PurifyingFunctional,
    Queries,
    QueryScores,
    RootAtZero,
    Rounded,
    Sigmoid,
    Softmax,
)
from evaluation.toy import CRITERION, ToyScenes, toy_network
from jsonargparse import ArgumentParser
from torch import nn

from segrobust.attacks import LagrangianFMN, Untargeted
from segrobust.data import SyntheticScenes
from segrobust.evaluation.checks import check_network, worst_status
from segrobust.networks import QueryNetwork, load_weights, read_metadata
from segrobust.shipped import shipped_path

NAMES = [
    "deterministic",
    "logits",
    "saturation",
    "gradient",
    "no optimisation inside",
    "unquantised input",
    "eps = 0",
    "unbounded attack",
]
SCENES = shipped_path("demo/scenes.safetensors")


class EightBit(ToyScenes):
    """Toy images as files hold them."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return {**item, "image": (item["image"] * 255).round() / 255}


def check(network, dataset=None, samples=(0, 1), **options):
    return check_network(network, dataset or ToyScenes(5), samples, criterion=CRITERION, **options)


def as_predicted(network, num=2):
    """8-bit toy images with labels that the network meets, so that nothing is broken without attack."""
    images = [EightBit(num)[index]["image"] for index in range(num)]
    with torch.no_grad():
        return [(image, network(image[None].double()).argmax(1)[0]) for image in images]


def found_in(checks):
    assert [check.name for check in checks] == NAMES
    return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def scenes_network():
    parser = ArgumentParser()
    parser.add_argument("--network", type=torch.nn.Module)
    network = parser.instantiate(parser.parse_object({"network": json.loads(read_metadata(SCENES)["network"])})).network
    load_weights(network, SCENES)
    return network


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_toy_network_passes_everything(dtype, batch_size):
    for data in (ToyScenes(5), EightBit(5)):
        checks = check(toy_network(dtype), data, samples=(0, 1, 3, 4), batch_size=batch_size)
        assert all(found.status == "ok" for found in checks), checks
        assert worst_status(checks) == "ok"
        assert all(found.fix == "" for found in checks)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_reference_network_passes_everything(scenes_network, batch_size):
    scenes = SyntheticScenes(2, split="val", size=(64, 96))
    checks = check_network(scenes_network, scenes, (0, 1), criterion=Untargeted(), batch_size=batch_size)
    assert all(found.status == "ok" for found in checks), checks


FOOLING = {
    Noisy: "deterministic",
    Softmax: "logits",
    QueryScores: "saturation",
    ClampedLogarithm: "saturation",
    Binarised: "gradient",
    Overconfident: "gradient",
    Detached: "gradient",
    RootAtZero: "gradient",
    Purifying: "no optimisation inside",
    PurifyingBackward: "no optimisation inside",
    PurifyingFunctional: "no optimisation inside",
    Rounded: "unquantised input",
    Floored: "unquantised input",
    HardRounded: "unquantised input",
    Counting: "eps = 0",
    GuardedAgainstGradients: "eps = 0",
    BatchStatistics: "eps = 0",
    Misleading: "unbounded attack",
    Constant: "unbounded attack",
}


@pytest.mark.parametrize(("kind", "name"), FOOLING.items(), ids=lambda value: getattr(value, "__name__", value))
def test_a_network_built_to_fool_a_check_is_caught_by_it(kind, name):
    network = kind(toy_network())
    found = found_in(check(network, as_predicted(network) if kind is Constant else EightBit(5)))[name]
    assert found.status == "fail", found
    assert found.fix


@pytest.mark.parametrize("kind", [Rounded, Noisy, GuardedAgainstGradients, Misleading, Overconfident])
def test_so_is_one_around_the_reference_network(scenes_network, kind):
    scenes = SyntheticScenes(1, split="val", size=(64, 64))
    checks = check_network(kind(scenes_network), scenes, (0,), criterion=Untargeted())
    assert found_in(checks)[FOOLING[kind]].status == "fail"


ONLY = {
    Softmax: {"logits"},
    QueryScores: {"saturation"},
    Rounded: {"unquantised input"},
    Misleading: {"unbounded attack"},
}


@pytest.mark.parametrize("kind", ONLY)
def test_what_one_check_catches_others_do_not_see(kind):
    """Each of these checks is needed: without it the network would pass."""
    checks = check(kind(toy_network()), EightBit(5))
    assert {found.name for found in checks if found.status == "fail"} == ONLY[kind]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_scores_fail_and_their_logarithm_passes(dtype):
    scores = found_in(check(QueryScores(toy_network(dtype))))["saturation"]
    assert (scores.status, "segrobust.networks.QueryNetwork" in scores.fix) == ("fail", True)
    logs = found_in(check(QueryNetwork(Queries(toy_network(dtype)))))["saturation"]
    assert logs.status == "ok", logs


def test_ties_are_found_in_one_image_among_others():
    class Tied(Around):
        def after(self, logits):
            tied = logits.amax(1, keepdim=True).expand_as(logits)
            return torch.cat((logits[:-1], tied[-1:]))

    found = found_in(check(Tied(toy_network()), batch_size=2))["saturation"]
    assert (found.status, "tie at 100.00% of the pixels" in found.detail) == ("fail", True), found


class ReLULogits(Around):
    def after(self, logits):
        return logits.relu()


class HalfPrecision(Around):
    def forward(self, images):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(images).float()


@pytest.mark.parametrize("kind", [Overconfident, LogSoftmax, ReLULogits, HalfPrecision])
def test_honest_outputs_do_not_seem_saturated(scenes_network, kind):
    scenes = SyntheticScenes(1, split="val", size=(64, 64))
    checks = check_network(kind(scenes_network), scenes, (0,), criterion=Untargeted())
    assert found_in(checks)["saturation"].status == "ok"


def test_outputs_of_two_classes_and_excluded_classes_do_not_seem_saturated():
    class TwoLeft(Around):
        def after(self, logits):
            return torch.cat((logits[:, :2], torch.full_like(logits[:, 2:], -torch.inf)), 1)

    data = [(ToyScenes(1)[0]["image"], torch.zeros(8, 9, dtype=torch.int64))]
    for kind in (TwoLeft, lambda network: nn.Sequential(network, nn.Conv2d(4, 2, 1, dtype=torch.float64))):
        assert found_in(check(kind(toy_network()), data, (0,)))["saturation"].status == "ok"


@pytest.mark.parametrize("kind", [Rounded, Floored, HardRounded])
def test_rounding_shows_on_images_of_any_depth(kind):
    assert found_in(check(kind(toy_network())))["unquantised input"].status == "fail"


@pytest.mark.parametrize("kind", [Rounded, Floored])
def test_rounding_shows_on_large_images_of_any_depth(kind):
    """Where many values pass a step, their sum looks smooth to a gradient, and to a look at one direction."""
    generator = torch.Generator().manual_seed(0)
    data = [(torch.rand(3, 96, 96, generator=generator), torch.zeros(96, 96, dtype=torch.int64))]
    assert found_in(check(kind(toy_network(torch.float32)), data, (0,)))["unquantised input"].status == "fail"


def test_steps_between_the_two_perturbations_show():
    """Ten bits: nothing happens at 1e-4, everything at 1e-3."""

    class TenBits(Rounded):
        def quantise(self, values):
            return (values * 1023 / 255).round() * 255 / 1023

    image = (1023 * ToyScenes(1)[0]["image"]).round() / 1023
    found = found_in(check(TenBits(toy_network()), [(image, ToyScenes(1)[0]["mask"])], (0,)))["unquantised input"]
    assert found.status == "fail", found
    assert "inf times as much" in found.detail


def test_rounding_shows_where_each_logit_sees_many_values():
    """A brighter image would pass so many steps that their sum looks smooth; random signs do not."""
    pooled = nn.Sequential(nn.AvgPool2d(32), nn.Upsample(scale_factor=32), toy_network(torch.float32))
    generator = torch.Generator().manual_seed(0)
    data = [(torch.rand(3, 96, 96, generator=generator), torch.zeros(96, 96, dtype=torch.int64))]
    assert found_in(check(Rounded(pooled), data, (0,)))["unquantised input"].status == "fail"
    assert found_in(check(pooled, data, (0,)))["unquantised input"].status == "ok"


def test_saturated_units_are_not_taken_for_rounding():
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        image = (255 * torch.rand(3, 24, 24, generator=generator)).round() / 255
        found = found_in(check(HalfDead(), [(image, torch.zeros(24, 24, dtype=torch.int64))], (0,)))
        assert found["unquantised input"].status == "ok", found
        assert found["gradient"].status == "ok", found


def test_an_answer_that_ignores_the_image_is_not_called_rounding():
    network = nn.Sequential(toy_network(), nn.ReLU(), nn.Hardtanh(-1e-9, 0.0))
    found = found_in(check(network))["unquantised input"]
    assert found.status == "warn"
    assert "does not depend on the image" in found.detail


def test_randomness_is_not_taken_for_rounding():
    found = found_in(check(Noisy(toy_network())))["unquantised input"]
    assert (found.status, found.detail[:12]) == ("warn", "not measured")


def test_log_probabilities_serve_as_logits_and_sigmoids_are_suspect():
    checks = check(LogSoftmax(toy_network()))
    assert worst_status(checks) == "ok", checks
    assert "log-probabilities" in found_in(checks)["logits"].detail
    assert found_in(check(Sigmoid(toy_network())))["logits"].status == "warn"


def test_details_name_the_cause():
    assert "sum to 1" in found_in(check(Softmax(toy_network())))["logits"].detail
    assert "NaN or infinite in image 0" in found_in(check(RootAtZero(toy_network())))["gradient"].detail
    assert "differentiably" in found_in(check(Detached(toy_network())))["gradient"].detail
    for kind in (RootAtZero, Detached):
        unbounded = found_in(check(kind(toy_network())))["unbounded attack"]
        assert (unbounded.status, "the attack raised an error" in unbounded.detail) == ("fail", True)
    assert (
        "exactly zero in 100.0% of the values of image" in found_in(check(Binarised(toy_network())))["gradient"].detail
    )
    saturated = found_in(check(Overconfident(toy_network())))["gradient"]
    assert "vanishes by rounding, at 100.0% of the correctly classified pixels" in saturated.detail
    assert "divide the logits by a constant" in saturated.fix
    constant = Constant(toy_network())
    assert "of 2 images never changes" in found_in(check(constant, as_predicted(constant)))["unbounded attack"].detail
    assert "other images" in found_in(check(BatchStatistics(toy_network())))["eps = 0"].detail


def test_a_zero_gradient_of_one_image_is_seen_among_others():
    data = ToyScenes(2)
    dark = data[0]
    dark["image"] = torch.zeros_like(dark["image"])
    network = nn.Sequential(nn.Threshold(0.0, 0.0), toy_network())
    for batch_size in (1, 2):
        found = found_in(check(network, [dark, data[1]], batch_size=batch_size))["gradient"]
        assert found.status == "fail", found


def test_images_without_labels_vouch_for_nothing():
    found = found_in(check(toy_network(), samples=(2,)))
    assert found["gradient"].status == found["unbounded attack"].status == "warn"
    assert found["gradient"].detail.startswith("not measured")
    for batch_size in (1, 2):  # beside a labelled one it does no harm
        assert worst_status(check(toy_network(), samples=(1, 2), batch_size=batch_size)) == "ok"


def test_an_image_that_is_broken_already_is_no_evidence():
    found = found_in(check(Constant(toy_network())))["unbounded attack"]
    assert (found.status, found.detail[:12]) == ("warn", "not measured")


def test_a_network_that_predicts_one_class_everywhere_is_named_and_not_called_masked():
    """As after a few steps of training; most pixels of the image are of this class."""
    image, network = EightBit(1)[0]["image"], Constant(toy_network())
    labels = torch.zeros(image.shape[1:], dtype=torch.int64)
    labels[0, 0] = 1
    found = found_in(check_network(network, [(image, labels)], (0,), criterion=Untargeted(apsr=0.5)))[
        "unbounded attack"
    ]
    assert found.status == "warn"
    assert (
        "right at 98.6% of the pixels of these images, and predicting their most common class is at 98.6%"
        in found.detail
    )
    assert "train it longer" in found.fix


@pytest.mark.parametrize(("num_classes", "seed"), [(3, 2), (3, 3), (2, 0), (11, 1)])
def test_untrained_networks_are_not_called_masked(num_classes, seed):
    """One class wins at a fifth of the pixels in the whole box, though the network does not predict it everywhere."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, num_classes, 1))
    generator = torch.Generator().manual_seed(2)
    data = [
        (torch.rand(3, 24, 32, generator=generator), torch.randint(0, num_classes, (24, 32), generator=generator))
        for _ in range(2)
    ]
    checks = check_network(network, data, (0, 1), criterion=Untargeted())
    assert worst_status(checks) != "fail", checks


def test_what_is_told_of_two_attacks_is_the_better_one():
    """The first attack breaks 94 % of these pixels, the second 80 %."""
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(3, 24, 32, generator=generator)
    labels = torch.randint(0, 3, (24, 32), generator=generator)
    first = LagrangianFMN(num_passes=20)(network, image[None], labels[None]).apsr.item()
    found = found_in(check_network(network, [(image, labels)], (0,), criterion=Untargeted()))["unbounded attack"]
    assert f"at least {first:.1%} of the pixels" in found.detail


def test_nearly_all_pixels_are_enough_for_a_strict_criterion():
    """A network whose class 0 cannot lose at one pixel of many is not called masked."""
    kept = torch.zeros(1, 4, 8, 9, dtype=torch.float64)
    kept[0, 0, 4, 4] = 1e3

    class Kept(Around):
        def after(self, logits):
            return logits + kept

    network = Kept(toy_network())
    checks = check_network(network, as_predicted(network), (0, 1), criterion=Untargeted(apsr=1.0))
    found = found_in(checks)["unbounded attack"]
    assert found.status == "warn", found


def test_network_and_random_numbers_are_left_as_they_were():
    network = nn.Sequential(Noisy(toy_network()), nn.Dropout(0.5)).train()
    network[1].eval()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    check(network)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [module.training for module in network] == [True, False]
    assert all(parameter.requires_grad for parameter in network.parameters())
    images = torch.ones(1, 2, requires_grad=True)
    assert torch.autograd.grad(images.sum(), images)[0].sum() == 2


def test_the_cost_is_as_documented():
    network, seen = toy_network(), []
    network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    constant = Constant(network)  # resists the unbounded attack to its end
    images = as_predicted(constant)
    seen.clear()
    check(constant, images, batch_size=2)
    assert sum(seen) == 2 * (12 + 20 + 1 + 21 + 1)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"sample_ids=\(\)"):
        check(toy_network(), samples=())
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        check(toy_network(), batch_size=0)
    with pytest.raises(FloatingPointError, match=r"images \(0,\) without attack"):
        check(nn.Sequential(toy_network(), nn.Threshold(1e9, float("nan"))))
    with pytest.raises(ValueError, match="outside the network's 4 classes"):
        check(toy_network(), [(torch.rand(3, 4, 4), torch.full((4, 4), 7))], (0,))
