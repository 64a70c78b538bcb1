import dataclasses
import math

import pytest
import torch
from evaluation.toy import CRITERION, NUM_CLASSES, ToyScenes, as_batch, comparable, toy_network, toy_plan
from torch import nn

from segrobust.attacks import (
    APGD,
    EOT,
    PGD,
    RSFGSM,
    SEA,
    AlmaProx,
    MinimalNormSearch,
    Restarts,
    ShrinkingRadius,
    Square,
)
from segrobust.attacks.stored import Stored
from segrobust.evaluation import (
    AdversarialStore,
    Job,
    Plan,
    RecordWriter,
    StridedWork,
    merge_records,
    plan_attacks,
    read_records,
    run,
)
from segrobust.evaluation.engine.runner import Outputs
from segrobust.evaluation.engine.runtime_estimate import max_passes

PGD_START = PGD(num_steps=4, random_start=True, criterion=CRITERION)


def run_all(network, dataset, plan, *, ids=None, batch_size=1, **settings):
    work = StridedWork(ids or range(len(dataset)), batch_size=batch_size)
    return list(run(network, dataset, plan, work=work, **settings))


@pytest.fixture(scope="module")
def undisturbed():
    return run_all(toy_network(), ToyScenes(6), toy_plan())


def slow_counts(prediction, mask):
    """tp, fp, fn by loops over pixels."""
    tp, fp, fn = [0] * NUM_CLASSES, [0] * NUM_CLASSES, [0] * NUM_CLASSES
    for guess, truth in zip(prediction.flatten().tolist(), mask.flatten().tolist(), strict=True):
        if truth != 255 and guess == truth:
            tp[truth] += 1
        elif truth != 255:
            fp[guess] += 1
            fn[truth] += 1
    return tuple(tp), tuple(fp), tuple(fn)


def test_a_record_is_what_the_attack_itself_gives(undisturbed):
    network, dataset = toy_network(), ToyScenes(6)
    by_key = {record.key: record for record in undisturbed}
    for call in toy_plan().attack_calls:
        images, masks = as_batch(dataset[4], torch.float64)
        eps = None if call.eps == "min" else call.eps
        result = call.job.attack(network, images, masks, eps=eps, sample_ids=[4])
        record = by_key[4, call.job.digest, call.eps]
        assert (record.success, record.norm, record.apsr) == (
            bool(result.success), result.norm.item(), result.apsr.item(),
        )  # fmt: skip
        assert (record.tp, record.fp, record.fn) == slow_counts(result.prediction, masks)
        assert (record.num_forwards, record.num_backwards) == (result.num_forwards.item(), result.num_backwards.item())
        assert record.first_success == result.first_success.item()
        assert (record.sample_name, record.seed, record.num_valid) == ("toy_4", 0, int((masks != 255).sum()))


def test_clean_record_counts_the_network_as_it_is(undisturbed):
    images, masks = as_batch(ToyScenes(6)[1], torch.float64)
    prediction = toy_network()(images).argmax(1)
    record = next(r for r in undisturbed if r.key == (1, "clean", None))
    wrong = ((prediction != masks) & (masks != 255)).sum().item()
    assert wrong > 0
    assert record.apsr == pytest.approx(wrong / record.num_valid, rel=1e-6)
    assert (record.tp, record.fp, record.fn) == slow_counts(prediction, masks)
    assert all(r.clean_apsr == record.apsr for r in undisturbed if r.sample_id == 1)


def test_by_products_are_the_clipped_perturbation_judged_once_more(undisturbed):
    network, (alma, _) = toy_network(), toy_plan().jobs
    images, masks = as_batch(ToyScenes(6)[0], torch.float64)
    delta = alma.attack(network, images, masks).adv - images
    for eps in alma.eps:
        prediction = network(images + delta.clamp(-eps, eps)).argmax(1)
        record = next(r for r in undisturbed if r.key == (0, alma.digest, eps))
        assert record.kind == "by-product"
        assert (record.tp, record.fp, record.fn) == slow_counts(prediction, masks)
        assert record.norm == pytest.approx(min(eps, delta.abs().max().item()), rel=1e-12)
        assert (record.num_forwards, record.num_backwards) == (1, 0)


