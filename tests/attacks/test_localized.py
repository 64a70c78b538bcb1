"""Attacks that must break some pixels and leave others alone."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from conformance import ConvNetwork, make_batch
from oracles import linear_case, slow_dlr, slow_margin
from scipy.optimize import linprog
from tolerances import DAG_RATIO, LOCALIZED_RATIO
from torch import nn

from segrobust.attacks import (
    DAG,
    DLR,
    FMN,
    KLPGD,
    PDPGD,
    PGD,
    AlmaProx,
    CosPGDLoss,
    CrossEntropy,
    LagrangianFMN,
    Localized,
    Margin,
    Masked,
    MinimalNormSearch,
    Targeted,
    Untargeted,
)
from segrobust.attacks.core.losses import Pixels
from segrobust.attacks.core.problem import make_problem
from segrobust.attacks.core.tracker import Iterate, Tracker
from segrobust.functional.margins import dlr

LOCALIZED = {"criterion": Localized(keep=1.0)}


def attacks(**settings):
    return (
        AlmaProx(num_steps=300, **settings),
        LagrangianFMN(num_passes=50, **settings),
        FMN(num_steps=200, **settings),
        PDPGD(num_steps=300, **settings),
        DAG(**settings),
        MinimalNormSearch(attack=PGD(num_steps=20, loss=Masked(loss=Margin()), **settings)),
    )


def ratio_of(attack):
    return DAG_RATIO["linf"] if isinstance(attack, DAG) else LOCALIZED_RATIO


def distance_to_class(logits, weight, target):
    """Smallest l_inf norm at which one pixel of a 1x1-conv network is of a class, by a linear programme."""
    rivals = [k for k in range(len(logits)) if k != target]
    ahead = np.hstack([weight[rivals] - weight[target], np.zeros((len(rivals), 1))])
    inside = np.vstack([np.hstack([s * np.eye(3), -np.ones((3, 1))]) for s in (1, -1)])
    found = linprog(
        [0, 0, 0, 1],
        A_ub=np.vstack([ahead, inside]),
        b_ub=np.concatenate([logits[target] - logits[rivals] - 1e-4, np.zeros(6)]),
        bounds=[(None, None)] * 3 + [(0, None)],
    )
    return float("inf") if found.x is None else float(found.x[3])


@pytest.fixture(scope="module")
def case():
    """A 1x1-conv network; half of the pixels are to be kept, 120 of these at a class that they do not have yet."""
    linear = linear_case(0, batch_size=2)
    generator = torch.Generator().manual_seed(1)
    kept = torch.rand(linear.labels.shape, generator=generator) < 0.5
    weight = linear.network.weight.detach()[:, :, 0, 0].double().numpy()
    with torch.no_grad():
        logits = linear.network(linear.images).double()
    targets = linear.labels.clone()
    needed = torch.zeros_like(logits[:, 0])
    for i in range(2):
        for place in kept[i].flatten().nonzero()[:60, 0].tolist():
            y, x = divmod(place, kept.shape[2])
            third = int(logits[i, :, y, x].topk(3).indices[2])
            norm = distance_to_class(logits[i, :, y, x].numpy(), weight, third)
            if np.isfinite(norm):
                targets[i, y, x], needed[i, y, x] = third, norm
    return linear, kept, targets, needed


def kth(distances, share):
    count = len(distances)
    return distances.sort().values[count - int((1 - Fraction(share)) * count) - 1]


@pytest.mark.parametrize("attack", attacks(**LOCALIZED), ids=lambda attack: type(attack).__name__)
def test_norms_are_close_to_the_optimum_where_pixels_are_independent(attack, case):
    linear, kept, targets, needed = case
    result = attack(linear.network, linear.images, linear.labels, keep_mask=kept, targets=targets)
    broken, reached = linear.distances("linf"), needed.float()
    optimum = torch.stack(
        [torch.maximum(kth(broken[i][~kept[i]], "0.99"), kth(reached[i][kept[i]], "1")) for i in range(2)]
    )
    assert all(kth(reached[i][kept[i]], "1") > kth(broken[i][~kept[i]], "0.99") for i in range(2))
    assert result.success.all()
    assert (result.norm / optimum >= 1 - 5e-3).all()  # the programme asks for a margin of 1e-4
    assert (result.norm / optimum <= ratio_of(attack)).all()


class Pooled(nn.Module):
    """Two classes whose margin at pixel i is `a_i . mean(x) + c_i`: one perturbation moves all pixels."""

    def __init__(self, slopes, offsets):
        super().__init__()
        self.slopes = nn.Parameter(slopes)
        self.offsets = nn.Parameter(offsets)

    def forward(self, x):
        margins = torch.einsum("bc,chw->bhw", x.mean((2, 3)) - 0.5, self.slopes) + self.offsets
        return torch.stack([margins, torch.zeros_like(margins)], 1)


@pytest.fixture(scope="module")
def coupled():
    """A network on whose pixels one perturbation acts, and the least norms with and without pixels to keep."""
    generator = torch.Generator().manual_seed(14)
    slopes = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
    kept = torch.ones(6, 8, dtype=torch.bool)
    kept[2:4, 2:6] = False
    way = torch.tensor([0.12, -0.12, 0.02], dtype=torch.float64)  # one that does what is asked
    change = torch.einsum("c,chw->hw", way, slopes)
    slopes = torch.where(kept | (change < 0), slopes, -slopes)
    change = torch.einsum("c,chw->hw", way, slopes)
    room = torch.rand(6, 8, generator=generator, dtype=torch.float64)
    offsets = torch.where(kept, (-change).clamp_min(0) + 0.002 + 0.02 * room, -change * (0.3 + 0.6 * room))

    def least(with_kept):
        signs = torch.where(kept, -1.0, 1.0).double()
        counted = torch.ones_like(kept) if with_kept else ~kept
        rows = torch.cat([(signs * slopes)[:, counted].T, torch.zeros(int(counted.sum()), 1)], 1).numpy()
        inside = np.vstack([np.hstack([s * np.eye(3), -np.ones((3, 1))]) for s in (1, -1)])
        bound = np.concatenate([-(signs * offsets)[counted].numpy(), np.zeros(6)])
        limits = [(None, None)] * 3 + [(0, None)]
        return linprog([0, 0, 0, 1], A_ub=np.vstack([rows, inside]), b_ub=bound, bounds=limits).x[3]

    return Pooled(slopes.float(), offsets.float()), kept, least(with_kept=True), least(with_kept=False)


@pytest.mark.parametrize(
    "attack",
    attacks(criterion=Localized(apsr=1.0, keep=1.0))[:-1],  # inside a ball, nothing weighs pixels against each other
    ids=lambda attack: type(attack).__name__,
)
def test_norms_are_close_to_the_optimum_where_pixels_to_keep_are_in_the_way(attack, coupled):
    network, kept, with_kept, without = coupled
    assert with_kept > 1.2 * without
    images, labels = torch.full((1, 3, 6, 8), 0.5), torch.zeros(1, 6, 8, dtype=torch.int64)
    result = attack(network, images, labels, keep_mask=kept[None])
    assert result.success.all()
    assert torch.equal(result.prediction[0] == 0, kept)
    assert 1 - 1e-4 <= result.norm.item() / with_kept <= ratio_of(attack)


def problem_of(size=10):
    """Ten attacked and a hundred kept pixels, all of class 0 in a network of two."""
    images, labels = torch.full((1, 3, 11, size), 0.5), torch.zeros(1, 11, size, dtype=torch.int64)
    kept = torch.ones_like(labels, dtype=torch.bool)
    kept[:, 0] = False
    return make_problem(images, labels, keep_mask=kept, norm="linf")


@pytest.mark.parametrize(
    ("broken", "lost", "success"),
    [(9, 3, True), (8, 0, False), (10, 3, True), (9, 4, False), (10, 4, False), (0, 0, False)],
)
def test_each_share_is_counted_by_itself(broken, lost, success):
    """0.9 of ten and 0.97 of a hundred, exactly; over all 110 pixels together, no pixel broken would be 0.909."""
    criterion, problem = Localized(apsr=0.9, keep=0.97), problem_of()
    margins = torch.ones(1, 11, 10)
    margins[0, 0, :broken] = -1
    margins[0, 1, :lost] = -1
    marked = criterion.broken(torch.stack([margins, torch.zeros_like(margins)], 1), problem)
    num_broken, found = criterion.outcome(marked, problem)
    assert (num_broken.item(), found.item()) == (broken + 100 - lost, success)
    apsr, kept = criterion.shares(marked, problem)
    assert (apsr.item(), kept.item()) == pytest.approx((broken / 10, 1 - lost / 100))


def test_a_tie_neither_breaks_nor_keeps():
    criterion, problem = Localized(), problem_of()
    assert not criterion.broken(torch.zeros(1, 2, 11, 10), problem).any()


def test_an_image_without_attacked_pixels_is_left_alone(network, batch):
    kept = torch.zeros_like(batch.labels, dtype=torch.bool)
    kept[2] = True
    result = LagrangianFMN(num_passes=10, criterion=Localized())(network, batch.images, batch.labels, keep_mask=kept)
    assert torch.equal(result.adv[2], batch.images[2])
    assert not result.success[2]
    assert result.apsr[2].isnan()
    assert result.num_backwards[2] == 0
    assert result.apsr[[0, 1, 3]].gt(0).all()


@pytest.mark.parametrize("attack", [AlmaProx(num_steps=20), LagrangianFMN(num_passes=20), FMN(num_steps=20)], ids=repr)
def test_without_pixels_to_keep_it_is_the_plain_criterion(attack, network, batch):
    """Also with every target: kept and attacked pixels with a target of their own are one and the same."""
    none = torch.zeros_like(batch.labels, dtype=torch.bool)
    one, other, targeted, plain = (
        type(attack)(**{**vars(attack), "criterion": criterion})(network, batch.images, batch.labels, **arguments)
        for criterion, arguments in (
            (Localized(), {"keep_mask": none}),
            (Untargeted(), {}),
            (Localized(targeted=True), {"keep_mask": none, "targets": batch.targets}),
            (Targeted(), {"targets": batch.targets}),
        )
    )
    if not isinstance(attack, AlmaProx):  # whose denominator takes in four classes where some pixel may have a target
        assert torch.equal(one.adv, other.adv)
    assert torch.equal(targeted.adv, plain.adv)
    assert one.kept_share.isnan().all()


def test_a_success_beats_a_failure_with_more_pixels():
    """Within a radius, what is as it must be is returned, though another iterate has more pixels right."""
    tracker = Tracker(torch.zeros(1, 3, 2, 2), minimal_norm=False)
    for step, (num_broken, success) in enumerate([(7, False), (5, True), (9, False), (6, True), (5, True)]):
        delta = torch.full((1, 3, 2, 2), float(step))
        count, found, norm = torch.tensor([num_broken]), torch.tensor([success]), torch.tensor([0.1])
        tracker.update(
            Iterate(step, torch.tensor([0]), delta, delta, delta[:, 0] > 0, count, found, norm, 9 - count.double())
        )
    assert tracker.best.delta.unique().item() == 3
    assert tracker.runner_up.delta.unique().item() == 1


def test_failures_rank_by_what_lacks_in_each_share():
    """A clean image keeps 90 of 100 pixels; what breaks 8 of the 10 others and loses 8 of the kept is nearer."""
    keep = torch.arange(100).view(1, 10, 10) < 90
    problem = make_problem(
        torch.full((1, 3, 10, 10), 0.5), torch.zeros(1, 10, 10, dtype=torch.long), keep_mask=keep, norm="linf"
    )
    clean, attacked = keep.clone(), keep.clone()
    attacked.view(-1)[:9] = False
    attacked.view(-1)[92:] = True
    assert Localized().shortfall(clean, problem).item() == pytest.approx(1)
    assert Localized().shortfall(attacked, problem).item() == pytest.approx(2 / 10 + 9 / 90)
    for minimal_norm in (True, False):
        tracker = Tracker(problem.images, minimal_norm)
        for step, broken in enumerate((clean, attacked)):
            delta = torch.full_like(problem.images, 0.1 * step)
            norm = delta.flatten(1).amax(1)
            count, success = Localized().outcome(broken, problem)
            lacks = Localized().shortfall(broken, problem)
            tracker.update(Iterate(step, torch.tensor([0]), delta, delta, broken, count, success, norm, lacks))
        assert tracker.best.norm.item() == pytest.approx(0.1)


@pytest.mark.parametrize("full", [False, True])
def test_dlr_of_mixed_signs_is_that_of_each_pixel(full):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64)
    reference = torch.randint(5, (2, 6, 7), generator=generator)
    signs = 1 - 2 * (torch.rand(2, 6, 7, generator=generator) < 0.5).long()
    settings = {"tolerance": 0.1, "full_denominator_gradient": full}
    mixed = dlr(logits, reference, sign=signs, **settings)
    for sign in (1, -1):
        expected = slow_dlr(logits, reference, sign, 0.1, full)
        torch.testing.assert_close(mixed[signs == sign], expected[signs == sign])


@pytest.mark.parametrize("loss", [CrossEntropy(), Margin(), DLR(), CosPGDLoss(), Masked()], ids=repr)
def test_losses_of_mixed_signs_are_those_of_each_pixel(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64)
    reference = torch.randint(5, (2, 6, 7), generator=generator)
    signs = 1 - 2 * (torch.rand(2, 6, 7, generator=generator) < 0.5).long()
    broken = signs * slow_margin(logits, reference) < 0

    def value(criterion, **inputs):
        problem = make_problem(torch.rand(2, 3, 6, 7, dtype=torch.float64), reference, norm="linf", **inputs)
        return loss(Pixels(logits, problem, criterion, broken, 0.5))

    mixed = value(Localized(), keep_mask=signs < 0)
    assert torch.equal(mixed[signs > 0], value(Untargeted())[signs > 0])
    assert torch.equal(mixed[signs < 0], value(Targeted(), targets=reference)[signs < 0])


@pytest.mark.parametrize(
    ("criterion", "arguments", "message"),
    [
        (Localized(), {}, "pass keep_mask"),
        (Untargeted(), {"keep_mask": "yes"}, "criterion=Localized"),
        (Localized(targeted=True), {"keep_mask": "yes"}, "pass targets"),
        (Localized(), {"keep_mask": "labels"}, "keep_mask must be bool"),
    ],
)
def test_calls_without_meaning_are_refused(criterion, arguments, message, network, batch):
    given = {"yes": batch.labels == 0, "labels": batch.labels}
    with pytest.raises(ValueError, match=message):
        PGD(eps=0.1, criterion=criterion)(
            network, batch.images, batch.labels, **{name: given[value] for name, value in arguments.items()}
        )


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_shares_without_meaning_are_refused(share):
    with pytest.raises(ValueError, match="keep is a share"):
        Localized(keep=share)


def test_an_attack_that_leaves_the_clean_prediction_has_nothing_to_keep():
    with pytest.raises(ValueError, match="KLPGD"):
        KLPGD(criterion=Localized())


def test_alma_prox_stays_finite_where_a_target_is_out_of_reach():
    """Class 1 lies between the others and wins nowhere; its margin is largest at mid-grey, where all classes tie."""
    case = linear_case(0, batch_size=2)
    images, labels = case.images[:, :, :8, :8], case.labels[:, :8, :8]
    attack = AlmaProx(num_steps=500, criterion=Targeted())
    result = attack(case.network, images, labels, targets=torch.ones_like(labels))
    assert not result.success.any()
    assert result.adv.isfinite().all()


def test_a_small_network_keeps_what_it_must():
    """On a network whose pixels see their neighbours: broken inside a box, kept outside."""
    network, batch = ConvNetwork(), make_batch(ConvNetwork(), batch_size=1)
    kept = torch.ones_like(batch.labels, dtype=torch.bool)
    kept[:, 2:6, 2:6] = False
    attack = LagrangianFMN(num_passes=100, criterion=Localized(apsr=0.9, keep=0.95))
    result = attack(network, batch.images, batch.labels, keep_mask=kept)
    assert result.success.all()
    inside, right = ~kept & batch.valid_mask, result.prediction == batch.labels
    assert right[inside].float().mean() <= 0.1
    assert right[kept & batch.valid_mask].float().mean() >= 0.95
