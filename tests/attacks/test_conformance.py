import random

import pytest
import torch
from conformance import (
    BATTERY,
    EPS,
    ConvNetwork,
    PixelNetwork,
    ShortRSE,
    assert_same,
    call,
    kept_pixels,
    make_batch,
    needs,
)
from oracles import slow_margin
from tolerances import BALL
from torch import nn

import segrobust.attacks
from segrobust.attacks import (
    APGD,
    DAG,
    DDN,
    DLR,
    FGSM,
    FMN,
    MIFGSM,
    PGD,
    RSFGSM,
    SEA,
    AlmaProx,
    Balanced,
    CosPGD,
    CosPGDLoss,
    LagrangianFMN,
    Masked,
    MinimalNormSearch,
    PAdam,
    SegPGD,
    Square,
    Targeted,
    Tsallis,
    Untargeted,
)
from segrobust.attacks.core.loop import IterativeAttack
from segrobust.functional.modes import attackable
from segrobust.functional.norms import norm

every_attack = pytest.mark.parametrize("contestant", BATTERY, ids=lambda c: c.name)


def judge(network, adv, batch, criterion):
    """Success, share of broken pixels and prediction of images, from the definition."""
    with attackable(network), torch.no_grad():
        logits = network(adv)
    valid = batch.valid_mask
    reference = (batch.labels if criterion.sign > 0 else batch.targets).masked_fill(~valid, 0)
    broken = ((criterion.sign * slow_margin(logits, reference)) < 0) & valid
    if criterion.localized:
        return judge_localized(logits, reference, broken, valid, criterion)
    count, total = broken.flatten(1).sum(1), valid.flatten(1).sum(1)
    return (
        (total > 0) & (100 * (total - count) <= round(100 * (1 - criterion.apsr)) * total),
        count / total,
        logits.argmax(1),
    )


def judge_localized(logits, reference, broken, valid, criterion):
    """The same of attacked pixels, where those to keep must hold their reference in the share that is asked."""
    kept = kept_pixels(reference) & valid
    attacked = valid & ~kept
    lost = kept & ~(slow_margin(logits, reference) > 0)
    enough = torch.ones(len(reference), dtype=torch.bool)
    for pixels, missed, share in ((attacked, attacked & ~broken, criterion.apsr), (kept, lost, criterion.keep)):
        allowed = round(100 * (1 - share)) * pixels.flatten(1).sum(1)
        enough &= 100 * missed.flatten(1).sum(1) <= allowed
    total = attacked.flatten(1).sum(1)
    return (total > 0) & enough, (broken & attacked).flatten(1).sum(1) / total, logits.argmax(1)


@every_attack
def test_the_battery_attacks(contestant, network, batch):
    """Each attack of the battery moves the images and breaks pixels: the other tests are not about nothing."""
    result = call(contestant, network, batch)
    clean = judge(network, batch.images, batch, contestant.attack.criterion)[1]
    assert (result.apsr > clean).all()
    assert ((result.adv - batch.images).abs().amax((1, 2, 3)) > 1e-4).all()


@every_attack
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_box_and_ball_hold_and_norms_are_measured(contestant, dtype):
    network = ConvNetwork(dtype=dtype)
    batch = make_batch(network, dtype=dtype)
    batch.images[:, :, ::2] = batch.images[:, :, ::2].round()  # the box binds
    result = call(contestant, network, batch)
    assert result.adv.dtype == dtype
    assert ((result.adv >= 0) & (result.adv <= 1)).all()
    measured = norm(result.adv - batch.images, contestant.attack.norm)
    if contestant.attack.minimal_norm:
        assert torch.equal(result.norm, measured.masked_fill(~result.success, torch.inf))
    else:
        assert torch.equal(result.norm, measured)
        assert (measured <= contestant.attack.default_eps + BALL).all()


@every_attack
def test_an_image_alone_gives_what_it_gives_in_a_batch(contestant, network, batch):
    together = call(contestant, network, batch)
    for i in range(len(batch.images)):
        assert_same(call(contestant, network, batch.rows([i])), together, [i])


@every_attack
def test_order_does_not_matter(contestant, network, batch):
    order = [2, 0, 3, 1]
    assert_same(call(contestant, network, batch.rows(order)), call(contestant, network, batch), order)


