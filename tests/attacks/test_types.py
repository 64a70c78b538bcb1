"""The types under load: attacks of other kinds than ours, written here against the public types alone."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from conformance import ConvNetwork, assert_same
from oracles import linear_case
from torch import Tensor, nn

from segrobust.attacks import FGSM, PGD, AlmaProx, Attack, Criterion, Margin, MinimalNormSearch, Targeted, Untargeted
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.attacks.core.oracle import NetworkOracle
from segrobust.attacks.core.problem import make_problem
from segrobust.attacks.core.tracker import Candidates, Tracker
from segrobust.functional.margins import margin
from segrobust.functional.norms import per_image


@dataclass
class Momentum:
    velocity: Tensor  # (B, C, H, W)
    age: Tensor  # (B,)
    label: str  # not a tensor: left alone by the loop


@dataclass(frozen=True, kw_only=True)
class MomentumAttack(IterativeAttack[Momentum]):
    """Carries a state, reads a radius of its own for each image, and lets images leave at their first success."""

    minimal_norm = False
    num_steps: int = 8
    eps: float | None = None
    norm: str = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    @property
    def default_eps(self):
        return self.eps

    def init(self, problem):
        start = torch.zeros_like(problem.images) if problem.start is None else problem.start
        return start, Momentum(torch.zeros_like(start), torch.zeros(len(start)), "momentum")

    def objective(self, problem, iterate, state):
        return -(margin(iterate.logits, problem.labels) * problem.valid_mask).sum((1, 2))

    def update(self, problem, iterate, gradient, state):
        assert state.label == "momentum"
        assert len(state.age) == len(gradient) == problem.batch_size == len(iterate.rows)
        state.age += 1
        assert (state.age == iterate.step + 1).all()
        state.velocity = 0.5 * state.velocity + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        radius = per_image(problem.required_eps("MomentumAttack"), gradient)
        stepped = iterate.delta + radius / 4 * state.velocity.sign()
        return stepped.clamp(-radius, radius).clamp(problem.lower, problem.upper)

    def done(self, problem, iterate, state):
        return iterate.success


@dataclass(frozen=True, kw_only=True)
class Constants(Attack):
    """A query attack: shifts whole images, asks for logits alone, and counts no backward pass."""

    minimal_norm = True
    num_shifts: int = 5
    norm: str = "linf"
    criterion: Criterion = field(default_factory=Untargeted)

    def run(self, oracle, problem, observer):
        tracker = Tracker(problem.images, self.minimal_norm)
        for step in range(self.num_shifts):
            delta = torch.full_like(problem.images, 0.1 * step).clamp(problem.lower, problem.upper)
            logits = oracle.logits(delta, differentiable=False)
            tracker.update(self.iterate(problem, step, torch.arange(problem.batch_size), delta, logits))
        return tracker


@dataclass(frozen=True, kw_only=True)
class Restarts(Attack):
    """A wrapper around a fixed-budget attack, usable inside a search: several seeds, the best of them."""

    minimal_norm = False
    attack: PGD
    seeds: tuple[int, ...] = (1, 2)

    @property
    def norm(self):
        return self.attack.norm

    @property
    def criterion(self):
        return self.attack.criterion

    def run(self, oracle, problem, observer):
        tracker = Tracker(problem.images, self.minimal_norm)
        for seed in self.seeds:
            inner = replace(self.attack, seed=seed).run(oracle, replace(problem, start=None), observer)
            tracker.merge(torch.arange(problem.batch_size), inner)
        return tracker


RADII = torch.tensor([4.0, 64.0, 64.0, 16.0]) / 255


def test_images_finish_early_and_leave_the_batch(network, batch):
    sizes = []
    handle = network.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[0]))
    result = MomentumAttack()(network, batch.images, batch.labels, eps=RADII)
    handle.remove()
    assert sizes[0] == sizes[-1] == 4
    assert 1 <= min(sizes) < 4
    assert sum(sizes) == result.num_forwards.sum().item()
    # An image leaves right after its first success: as many backwards as the iterate's index.
    done = result.success
    assert done.any()
    assert not done.all()
    assert torch.equal(result.num_backwards[done], result.first_success[done])
    assert torch.equal(result.num_forwards[done], result.first_success[done] + 2)
    assert (result.num_backwards[~done] == 8).all()
    assert (result.num_forwards[~done] == 10).all()


def test_early_finish_does_not_couple_images(network, batch):
    together = MomentumAttack()(network, batch.images, batch.labels, eps=RADII)
    for i in range(4):
        one = batch.rows([i])
        assert_same(MomentumAttack()(network, one.images, one.labels, eps=RADII[i : i + 1]), together, [i])
        assert_same(MomentumAttack(eps=RADII[i].item())(network, one.images, one.labels), together, [i])
    order = [3, 1, 0, 2]
    mixed = batch.rows(order)
    assert_same(MomentumAttack()(network, mixed.images, mixed.labels, eps=RADII[order]), together, order)


def test_each_image_has_its_own_radius(network, batch):
    seen = []
    MomentumAttack()(network, batch.images, batch.labels, eps=RADII, observer=seen.append)
    for iterate in seen[1:]:
        assert (iterate.norm <= RADII[iterate.rows] + 1e-7).all()
    assert torch.allclose(seen[-1].norm, RADII[seen[-1].rows].double())


def test_warm_start_is_judged_first_and_clipped_to_the_box(network, batch):
    seen = []
    start = torch.full_like(batch.images, 0.9)
    MomentumAttack(eps=0.5)(network, batch.images, batch.labels, start=start, observer=seen.append)
    assert torch.equal(seen[0].delta, torch.minimum(start, 1 - batch.images))
    seen.clear()
    PGD(eps=0.01, num_steps=1)(network, batch.images, batch.labels, start=start, observer=seen.append)
    assert torch.allclose(seen[0].norm, torch.tensor(0.01, dtype=torch.float64))


def test_a_query_attack_needs_no_gradient(network, batch):
    for parameter in network.parameters():
        assert parameter.requires_grad
    result = Constants()(network, batch.images, batch.labels)
    assert result.num_backwards.eq(0).all()
    assert result.num_forwards.eq(6).all()
    assert (result.apsr > 0).all()
    one = batch.rows([2])
    assert_same(Constants()(network, one.images, one.labels), result, [2])


def test_a_query_attack_reports_nan(batch):
    network = ConvNetwork()
    network[4].bias.data[0] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        Constants()(network, batch.images, batch.labels)


def test_a_wrapper_takes_the_best_of_what_it_contains(network, batch):
    attack = PGD(num_steps=3, eps=8 / 255, random_start=True)
    arguments = {"sample_ids": batch.sample_ids, "eps": 8 / 255}
    single = [replace(attack, seed=seed)(network, batch.images, batch.labels, **arguments) for seed in (1, 2)]
    both = Restarts(attack=attack)(network, batch.images, batch.labels, **arguments)
    assert torch.equal(both.apsr, torch.maximum(single[0].apsr, single[1].apsr))
    assert torch.equal(both.num_backwards, single[0].num_backwards + single[1].num_backwards)
    assert torch.equal(both.num_forwards, single[0].num_forwards + single[1].num_forwards - 1)
    assert torch.equal(both.first_success >= 0, both.success)


def test_a_wrapper_in_a_wrapper(network, batch):
    attack = MinimalNormSearch(attack=Restarts(attack=PGD(num_steps=3, loss=Margin(), random_start=True)), num_rounds=4)
    result = attack(network, batch.images, batch.labels, sample_ids=batch.sample_ids)
    assert result.success.any()
    assert torch.equal(result.first_success >= 0, result.success)
    for i in range(4):
        one = batch.rows([i])
        assert_same(attack(network, one.images, one.labels, sample_ids=one.sample_ids), result, [i])
    assert eval(repr(attack)) == attack


def test_all_images_may_finish_at_once():
    case = linear_case(0, batch_size=2)
    wrong = (case.labels + 1) % 6
    result = PGD(eps=8 / 255)(case.network, case.images, wrong)
    assert result.num_backwards.tolist() == [0, 0]
    assert result.num_forwards.tolist() == [2, 2]
    assert result.norm.tolist() == [0, 0]


class Flips(nn.Module):
    """A network whose last call differs by one pixel, as other kernels' rounding may make it."""

    def __init__(self, inner, call, row):
        super().__init__()
        self.inner, self.call, self.row, self.calls = inner, call, row, 0

    def forward(self, x):
        logits = self.inner(x)
        self.calls += 1
        if self.calls == self.call:
            first = torch.zeros_like(logits, dtype=torch.bool)
            first[self.row, :, : self.rows_flipped] = True
            logits = torch.where(first, self.clean, logits)
        return logits


