"""Ensembles, stages, restarts, clips, averages over randomness, and transfer."""

import itertools
import math

import pytest
import torch
from conformance import ConvNetwork, make_batch
from oracles import linear_case
from torch import nn

from segrobust.attacks import (
    APGD,
    EOT,
    FGSM,
    KLPGD,
    PGD,
    RSE,
    RSFGSM,
    SEA,
    AlmaProx,
    Balanced,
    Clipped,
    JensenShannon,
    LagrangianFMN,
    Margin,
    Masked,
    MinimalNormSearch,
    Restarts,
    ShrinkingRadius,
    Targeted,
    WorstOf,
)

EPS = 1 / 255


def attack_with(attack, network, batch, **arguments):
    return attack(network, batch.images, batch.labels, sample_ids=batch.sample_ids, **arguments)


def test_the_worst_of_several_attacks_is_taken_for_each_image(network):
    batch = make_batch(network, size=(16, 18))
    members = tuple(PGD(num_steps=2, eps=EPS, random_start=True, seed=seed) for seed in (2, 3))
    results = [attack_with(attack, network, batch) for attack in members]
    together = attack_with(WorstOf(attacks=members), network, batch)
    apsr = torch.stack([result.apsr for result in results])
    assert torch.equal(together.apsr, apsr.amax(0))
    assert not any(torch.equal(row, together.apsr) for row in apsr)  # no member is the worst for all images
    assert torch.equal(together.num_backwards, sum(result.num_backwards for result in results))
    assert torch.equal(together.num_forwards, sum(result.num_forwards - 1 for result in results) + 1)


def test_the_worst_of_minimal_norm_attacks_has_the_least_norm(network, batch):
    members = (LagrangianFMN(num_passes=5), LagrangianFMN(num_passes=6), AlmaProx(num_steps=9, step_size=8e-3))
    norms = torch.stack([attack_with(attack, network, batch).norm for attack in members])
    together = attack_with(WorstOf(attacks=members), network, batch)
    torch.testing.assert_close(together.norm, norms.amin(0), rtol=0, atol=1e-12)


def test_images_that_are_broken_take_no_further_part():
    """One image of the batch is all broken by the first member: the second costs it nothing."""
    case = linear_case(0, batch_size=2)
    labels = case.labels.clone()
    labels[0] = (labels[0] + 1) % 6
    attack = WorstOf(attacks=(FGSM(eps=EPS), PGD(num_steps=3, eps=EPS)))
    rows = []
    result = attack(case.network, case.images, labels, observer=lambda iterate: rows.append(iterate.rows.tolist()))
    assert result.num_forwards.tolist() == [2, 7]
    assert result.num_backwards.tolist() == [0, 4]
    assert rows == [[0, 1], [1], [1], [1], [1], [1]]  # places in the batch of the call


def test_sea_is_three_losses_on_a_shrinking_radius():
    members = SEA(num_steps=300, eps=EPS, class_pixels=(1, 2), seed=2).members
    losses = {"mce_balanced": Balanced(class_pixels=(1, 2)), "mce": Masked(), "js": JensenShannon()}
    assert members == {
        name: ShrinkingRadius(attack=APGD(num_steps=300, eps=EPS, loss=loss, random_start=True, seed=6 + i))
        for i, (name, loss) in enumerate(losses.items())
    }


def test_sea_costs_what_the_paper_says(network, batch):
    result = attack_with(SEA(num_steps=300, eps=EPS), network, batch.rows([0]))
    assert result.num_backwards.tolist() == [900]
    assert result.num_forwards.tolist() == [909 + 1]  # and one to judge


def test_rse_is_a_battery_of_ten(network, batch):
    attack = RSE(eps=EPS)
    assert len(attack.members) == 10
    assert len(set(map(repr, attack.members.values()))) == 10
    assert all(member.default_eps == EPS and not member.minimal_norm for member in attack.members.values())
    assert all(member.criterion == Targeted() for member in RSE(criterion=Targeted()).members.values())


