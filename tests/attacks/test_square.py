"""Square: its search replayed from what it asked, its limits, and what it finds where the optimum is known."""

from dataclasses import replace

import pytest
import torch
from conformance import EPS, ConvNetwork, assert_same, make_batch
from oracles import linear_case, slow_margin
from tolerances import BALL
from torch import nn

from segrobust.attacks import PGD, JensenShannon, Masked, MinimalNormSearch, Targeted, Untargeted
from segrobust.attacks.square import Square
from segrobust.functional.modes import attackable
from segrobust.functional.norms import norm

both_norms = pytest.mark.parametrize("norm_name", ["linf", "l2"])
RADIUS = {"linf": EPS, "l2": 0.6}


def observe(attack, network, batch, **arguments):
    """Result and iterates of an attack."""
    seen = []
    arguments = {"sample_ids": batch.sample_ids} | arguments
    return attack(network, batch.images, batch.labels, observer=seen.append, **arguments), seen


def total_loss(logits, batch):
    """Sum of the negative margins of the valid pixels: `(B,)`."""
    margins = slow_margin(logits, batch.labels.masked_fill(~batch.valid_mask, 0))
    return -(margins * batch.valid_mask).sum((1, 2))


@both_norms
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_iterate_lies_in_ball_and_box(norm_name, dtype):
    network = ConvNetwork(dtype=dtype)
    batch = make_batch(network, dtype=dtype)
    batch.images[:, :, ::2] = batch.images[:, :, ::2].round()  # the box binds
    radii = RADIUS[norm_name] * torch.tensor([0.25, 0.5, 1.0, 2.0], dtype=dtype)
    generator = torch.Generator().manual_seed(1)
    perturbable_mask = torch.rand(batch.images.shape, generator=generator) < 0.8
    attack = Square(num_queries=40, norm=norm_name)
    _, seen = observe(attack, network, batch, eps=radii, perturbable_mask=perturbable_mask)
    assert len(seen) == 40
    for iterate in seen:
        adv = batch.images[iterate.rows] + iterate.delta
        assert ((adv >= -BALL) & (adv <= 1 + BALL)).all()
        assert (norm(iterate.delta, norm_name) <= radii[iterate.rows] + BALL).all()
        assert iterate.delta[~perturbable_mask[iterate.rows]].eq(0).all()
    assert (norm(seen[-1].delta, norm_name) > 0.3 * radii[seen[-1].rows]).all()


@both_norms
def test_an_image_asks_the_same_alone_and_beside_others_that_leave(norm_name, network):
    batch = make_batch(network, batch_size=5)
    batch.labels[1] = 255  # never attacked
    batch.valid_mask[1] = False
    with attackable(network), torch.no_grad():
        wrong = (network(batch.images).argmax(1) + 1) % 5
    batch.labels[3] = torch.where(batch.valid_mask[3], wrong[3], batch.labels[3])  # broken as it stands
    batch.labels[4].fill_(255)  # broken soon: its most fragile pixel is all that counts
    with attackable(network), torch.no_grad():
        logits = network(batch.images)
    pixel = divmod(int(slow_margin(logits, logits.argmax(1))[4].argmin()), batch.labels.shape[2])
    batch.labels[4][pixel] = logits.argmax(1)[4][pixel]
    batch.valid_mask[4] = batch.labels[4] != 255
    attack = Square(num_queries=60, eps=RADIUS[norm_name], norm=norm_name, seed=3)
    result, seen = observe(attack, network, batch)
    for i in range(5):
        alone, own = observe(attack, network, batch.rows([i]))
        assert_same(alone, result, [i])
        beside = [iterate.delta[iterate.rows == i] for iterate in seen if (iterate.rows == i).any()]
        assert len(beside) == len(own)
        assert all(torch.equal(one, iterate.delta) for one, iterate in zip(beside, own, strict=True))
    order = [3, 4, 0, 2, 1]
    assert_same(observe(attack, network, batch.rows(order))[0], result, order)
    assert result.num_forwards[[0, 1, 2, 3]].tolist() == [61, 1, 61, 2]
    assert 2 < result.num_forwards[4] < 61
    assert result.success[4]


@both_norms
def test_queries_depend_on_seed_and_sample_id_alone(norm_name, network, batch):
    def last(ids, seed=0):
        attack = Square(num_queries=8, eps=RADIUS[norm_name], norm=norm_name, seed=seed)
        same = batch.rows([0, 0])
        return observe(attack, network, same, sample_ids=ids)[1][-1].delta

    together = last([7, -7])
    assert torch.equal(last([-7, 7]).flip(0), together)
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(last([7, -7], seed=1)[0], together[0])