@pytest.mark.parametrize("row", [0, 1])
def test_the_runner_up_is_taken_when_the_last_forward_contradicts_the_loop(row):
    case = linear_case(0, batch_size=2)
    attack = AlmaProx(num_steps=60, criterion=Untargeted(apsr=0.5))
    plain = attack(case.network, case.images, case.labels)
    seen = []
    attack(case.network, case.images, case.labels, observer=seen.append)
    second = sorted((iterate.norm[row].item(), iterate.step) for iterate in seen if iterate.success[row])[1][1]
    assert plain.success.all()
    network = Flips(case.network, call=62, row=row)
    network.rows_flipped, network.clean = 24, case.network(case.images).detach()
    result = attack(network, case.images, case.labels)
    assert network.calls == 63
    assert result.success.all()
    assert torch.equal(result.adv[row], case.images[row] + seen[second].delta[row])
    assert result.norm[row] > plain.norm[row]
    other = 1 - row
    assert torch.equal(result.adv[other], plain.adv[other])
    assert torch.equal(result.num_forwards, plain.num_forwards + 1)
    with torch.no_grad():
        assert torch.equal(result.prediction, case.network(result.adv).argmax(1))


def problem_of(case):
    return make_problem(case.images, case.labels, norm="linf")


def test_oracle_gradient_is_that_of_the_network():
    case = linear_case(0, batch_size=3, dtype=torch.float64)
    oracle = NetworkOracle(case.network, case.images)
    logits = oracle.logits(torch.zeros_like(case.images))
    assert not logits.requires_grad
    cotangent = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.einsum("bkhw,kc->bchw", cotangent, case.network.weight.detach()[:, :, 0, 0])
    part = oracle.select(torch.tensor([2, 0]))
    torch.testing.assert_close(part.pullback(cotangent[[2, 0]]), expected[[2, 0]])
    assert oracle.counter.backwards.tolist() == [1, 0, 1]
    oracle.logits(torch.zeros_like(case.images))
    part_of_part = oracle.select(torch.tensor([2, 0])).select(torch.tensor([1]))
    torch.testing.assert_close(part_of_part.pullback(cotangent[[0]]), expected[[0]])
    assert oracle.counter.backwards.tolist() == [2, 0, 1]
    part.select(torch.tensor([1])).logits(torch.zeros_like(case.images[:1]), differentiable=False)
    assert oracle.counter.forwards.tolist() == [3, 2, 2]


