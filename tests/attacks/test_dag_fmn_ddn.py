"""DAG, FMN and DDN against exact optima, and what each promises; `test_reference_trajectories.py` has their steps."""

import pytest
import torch
from oracles import linear_case, slow_margin
from tolerances import DAG_RATIO, DDN_L2_RATIO, FMN_RATIO
from torch import nn

from segrobust.attacks import CrossEntropy, Masked
from segrobust.attacks.dag import DAG
from segrobust.attacks.ddn import DDN
from segrobust.attacks.fmn import FMN
from segrobust.functional.norms import DUAL, norm
from segrobust.functional.projections import project_ball

MASKED_DDN = DDN(num_steps=200, loss=Masked())


BOUNDS = [
    *(pytest.param(FMN(num_steps=200, norm=name), bound, id=f"fmn_{name}") for name, bound in FMN_RATIO.items()),
    *(pytest.param(DAG(norm=name), bound, id=f"dag_{name}") for name, bound in DAG_RATIO.items()),
    pytest.param(MASKED_DDN, DDN_L2_RATIO, id="ddn"),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("attack", "bound"), BOUNDS)
def test_norms_are_close_to_the_optimum(attack, bound, seed):
    case = linear_case(seed, batch_size=2)
    valid = torch.ones_like(case.labels, dtype=torch.bool)
    if seed == 1:
        valid[1, :, ::2] = False
    result = attack(case.network, case.images, case.labels, valid_mask=valid)
    assert result.success.all()
    found = result.norm / case.minimal_norms(attack.norm, valid)
    assert (found >= 1 - 1e-5).all()
    assert (found <= bound).all()


@pytest.mark.parametrize("attack", [DAG(), DAG(norm="l2")], ids=["linf", "l2"])
def test_dag_stops_an_image_at_its_first_success(attack):
    case = linear_case(0, batch_size=4)
    seen = {i: [] for i in range(4)}

    def record(iterate):
        for row, success, length in zip(iterate.rows.tolist(), iterate.success, iterate.norm, strict=True):
            seen[row].append((bool(success), length.item()))

    result = attack(case.network, case.images, case.labels, observer=record)
    for i, iterates in seen.items():
        assert [success for success, _ in iterates] == [False] * (len(iterates) - 1) + [True]
        assert result.norm[i].item() == pytest.approx(iterates[-1][1], abs=1e-7)
        assert result.first_success[i].item() == len(iterates) - 1
        assert result.num_forwards[i].item() == len(iterates) + 1  # and the judgement
        assert result.num_backwards[i].item() == len(iterates) - 1
    assert len({len(iterates) for iterates in seen.values()}) > 1


def test_a_failure_of_dag_is_the_iterate_with_most_broken_pixels():
    case = linear_case(0)
    result = DAG(num_steps=5)(case.network, case.images, case.labels)
    assert result.norm.isinf().all()
    assert (result.apsr > 0).all()  # the clean image has 0
    assert not torch.equal(result.adv, case.images)


def test_dag_stays_in_the_box():
    case = linear_case(0)
    images = (case.images - 0.5).sign().clamp_min(0)  # all values are 0 or 1
    labels = case.network(images).argmax(1)
    inside = []
    DAG(num_steps=20, step_size=0.1)(
        case.network,
        images,
        labels,
        observer=lambda iterate: inside.append((iterate.delta >= -images) & (iterate.delta <= 1 - images)),
    )
    assert torch.stack(inside).all()


def test_pixels_that_may_not_be_written_take_no_part_in_the_length_of_a_step():
    case = linear_case(0)
    perturbable_mask = torch.ones_like(case.labels, dtype=torch.bool)
    perturbable_mask[:, ::2] = False
    firsts = first_steps(DAG(num_steps=2, norm="l2", step_size=0.02), case, perturbable_mask=perturbable_mask)
    torch.testing.assert_close(firsts, torch.full_like(firsts, 0.02), rtol=1e-5, atol=0)


