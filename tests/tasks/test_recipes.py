import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from callbacks.tiny import TinyScenes, loader, make_trainer, tiny_network
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import default_collate

from segrobust.attacks import FGSM, FMN, KLPGD, PGD, InBFloat16, LagrangianFMN, Untargeted
from segrobust.tasks import (
    AdversarialTask,
    MinimalNormTask,
    PublishedPIRATTask,
    Ramp,
    SegmentationTask,
    TRADESTask,
)

EPS = 8 / 255
LR = 0.1


def sgd(parameters):
    return SGD(parameters, lr=LR)


def constant(optimizer, total_steps):
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)


def fit(root, task, scenes=None, **settings):
    trainer = make_trainer(root, **({"max_epochs": 1, "limit_val_batches": 0} | settings))
    trainer.fit(task, loader(scenes or TinyScenes()))
    return trainer


def first_batch():
    scenes = TinyScenes()
    return default_collate([scenes[0], scenes[1]])


def assert_one_step(root, task, loss_of):
    """A step of the task is a step of plain SGD on `loss_of(network, batch)`."""
    reference = copy.deepcopy(task.network).train()
    fit(root, task, limit_train_batches=1)
    loss = loss_of(reference, first_batch())
    names, parameters = zip(*reference.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    assert task.trainer.callback_metrics["train/loss"].item() == pytest.approx(loss.item(), rel=1e-6)
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        found = task.network.get_parameter(name)
        torch.testing.assert_close(found.detach(), (parameter - LR * gradient).detach(), rtol=1e-5, atol=1e-7)


def test_trades_is_its_formula(tmp_path):
    attack = KLPGD(num_steps=2, eps=EPS)
    task = TRADESTask(tiny_network(dropout=0), attack=attack, beta=3.0, optimizer=sgd, schedule=constant)

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        images, labels = batch["image"], batch["mask"]
        attacked = attack.perturb(network, images, labels, sample_ids=batch["sample_id"])
        both = network(torch.cat((images, attacked)))
        p, q = both[:2].softmax(1), both[2:].softmax(1)
        valid = labels != 255
        divergence = (p * (p / q).log()).sum(1)[valid].mean()
        return F.cross_entropy(both[:2], labels, ignore_index=255) + 3 * divergence

    assert_one_step(tmp_path, task, loss_of)
    logged = task.trainer.callback_metrics
    assert logged["train/loss"] > logged["train/clean_loss"]


def test_the_published_pir_at_sums_the_gradients_of_all_iterates(tmp_path):
    attack = PGD(num_steps=3, eps=EPS, step_size=0.01)
    task = PublishedPIRATTask(tiny_network(dropout=0), attack=attack, optimizer=sgd, schedule=constant)

    def loss_of(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The attack as the released code runs it: `backward()` on the loss of every iterate."""
        images, labels = batch["image"], batch["mask"]
        delta, total = torch.zeros_like(images), torch.zeros(())
        for _ in range(3):
            network.eval()
            adv = (images + delta).requires_grad_()
            loss = F.cross_entropy(network(adv), labels, ignore_index=255)
            (gradient,) = torch.autograd.grad(loss, adv, retain_graph=True)
            total = total + loss
            delta = (delta + 0.01 * gradient.sign()).clamp(-EPS, EPS)
            delta = (images + delta).clamp(0, 1) - images
        network.train()
        return total + F.cross_entropy(network(images + delta), labels, ignore_index=255)

    assert_one_step(tmp_path, task, loss_of)


def test_the_ramp_raises_the_radius_step_by_step(tmp_path):
    radii = []

    class Watched(AdversarialTask):
        def perturb(self, batch):
            attacked = super().perturb(batch)
            radii.append((attacked - batch["image"]).abs().max().item())
            return attacked

    task = Watched(tiny_network(), attack=FGSM(eps=EPS), ramp=Ramp(until=0.5, first=0.2), optimizer=sgd)
    fit(tmp_path, task, max_epochs=2)  # six steps
    expected = [EPS * min(1, 0.2 + 0.8 * step / 3) for step in range(6)]
    assert radii == pytest.approx(expected, rel=1e-4)


def test_minimal_norm_training_follows_the_norm_of_each_sample(tmp_path):
    """Radii of the second epoch start where the attack of the first one ended, and perturbations end at the cap."""
    seen = []

    class Watched(MinimalNormTask):
        def perturb(self, batch):
            ids = batch["sample_id"].tolist()
            attacked = super().perturb(batch)
            before = [self._radii.get(key) for key in ids]  # those of the last epoch; of this one they wait
            seen.append((ids, before, (attacked - batch["image"]).abs().amax((1, 2, 3)).tolist()))
            return attacked

    attack = LagrangianFMN(num_passes=8, criterion=Untargeted(apsr=0.9))
    network = tiny_network(dropout=0)
    largest = 2 / 255
    task = Watched(network, largest_eps=largest, attack=attack, optimizer=lambda p: SGD(p, lr=0.0), schedule=constant)
    fit(tmp_path, task, max_epochs=2)
    assert len(seen) == 6
    assert all(before is None for _, radii, _ in seen[:3] for before in radii)
    scenes = TinyScenes()
    for ids, before, sizes in seen[3:]:
        for key, radius, size in zip(ids, before, sizes, strict=True):
            sample = scenes[key]
            # The first epoch's search, once more: its norm is the radius that the second epoch starts from.
            result = attack(network, sample["image"][None], sample["mask"][None], eps=0.25 * largest, sample_ids=[key])
            expected = result.norm.item() if result.success else 0.5 * largest
            assert radius == pytest.approx(min(max(expected, 0.01 * largest), 4 * largest), rel=0.05)
            assert size <= largest + 1e-6


def test_images_that_are_broken_already_stay_clean(tmp_path):
    """As the criterion asks for a share of zero pixels that any prediction meets."""
    network = tiny_network(dropout=0)

    class Watched(MinimalNormTask):
        def perturb(self, batch):
            attacked = super().perturb(batch)
            assert torch.equal(attacked, batch["image"])
            return attacked

    attack = LagrangianFMN(num_passes=3, criterion=Untargeted(apsr=0.01))
    fit(tmp_path, Watched(network, largest_eps=EPS, attack=attack, optimizer=sgd))


def test_learning_rates_follow_the_longest_name(tmp_path):
    network = tiny_network()
    task = SegmentationTask(
        network, optimizer=lambda p: Adam(p, lr=0.01), lr_scale={"0": 0.1, "4": 2, "4.bias": 3}, schedule=constant
    )
    trainer = fit(tmp_path, task)
    rates = {id(p): group["lr"] for group in trainer.optimizers[0].param_groups for p in group["params"]}
    found = {name.removeprefix("network."): rates[id(p)] for name, p in network.named_parameters()}
    assert found == pytest.approx(
        {"0.weight": 1e-3, "0.bias": 1e-3, "1.weight": 1e-2, "1.bias": 1e-2, "4.weight": 2e-2, "4.bias": 3e-2}
    )


def test_the_clean_loss_is_measured_where_no_image_stays_clean(tmp_path):
    task = AdversarialTask(tiny_network(), attack=FGSM(eps=EPS), optimizer=lambda p: SGD(p, lr=0.0))
    fit(tmp_path, task, limit_train_batches=1)
    batch = first_batch()
    network = tiny_network().eval()  # the same weights, and statistics that one training step has moved
    network.load_state_dict(task.network.state_dict())
    expected = F.cross_entropy(tiny_network().eval()(batch["image"]), batch["mask"], ignore_index=255)
    moved = F.cross_entropy(network(batch["image"]), batch["mask"], ignore_index=255)
    logged = task.trainer.callback_metrics["train/clean_loss"].item()
    assert logged == pytest.approx(moved.item(), rel=1e-5)
    assert logged != pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("recipe", ["standard", "pgd_at", "trades"])
def test_a_loss_that_is_not_finite_names_the_samples_and_keeps_the_batch(tmp_path, recipe):
    class Broken(TinyScenes):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample | {"image": sample["image"] * (torch.nan if index == 3 and recipe == "standard" else 1)}

    network = tiny_network(dropout=0)
    if recipe == "standard":
        task = SegmentationTask(network, optimizer=sgd)
    else:
        settings = {"optimizer": lambda p: SGD(p, lr=1e25), "schedule": constant}
        makers = {"pgd_at": AdversarialTask, "trades": TRADESTask}
        attack = KLPGD(num_steps=1, eps=EPS) if recipe == "trades" else FGSM(eps=EPS)
        task = makers[recipe](network, attack=attack, **settings)
    with pytest.raises(FloatingPointError, match=r"samples [0-9, ]+; the batch is saved in|NaN") as raised:
        fit(tmp_path, task, Broken())
    if "saved in" in str(raised.value):
        (file,) = tmp_path.glob("not-finite-*.safetensors")
        kept = load_file(file)
        ids = kept["sample_id"].tolist()
        assert f"samples {', '.join(map(str, ids))};" in str(raised.value)
        assert kept["image"].shape == (2, 3, 24, 32)
        assert recipe != "standard" or ids == [2, 3]


def test_bfloat16_finds_much_of_what_float32_finds():
    batch = first_batch()
    network = tiny_network(dropout=0).eval()
    plain = PGD(num_steps=5, eps=EPS)
    full = plain(network, batch["image"], batch["mask"])
    low = InBFloat16(attack=plain)(network, batch["image"], batch["mask"])
    assert not torch.equal(low.adv, full.adv)  # that it did something
    assert (low.apsr - full.apsr).abs().max() < 0.05
    again = network(low.adv)  # judged in full precision
    assert torch.equal(again.argmax(1), low.prediction)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: TRADESTask(n, beta=0), "beta must be positive, got 0"),
        (lambda n: MinimalNormTask(n, largest_eps=4), r"largest_eps is in image units, got 4; 4/255"),
        (lambda n: MinimalNormTask(n, largest_eps=EPS, attack=FMN()), "does not accept an initial radius"),
        (lambda n: AdversarialTask(n, attack=LagrangianFMN(), ramp=Ramp()), "no radius that could grow"),
        (lambda n: Ramp(until=0), r"until is a share in \(0, 1\], got 0"),
        (lambda n: SegmentationTask(n, lr_scale={"encoder": 0.1}), r"'encoder', but .* start with 0, 1, 4"),
        (lambda n: SegmentationTask(n, lr_scale={"0": 0}), r"lr_scale\['0'\] must be positive"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_network())


def test_seeds_of_epochs_do_not_meet():
    task = AdversarialTask(tiny_network(), attack=FGSM(eps=EPS))
    ids = torch.arange(4)
    seeds = []
    for epoch in range(3):
        task.trainer = make_trainer("unused")
        task.trainer.fit_loop.epoch_progress.current.processed = epoch
        task.trainer.fit_loop.epoch_progress.current.completed = epoch
        seeds.append(set(task.seeds(ids).tolist()))
    assert all(not a & b for a, b in itertools.combinations(seeds, 2))
