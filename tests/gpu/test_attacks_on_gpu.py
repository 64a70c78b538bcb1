"""Attacks on a CUDA device: the results of the CPU, and nothing of the surroundings changed."""

import warnings
from dataclasses import fields

import pytest
import torch
from conformance import BATTERY, ConvNetwork, call, make_batch
from oracles import linear_case
from tolerances import BALL, CUDA_NORM, FAST_L2_RATIO, FAST_LINF_RATIO

from segrobust.attacks import APGD, PGD, AlmaProx, AttackResult, LagrangianFMN, SegPGD
from segrobust.functional.norms import norm

DEVICE = "cuda"
every_attack = pytest.mark.parametrize("contestant", BATTERY, ids=lambda c: c.name)

ANOTHER_RESULT = {
    "in_bfloat16": "rounding to bfloat16 makes a last bit of a sum a first one of the result",
    "search_pgd_l2": "one success of its first image hangs on noise of 1e-13 in the images, on the CPU too",
}


def moved(batch):
    """The batch on the device; sample ids stay where they are."""
    images, labels, valid, targets = (
        getattr(batch, name).to(DEVICE) for name in ("images", "labels", "valid_mask", "targets")
    )
    return type(batch)(images, labels, valid, targets, batch.sample_ids)


@every_attack
def test_an_attack_finds_on_the_gpu_what_it_finds_on_the_cpu(contestant):
    """float64: sums in another order differ in a last bit, which a dozen steps leave small."""
    network = ConvNetwork()
    batch = make_batch(network)
    expected = call(contestant, network, batch)
    found = call(contestant, network.to(DEVICE), moved(batch))
    for field in fields(AttackResult):
        value = getattr(found, field.name)
        assert value.device.type == ("cpu" if field.name.startswith("num_") else DEVICE), field.name
    assert torch.equal(found.success.cpu(), expected.success)
    if contestant.name not in ANOTHER_RESULT:
        torch.testing.assert_close(found.norm.cpu(), expected.norm, rtol=CUDA_NORM, atol=1e-12)
        assert (found.apsr.cpu() - expected.apsr).abs().max() < 0.1
        assert torch.equal(found.num_forwards, expected.num_forwards)
        assert torch.equal(found.num_backwards, expected.num_backwards)


@every_attack
def test_an_image_alone_gives_what_it_gives_in_a_batch(contestant):
    network = ConvNetwork()
    batch = moved(make_batch(network))
    network.to(DEVICE)
    together = call(contestant, network, batch)
    for i in range(len(batch.images)):
        alone = call(contestant, network, batch.rows([i]))
        assert torch.equal(alone.success, together.success[i : i + 1])
        if contestant.name not in ANOTHER_RESULT:
            torch.testing.assert_close(alone.norm, together.norm[i : i + 1], rtol=CUDA_NORM, atol=1e-12)


@every_attack
def test_box_and_ball_hold_in_float32(contestant):
    network = ConvNetwork(dtype=torch.float32)
    batch = make_batch(network, dtype=torch.float32)
    batch.images[:, :, ::2] = batch.images[:, :, ::2].round()
    batch = moved(batch)
    result = call(contestant, network.to(DEVICE), batch)
    assert ((result.adv >= 0) & (result.adv <= 1)).all()
    measured = norm(result.adv - batch.images, contestant.attack.norm)
    if contestant.attack.minimal_norm:
        assert torch.equal(result.norm, measured.masked_fill(~result.success, torch.inf))
    else:
        assert (measured <= contestant.attack.default_eps + BALL).all()


@every_attack
def test_generators_autocast_and_tf32_of_the_surroundings(contestant):
    """TF32 and autocast outside change no result, and are there afterwards; generators do not move."""
    network = ConvNetwork(dtype=torch.float32)
    batch = make_batch(network, dtype=torch.float32)
    network, batch = network.to(DEVICE), moved(batch)
    generators = torch.get_rng_state(), torch.cuda.get_rng_state()
    expected = call(contestant, network, batch)
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32"
        with torch.autocast("cuda", dtype=torch.bfloat16):
            inside = call(contestant, network, batch)
        assert [backend.fp32_precision for backend in backends] == ["tf32", "tf32"]
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
    torch.testing.assert_close(inside.norm, expected.norm, rtol=1e-4, atol=1e-7)
    assert torch.equal(inside.success, expected.success)
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert torch.equal(torch.cuda.get_rng_state(), generators[1])


@pytest.mark.parametrize("norm_name", ["linf", "l2"])
@pytest.mark.parametrize("passes", [25, 50])
def test_norms_are_close_to_the_optimum(norm_name, passes):
    for seed in range(3):
        case = linear_case(seed, batch_size=2)
        optimum = case.minimal_norms(norm_name)
        result = LagrangianFMN(num_passes=passes, norm=norm_name)(
            case.network.to(DEVICE), case.images.to(DEVICE), case.labels.to(DEVICE)
        )
        assert result.success.all()
        ratio = result.norm.cpu() / optimum
        assert ((ratio >= 1 - 1e-5) & (ratio <= {"linf": FAST_LINF_RATIO, "l2": FAST_L2_RATIO}[norm_name])).all()


def test_the_result_is_the_same_on_every_call():
    """On one device with one batch: bit-equal, in float32 too."""
    network = ConvNetwork(dtype=torch.float32)
    batch = make_batch(network, dtype=torch.float32)
    network, batch = network.to(DEVICE), moved(batch)
    attack = LagrangianFMN(num_passes=50)
    first, second = (attack(network, batch.images, batch.labels) for _ in range(2))
    assert torch.equal(first.adv, second.adv)


def test_nan_is_told_of():
    network = ConvNetwork()
    batch = moved(make_batch(network))
    with torch.no_grad():
        network[4].bias[2] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        LagrangianFMN(num_passes=10)(network.to(DEVICE), batch.images, batch.labels)


def test_labels_on_another_device_are_named():
    network = ConvNetwork()
    batch = make_batch(network)
    with pytest.raises(ValueError, match=r"labels must be where the images are, on cuda:0, got cpu"):
        PGD(eps=0.1)(network.to(DEVICE), batch.images.to(DEVICE), batch.labels)


WAITS_PER_STEP = {PGD: 1, SegPGD: 1, APGD: 1, LagrangianFMN: 1, AlmaProx: 12}
"""How often a step may wait for the device: to ask what is finished, and ALMA-prox's prox what its passes say."""


@pytest.mark.parametrize("make", WAITS_PER_STEP, ids=lambda make: make.__name__)
def test_steps_do_not_wait_for_the_device(make):
    """Reading a number off the device empties its queue. Counted by the difference of two lengths."""
    network = ConvNetwork(dtype=torch.float32)
    batch = make_batch(network, dtype=torch.float32)
    network, batch = network.to(DEVICE), moved(batch)
    lengths = (15, 25)

    def waits(num_steps):
        steps = {"num_passes": num_steps} if make is LagrangianFMN else {"num_steps": num_steps}
        settings = {} if make in (LagrangianFMN, AlmaProx) else {"eps": 1e-6}
        attack = make(**steps, **settings)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                attack(network, batch.images, batch.labels, sample_ids=range(4))
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("called a synchronizing CUDA operation" in str(one.message) for one in caught)

    short, long = (waits(length) for length in lengths)
    per_step = (long - short) / (lengths[1] - lengths[0])
    assert per_step <= WAITS_PER_STEP[make], f"{per_step} waits in a step"