def test_l2_by_products_lie_in_the_l2_ball():
    search = MinimalNormSearch(attack=PGD(num_steps=3, norm="l2"), num_rounds=3, initial_eps=2.0, max_eps=20.0)
    records = run_all(toy_network(), ToyScenes(1), Plan(jobs=(Job(name="search", attack=search, eps=(0.5,)),)))
    minimal, by_product = records[1:]
    assert minimal.norm > 0.5
    assert by_product.norm == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(
    "attack",
    [
        RSFGSM(criterion=CRITERION),
        Square(num_queries=12, criterion=CRITERION),
        SEA(num_steps=8, criterion=CRITERION),
        Restarts(attack=PGD(num_steps=2, random_start=True, criterion=CRITERION), num_runs=2),
        ShrinkingRadius(attack=APGD(num_steps=4, random_start=True, criterion=CRITERION)),
        EOT(attack=PGD(num_steps=2, random_start=True, criterion=CRITERION), num_draws=2),
        MinimalNormSearch(attack=Square(num_queries=6, criterion=CRITERION), num_rounds=3),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_an_evaluation_draws_by_the_position_in_the_data_set(attack):
    """The fifth image: alone, third of its batch, and in a call of the attack with its id, but not without."""
    network, dataset = toy_network(), ToyScenes(6)
    plan = plan_attacks({"attack": attack}, None if attack.minimal_norm else (16 / 255,))
    runs = [run_all(network, dataset, plan, ids=ids, batch_size=4) for ids in ([4], [0, 1, 4, 5])]
    alone, batched = ([record for record in records if record.sample_id == 4] for records in runs)
    assert comparable(alone) == comparable(batched)
    by_key = {record.key: record for record in alone}
    images, masks = as_batch(dataset[4], torch.float64)
    for call in plan.attack_calls:
        eps = None if call.eps == "min" else call.eps
        drawn = [call.job.attack(network, images, masks, eps=eps, sample_ids=ids) for ids in ([4], None)]
        assert by_key[4, call.job.digest, call.eps].norm == drawn[0].norm.item()
        assert not torch.equal(drawn[0].adv, drawn[1].adv)


@pytest.mark.parametrize("batch_size", [2, 4])
def test_results_do_not_depend_on_the_batch(undisturbed, batch_size):
    records = run_all(toy_network(), ToyScenes(6), toy_plan(), batch_size=batch_size)
    assert comparable(records) == comparable(undisturbed)


def test_results_do_not_depend_on_the_grad_mode_around(undisturbed):
    network = toy_network().train()
    with torch.inference_mode():
        records = run_all(network, ToyScenes(6), toy_plan(), batch_size=3)
    assert comparable(records) == comparable(undisturbed)
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def test_the_seed_moves_random_starts_and_nothing_else(undisturbed):
    other = comparable(run_all(toy_network(), ToyScenes(6), toy_plan(), seed=1))
    same = {key: line.replace('"seed":0', '"seed":1') for key, line in comparable(undisturbed).items()}
    changed = {key[1] for key in same if same[key] != other[key]}
    assert changed == {toy_plan().jobs[1].digest}


def test_an_image_without_valid_pixels_is_recorded_with_a_flag(undisturbed):
    void = [record for record in undisturbed if record.sample_id == 2]
    assert len(void) == 6
    for record in void:
        assert record.flags == ("no-valid-pixel",)
        assert math.isnan(record.apsr)
        assert math.isnan(record.clean_apsr)
        assert not record.success
        assert (record.num_valid, sum(record.tp) + sum(record.fp) + sum(record.fn)) == (0, 0)
    assert {r.norm for r in void if r.kind == "minimal-norm"} == {math.inf}
    assert not any(record.flags for record in undisturbed if record.sample_id != 2)


def test_passes_of_an_attack_are_what_the_estimate_says(undisturbed):
    for call in toy_plan().attack_calls:
        for sample_id in (0, 1, 4):
            mine = [r for r in undisturbed if r.digest == call.job.digest and r.sample_id == sample_id]
            spent = [r for r in mine if r.eps in call.recorded]
            forwards, backwards = max_passes(call)
            if call.eps == "min":
                assert sum(r.num_forwards for r in spent) == forwards
            assert sum(r.num_forwards for r in spent) <= forwards
            assert sum(r.num_backwards for r in spent) <= backwards


def test_nothing_that_is_done_is_done_again(undisturbed):
    dataset = ToyScenes(6)
    assert run_all(toy_network(), dataset, toy_plan(), done=undisturbed) == []
    assert dataset.loaded == []


@pytest.mark.parametrize("dropped", [0, 3, 7, 8, 20, 35])
def test_a_single_missing_record_is_made_again_alone(undisturbed, dropped):
    dataset, missing = ToyScenes(6), undisturbed[dropped]
    rest = [record for record in undisturbed if record is not missing]
    again = run_all(toy_network(), dataset, toy_plan(), done=rest, batch_size=3)
    assert comparable(again) == comparable([missing])
    assert dataset.loaded == [missing.sample_id]


def test_images_that_lack_the_same_work_share_a_batch(undisturbed):
    """0 lacks PGD at one radius, 1, 4 and 5 lack it at both: two batches, in the order of the ids."""
    sizes = []

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = toy_network()

        def forward(self, images):
            sizes.append(len(images))
            return self.inner(images)

    pgd, (first, second) = toy_plan().jobs[1], toy_plan().jobs[1].radii
    done = [r for r in undisturbed if r.digest != pgd.digest or (r.sample_id == 0 and r.eps == first)]
    records = run_all(Watched(), ToyScenes(6), toy_plan(), ids=[0, 1, 4, 5], done=done, batch_size=8)
    assert set(sizes[:2]) == {1}
    assert max(sizes) == 3
    assert [(r.sample_id, r.eps) for r in records] == [
        (0, second),
        *((i, e) for e in (first, second) for i in (1, 4, 5)),
    ]
    expected = [r for r in undisturbed if r.digest == pgd.digest and r.sample_id in (0, 1, 4, 5)]
    assert comparable([*records, *(r for r in expected if r.key == (0, pgd.digest, first))]) == comparable(expected)


def test_an_attack_with_its_own_radius_runs_there():
    (record,) = run_all(toy_network(), ToyScenes(1), Plan(jobs=(Job(name="a", attack=PGD(eps=0.125, num_steps=2)),)))[
        1:
    ]
    assert (record.eps, record.kind) == (0.125, "fixed-budget")
    assert record.norm == pytest.approx(0.125)


def test_records_are_written_before_they_are_yielded(tmp_path):
    with RecordWriter(tmp_path) as writer:
        coming = run(toy_network(), ToyScenes(2), toy_plan(), work=StridedWork((0, 1)), outputs=Outputs(writer=writer))
        for number in (1, 4, 4, 4, 5):  # an attack's records come together
            next(coming)
            assert len(read_records(tmp_path)) == number


def test_adversarial_images_that_were_kept_give_the_recorded_shares(tmp_path):
    network, dataset, store = toy_network(torch.float32), ToyScenes(2), AdversarialStore(tmp_path, {1})
    records = run_all(network, dataset, toy_plan(), outputs=Outputs(store=store))
    kept = [r for r in records if r.sample_id == 1 and r.kind in ("minimal-norm", "fixed-budget")]
    images, masks = as_batch(dataset[1], torch.float32)
    for record in kept:
        adv = store.load(record.digest, record.eps, 1)[None]
        assert slow_counts(network(adv).argmax(1), masks) == (record.tp, record.fp, record.fn)
        assert (adv - images).abs().max().item() == pytest.approx(record.norm, rel=1e-6)
    assert len(list(tmp_path.rglob("*.safetensors"))) == len(kept) == 3


def test_adversarial_images_that_are_asked_for_later_are_made_without_new_records(tmp_path):
    plan, store = toy_plan(), AdversarialStore(tmp_path)
    records = run_all(toy_network(), ToyScenes(2), plan)
    assert run_all(toy_network(), ToyScenes(2), plan, done=records, outputs=Outputs(store=store)) == []
    assert len(list(tmp_path.rglob("*.safetensors"))) == 6


def test_pairs_serve_as_samples_and_bytes_as_masks(undisturbed):
    class Pairs(ToyScenes):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            return item["image"], item["mask"].byte()

    assert comparable(run_all(toy_network(), Pairs(6), toy_plan())) == comparable(undisturbed)


class Broken(ToyScenes):
    def __init__(self, item):
        super().__init__(1)
        self.item = item

    def __getitem__(self, index):
        return self.item


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ({"image": torch.zeros(3, 4, 4)}, TypeError, "'image' and 'mask'"),
        (torch.zeros(3, 4, 4), TypeError, "Tensor"),
        ((torch.zeros(3, 4, 4).short(), torch.zeros(4, 4).long()), TypeError, "int16"),
        ((torch.zeros(3, 4, 4), torch.zeros(4, 4) + 0.5), TypeError, "float32"),
        ((torch.zeros(3, 4, 4), torch.zeros(2, 4, 4).long()), ValueError, "mask"),
        ((torch.zeros(3, 4, 4) + 2, torch.zeros(4, 4).long()), ValueError, r"\[0, 1\]"),
        ((torch.zeros(3, 4, 4), torch.zeros(4, 4).long() + 77), ValueError, "77"),
    ],
)
def test_samples_of_another_form_are_refused(item, error, message):
    with pytest.raises(error, match=message):
        run_all(toy_network(), Broken(item), toy_plan())