def test_stages_shrink_and_start_from_the_best_so_far(network, batch):
    inner = PGD(num_steps=10, loss=Masked(), eps=EPS)
    seen = []
    result = attack_with(ShrinkingRadius(attack=inner), network, batch, observer=seen.append)
    stages = [seen[:4], seen[4:8], seen[8:]]
    assert [len(stage) for stage in stages] == [4, 4, 5]
    for factor, stage in zip((2, 1.5, 1), stages, strict=True):
        reach = torch.stack([iterate.norm for iterate in stage])
        assert (reach <= factor * EPS + 1e-12).all()
        assert (reach.amax(0) > 0.99 * factor * EPS).all()
    for before, after in itertools.pairwise(stages):
        broken = torch.stack([iterate.num_broken for iterate in before])
        first = broken.argmax(0)
        for row in range(4):
            best = before[first[row]].delta[row]
            largest = after[0].norm[row]
            assert torch.equal(after[0].delta[row], best.clamp(-largest, largest))
    last = torch.stack([iterate.num_broken for iterate in stages[-1]]).amax(0)
    torch.testing.assert_close(result.apsr, last / batch.valid_mask.sum((1, 2)))


@pytest.mark.parametrize(
    ("num_steps", "shares", "expected"),
    [
        (300, (0.3, 0.3, 0.4), (90, 90, 120)),
        (10, (0.3, 0.3, 0.4), (3, 3, 4)),
        (7, (0.3, 0.3, 0.4), (2, 2, 3)),
        (100, (0.29, 0.29, 0.42), (29, 29, 42)),
    ],
)
def test_steps_are_divided_among_stages(num_steps, shares, expected):
    assert ShrinkingRadius(attack=APGD(num_steps=num_steps), shares=shares).stage_steps == expected


def test_restarts_begin_with_the_attack_itself():
    attack = PGD(num_steps=3, seed=4, random_start=True)
    seeds = [run.seed for run in Restarts(attack=attack, num_runs=3).runs]
    assert seeds == [4, 5, 6]
    first, second = Restarts(attack=PGD(num_steps=3), num_runs=2).runs
    assert (first.random_start, second.random_start, second.seed) == (False, True, 1)


def test_restarts_find_at_least_what_their_runs_find(network, batch):
    attack = Restarts(attack=PGD(num_steps=3, eps=EPS), num_runs=3)
    apsr = torch.stack([attack_with(run, network, batch).apsr for run in attack.runs])
    assert torch.equal(attack_with(attack, network, batch).apsr, apsr.amax(0))


def test_a_clip_keeps_what_fits(network, batch):
    inner = LagrangianFMN(num_passes=15)
    found = attack_with(inner, network, batch)
    assert found.success.all()
    delta = found.adv - batch.images
    for eps in (found.norm.amax().item() * 1.01, found.norm.amin().item() / 2):
        result = attack_with(Clipped(attack=inner, eps=eps), network, batch)
        torch.testing.assert_close(result.adv - batch.images, delta.clamp(-eps, eps), rtol=0, atol=1e-12)
        assert torch.equal(result.success, found.norm <= eps)
        assert torch.equal(result.num_forwards, found.num_forwards + 1)


def test_linear_bisection_visits_the_published_radii():
    """From the largest radius, halving the way to the largest failure or the smallest success."""
    case = linear_case(0, batch_size=1)
    optimum = case.minimal_norms("linf").item()
    seen = []

    class Recorded(PGD):
        def run(self, oracle, problem, observer):
            seen.append(problem.eps.item())
            assert problem.start is None
            return super().run(oracle, problem, observer)

    inner = Recorded(num_steps=20, loss=Masked(loss=Margin()))
    attack = MinimalNormSearch(attack=inner, num_rounds=10, bisection="linear", warm_start=False)
    result = attack(case.network, case.images, case.labels)
    low, high, expected = 0.0, 2.0, []
    for eps in seen:
        expected.append((low + high) / 2)
        success = PGD(num_steps=20, loss=Masked(loss=Margin()), eps=eps)(case.network, case.images, case.labels).success
        low, high = (low, eps) if success else (eps, high)
    assert seen == pytest.approx(expected)
    assert optimum <= result.norm.item() <= high + 1e-6


def searched_radii(settings, **search):
    """Radii that a search calls PGD with, whether each succeeded, and the smallest norm; the result; the optimum."""
    case = linear_case(0, batch_size=1)
    seen = []

    class Recorded(PGD):
        def run(self, oracle, problem, observer):
            found = super().run(oracle, problem, observer)
            seen.append((problem.eps.item(), bool(found.best.success), found.best.norm.item()))
            return found

    inner = Recorded(loss=Masked(loss=Margin()), **settings)
    result = MinimalNormSearch(attack=inner, **search)(case.network, case.images, case.labels)
    return seen, result, case.minimal_norms("linf").item()