def test_one_pullback_for_each_forward():
    case = linear_case(0)
    oracle = NetworkOracle(case.network, case.images)
    logits = oracle.logits(torch.zeros_like(case.images))
    oracle.pullback(torch.ones_like(logits))
    with pytest.raises(RuntimeError, match="once"):
        oracle.pullback(torch.ones_like(logits))
    oracle.logits(torch.zeros_like(case.images), differentiable=False)
    with pytest.raises(RuntimeError, match="differentiable"):
        oracle.pullback(torch.ones_like(logits))


@pytest.mark.parametrize(
    ("apsr", "num_valid", "needed"),
    [
        (0.99, 100, 99),
        (0.99, 101, 100),
        (0.99, 99, 99),
        (0.99, 1, 1),
        (0.99, 172_800, 171_072),
        (1.0, 7, 7),
        (0.9, 10, 9),
    ],
)
def test_success_is_decided_in_whole_pixels(apsr, num_valid, needed):
    """`n - floor((1 - apsr) n)`, of the decimal fraction: 0.1 * 10 is one pixel, not 0.99... of one."""
    criterion, total = Untargeted(apsr=apsr), torch.tensor([num_valid] * 2)
    assert criterion.success(torch.tensor([needed, needed - 1]), total).tolist() == [True, False]