@both_norms
def test_it_asks_for_logits_alone(norm_name, network, batch):
    seen = []
    handle = network.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    attack = Square(num_queries=15, eps=RADIUS[norm_name], norm=norm_name)
    result, _ = observe(attack, network, batch)
    handle.remove()
    assert seen == [False] * 16
    assert attack.max_passes == (15, 0)
    assert result.num_forwards.tolist() == [16] * 4
    assert result.num_backwards.tolist() == [0] * 4


@both_norms
def test_the_first_query_is_the_clean_image_or_the_warm_start(norm_name, network, batch):
    attack = Square(num_queries=2, eps=RADIUS[norm_name], norm=norm_name)
    _, seen = observe(attack, network, batch)
    assert seen[0].delta.eq(0).all()
    start = 0.05 * torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, seen = observe(attack, network, batch, start=start)
    if norm_name == "linf":
        assert torch.equal(seen[0].delta, start.clamp(-EPS, EPS))
    else:
        assert torch.allclose(seen[0].delta, 0.6 * start / norm(start, "l2")[:, None, None, None])
    unmoved = (seen[1].delta - seen[0].delta).abs() < 1e-12
    assert unmoved.any((1, 2, 3)).all()  # the search goes on from there: one square has moved


def test_the_random_start_in_linf_is_made_of_stripes(network, batch):
    _, seen = observe(Square(num_queries=2, eps=EPS), network, batch)
    stripes = seen[1].delta
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))
    assert torch.equal(stripes.abs(), torch.full_like(stripes, EPS))
    assert (stripes > 0).any((2, 3)).all()
    assert (stripes < 0).any((2, 3)).all()


def test_the_random_start_in_l2_is_made_of_two_bumps(network):
    """Tiles of side 3 on 15 x 20 pixels, one column left free on either side; the shape by hand."""
    batch = make_batch(network, size=(15, 20))
    _, seen = observe(Square(num_queries=2, eps=0.3, norm="l2"), network, batch)
    eta = torch.tensor([[0.25, 1.25, 0.25], [-0.25, -0.25, -0.25], [-0.25, -1.25, -0.25]], dtype=torch.float64)
    eta = eta / eta.norm() * 0.3 / (3 * 5 * 6) ** 0.5
    shapes = torch.stack((eta, -eta, eta.T, -eta.T))
    delta = seen[1].delta
    assert delta[..., [0, 19]].eq(0).all()
    tiles = delta[..., 1:19].unfold(2, 3, 3).unfold(3, 3, 3).reshape(-1, 1, 3, 3)
    distances = (tiles - shapes).abs().amax((2, 3))
    assert (distances.amin(1) < 1e-12).all()
    assert (distances < 1e-12).any(0).all()


MARKS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def test_it_is_random_search_with_one_square_for_each_query(network):
    """Replayed: a query is the best so far but for one square of the schedule's side, and stays if the loss grows."""
    batch = make_batch(network, batch_size=2, size=(24, 30))
    _, seen = observe(Square(num_queries=300, eps=1e-3, p_init=0.4), network, batch)
    losses = torch.stack([total_loss(iterate.logits, batch) for iterate in seen])
    for i in range(2):
        kept, kept_loss, accepted, repeated, reached = seen[0].delta[i], losses[0, i], 0, 0, {}
        for query, iterate in enumerate(seen):
            delta = iterate.delta[i]
            if query > 1:
                done = query / 300 * 10000
                side = round((0.4 * 0.5 ** sum(done > mark for mark in MARKS) * 24 * 30) ** 0.5)
                rows, columns = (delta != kept).any(0).nonzero(as_tuple=True)
                repeated += len(rows) == 0
                if len(rows):
                    top, left = int(rows.min()), int(columns.min())
                    height, width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
                    assert max(height, width) <= side
                    reached[side] = max(reached.get(side, 0), height, width)
                    changed = delta[:, top : top + height, left : left + width]
                    assert torch.equal(changed, changed[:, :1, :1].expand_as(changed))
                    assert torch.equal(changed.abs(), torch.full_like(changed, 1e-3))
            if losses[query, i] > kept_loss:
                kept, kept_loss, accepted = delta, losses[query, i], accepted + 1
        assert accepted > 10
        assert repeated < 90  # a square of one pixel changes nothing in one of eight
        assert len(reached) >= 6
        assert all(side == largest for side, largest in reached.items())