@every_attack
def test_the_same_call_gives_the_same_result(contestant, network, batch):
    assert_same(call(contestant, network, batch), call(contestant, network, batch))


@every_attack
def test_labels_of_void_pixels_do_not_matter(contestant, network, batch):
    """Void by label and void by mask are the same, whatever the label below the mask, foreign ones included."""
    generator = torch.Generator().manual_seed(9)
    noise = torch.randint(-3, 300, batch.labels.shape, generator=generator)
    labels = torch.where(batch.valid_mask, batch.labels, noise)
    arguments = {"valid_mask": batch.valid_mask, "ignore_index": -100}
    if contestant.targeted:
        arguments["targets"] = torch.where(batch.valid_mask, batch.targets, noise)
    changed = type(batch)(batch.images, labels, batch.valid_mask, batch.targets, batch.sample_ids)
    assert_same(call(contestant, network, changed, **arguments), call(contestant, network, batch))


@every_attack
def test_void_pixels_are_left_alone_and_do_not_pull(contestant):
    """Where logits depend on their own pixel alone: no perturbation of void pixels, no influence of their content."""
    network = PixelNetwork()
    batch = make_batch(network)
    void = ~batch.valid_mask[:, None].expand_as(batch.images)
    first = call(contestant, network, batch)
    delta = first.adv - batch.images
    if not contestant.random:
        assert delta[void].eq(0).all()
    assert delta[~void].ne(0).any()
    images = torch.where(void, 0.25 + 0.5 * batch.images.flip(0), batch.images)
    changed = type(batch)(images, batch.labels, batch.valid_mask, batch.targets, batch.sample_ids)
    second = call(contestant, network, changed)
    if not (
        contestant.random and contestant.attack.norm == "l2"
    ):  # there the box clips a void pixel's share of the noise
        assert torch.equal(second.adv[~void], first.adv[~void])
        assert torch.equal(second.success, first.success)
        assert torch.equal(second.apsr, first.apsr)


@every_attack
@pytest.mark.parametrize("per_channel", [False, True])
def test_locked_pixels_are_not_touched(contestant, network, batch, per_channel):
    generator = torch.Generator().manual_seed(1)
    shape = batch.images.shape if per_channel else batch.labels.shape
    perturbable_mask = torch.rand(shape, generator=generator) < 0.5
    result = call(contestant, network, batch, perturbable_mask=perturbable_mask)
    free = perturbable_mask if per_channel else perturbable_mask[:, None].expand_as(batch.images)
    delta = result.adv - batch.images
    assert delta[~free].eq(0).all()
    assert delta[free].ne(0).any()


@every_attack
def test_an_image_without_valid_pixels_is_clean_and_failed(contestant, network, batch):
    labels = batch.labels.clone()
    labels[1] = 255
    valid = batch.valid_mask & (labels != 255)
    changed = type(batch)(batch.images, labels, valid, batch.targets, batch.sample_ids)
    result = call(contestant, network, changed)
    assert torch.equal(result.adv[1], batch.images[1])
    assert not result.success[1]
    assert result.apsr[1].isnan()
    assert result.norm[1].item() == (float("inf") if contestant.attack.minimal_norm else 0)
    assert result.first_success[1].item() == -1
    assert result.num_backwards[1].item() == 0
    rest = [0, 2, 3]
    assert_same(call(contestant, network, batch.rows(rest)), call(contestant, network, changed), rest)
    alone = call(contestant, network, changed.rows([1]))
    assert_same(alone, result, [1])


@every_attack
@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_few_classes(contestant, num_classes):
    """Two classes have no DLR: ALMA-prox takes the margin, the others say so."""
    network = ConvNetwork(num_classes)
    batch = make_batch(network, num_classes=num_classes)
    if getattr(contestant.attack, "loss", None) == DLR() and num_classes < 3:
        with pytest.raises(ValueError, match="use the margin"):
            call(contestant, network, batch)
        return
    clean = judge(network, batch.images, batch, contestant.attack.criterion)[1]
    assert (call(contestant, network, batch).apsr > clean).all()


