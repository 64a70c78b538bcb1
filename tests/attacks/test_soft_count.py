"""The softened count against the count itself, and against its definition."""

import pytest
import torch
from oracles import slow_margin

from segrobust.attacks import Localized, Pixels, SoftCount, Targeted, Untargeted
from segrobust.attacks.core.problem import make_problem

CRITERIA = (Untargeted(), Targeted(), Localized(), Localized(targeted=True))


def pixels(criterion, progress=0.25, logits=None):
    """Two images of 6 x 7 pixels and 5 classes; of a localised criterion, the left half must stay."""
    generator = torch.Generator().manual_seed(0)
    drawn = 3 * torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64)
    logits = drawn if logits is None else logits
    labels = torch.randint(5, (2, 6, 7), generator=generator)
    inputs = {"valid_mask": torch.rand(2, 6, 7, generator=generator) < 0.8}
    if criterion.localized:
        inputs["keep_mask"] = torch.arange(7).expand(2, 6, 7) < 3
    if criterion.sign < 0:
        inputs["targets"] = (labels + 1) % 5
    problem = make_problem(torch.rand(2, 3, 6, 7), labels, norm="linf", **inputs)
    return Pixels(logits, problem, criterion, criterion.broken(logits, problem), progress)


def defined(seen, temperature):
    """Minus the sign times the probability, from exponentials; the temperature in mean absolute margins."""
    margins = slow_margin(seen.logits.detach(), seen.reference).abs() * seen.valid
    scale = temperature * margins.sum((1, 2)) / seen.valid.sum((1, 2))
    powers = (seen.logits / scale[:, None, None, None]).exp()
    return -seen.sign * powers.gather(1, seen.reference[:, None])[:, 0] / powers.sum(1)


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
def test_a_cold_sum_is_the_number_of_broken_pixels(criterion):
    """Up to a constant: pixels that must lose a class count from below, those that must win one from above."""
    seen = pixels(criterion)
    cold = (SoftCount(first_temperature=1e-6, last_temperature=1e-6)(seen) * seen.valid).sum((1, 2))
    must_lose = ((torch.zeros_like(seen.broken) + seen.sign > 0) & seen.valid).sum((1, 2))
    torch.testing.assert_close(cold + must_lose, seen.broken.sum((1, 2)).double())


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
@pytest.mark.parametrize(("progress", "temperature"), [(0.0, 0.5), (0.5, 0.05**0.5), (0.75, 0.5**0.25 * 0.1**0.75)])
def test_value_and_gradient_are_those_of_the_definition(criterion, progress, temperature):
    loss = SoftCount(first_temperature=0.5, last_temperature=0.1)
    results = []
    for function in (loss, lambda seen: defined(seen, temperature)):
        seen = pixels(criterion, progress)
        seen.logits.requires_grad_()
        value = function(seen)
        (gradient,) = torch.autograd.grad((value * seen.valid).sum(), seen.logits)
        results += [(value.detach(), gradient)]
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_the_scale_of_logits_does_not_matter(criterion, factor):
    plain = pixels(criterion)
    scaled = pixels(criterion, logits=factor * plain.logits)
    torch.testing.assert_close(SoftCount()(scaled), SoftCount()(plain))


@pytest.mark.parametrize("criterion", CRITERIA, ids=repr)
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_float32_logits_of_any_size_give_a_finite_gradient(criterion, size):
    logits = (size * pixels(criterion).logits).float()
    logits[:, 2] = -20 * size  # as the oracle writes a class of logit -inf
    seen = pixels(criterion, logits=logits.requires_grad_())
    (gradient,) = torch.autograd.grad((SoftCount()(seen) * seen.valid).sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


def test_logits_that_all_tie_give_a_finite_gradient():
    seen = pixels(Untargeted(), logits=torch.zeros(2, 5, 6, 7).requires_grad_())
    (gradient,) = torch.autograd.grad(SoftCount()(seen).sum(), seen.logits)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("setting", ["first_temperature", "last_temperature"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must be positive and finite"):
        SoftCount(**{setting: value})