@pytest.mark.parametrize(("num_steps", "max_eps"), [(20, None), (1, 16 / 255)])
def test_log_bisection_goes_below_the_smallest_norm_by_a_ratio_that_failures_shrink(num_steps, max_eps):
    seen, _, _ = searched_radii({"num_steps": num_steps}, num_rounds=12, initial_eps=1 / 255, max_eps=max_eps)
    expected, ratio, smallest = 1 / 255, 2.0, math.inf
    for eps, success, length in seen:
        assert eps == pytest.approx(expected, rel=1e-5)
        if math.isfinite(smallest) and not success:
            ratio = math.sqrt(ratio)
        smallest = min(smallest, length) if success else smallest
        if math.isfinite(smallest):
            expected = smallest / ratio
        elif max_eps is not None and eps >= max_eps * (1 - 1e-6):
            expected = 2 / 255
        else:
            expected = min(4 * eps, 1.0 if max_eps is None else max_eps)
    outcomes = [success for _, success, _ in seen]
    assert True in outcomes
    assert False in outcomes[outcomes.index(True) :]


def test_a_radius_that_failed_from_the_clean_image_is_tried_again_from_a_success():
    short = {"num_steps": 3, "step_ratio": 0.15}  # half a radius
    _, _, optimum = searched_radii(short, num_rounds=1)
    seen, result, _ = searched_radii(short, num_rounds=13, initial_eps=1.6 * optimum)
    assert not seen[0][1]
    assert result.norm.item() < 1.3 * optimum