@every_attack
def test_the_result_is_that_of_judging_it_again(contestant, network, batch):
    result = call(contestant, network, batch)
    success, apsr, prediction = judge(network, result.adv, batch, contestant.attack.criterion)
    assert torch.equal(result.success, success)
    assert torch.equal(result.apsr, apsr)
    assert torch.equal(result.prediction, prediction)


@every_attack
def test_success_has_an_iterate(contestant, network, batch):
    """A success was seen at some iterate, and an image that never succeeded has none."""
    result = call(contestant, network, batch)
    assert torch.equal(result.first_success >= 0, result.success)
    assert (result.first_success < result.num_forwards).all()


@every_attack
def test_ties_are_not_broken(contestant):
    """Logits that are equal everywhere break no pixel, whatever argmax says; and they pull nowhere."""

    class Constant(nn.Module):
        def forward(self, x):
            return (0 * x.sum(1, keepdim=True)).expand(-1, 5, -1, -1)

    batch = make_batch(ConvNetwork())
    result = call(contestant, Constant(), batch)
    assert not result.success.any()
    assert result.apsr.eq(0).all()
    assert result.adv.isfinite().all()
    assert ((result.adv >= 0) & (result.adv <= 1)).all()


@every_attack
def test_passes_are_counted(contestant, batch):
    """An image alone: the counters are the calls of the network's hooks."""
    network = ConvNetwork()
    seen = {"forwards": 0, "backwards": 0}

    def count_backward(gradient):
        seen["backwards"] += 1

    def count_forward(module, inputs, output):
        seen["forwards"] += 1
        if output.requires_grad:
            output.register_hook(count_backward)

    network.register_forward_hook(count_forward)
    for i in range(len(batch.images)):
        seen.update(forwards=0, backwards=0)
        result = call(contestant, network, batch.rows([i]))
        assert result.num_forwards.tolist() == [seen["forwards"]]
        assert result.num_backwards.tolist() == [seen["backwards"]]
        assert (seen["backwards"] > 0) == (contestant.attack.max_passes[1] > 0)


@every_attack
def test_passes_stay_below_what_was_announced(contestant, network, batch):
    result = call(contestant, network, batch)
    forwards, backwards = contestant.attack.max_passes
    judging = 2  # the second where the first contradicts the loop
    assert (result.num_forwards <= forwards + judging).all()
    assert (result.num_backwards <= backwards).all()


@every_attack
def test_nothing_of_the_surroundings_changes(contestant, batch):
    network = ConvNetwork()
    network.train()
    network[3].eval()
    network[0].weight.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    flags = [parameter.requires_grad for parameter in network.parameters()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    given = [value.clone() for value in vars(batch).values()]
    generators = torch.get_rng_state(), random.getstate()
    threads, default = torch.get_num_threads(), torch.get_default_dtype()
    call(contestant, network, batch)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(now, before) for now, before in zip(vars(batch).values(), given, strict=True))
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, default)


@every_attack
def test_inference_mode_outside_changes_nothing(contestant, network, batch):
    """Trainer.validate and Trainer.test run under it, with a batch made inside."""
    outside = call(contestant, network, batch)
    with torch.inference_mode():
        inside = call(contestant, network, type(batch)(*(value.clone() for value in vars(batch).values())))
    assert_same(inside, outside)


@every_attack
def test_the_default_dtype_does_not_matter(contestant):
    network = ConvNetwork(dtype=torch.float32)
    batch = make_batch(network, dtype=torch.float32)
    plain = call(contestant, network, batch)
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(call(contestant, network, batch), plain)
    finally:
        torch.set_default_dtype(torch.float32)