def test_an_l2_step_of_dag_grows_with_the_number_of_valid_values():
    case = linear_case(0, batch_size=2)
    valid = torch.ones_like(case.labels, dtype=torch.bool)
    valid[1, :, ::2] = False
    firsts = first_steps(DAG(num_steps=2, norm="l2"), case, valid_mask=valid)
    expected = torch.tensor([1e-3 * (3 * 24 * 32) ** 0.5, 1e-3 * (3 * 24 * 16) ** 0.5])
    torch.testing.assert_close(firsts, expected, rtol=1e-4, atol=0)


def first_steps(attack, case, **arguments):
    """l2 norms of the iterates after one step."""
    norms = []
    attack(
        case.network,
        case.images,
        case.labels,
        observer=lambda iterate: norms.append(norm(iterate.delta, "l2")),
        **arguments,
    )
    return norms[1]


@pytest.mark.parametrize(("name", "share"), [("linf", 0.5), ("l2", 0.2), ("l1", 0.2)])
def test_the_first_step_of_fmn_is_a_share_of_the_first_order_distance(name, share):
    """That is the sum of the margins over the norm of its gradient, and in the dual norm it is the first radius."""
    case = linear_case(0, batch_size=2)
    leaf = case.images.clone().requires_grad_()
    total = slow_margin(case.network(leaf), case.labels).sum((1, 2))
    (gradient,) = torch.autograd.grad(total.sum(), leaf)
    total = total.detach()
    step = share * gradient * (total / norm(gradient, "l2").square())[:, None, None, None]
    radius = total / norm(gradient, DUAL[name])
    expected = norm(project_ball(step, radius, name), "l2")
    torch.testing.assert_close(first_steps(FMN(num_steps=2, norm=name), case), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("margin", ["masked", "mean"])
@pytest.mark.parametrize("name", ["linf", "l2"])
def test_the_scale_of_the_logits_changes_nothing(name, margin):
    """Neither directions nor first-order distances depend on it; powers of two keep every bit."""
    case = linear_case(1, batch_size=2)
    for attack in (FMN(num_steps=30, norm=name, margin=margin), DAG(norm=name)):
        before = attack(case.network, case.images, case.labels)
        for parameter in case.network.parameters():
            parameter.data *= 1024
        after = attack(case.network, case.images, case.labels)
        assert torch.equal(before.adv, after.adv)


def test_margins_of_unbroken_pixels_and_of_all_are_two_attacks():
    """The mean pulls at pixels that are broken long since: in l2 that costs a factor."""
    case = linear_case(0, batch_size=2)
    masked, mean = (
        FMN(num_steps=200, norm="l2", margin=margin)(case.network, case.images, case.labels)
        for margin in ("masked", "mean")
    )
    assert (mean.norm > 2 * masked.norm).all()


@pytest.mark.parametrize(
    "attack", [FMN(num_steps=100), FMN(num_steps=100, norm="l2"), MASKED_DDN], ids=["fmn_linf", "fmn_l2", "ddn"]
)
def test_a_warm_start_shrinks_from_its_own_norm_and_turns(attack):
    """It leaves no margin to tell how far to go, and below two thirds of it its direction fails."""
    case = linear_case(0, batch_size=2)
    start = 1.5 * (DDN(num_steps=100)(case.network, case.images, case.labels).adv - case.images)
    norms = []
    result = attack(
        case.network, case.images, case.labels, start=start, observer=lambda iterate: norms.append(iterate.norm)
    )
    assert result.first_success.eq(0).all()
    assert (norms[1] <= 0.951 * norms[0]).all()
    assert (norms[1] >= 0.9 * norms[0]).all()
    assert (result.norm <= 0.5 * norms[0]).all()


@pytest.mark.parametrize("attack", [DAG(), FMN(), DDN()], ids=["dag", "fmn", "ddn"])
def test_what_is_wrong_already_costs_no_step(attack):
    case = linear_case(0, batch_size=2)
    labels = case.labels.clone()
    labels[1] = (labels[1] + 1) % 6
    result = attack(case.network, case.images, labels)
    assert result.norm[1].item() == 0
    assert result.num_backwards.tolist()[1] == 0
    assert result.num_backwards.tolist()[0] > 0


class Constant(nn.Module):
    """Logits that depend on nothing: class 0 wins, and no gradient points anywhere."""

    def forward(self, x):
        return torch.cat((1 + 0 * x[:, :1], 0 * x[:, :1]), 1)


def test_without_a_gradient_ddn_keeps_its_direction():
    images = torch.full((2, 3, 4, 4), 0.5)
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    start = 0.01 * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    deltas = []
    DDN(num_steps=5)(Constant(), images, labels, start=start, observer=lambda iterate: deltas.append(iterate.delta))
    for k, delta in enumerate(deltas):
        torch.testing.assert_close(delta, 1.05**k * start, rtol=1e-5, atol=1e-8)
    moved = []
    DDN(num_steps=5)(Constant(), images, labels, observer=lambda iterate: moved.append(iterate.delta))
    assert torch.stack(moved).eq(0).all()


def test_the_radius_of_ddn_stays_finite():
    """It would overflow, and infinity times a value that has not moved is no number."""
    images = torch.full((1, 3, 4, 4), 0.5)
    start = torch.zeros_like(images)
    start[:, 0] = 0.1
    finite = []
    DDN(num_steps=200, gamma=0.9)(
        Constant(),
        images,
        torch.zeros(1, 4, 4, dtype=torch.int64),
        start=start,
        observer=lambda iterate: finite.append(iterate.delta.isfinite().all()),
    )
    assert torch.stack(finite).all()


def test_the_loss_of_ddn_knows_its_progress():
    """A loss whose weights run over the attack, such as Tsallis, runs over all its steps."""
    seen = []

    class Watched(CrossEntropy):
        def __call__(self, pixels):
            seen.append(pixels.progress)
            return super().__call__(pixels)

    case = linear_case(0)
    DDN(num_steps=4, loss=Watched())(case.network, case.images, case.labels)
    assert seen == [0, 0.25, 0.5, 0.75]


def test_ddn_rounds_what_it_changes_to_the_levels():
    case = linear_case(0, batch_size=2)  # no value of the images is a level
    perturbable_mask = torch.zeros_like(case.labels, dtype=torch.bool)
    perturbable_mask[:, :, 4:] = True
    attack = DDN(num_steps=30, loss=Masked(), levels=16)
    result = attack(case.network, case.images, case.labels, perturbable_mask=perturbable_mask)
    changed = result.adv != case.images
    assert changed[:, :, :, 4:].float().mean() > 0.5
    assert not changed[:, :, :, :4].any()
    scaled = 15 * result.adv[changed]
    torch.testing.assert_close(scaled, scaled.round(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DAG(num_steps=0), "num_steps"),
        (lambda: DAG(norm="l1"), "linf, l2"),
        (lambda: DAG(step_size=0.0), "step_size"),
        (lambda: DAG(step_size=3.0), "255"),
        (lambda: FMN(num_steps=0), "num_steps"),
        (lambda: FMN(norm="l0"), "linf, l2, l1"),
        (lambda: FMN(margin="median"), "masked, mean"),
        (lambda: FMN(step_size=-1.0), "step_size"),
        (lambda: FMN(gamma=1.0), "gamma"),
        (lambda: DDN(num_steps=0), "num_steps"),
        (lambda: DDN(norm="linf"), "l2"),
        (lambda: DDN(gamma=0.0), "gamma"),
        (lambda: DDN(initial_radius=0.0), "initial_radius"),
        (lambda: DDN(initial_radius=float("inf")), "initial_radius"),
        (lambda: DDN(levels=1), "256"),
    ],
)
def test_bad_fields_are_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_l2_step_of_dag_may_be_long():
    assert DAG(norm="l2", step_size=3.0).step_size == 3.0


def test_a_loss_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"CrossEntropy\(\)"):
        DDN(loss="ce")


@pytest.mark.parametrize("attack", [DAG(), FMN(), DDN()], ids=["dag", "fmn", "ddn"])
def test_a_radius_has_no_effect_and_is_refused(attack):
    case = linear_case(0)
    with pytest.raises(ValueError, match="no effect"):
        attack(case.network, case.images, case.labels, eps=0.1)