class Rippled(nn.Module):
    """Adds a ripple in noisy inputs to the logits: too low to change many predictions, too steep to follow."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.ripple = nn.Conv2d(3, 6, 1)
        self.ripple.weight.data = torch.randn(6, 3, 1, 1, generator=torch.Generator().manual_seed(7))

    def forward(self, x):
        return self.inner(x) + 0.02 * (500 * self.ripple(x + 0.02 * torch.randn_like(x))).sin()


def test_averages_break_a_noisy_network_that_plain_gradients_do_not():
    """With as many passes, at 1.5 times the radius at which the network without ripple breaks."""
    case = linear_case(1, batch_size=4)
    noisy = Rippled(case.network)
    eps = 0.06
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = PGD(num_steps=300, eps=eps)(noisy, case.images, case.labels)
        averaged = EOT(attack=PGD(num_steps=10, eps=eps), num_draws=30)(noisy, case.images, case.labels)
        broken = [noisy(result.adv).argmax(1) != case.labels for result in (plain, averaged) for _ in range(20)]
    share = torch.stack(broken).view(2, 20, 4, -1).float().mean((1, 3))
    assert averaged.success.all()
    assert not plain.success.any()
    assert (share[0] < 0.95).all()
    assert (share[1] > 0.99).all()


class Calls(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.count = inner, 0

    def forward(self, x):
        self.count += 1
        return self.inner(x)


def test_draws_are_counted(network, batch):
    attack = EOT(attack=PGD(num_steps=3, eps=EPS), num_draws=4)
    counting = Calls(network)
    result = attack(counting, batch.images, batch.labels)
    assert result.num_forwards.tolist() == [4 * 5] * 4
    assert result.num_backwards.tolist() == [4 * 3] * 4
    assert counting.count == 20


def test_without_randomness_averages_change_nothing(network, batch):
    plain = attack_with(PGD(num_steps=3, eps=EPS), network, batch)
    averaged = attack_with(EOT(attack=PGD(num_steps=3, eps=EPS), num_draws=2), network, batch)
    assert torch.equal(averaged.adv, plain.adv)


def test_averages_serve_training_too(network, batch):
    attack = PGD(num_steps=3, eps=EPS)
    plain = attack.perturb(network, batch.images, batch.labels)
    assert torch.equal(EOT(attack=attack, num_draws=2).perturb(network, batch.images, batch.labels), plain)


def test_a_transfer_attack_asks_the_network_only_to_judge(batch):
    """The result is that of an attack on the surrogate, judged on the network."""
    surrogate, network = ConvNetwork(), Calls(ConvNetwork())
    with torch.no_grad():
        network.inner[4].weight.add_(0.5 * torch.randn(network.inner[4].weight.shape, dtype=torch.float64))
    attack = PGD(num_steps=5, eps=4 * EPS)
    white_box = attack_with(attack, surrogate, batch)
    result = attack_with(attack, network, batch, surrogate=surrogate)
    assert network.count == 1
    assert torch.equal(result.adv, white_box.adv)
    with torch.no_grad():
        prediction = network.inner.eval()(result.adv).argmax(1)
    assert torch.equal(result.prediction, prediction)
    assert not torch.equal(result.apsr, white_box.apsr)
    assert torch.equal(result.num_forwards, white_box.num_forwards)  # the last of them on the other network
    assert surrogate.training


def test_a_transfer_that_fails_is_a_failure(batch):
    surrogate, network = ConvNetwork(), Calls(ConvNetwork())
    with torch.no_grad():
        network.inner[4].weight.mul_(0)
        network.inner[4].bias.copy_(torch.tensor([5.0, 0, 0, 0, 0]))
    labels = torch.zeros_like(batch.labels)  # as the network predicts, whatever it sees
    result = LagrangianFMN(num_passes=9)(network, batch.images, labels, surrogate=surrogate)
    assert result.norm.tolist() == [torch.inf] * 4
    assert network.count == 1


def test_a_surrogate_for_more_classes_is_refused(batch):
    with pytest.raises(ValueError, match="classes"):
        PGD(num_steps=1, eps=EPS)(ConvNetwork(3), batch.images, batch.labels, surrogate=ConvNetwork(5))


@pytest.mark.parametrize("attack", [PGD(), APGD(seed=2, random_start=True), RSFGSM(seed=1), KLPGD()], ids=repr)
def test_restarts_take_every_attack_that_can_start_at_random(attack):
    runs = Restarts(attack=attack, num_runs=3).runs
    assert runs[0] == attack
    assert [run.seed for run in runs] == [attack.seed, attack.seed + 1, attack.seed + 2]
    assert all(run.random_start for run in runs[1:])
    assert {type(run) for run in runs} == {type(attack)}


@pytest.mark.parametrize("attack", [FGSM(), RSE(), WorstOf(attacks=(PGD(), APGD()))], ids=repr)
def test_attacks_without_a_choice_say_so(attack):
    assert attack.step_budget is None
    assert attack.start_seed is None
    with pytest.raises(TypeError):
        attack.with_step_budget(3)
    with pytest.raises(TypeError):
        attack.with_start_seed(3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WorstOf(attacks=(PGD(),)), "two"),
        (lambda: WorstOf(attacks=(PGD(), PGD(norm="l2"))), "norm"),
        (lambda: WorstOf(attacks=(PGD(), LagrangianFMN())), "minimal_norm"),
        (lambda: WorstOf(attacks=(PGD(eps=0.1), PGD(eps=0.2))), "default_eps"),
        (lambda: WorstOf(attacks=(PGD(), PGD(criterion=Targeted()))), "criterion"),
        (lambda: SEA(eps=4), "4/255"),
        (lambda: SEA(num_steps=3), "at least 4"),
        (lambda: SEA(class_pixels=(0, 1)).members, "positive"),
        (lambda: RSE(eps=4), "4/255"),
        (lambda: ShrinkingRadius(attack=AlmaProx()), "APGD"),
        (lambda: ShrinkingRadius(attack=FGSM()), "APGD"),
        (lambda: ShrinkingRadius(attack=APGD(), factors=(1, 2, 1)), "decrease"),
        (lambda: ShrinkingRadius(attack=APGD(), factors=(3, 2, 1.5)), "end with 1"),
        (lambda: ShrinkingRadius(attack=APGD(), shares=(0.5, 0.5)), "as many"),
        (lambda: ShrinkingRadius(attack=APGD(), shares=(0.5, 0.5, 0.5)), "sum to 1"),
        (lambda: ShrinkingRadius(attack=APGD(num_steps=3)), "one of APGD's steps"),
        (lambda: Restarts(attack=FGSM()), "random_start"),
        (lambda: Restarts(attack=PGD(), num_runs=1), "at least 2"),
        (lambda: Clipped(attack=PGD()), "PGD already has a radius"),
        (lambda: Clipped(attack=AlmaProx(), eps=4), "4/255"),
        (lambda: EOT(attack=PGD(), num_draws=1), "at least 2"),
        (lambda: MinimalNormSearch(attack=PGD(), bisection="binary"), "log, linear"),
    ],
)
def test_bad_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
