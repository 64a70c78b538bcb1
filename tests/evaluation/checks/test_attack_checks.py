from dataclasses import replace

import pytest
import torch
from evaluation.checks.fooling import Around, Misleading
from evaluation.toy import CRITERION, ToyScenes, toy_network, toy_plan

from segrobust.attacks import (
    APGD,
    EOT,
    FGSM,
    PGD,
    SEA,
    AlmaProx,
    LagrangianFMN,
    Masked,
    MinimalNormSearch,
    Restarts,
    ShrinkingRadius,
    Square,
)
from segrobust.evaluation import StridedWork, plan_attacks, run
from segrobust.evaluation.checks import check_attacks, worst_status
from segrobust.evaluation.checks.attack_checks import double_steps

SAMPLES = (0, 1, 3)
EPS = (8 / 255, 32 / 255)


def evaluated(attacks, network=None, samples=SAMPLES, eps=EPS):
    """A network, its plan and its records."""
    network, plan = network or toy_network(), plan_attacks(attacks, eps)
    return network, plan, tuple(run(network, ToyScenes(5), plan, work=StridedWork(samples)))


def found_in(network, plan, records, samples=SAMPLES):
    checks = check_attacks(network, ToyScenes(5), plan, samples, records)
    named = {job.digest: job.name for job in plan.jobs}
    return {(check.name, *(named[digest] for digest in check.attacks)): check for check in checks}


def test_converged_attacks_pass():
    attacks = {
        "fmn": LagrangianFMN(num_passes=100, criterion=CRITERION),
        "pgd": PGD(num_steps=40, loss=Masked(), criterion=CRITERION),
    }
    found = found_in(*evaluated(attacks))
    assert list(found) == [("steps doubled", "fmn"), ("steps doubled", "pgd"), ("black box",)]
    assert worst_status(found.values()) == "ok", found


NOT_CONVERGED = {
    "alma": (AlmaProx(num_steps=8, step_size=0.05, criterion=CRITERION), "fail"),
    "pgd": (PGD(num_steps=2, step_size=0.02, criterion=CRITERION), "fail"),
    "short": (PGD(num_steps=2, step_size=0.01, criterion=CRITERION), "warn"),
    "search": (
        MinimalNormSearch(attack=PGD(num_steps=2, criterion=CRITERION), num_rounds=4, warm_start=False),
        "warn",
    ),
}


@pytest.mark.parametrize("name", NOT_CONVERGED)
def test_an_attack_that_has_not_converged_is_caught(name):
    attack, status = NOT_CONVERGED[name]
    check = found_in(*evaluated({name: attack}, eps=(32 / 255,)))["steps doubled", name]
    assert check.status == status, check
    gain = "the geometric mean of the norms falls by" if attack.minimal_norm else "the share of broken pixels goes from"
    assert check.detail.startswith(f"{name}: with twice the steps, on 3 images, {gain}")


def test_an_attack_that_breaks_nothing_with_twice_the_steps_either_proves_nothing():
    attack = MinimalNormSearch(attack=PGD(num_steps=1, step_ratio=0.1, criterion=CRITERION), num_rounds=2)
    check = found_in(*evaluated({"search": attack}))["steps doubled", "search"]
    assert (check.status, "no image is broken, as before" in check.detail) == ("warn", True)


def test_an_attack_that_first_succeeds_with_twice_the_steps_is_caught():
    network, plan, records = evaluated({"fmn": LagrangianFMN(num_passes=100, criterion=CRITERION)})
    lost = [replace(r, norm=float("inf"), success=False) if (r.sample_id, r.eps) == (0, "min") else r for r in records]
    check = found_in(network, plan, lost)["steps doubled", "fmn"]
    assert check.status == "fail"
    assert "and 1 images are newly broken" in check.detail


def test_the_radius_that_breaks_about_half_is_looked_at():
    network, plan, records = evaluated({"pgd": PGD(num_steps=10, criterion=CRITERION)}, eps=(1 / 255, 16 / 255, 1.0))
    assert f"at eps = {16 / 255:.4g}" in found_in(network, plan, records)["steps doubled", "pgd"].detail


def test_a_masked_gradient_loses_to_the_black_box():
    found = found_in(*evaluated({"pgd": PGD(num_steps=10, criterion=CRITERION)}, Misleading(toy_network())))
    check = found["black box",]
    assert check.status == "fail"
    assert "at 32/255, square_500 breaks" in check.detail


def test_the_black_box_is_asked_once_at_the_largest_radius_and_needs_a_rival_there():
    network, plan, records = evaluated({"pgd": PGD(num_steps=10, criterion=CRITERION)})
    few = [record for record in records if record.kind == "clean"]
    found = found_in(network, plan, few)
    assert {check.status for check in found.values()} == {"warn"}
    assert all(check.detail.startswith("not measured") for check in found.values())
    for attacks in (
        {"fmn": LagrangianFMN(criterion=CRITERION)},
        {"pgd": PGD(norm="l2", criterion=CRITERION)},
        {"square": Square(num_queries=9, criterion=CRITERION)},
    ):
        plan = plan_attacks(attacks, (0.1,))
        assert ("black box",) not in found_in(network, plan, few)


def test_records_of_square_itself_are_no_rival():
    attacks = {
        "pgd": PGD(num_steps=10, criterion=CRITERION),
        "square": Square(num_queries=500, criterion=CRITERION),
    }
    found = found_in(*evaluated(attacks, Misleading(toy_network())))
    assert found["black box",].status == "fail"


def test_attacks_without_steps_are_passed_over():
    attacks = {"fgsm": FGSM(criterion=CRITERION), "square": Square(num_queries=9, criterion=CRITERION)}
    assert [name for name, *_ in found_in(*evaluated(attacks))] == ["black box"]


@pytest.mark.parametrize(
    ("attack", "doubled"),
    [
        (PGD(num_steps=5), PGD(num_steps=10)),
        (LagrangianFMN(num_passes=50), LagrangianFMN(num_passes=100)),
        (SEA(num_steps=50), SEA(num_steps=100)),
        (MinimalNormSearch(attack=APGD(num_steps=4)), MinimalNormSearch(attack=APGD(num_steps=8))),
        (
            EOT(attack=Restarts(attack=PGD(num_steps=4)), num_draws=3),
            EOT(attack=Restarts(attack=PGD(num_steps=8)), num_draws=3),
        ),
        (ShrinkingRadius(attack=APGD(num_steps=30)), ShrinkingRadius(attack=APGD(num_steps=60))),
        (FGSM(), None),
        (Square(num_queries=9), None),
    ],
    ids=repr,
)
def test_steps_are_doubled_wherever_they_stand(attack, doubled):
    assert double_steps(attack) == doubled


def test_void_images_other_records_and_random_numbers_do_no_harm():
    class Random(Around):
        def after(self, logits):
            return logits + 1e-9 * torch.rand_like(logits)

    network, plan = Random(toy_network()), toy_plan()
    records = tuple(run(network, ToyScenes(5), plan, work=StridedWork(range(5))))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    checks = check_attacks(network, ToyScenes(5), plan, (1, 2), records)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all("on 1 images" in check.detail for check in checks if check.name == "steps doubled")


def test_no_image_is_an_error():
    network, plan, records = evaluated({"pgd": PGD(num_steps=2, criterion=CRITERION)})
    with pytest.raises(ValueError, match=r"sample_ids=\(\)"):
        check_attacks(network, ToyScenes(5), plan, (), records)