def test_an_image_without_valid_pixels_is_no_success():
    assert not Untargeted(apsr=0.5).success(torch.tensor([0]), torch.tensor([0])).any()


def test_problem_marks_void_and_bounds():
    case = linear_case(0, batch_size=2)
    labels = case.labels.clone()
    labels[0, :3] = 255
    problem = problem_of(replace(case, labels=labels))
    assert problem.num_valid.tolist() == [21 * 32, 24 * 32]
    assert (problem.labels[0, :3] == 0).all()
    assert torch.equal(problem.lower, -case.images)
    assert torch.equal(problem.upper, 1 - case.images)
    part = problem.select(torch.tensor([1]))
    assert part.num_valid.tolist() == [24 * 32]
    assert torch.equal(part.images[0], case.images[1])


def test_candidates_of_a_search_are_kept_at_their_norm():
    """A search's radii shrink around the smallest norm found, never above the last success."""
    case = linear_case(0)
    radii = []

    class Spy(FGSM):
        def run(self, oracle, problem, observer):
            radii.append(problem.eps.item())
            return super().run(oracle, problem, observer)

    result = MinimalNormSearch(attack=Spy(loss=Margin(), criterion=Untargeted(apsr=0.5)), num_rounds=12)(
        case.network, case.images, case.labels
    )
    assert len(radii) == 12
    assert radii[0] == pytest.approx(4 / 255)
    assert result.success.all()
    assert result.norm.item() <= min(radii[i] for i in range(12) if radii[i] >= result.norm.item() - 1e-7) + 1e-6
    assert abs(radii[-1] - result.norm.item()) < 0.01 * result.norm.item()
    assert isinstance(Tracker(case.images, True).best, Candidates)


class BreaksDown(nn.Module):
    """A network that returns NaN once, by default at an iterate that an attack only passes through."""

    def __init__(self, inner, at=2):
        super().__init__()
        self.inner, self.at, self.calls = inner, at, 0

    def forward(self, x):
        self.calls += 1
        logits = self.inner(x)
        return logits * torch.nan if self.calls == self.at else logits


def test_nan_at_one_iterate_is_an_error():
    """The last judgement sees other images than the one that broke the network."""
    case = linear_case(0)
    with pytest.raises(FloatingPointError, match="NaN"):
        PGD(eps=8 / 255, num_steps=3)(BreaksDown(case.network), case.images, case.labels)


def test_nan_for_clean_images_is_told_at_once():
    case = linear_case(0)
    network = BreaksDown(case.network, at=1)
    with pytest.raises(FloatingPointError, match="NaN"):
        PGD(eps=8 / 255, num_steps=3)(network, case.images, case.labels)
    assert network.calls == 1


def test_an_image_leaves_a_round_of_a_search_at_its_first_success(network, batch):
    seen = []
    attack = MinimalNormSearch(attack=PGD(num_steps=4, loss=Margin(), criterion=Untargeted(apsr=0.5)), num_rounds=5)
    attack(network, batch.images, batch.labels, observer=seen.append)
    finished, successes = set(), 0
    for iterate in seen:
        finished = set() if iterate.step == 0 else finished
        assert not finished & set(iterate.rows.tolist())
        finished |= set(iterate.rows[iterate.success].tolist())
        successes += int(iterate.success.sum())
    assert successes > 4
    assert any(iterate.step == 4 for iterate in seen)


def test_a_pixel_without_a_target_does_not_count(network, batch):
    targets = batch.targets.clone()
    targets[:, :2] = 255
    attack = PGD(num_steps=2, eps=8 / 255, criterion=Targeted())
    result = attack(network, batch.images, batch.labels, targets=targets)
    assert_same(attack(network, batch.images, batch.labels, targets=batch.targets, valid_mask=targets != 255), result)
