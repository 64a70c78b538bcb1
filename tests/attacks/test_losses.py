"""Weights of pixel losses against their definitions; the losses themselves are tested in `tests/functional`."""

from dataclasses import replace

import pytest
import torch
from oracles import slow_dlr, slow_margin

from segrobust.attacks import (
    DLR,
    Balanced,
    CosPGDLoss,
    CrossEntropy,
    JensenShannon,
    LogitCosine,
    Margin,
    Masked,
    Pixels,
    SegPGDLoss,
    SoftCount,
    Targeted,
    Tsallis,
    Untargeted,
)
from segrobust.attacks.core.problem import make_problem

EVERY = (
    CrossEntropy(),
    Margin(),
    DLR(),
    JensenShannon(),
    LogitCosine(),
    Tsallis(),
    SoftCount(),
    Masked(),
    Balanced(),
    SegPGDLoss(),
    CosPGDLoss(),
    CosPGDLoss(activation="sigmoid"),
)


def pixels(sign=1, progress=0.25, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64)
    reference = torch.randint(5, (2, 6, 7), generator=generator)
    valid = torch.rand(2, 6, 7, generator=generator) < 0.8
    reference = reference.masked_fill(~valid, 0)
    hit = logits.argmax(1) == reference
    images, targets = torch.rand(2, 3, 6, 7, dtype=torch.float64), None if sign > 0 else reference
    problem = make_problem(images, reference, valid_mask=valid, targets=targets, norm="linf")
    broken = (~hit if sign > 0 else hit) & valid
    criterion = Untargeted() if sign > 0 else Targeted()
    return Pixels(logits.requires_grad_(requires_grad), problem, criterion, broken, progress)


@pytest.mark.parametrize("loss", EVERY, ids=repr)
@pytest.mark.parametrize("sign", [1, -1])
def test_climbing_leads_away_from_the_truth_or_to_the_target(loss, sign):
    seen = pixels(sign, requires_grad=True)
    (gradient,) = torch.autograd.grad((loss(seen) * seen.valid).sum(), seen.logits)
    towards_reference = -sign * gradient.gather(1, seen.reference[:, None])
    assert (towards_reference >= 0).all()
    assert (towards_reference > 0).sum() >= 0.2 * seen.valid.sum()


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_equal_their_definitions(sign):
    seen = pixels(sign)
    loss = CrossEntropy()(seen)
    p = seen.logits.softmax(1)
    own = p.gather(1, seen.reference[:, None])[:, 0]
    cosine = own / p.square().sum(1).sqrt()
    scores = seen.logits.sigmoid()
    sigmoid = scores.gather(1, seen.reference[:, None])[:, 0] / scores.square().sum(1).sqrt()
    for weighted, weights in (
        (Masked(), (~seen.broken).double()),
        (SegPGDLoss(), torch.where(seen.broken, 0.125, 0.875)),  # a quarter of the steps is done
        (CosPGDLoss(), cosine if sign > 0 else 1 - cosine),
        (CosPGDLoss(activation="sigmoid"), sigmoid if sign > 0 else 1 - sigmoid),
    ):
        torch.testing.assert_close(weighted(seen), weights.double() * loss)


def test_balanced_classes_weigh_alike():
    seen = pixels()
    weights = Balanced(loss=CrossEntropy()).weights(seen)
    for image in range(2):
        sums = [weights[image][seen.valid[image] & (seen.reference[image] == c)].sum() for c in range(5)]
        torch.testing.assert_close(torch.stack(sums), sums[0].expand(5))
        assert torch.stack(sums).sum().item() == pytest.approx(int(seen.valid[image].sum()))


def test_balanced_by_a_table_of_the_training_set():
    seen = pixels()
    weights = Balanced(class_pixels=(1.0, 2.0, 4.0, 8.0, 5.0)).weights(seen)
    expected = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.8], dtype=torch.float64)[seen.reference]  # the mean is 4
    torch.testing.assert_close(weights, expected)


def test_weights_nest():
    seen = pixels()
    nested = SegPGDLoss(loss=Masked(loss=LogitCosine()))(seen)
    torch.testing.assert_close(nested, LogitCosine()(seen) * ~seen.broken * 0.875)


@pytest.mark.parametrize(
    ("loss", "tracked"),
    [
        (CrossEntropy(), CrossEntropy()),
        (DLR(), DLR()),
        (Masked(loss=LogitCosine()), LogitCosine()),
        (Balanced(), CrossEntropy()),
        (JensenShannon(), CrossEntropy()),
        (Tsallis(), CrossEntropy()),
        (SoftCount(), SoftCount(first_temperature=0.03)),
        (SegPGDLoss(loss=Margin()), Margin()),
    ],
)
def test_what_progress_is_measured_by(loss, tracked):
    assert loss.tracked == tracked


@pytest.mark.parametrize(("q", "progress"), [(-2.0, 0.0), (-1.25, 0.25), (-0.5, 0.5)])
def test_q_runs_over_the_attack(q, progress):
    seen = pixels(progress=progress)
    constant = Tsallis(first_q=q, last_q=q)(seen)
    torch.testing.assert_close(Tsallis()(seen), constant)


@pytest.mark.parametrize(("loss", "num_classes", "sign"), [(DLR(), 2, 1), (DLR(), 3, -1), (Margin(), 1, 1)])
def test_too_few_classes_are_refused(loss, num_classes, sign):
    seen = pixels(sign)
    few = replace(seen, logits=seen.logits[:, :num_classes])
    with pytest.raises(ValueError, match="classes"):
        loss(few)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_criterion_has_the_margins_by_which_it_breaks(sign):
    """Ties included: they are unbroken whatever the sign."""
    seen = pixels(sign)
    logits = seen.logits.round()
    asked = (logits, seen.problem)
    expected = sign * slow_margin(logits, seen.reference)
    assert torch.equal(seen.criterion.margins(*asked), expected)
    assert (expected == 0)[seen.valid].any()
    assert torch.equal(seen.criterion.broken(*asked), (expected < 0) & seen.valid)
    won = seen.criterion.predict(seen.logits) == seen.reference
    assert torch.equal(won, seen.criterion.margins(seen.logits, seen.problem) * sign > 0)
    ratios = seen.criterion.ratios(seen.logits, seen.problem, tolerance=0.1)
    torch.testing.assert_close(ratios, slow_dlr(seen.logits, seen.reference, sign, 0.1, False))
    assert [seen.criterion.has_ratios(k, seen.problem) for k in (2, 3, 4)] == [False, sign > 0, True]
    temperature = torch.full((2,), 1e-3, dtype=torch.float64)
    smooth = seen.criterion.smooth_margins(seen.logits, seen.problem, temperature)
    torch.testing.assert_close(smooth, sign * slow_margin(seen.logits, seen.reference), rtol=0, atol=2e-3)
