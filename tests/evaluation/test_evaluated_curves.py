"""An attack at several radii in one search: a record per radius of an attack, never of a by-product."""

import pytest
import torch
from evaluation.test_faults import BRITTLE, Brittle, Marked
from evaluation.toy import CRITERION, ToyScenes, as_batch, comparable, toy_network

from segrobust.attacks import PGD, RobustnessCurve
from segrobust.callbacks.log_keys import default_monitor, log_keys
from segrobust.evaluation import AdversarialStore, StridedWork, evaluate, evaluate_stored, plan_attacks, run
from segrobust.evaluation.checks import check_attacks
from segrobust.evaluation.engine.runner import Outputs
from segrobust.evaluation.engine.runtime_estimate import max_passes
from segrobust.evaluation.plan import Job

RADII = (16 / 255, 64 / 255, 4 / 255)


def curve_plan(num_passes=15):
    return plan_attacks({"curve": RobustnessCurve(num_passes=num_passes, criterion=CRITERION)}, RADII)


def run_all(network, dataset, plan, **settings):
    return list(run(network, dataset, plan, work=StridedWork(range(len(dataset))), **settings))


@pytest.fixture(scope="module")
def undisturbed():
    return run_all(toy_network(), ToyScenes(6), curve_plan())


def test_an_evaluation_gives_the_curve_its_radii_and_calls_it_once():
    (job,) = curve_plan().jobs
    assert job.attack.radii == job.radii == RADII
    (call,) = curve_plan().attack_calls
    assert (call.eps, call.attacked, call.recorded) == (64 / 255, RADII, RADII)
    assert sum(max_passes(call)) == 30
    own = RobustnessCurve(radii=(0.1, 0.2), criterion=CRITERION)
    assert plan_attacks({"curve": own}, RADII).jobs[0].attack is own


def test_radii_identify_a_curve():
    fewer = plan_attacks({"curve": RobustnessCurve(num_passes=15, criterion=CRITERION)}, RADII[:2])
    assert fewer.jobs[0].digest != curve_plan().jobs[0].digest


def test_radii_of_a_curve_are_not_given_twice():
    with pytest.raises(ValueError, match="give only one"):
        Job(name="curve", attack=RobustnessCurve(radii=(0.1, 0.2)), eps=(0.1,))


def test_records_are_what_the_attack_itself_gives_at_each_radius(undisturbed):
    (job,) = curve_plan().jobs
    images, masks = as_batch(ToyScenes(6)[4], torch.float64)
    results = job.attack.at_radii(toy_network(), images, masks, sample_ids=[4])
    by_key = {record.key: record for record in undisturbed}
    assert len(by_key) == 6 * 4
    for radius, result in zip(RADII, results, strict=True):
        record = by_key[4, job.digest, radius]
        assert (record.kind, record.success, record.norm, record.apsr) == (
            "fixed-budget", bool(result.success), result.norm.item(), result.apsr.item(),
        )  # fmt: skip
        assert (record.num_forwards, record.num_backwards) == (result.num_forwards.item(), result.num_backwards.item())


@pytest.mark.parametrize("batch_size", [2, 6])
def test_results_do_not_depend_on_the_batch(undisturbed, batch_size):
    work = StridedWork(range(6), batch_size=batch_size)
    records = list(run(toy_network(), ToyScenes(6), curve_plan(), work=work))
    assert comparable(records) == comparable(undisturbed)


@pytest.mark.parametrize("dropped", [1, 2, 3, 22])
def test_a_single_missing_radius_is_made_again_alone(undisturbed, dropped):
    rest = [record for record in undisturbed if record is not undisturbed[dropped]]
    again = run_all(toy_network(), ToyScenes(6), curve_plan(), done=rest)
    assert comparable(again) == comparable([undisturbed[dropped]])


def test_images_of_all_radii_are_stored_and_those_that_lack_are_made_later(tmp_path):
    network, dataset, store = toy_network(torch.float32), ToyScenes(2), AdversarialStore(tmp_path, {1})
    records = run_all(network, dataset, curve_plan(), outputs=Outputs(store=store))
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 3
    images, masks = as_batch(dataset[1], torch.float32)
    for record in (r for r in records if r.sample_id == 1 and r.kind == "fixed-budget"):
        adv = store.load(record.digest, record.eps, 1)[None]
        wrong = ((network(adv).argmax(1) != masks) & (masks != 255)).sum().item()
        assert wrong == round(record.apsr * record.num_valid)
        assert (adv - images).abs().max().item() == pytest.approx(record.norm, rel=1e-6)
    lost = files[1].read_bytes()
    files[1].unlink()
    assert run_all(network, dataset, curve_plan(), done=records, outputs=Outputs(store=store)) == []
    assert files[1].read_bytes() == lost


def test_stored_images_are_judged_at_each_radius(tmp_path):
    settings = {"run_dir": tmp_path / "run", "keep_adversarials": True, "panels": 1, "progress": False}
    report = evaluate(toy_network(torch.float32), ToyScenes(4), plan=curve_plan(), checks="off", **settings)
    assert report.missing == 0
    assert {score.eps for entry in report.summary.fixed_budget for score in entry.scores} == set(RADII)
    assert list((tmp_path / "run" / "panels").glob("*-curve.png"))
    judged = evaluate_stored(
        tmp_path / "run", toy_network(torch.float32), ToyScenes(4), name="own", progress=False, output=tmp_path / "out"
    )
    assert judged.discrepancies == ()
    assert {r.eps for r in judged.records if r.kind == "fixed-budget"} == set(RADII)


def test_for_success_rates_alone_an_image_is_left_out_if_its_smallest_radius_is_broken():
    wide = (192 / 255, 250 / 255)
    attacks = {
        "pgd": PGD(num_steps=8, criterion=CRITERION),
        "curve": RobustnessCurve(num_passes=10, criterion=CRITERION),
    }
    settings = {"attacks": attacks, "eps": wide, "progress": False, "checks": "off"}
    whole = evaluate(toy_network(), ToyScenes(8), **settings)
    quick = evaluate(toy_network(), ToyScenes(8), asr_only=True, **settings)
    broken = {r.sample_id for r in whole.records if r.attack == "pgd" and r.eps == min(wide) and r.success}
    tried = {r.sample_id for r in quick.records if r.attack == "curve"}
    assert broken
    assert tried == set(range(8)) - broken
    assert {r.sample_id for r in whole.records if r.attack == "curve"} == set(range(8))
    assert quick.missing == 0


def test_an_error_is_a_fault_at_each_radius(tmp_path):
    report = evaluate(Brittle(), Marked(3), plan=curve_plan(), run_dir=tmp_path, panels=0, progress=False, checks="off")
    assert {(fault.sample_id, fault.eps) for fault in report.faults} == {(BRITTLE, radius) for radius in RADII}
    assert report.missing == 0


def test_more_passes_are_compared_at_one_radius():
    network, plan = toy_network(), curve_plan(num_passes=6)
    records = run_all(network, ToyScenes(5), plan)
    checks = check_attacks(network, ToyScenes(5), plan, (0, 1, 3), records)
    (found,) = [check for check in checks if check.name == "steps doubled"]
    assert "on 3 images" in found.detail


def test_log_keys_are_those_of_an_attack():
    assert {f"val/curve/miou_at_{radius}" for radius in (4, 16, 64)} <= set(log_keys(curve_plan(), "val"))
    assert default_monitor(curve_plan()) == "val/curve/miou_at_16"