@every_attack
def test_autocast_outside_changes_nothing(contestant):
    network = ConvNetwork(dtype=torch.float32)
    batch = make_batch(network, dtype=torch.float32)
    outside = call(contestant, network, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = call(contestant, network, batch)
    assert_same(inside, outside)


@every_attack
def test_images_in_a_graph_are_attacked_as_constants(contestant, network, batch):
    """In training, a batch may come from something differentiable; the result is free of its graph."""
    images = batch.images.clone().requires_grad_() * 1.0
    inside = type(batch)(images, batch.labels, batch.valid_mask, batch.targets, batch.sample_ids)
    result = call(contestant, network, inside)
    assert not result.adv.requires_grad
    assert_same(result, call(contestant, network, batch))


@every_attack
def test_perturbing_for_training_stays_in_box_and_ball(contestant, network, batch):
    """`perturb` gives the last iterate, detached, with one forward less than iterates, or none for judging."""
    calls = []
    handle = network.register_forward_hook(lambda module, inputs, output: calls.append(output.shape[0]))
    adv = contestant.attack.perturb(network, batch.images, batch.labels, **needs(contestant, batch))
    handle.remove()
    assert not adv.requires_grad
    assert ((adv >= 0) & (adv <= 1)).all()
    if not contestant.attack.minimal_norm:
        assert (norm(adv - batch.images, contestant.attack.norm) <= contestant.attack.default_eps + BALL).all()
    if isinstance(contestant.attack, IterativeAttack):
        assert len(calls) == contestant.attack.max_passes[0] - 1
    assert not torch.equal(adv, batch.images)


@every_attack
def test_repr_identifies_the_attack(contestant):
    again = eval(repr(contestant.attack), {**vars(segrobust.attacks), "ShortRSE": ShortRSE})
    assert again == contestant.attack
    assert hash(again) == hash(contestant.attack)


@every_attack
def test_nan_is_an_error(contestant, batch):
    network = ConvNetwork()
    with torch.no_grad():
        network[4].bias[2] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        call(contestant, network, batch)


@every_attack
def test_labels_outside_the_classes_are_an_error(contestant, network, batch):
    labels = batch.labels.clone()
    labels[0, 0, 0] = 11
    changed = type(batch)(batch.images, labels, batch.valid_mask, batch.targets, batch.sample_ids)
    with pytest.raises(ValueError, match=r"labels contain \[11\].*5 classes.*ignore_index"):
        call(contestant, network, changed)


def test_reprs_differ():
    assert len({repr(contestant.attack) for contestant in BATTERY}) == len(BATTERY)


@pytest.mark.parametrize("norm_name", ["linf", "l2"])
def test_random_starts_depend_on_seed_and_sample_id_alone(network, batch, norm_name):
    eps = EPS if norm_name == "linf" else 0.6

    def start(rows, ids, seed=0):
        seen = []
        chosen = batch.rows(rows)
        attack = PGD(num_steps=1, eps=eps, random_start=True, seed=seed, norm=norm_name)
        attack(network, chosen.images, chosen.labels, sample_ids=ids, observer=lambda i: seen.append(i.delta))
        return seen[0]

    images = batch.images
    images.clamp_(0.2, 0.8)  # the box does not bind, so that the noise is seen
    together = start([0, 1, 2, 3], [7, 8, 9, 7])
    assert torch.equal(start([2], torch.tensor([9]))[0], together[2])
    assert torch.equal(together[0], together[3])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(start([0], [7], seed=1)[0], together[0])
    assert not torch.equal(start([0], [-7])[0], together[0])
    lengths = norm(together, norm_name)
    assert ((lengths > 0.01 * eps) & (lengths <= eps)).all()


def test_radius_of_each_image():
    """One radius per image replaces the field; each image is attacked inside its own."""
    network = ConvNetwork()
    batch = make_batch(network)
    radii = torch.tensor([1.0, 2.0, 4.0, 8.0]) / 255
    result = PGD(num_steps=6, eps=0.5)(network, batch.images, batch.labels, eps=radii)
    assert ((result.norm > 0) & (result.norm <= radii + BALL)).all()
    for i, eps in enumerate(radii.tolist()):
        one = batch.rows([i])
        assert_same(PGD(num_steps=6, eps=eps)(network, one.images, one.labels), result, [i])


TARGETED = {"criterion": Targeted()}


@pytest.mark.parametrize(
    "attack",
    [
        AlmaProx(num_steps=200, **TARGETED),
        *(LagrangianFMN(num_passes=100, norm=norm, **TARGETED) for norm in ("linf", "l2")),
        *(FMN(num_steps=100, norm=norm, **TARGETED) for norm in ("linf", "l2", "l1")),
        *(DAG(norm=norm, **TARGETED) for norm in ("linf", "l2")),
        DDN(num_steps=100, loss=Masked(), **TARGETED),
        MinimalNormSearch(attack=APGD(num_steps=20, loss=Masked(), **TARGETED)),
        FGSM(eps=0.5, loss=Masked(), **TARGETED),
        RSFGSM(eps=0.5, loss=Masked(), **TARGETED),
        *(attack(eps=0.5, **TARGETED) for attack in (PGD, SegPGD, CosPGD, MIFGSM, APGD, PAdam, SEA)),
        Square(eps=0.5, num_queries=3000, **TARGETED),
    ],
    ids=repr,
)
def test_a_reachable_target_is_reached(attack):
    """The third channel alone decides for the target class: every pixel that is not there yet needs 0.1 more in it."""
    network = nn.Conv2d(3, 4, 1)
    network.weight.data.zero_()
    network.bias.data = torch.tensor([0.5, 0.0, 0.0, -0.2])
    network.weight.data[3, 2] = 2.0
    images = torch.full((2, 3, 6, 6), 0.25)
    labels = torch.zeros(2, 6, 6, dtype=torch.int64)
    targets = torch.full_like(labels, 3)
    targets[1, :3] = 0  # half of the second image is where it should be already
    result = attack(network, images, labels, targets=targets, sample_ids=[1, 2])
    assert result.success.all()
    assert torch.equal(result.prediction, targets)
    if attack.minimal_norm:
        least = norm(0.1 * (targets != 0)[:, None].float(), attack.norm)
        assert ((result.norm >= least) & (result.norm <= 1.2 * least)).all()


def good(**changes):
    arguments = {"images": torch.rand(2, 3, 6, 6), "labels": torch.zeros(2, 6, 6, dtype=torch.int64)}
    return arguments | changes


@pytest.mark.parametrize(
    ("attack", "arguments", "error", "message"),
    [
        (PGD(eps=EPS), good(images=torch.rand(2, 3, 6, 6) * 255), ValueError, r"\[0, 1\].*divide"),
        (PGD(eps=EPS), good(images=torch.rand(2, 3, 6, 6) - 0.5), ValueError, r"\[0, 1\].*Normalized"),
        (PGD(eps=EPS), good(images=torch.full((2, 3, 6, 6), torch.nan)), ValueError, "nan"),
        (PGD(eps=EPS), good(images=torch.zeros(2, 3, 6, 6, dtype=torch.uint8)), TypeError, "uint8.*divide"),
        (PGD(eps=EPS), good(images=torch.rand(3, 6, 6)), ValueError, r"batch \(B, C, H, W\)"),
        (PGD(eps=EPS), good(images=torch.rand(0, 3, 6, 6)), ValueError, "empty"),
        (PGD(eps=EPS), good(labels=torch.zeros(2, 6, 5, dtype=torch.int64)), ValueError, "labels must have shape"),
        (PGD(eps=EPS), good(labels=torch.full((2, 6, 6), 0.5)), TypeError, "fractions"),
        (PGD(eps=EPS), good(labels=torch.full((2, 6, 6), -1)), ValueError, r"labels contain \[-1\]"),
        (PGD(eps=EPS), good(valid_mask=torch.ones(2, 6, 6)), ValueError, "valid_mask must be bool"),
        (
            PGD(eps=EPS),
            good(labels=torch.zeros(2, 6, 6, dtype=torch.int64, device="meta")),
            TypeError,
            r"without values \(device meta\): load it",
        ),
        (PGD(eps=EPS), good(perturbable_mask=torch.ones(2, 6, 6)), TypeError, "bool"),
        (PGD(eps=EPS), good(perturbable_mask=torch.ones(2, 5, 6, dtype=torch.bool)), ValueError, "perturbable_mask"),
        (PGD(eps=EPS), good(start=torch.zeros(2, 3, 5, 6)), ValueError, "start"),
        (PGD(eps=EPS), good(eps=8), ValueError, "8/255 = 0.03137"),
        (PGD(eps=EPS), good(eps=0.0), ValueError, "positive"),
        (PGD(eps=EPS), good(eps=torch.tensor([EPS, torch.nan])), ValueError, "positive"),
        (PGD(eps=EPS), good(eps=torch.full((3,), EPS)), ValueError, "one per image"),
        (PGD(), good(), ValueError, "needs a radius"),
        (FGSM(), good(), ValueError, "needs a radius"),
        (PGD(eps=EPS, random_start=True), good(sample_ids=[1]), ValueError, "one integer per image"),
        (PGD(eps=EPS), good(targets=torch.zeros(2, 6, 6, dtype=torch.int64)), ValueError, "criterion=Targeted"),
        (PGD(eps=EPS, criterion=Targeted()), good(), ValueError, "pass targets"),
        (
            PGD(eps=EPS, criterion=Targeted()),
            good(targets=torch.full((2, 6, 6), 9)),
            ValueError,
            r"targets contain \[9\]",
        ),
        (AlmaProx(), good(eps=EPS), ValueError, "no effect"),
        (PGD(eps=EPS), good(epsilon=EPS), TypeError, "takes no epsilon; it takes valid_mask, .*eps"),
        (MinimalNormSearch(attack=PGD()), good(eps=EPS), ValueError, "no effect"),
    ],
)
def test_bad_arguments_are_refused_with_a_way_to_fix_them(attack, arguments, error, message):
    with pytest.raises(error, match=message):
        attack(ConvNetwork(dtype=torch.float32), **arguments)
    with pytest.raises(error, match=message):
        attack.perturb(ConvNetwork(dtype=torch.float32), **arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(eps=8), "8/255 = 0.03137"),
        (lambda: PGD(eps=-0.1), "positive"),
        (lambda: PGD(num_steps=0), "num_steps"),
        (lambda: PGD(norm="l1"), "linf, l2"),
        (lambda: RSFGSM(eps=EPS, norm="l2"), "linf"),
        (lambda: RSFGSM(eps=EPS, step_ratio=0.0), "1.25"),
        (lambda: Tsallis(first_q=2.0), "cross-entropy"),
        (lambda: Balanced(class_pixels=(3, 0)), "without pixels"),
        (lambda: CosPGDLoss(activation="tanh"), "softmax, sigmoid"),
        (lambda: PGD(step_size=0.0), "step_size"),
        (lambda: PGD(seed=1), "random_start"),
        (lambda: Untargeted(apsr=99), "0.99"),
        (lambda: Untargeted(apsr=0.0), "0.99"),
        (lambda: MinimalNormSearch(attack=AlmaProx()), "AlmaProx is minimal-norm"),
        (lambda: MinimalNormSearch(attack=PGD(eps=EPS)), "leave eps of PGD at None"),
        (lambda: MinimalNormSearch(attack=PGD(), num_rounds=0), "num_rounds"),
        (lambda: MinimalNormSearch(attack=PGD(), initial_eps=0.2, max_eps=0.1), "max_eps"),
        (lambda: MinimalNormSearch(attack=PGD(), initial_eps=4), "255"),
    ],
)
def test_bad_fields_are_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: PGD(loss="ce"),
        lambda: FGSM(loss=None),
        lambda: RSFGSM(loss=1),
        lambda: MIFGSM(loss="ce"),
        lambda: PAdam(loss="ce"),
        lambda: APGD(loss="ce"),
        lambda: Masked(loss="margin"),
    ],
)
def test_a_loss_that_is_none_is_refused(make):
    with pytest.raises(TypeError, match=r"CrossEntropy\(\) or Masked"):
        make()


def test_a_table_of_classes_fits_the_network(network, batch):
    with pytest.raises(ValueError, match="5 classes, got 3"):
        PGD(eps=EPS, loss=Balanced(class_pixels=(1, 2, 3)))(network, batch.images, batch.labels)


class Returns(nn.Module):
    """A network that returns what it was told to make of the images."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: {"out": x}, TypeError, "dict.*FullResolution"),
        (lambda x: x[:, :, ::2], ValueError, "FullResolution"),
        (lambda x: x[:, 0], ValueError, "without squeeze"),
        (lambda x: x[:, :1], ValueError, "at least 2 classes"),
        (lambda x: torch.zeros_like(x), ValueError, "differentiably"),
        (lambda x: x.detach() * 2, ValueError, "differentiably"),
    ],
)
def test_networks_that_cannot_be_attacked_are_named(make, error, message):
    with pytest.raises(error, match=message):
        PGD(eps=EPS)(Returns(make), **good())