def test_in_l2_all_of_the_radius_is_used(network, batch):
    """Mass moves, and what is unused is taken up: where the box does not bind, every perturbation has length eps."""
    batch.images.clamp_(0.4, 0.6)
    attack = Square(num_queries=60, eps=0.1, norm="l2")
    for start in (torch.zeros_like(batch.images), None):  # all is unused at first, or nothing
        _, seen = observe(attack, network, batch, start=start)
        lengths = torch.stack([norm(iterate.delta, "l2") for iterate in seen[1:]])
        assert torch.allclose(lengths, torch.full_like(lengths, 0.1), rtol=1e-9)
    channels = torch.stack([iterate.delta.square().sum((2, 3)) for iterate in seen[1:]])
    kept = total_loss(seen[1].logits, batch) > total_loss(seen[0].logits, batch)
    assert kept.any()  # a random start that was kept: from there on every channel keeps its mass
    assert torch.allclose(channels[:, kept], channels[:1, kept].expand_as(channels[:, kept]))


class Rounded(nn.Module):
    """Logits in steps: no gradient anywhere, as from a network that was quantised for defence."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return torch.round(self.network(x) * 8) / 8


@both_norms
@pytest.mark.parametrize(
    ("criterion", "least"), [(Untargeted(), 0.5), (Targeted(), 0.1)], ids=["untargeted", "targeted"]
)
def test_a_network_without_gradients_breaks(norm_name, criterion, least):
    case = linear_case(0, batch_size=2)
    network = Rounded(case.network)
    eps = {"linf": 0.15, "l2": 12.0}[norm_name]
    second = case.network(case.images).topk(2, dim=1).indices[:, 1]
    targets = {"targets": second} if isinstance(criterion, Targeted) else {}
    blind = PGD(eps=eps, norm=norm_name, criterion=criterion)(network, case.images, case.labels, **targets)
    attack = Square(num_queries=200, eps=eps, norm=norm_name, criterion=criterion)
    result = attack(network, case.images, case.labels, sample_ids=[1, 2], **targets)
    assert blind.apsr.eq(0).all()
    assert (result.apsr > least).all()


def few_pixels(case):
    """A corner of the images: search takes queries in proportion to the pixels."""
    return replace(case, images=case.images[..., :4, :4], labels=case.labels[..., :4, :4])


def test_what_can_be_broken_in_linf_is_found():
    """Of affine logits, every pixel that the ball holds a way to break breaks at one of its corners."""
    case = few_pixels(linear_case(0, batch_size=4, dtype=torch.float64))
    breakable = (case.distances("linf") < 0.01).sum((1, 2)) / 16
    result = Square(num_queries=800, eps=0.01)(case.network, case.images, case.labels, sample_ids=[1, 2, 3, 4])
    assert ((breakable > 0.3) & (breakable < 1)).all()
    assert torch.equal(result.apsr, breakable)


def test_each_image_has_its_radius(network, batch):
    radii = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64) / 255
    attack = Square(num_queries=20)
    result, _ = observe(attack, network, batch, eps=radii)
    assert torch.allclose(result.norm, radii)
    for i, eps in enumerate(radii.tolist()):
        assert_same(observe(attack, network, batch.rows([i]), eps=eps)[0], result, [i])


def test_it_serves_a_search_for_minimal_norms():
    case = few_pixels(linear_case(0, batch_size=2))
    attack = Square(num_queries=200, criterion=Untargeted(apsr=0.75))
    search = MinimalNormSearch(attack=attack, num_rounds=8)
    result = search(case.network, case.images, case.labels, sample_ids=[1, 2])
    assert result.success.all()
    ratio = result.norm / case.minimal_norms("linf", apsr="0.75")
    assert ((ratio >= 1) & (ratio < 2)).all()
    assert (result.num_forwards < 7 * 200).all()  # a round ends at its first success


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs a query limit: num_queries=1000.*got None"),
        ({"num_queries": 1}, "needs a query limit.*got 1"),
        ({"num_queries": 9, "eps": 8}, "8/255 = 0.03137"),
        ({"num_queries": 9, "norm": "l1"}, "linf, l2"),
        ({"num_queries": 9, "p_init": 0.0}, r"\(0, 1\], got 0.0"),
        ({"num_queries": 9, "p_init": 1.5}, r"\(0, 1\], got 1.5"),
        ({"num_queries": 9, "loss": Masked()}, r"Masked may drop.*loss=CrossEntropy\(\)"),
        ({"num_queries": 9, "loss": JensenShannon()}, r"loss=CrossEntropy\(\)"),
    ],
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Square(**settings)


def test_a_loss_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"CrossEntropy\(\) or Masked"):
        Square(num_queries=9, loss="margin")


def test_calls_without_meaning_are_refused(network, batch):
    with pytest.raises(ValueError, match="needs a radius"):
        Square(num_queries=9)(network, batch.images, batch.labels, sample_ids=batch.sample_ids)