def test_nan_is_an_error_and_not_robustness():
    network = toy_network()
    with torch.no_grad():
        network.bias[0] = torch.nan
    with pytest.raises(FloatingPointError, match="NaN"):
        run_all(network, ToyScenes(1), toy_plan())


def test_the_seed_is_checked_before_the_first_record():
    with pytest.raises(ValueError, match="seed"):
        run(toy_network(), ToyScenes(1), toy_plan(), work=StridedWork((0,)), seed=-1)


def test_more_by_products_complete_what_is_there(undisturbed):
    plan, finer = toy_plan(), plan_attacks({"alma": toy_plan().jobs[0].attack}, (16 / 255, 32 / 255, 64 / 255))
    added = run_all(toy_network(), ToyScenes(6), finer, done=undisturbed)
    assert {(r.kind, r.eps) for r in added} == {("by-product", 32 / 255)}
    assert len(merge_records([*undisturbed, *added])) == len(undisturbed) + 6
    assert dataclasses.replace(plan.jobs[0], eps=()).digest == finer.jobs[0].digest


def test_alma_by_products_beyond_the_norm_are_the_success_itself():
    job = Job(name="alma", attack=AlmaProx(num_steps=40, step_size=0.05, criterion=CRITERION), eps=(1.0,))
    minimal, by_product = run_all(toy_network(), ToyScenes(1), Plan(jobs=(job,)))[1:]
    assert minimal.success
    assert (by_product.success, by_product.tp) == (True, minimal.tp)


def test_attacks_stored_and_stored_images_go_together(tmp_path):
    stored = plan_attacks({"pgd": Stored(source="0123")}, ())
    for plan, store in ((stored, None), (toy_plan(), AdversarialStore(tmp_path))):
        with pytest.raises(ValueError, match="evaluated by attacks Stored alone"):
            run(toy_network(), ToyScenes(1), plan, work=StridedWork((0,)), stored=store)
