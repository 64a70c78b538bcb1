"""Steps of fixed-budget attacks against slow versions of their algorithms."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from conformance import ConvNetwork, make_batch
from torch import nn
from torch.nn import functional as F

from segrobust.attacks import (
    APGD,
    FGSM,
    KLPGD,
    MIFGSM,
    PGD,
    RSFGSM,
    CosPGD,
    CosPGDLoss,
    CrossEntropy,
    LogitCosine,
    Masked,
    PAdam,
    RegionPGD,
    SegPGD,
    SegPGDLoss,
    Targeted,
)
from segrobust.attacks.apgd import checkpoints
from segrobust.functional.modes import attackable

EPS = 1 / 255  # no image is broken as a whole, so none leaves


def deltas(attack, network, batch, **arguments):
    """All iterates `(N + 1, B, C, H, W)`, of images that never finish."""
    seen = []
    attack(network, batch.images, batch.labels, observer=lambda iterate: seen.append(iterate.delta), **arguments)
    return torch.stack(seen)


def gradient(network, batch, delta, loss):
    """Gradient of a sum over the valid pixels, by autograd through network and loss."""
    with attackable(network):
        x = (batch.images + delta).requires_grad_()
        labels = batch.labels.masked_fill(~batch.valid_mask, 0)
        (g,) = torch.autograd.grad((loss(network(x), labels) * batch.valid_mask).sum(), x)
    return g


def ce(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none")


def cosine_distance(logits, labels):
    return 1 - F.cosine_similarity(logits, F.one_hot(labels, 5).movedim(3, 1))


def clip(delta, batch, eps=EPS):
    return torch.minimum(torch.maximum(delta.clamp(-eps, eps), -batch.images), 1 - batch.images)


def test_mifgsm_follows_its_algorithm(network, batch):
    iterates = deltas(MIFGSM(num_steps=6, eps=EPS, decay=0.7), network, batch)
    delta = momentum = torch.zeros_like(batch.images)
    for seen in iterates:
        torch.testing.assert_close(seen, delta, rtol=0, atol=1e-12)
        g = gradient(network, batch, delta, ce)
        momentum = 0.7 * momentum + g / g.abs().sum((1, 2, 3), keepdim=True)
        delta = clip(delta + EPS / 6 * momentum.sign(), batch)


@pytest.mark.parametrize("loss", [CrossEntropy(), LogitCosine()])
def test_padam_is_adam_with_amsgrad_and_a_projection(network, batch, loss):
    """torch.optim.Adam is the oracle; it descends, and so does minus the loss."""
    attack = PAdam(num_steps=8, eps=EPS, loss=loss, random_start=False)
    iterates = deltas(attack, network, batch)
    definition = (
        ce if loss == CrossEntropy() else lambda z, y: 1 - F.cosine_similarity(z, F.one_hot(y, 5).movedim(3, 1))
    )
    parameter = nn.Parameter(torch.zeros_like(batch.images))
    optimizer = torch.optim.Adam([parameter], lr=2 / 255, amsgrad=True)
    for seen in iterates:
        torch.testing.assert_close(seen, parameter.data, rtol=0, atol=1e-9)
        parameter.grad = -gradient(network, batch, parameter.data, definition)
        optimizer.step()
        parameter.data = clip(parameter.data, batch)


def test_pgd_kl_leaves_the_clean_prediction(network, batch):
    attack = KLPGD(num_steps=5, eps=EPS, step_size=2 / 255, seed=3)
    iterates = deltas(attack, network, batch, sample_ids=batch.sample_ids)
    assert 5e-4 < iterates[0].abs().amax() <= 1e-3
    with attackable(network):
        clean = network(batch.images).softmax(1)

    def divergence(logits, _):
        return (clean * (clean.log() - logits.log_softmax(1))).sum(1)

    for before, after in itertools.pairwise(iterates):
        expected = clip(before + 2 / 255 * gradient(network, batch, before, divergence).sign(), batch)
        torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)
    values = [(divergence(network.eval()(batch.images + d), None) * batch.valid_mask).sum() for d in iterates]
    network.train()
    assert values[-1] > 10 * values[0]


@pytest.mark.parametrize(("attack", "loss"), [(SegPGD, SegPGDLoss()), (CosPGD, CosPGDLoss())])
def test_named_attacks_are_pgd_with_their_loss(network, batch, attack, loss):
    named = attack(num_steps=4, eps=EPS, seed=2)
    plain = PGD(num_steps=4, eps=EPS, seed=2, loss=loss, random_start=True)
    arguments = {"sample_ids": batch.sample_ids}
    assert torch.equal(deltas(named, network, batch, **arguments), deltas(plain, network, batch, **arguments))


def test_segpgd_weights_as_in_the_paper(network, batch):
    """With 0-based t: unbroken pixels weigh 1 - t / 2T, broken ones t / 2T."""
    num_steps = 4
    iterates = deltas(SegPGD(num_steps=num_steps, eps=EPS, step_size=0.01), network, batch, sample_ids=batch.sample_ids)
    for t in range(num_steps):

        def loss(z, y, t=t):
            share = t / (2 * num_steps)
            return torch.where(z.argmax(1) == y, 1 - share, share) * ce(z, y)

        expected = clip(iterates[t] + 0.01 * gradient(network, batch, iterates[t], loss).sign(), batch)
        torch.testing.assert_close(iterates[t + 1], expected, rtol=0, atol=1e-12)


def test_region_pgd_weights_as_in_the_paper(network, batch):
    """With 1-based i: right so far (2N - i) / 2N, right at first (i - 1) / 2N, wrong from the start 1 / 2N."""
    num_steps = 4
    attack = RegionPGD(num_steps=num_steps, eps=EPS, step_size=0.01)
    iterates = deltas(attack, network, batch, sample_ids=batch.sample_ids)
    network.eval()
    wrong = [network(batch.images + delta).argmax(1) != batch.labels for delta in iterates]
    assert (wrong[1] & ~wrong[0]).any()  # all three regions occur
    assert (~wrong[2] & wrong[1] & ~wrong[0]).any() or wrong[0].any()
    for i in range(1, num_steps + 1):
        ever = torch.stack(wrong[:i]).any(0)
        weights = torch.full(ever.shape, (2 * num_steps - i) / (2 * num_steps), dtype=torch.float64)
        weights[ever] = (i - 1) / (2 * num_steps)
        weights[wrong[0]] = 1 / (2 * num_steps)

        def loss(z, y, weights=weights):
            return weights * ce(z, y)

        expected = clip(iterates[i - 1] + 0.01 * gradient(network, batch, iterates[i - 1], loss).sign(), batch)
        torch.testing.assert_close(iterates[i], expected, rtol=0, atol=1e-12)


def test_fgsm_from_a_random_start(network, batch):
    iterates = deltas(RSFGSM(eps=EPS, seed=1), network, batch, sample_ids=batch.sample_ids)
    start = deltas(PGD(num_steps=1, eps=EPS, seed=1, random_start=True), network, batch, sample_ids=batch.sample_ids)[0]
    assert torch.equal(iterates[0], start)
    expected = clip(start + 1.25 * EPS * gradient(network, batch, start, ce).sign(), batch)
    torch.testing.assert_close(iterates[1], expected, rtol=0, atol=1e-12)


def test_steps_relative_to_the_radius(network, batch):
    absolute = deltas(PGD(num_steps=3, eps=EPS, step_size=EPS / 8), network, batch)
    relative = deltas(PGD(num_steps=3, eps=EPS, step_ratio=1 / 8), network, batch)
    torch.testing.assert_close(relative, absolute, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (10, [2, 3, 4, 5, 6, 7, 8, 9, 10]), (1, [1])],
)
def test_checkpoints(num_steps, expected):
    """p_j as in the paper: 0.22, then growing by 0.22 - 0.03, 0.22 - 0.06, ..., at least 0.06."""
    assert list(checkpoints(num_steps)) == expected
    assert sum(checkpoints(num_steps).values()) == expected[-1]


def slow_apgd(network, batch, row, num_steps, loss, tracked, eps):
    """Algorithm 1 of the paper for one image, in plain Python; gives the iterates and the last step."""
    one = batch.rows([row])

    def look(delta):
        with torch.no_grad(), attackable(network):
            logits = network(one.images + delta)
            labels = one.labels.masked_fill(~one.valid_mask, 0)
            value = (tracked(logits, labels) * one.valid_mask).sum().item()
        return value, gradient(network, one, delta, loss)

    eta = 2 * eps
    x = [torch.zeros_like(one.images)]
    values, gradients = zip(look(x[0]), strict=True)
    values, gradients = list(values), list(gradients)
    best = 0
    base = x[0]
    x.append(clip(x[0] + eta * gradients[0].sign(), one, eps))
    window_start, halved_before, best_at_check = 0, True, values[0]
    points = checkpoints(num_steps)
    for k in range(1, num_steps):
        value, g = look(x[k])
        values.append(value)
        gradients.append(g)
        if value > values[best]:
            best = k
        here, slope = x[k], g
        if k in points:
            rises = sum(values[i + 1] > values[i] for i in range(window_start, k))
            halve = rises <= 0.75 * points[k] or (not halved_before and values[best] <= best_at_check)
            if halve:
                eta /= 2
                here, slope = x[best], gradients[best]
            window_start, halved_before, best_at_check = k, halve, values[best]
        z = clip(here + eta * slope.sign(), one, eps)
        x.append(clip(here + 0.75 * (z - here) + 0.25 * (here - base), one, eps))
        base = here
    return x, eta


def masked_ce(logits, labels):
    return -ce(logits, labels) * (logits.argmax(1) != labels)


@pytest.mark.parametrize(("loss", "definition"), [(CrossEntropy(), lambda z, y: -ce(z, y)), (Masked(), masked_ce)])
def test_apgd_follows_its_algorithm(loss, definition):
    """Targeted, so that no image is ever done. Masked: its gradient leads, progress is the cross-entropy's on all."""
    crooked = ConvNetwork()
    with torch.no_grad():
        crooked[0].weight.mul_(10)  # far from linear, so that images differ in when they stall
    batch = make_batch(crooked)
    targets = torch.randint(5, batch.labels.shape, generator=torch.Generator().manual_seed(0))
    attack = APGD(num_steps=40, eps=16 / 255, loss=loss, criterion=Targeted())
    iterates = deltas(attack, crooked, batch, targets=targets)
    wanted = replace(batch, labels=targets)
    steps = []
    for row in range(len(batch.images)):
        slow, step = slow_apgd(crooked, wanted, row, 40, definition, lambda z, y: -ce(z, y), eps=16 / 255)
        for seen, expected in zip(iterates[:, row], slow, strict=True):
            torch.testing.assert_close(seen, expected[0], rtol=0, atol=1e-10)
        steps.append(step)
    assert max(steps) < 32 / 255  # all were halved
    assert len(set(steps)) > 1  # not all as often


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MIFGSM(decay=-1.0), "at least 0"),
        (lambda: MIFGSM(num_steps=0), "num_steps"),
        (lambda: PAdam(norm="l2"), "linf"),
        (lambda: PAdam(step_size=2), "2/255"),
        (lambda: KLPGD(step_size=2), "2/255"),
        (lambda: KLPGD(criterion=Targeted()), r"PGD\(criterion"),
        (lambda: KLPGD(norm="l2"), "linf"),
        (lambda: APGD(norm="l1"), "linf, l2"),
        (lambda: APGD(eps=4), "4/255"),
        (lambda: APGD(seed=1), "random_start"),
        (lambda: PGD(step_size=0.1, step_ratio=0.1), "step_size or step_ratio"),
        (lambda: PGD(step_ratio=0.0), "positive"),
        (lambda: FGSM(eps=math.inf), "finite"),
    ],
)
def test_bad_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
