"""Evaluations towards targets: what the attacks are given, what records are kept by, what is shown."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation.toy import ToyScenes, as_batch, comparable, toy_network
from PIL import Image

from segrobust.attacks import PGD, AlmaProx, LagrangianFMN, Localized, Targeted, Untargeted
from segrobust.attacks.targets import Box, Constant, EraseClasses, LabelMap, Localize, SecondBest
from segrobust.evaluation import Job, Plan, StridedWork, evaluate, plan_attacks, read_records, run
from segrobust.evaluation.run.records import CLEAN, NO_VALID_PIXEL
from segrobust.label_space import LabelSpace

TARGETED = Targeted(apsr=0.9)
ERASING = Localized(apsr=0.9, keep=0.8, targeted=True)
SPACE = LabelSpace(names=("a", "b", "c", "d"), palette=((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)))
EPS = (64 / 255,)


def attacks(criterion):
    return {
        "fmn": LagrangianFMN(num_passes=40, criterion=criterion),
        "pgd": PGD(num_steps=5, random_start=True, criterion=criterion),
    }


class NamedScenes(ToyScenes):
    label_space = SPACE


class Faulty(ToyScenes):
    """Sample 0 has no pixel of class 3 in its ground truth."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        if index == 0:
            sample["mask"] = sample["mask"].masked_fill(sample["mask"] == 3, 2)
        return sample


@pytest.mark.parametrize(
    ("targets", "criterion"),
    [
        (SecondBest(), TARGETED),
        (EraseClasses(classes=(3,)), ERASING),
        (Localize(attacked=Box(top=0, left=0, bottom=0.5, right=1)), Localized(apsr=0.9, keep=0.8)),
    ],
    ids=["second", "erase", "box"],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_records_are_what_the_attack_itself_gives(targets, criterion, batch_size):
    dataset, network = ToyScenes(4), toy_network()
    plan = plan_attacks(attacks(criterion), EPS, targets)
    records = list(run(network, dataset, plan, work=StridedWork(range(4), batch_size=batch_size)))
    fmn, pgd = plan.jobs
    for index in range(4):
        images, masks = as_batch(dataset[index], torch.float64)
        aim = targets(network, images, masks)
        given = {"targets": aim.targets, "keep_mask": aim.keep_mask, "sample_ids": [index]}
        found = {(r.digest, r.eps): r for r in records if r.sample_id == index}
        minimal = fmn.attack(network, images, masks, **given)
        fixed = pgd.attack(network, images, masks, eps=EPS[0], **given)
        for result, record in ((minimal, found[fmn.digest, "min"]), (fixed, found[pgd.digest, EPS[0]])):
            assert record.success == result.success.item()
            assert record.norm == result.norm.item()
            assert record.apsr == pytest.approx(result.apsr.item(), nan_ok=True)
        clipped = (images + (minimal.adv - images).clamp(-EPS[0], EPS[0])).detach()
        for adv, record in ((images, found[CLEAN, None]), (clipped, found[fmn.digest, EPS[0]])):
            share = share_reached(network, adv, masks, aim)
            assert record.apsr == pytest.approx(share, nan_ok=True)


def share_reached(network, adv, masks, aim):
    """Share of attacked pixels that are predicted as their target, or as another class than their label."""
    prediction = network(adv).argmax(1)
    attacked = (masks != 255) & (aim.targets != 255)
    attacked = attacked if aim.keep_mask is None else attacked & ~aim.keep_mask
    hit = prediction == aim.targets if aim.targeted else prediction != masks
    return hit[attacked].double().mean().item()


def test_images_without_anything_to_attack_are_flagged_and_left_out():
    targets = EraseClasses(classes=(3,), source="label")
    report = evaluate(toy_network(), Faulty(3), attacks=attacks(ERASING), targets=targets, eps=EPS, progress=False)
    flagged = {record.sample_id for record in report.records if NO_VALID_PIXEL in record.flags}
    assert flagged == {0, 2}
    assert report.summary.clean.num_images == 1


def digests(targets, criterion=TARGETED):
    return {job.digest for job in plan_attacks(attacks(criterion), EPS, targets).jobs}


def save_map(path, value):
    Image.fromarray(np.full((8, 9), value, dtype=np.uint8)).save(path)


def test_results_towards_other_targets_have_other_keys(tmp_path):
    save_map(tmp_path / "one.png", 1)
    save_map(tmp_path / "two.png", 2)
    maps = [LabelMap(path=str(tmp_path / f"{name}.png")) for name in ("one", "two")]
    found = [digests(targets) for targets in (Constant(label=0), Constant(label=1), SecondBest(), *maps)]
    assert len(set.union(*found)) == 2 * len(found)
    before = digests(maps[0])
    save_map(tmp_path / "one.png", 3)
    assert not before & digests(LabelMap(path=str(tmp_path / "one.png")))


def test_digests_without_targets_are_those_of_the_repr():
    """Records of earlier versions stay valid."""
    import hashlib

    attack = PGD(num_steps=3)
    expected = hashlib.sha256(repr(attack).encode()).hexdigest()[:16]
    assert Job(name="a", attack=attack, eps=(0.1,)).digest == expected


def test_a_run_goes_on_and_refuses_other_targets(tmp_path):
    given = {"attacks": attacks(TARGETED), "eps": EPS, "progress": False, "panels": 0, "checks": "off"}
    network = toy_network()
    evaluate(network, ToyScenes(3), run_dir=tmp_path, targets=Constant(label=1), **given)
    once = comparable(read_records(tmp_path))
    evaluate(network, ToyScenes(3), run_dir=tmp_path, targets=Constant(label=1), **given)
    assert comparable(read_records(tmp_path)) == once
    with pytest.raises(ValueError, match=r"criterion of success: .*label=1.* there, .*label=2"):
        evaluate(network, ToyScenes(3), run_dir=tmp_path, targets=Constant(label=2), **given)


def test_summary_and_pictures_show_the_target(tmp_path):
    targets = EraseClasses(classes=("d",))
    report = evaluate(
        toy_network(),
        NamedScenes(3),
        attacks={"fmn": LagrangianFMN(num_passes=20, criterion=ERASING)},
        targets=targets,
        run_dir=tmp_path,
        panels=3,
        progress=False,
    )
    assert "EraseClasses" in report.heading
    assert "targeted=True" in report.heading
    assert "EraseClasses" in (tmp_path / "summary.md").read_text()
    assert "EraseClasses" in (tmp_path / "report.html").read_text()
    folder = tmp_path / "panels" / "tiles" / "000000-fmn"
    assert not (folder / "errors.webp").exists()
    image, mask = as_batch(NamedScenes(3)[0], torch.float64)
    aim = targets(toy_network(), image, mask, label_space=SPACE)
    shown = np.asarray(Image.open(folder / "target.webp").convert("RGB")).astype(int)
    palette = np.array(SPACE.palette)
    for y in range(8):
        for x in range(9):
            color = palette[aim.targets[0, y, x]] if mask[0, y, x] != 255 else np.zeros(3, int)
            if mask[0, y, x] != 255 and aim.keep_mask[0, y, x]:
                color = 165 + (color * 0.35).astype(int)
            np.testing.assert_array_equal(shown[y, x], color)
    legend = [name for name, _ in json.loads((folder / "panel.json").read_text())["legend"]]
    assert legend[0] == "void"


@pytest.mark.parametrize("checks", ["basic", "thorough"])
def test_checks_know_the_targets(tmp_path, checks):
    report = evaluate(
        toy_network(),
        ToyScenes(2),
        attacks={"pgd": PGD(num_steps=6, criterion=ERASING), "alma": AlmaProx(num_steps=10, criterion=ERASING)},
        targets=EraseClasses(classes=(3,)),
        eps=(0.1, 0.2),
        run_dir=tmp_path,
        checks=checks,
        panels=0,
        progress=False,
    )
    names = {check.name for check in report.checks}
    assert ("steps doubled" in names) == (checks == "thorough")
    assert not [check for check in report.checks if check.status == "unmeasured"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: plan_attacks(attacks(TARGETED), EPS), r"Targeted\(.*needs targets"),
        (lambda: plan_attacks(attacks(Localized()), EPS), r"Localized\(.*needs targets"),
        (lambda: plan_attacks(attacks(Untargeted()), EPS, SecondBest()), r"criterion=Targeted\(\)"),
        (lambda: plan_attacks(attacks(TARGETED), EPS, EraseClasses(classes=(1,))), r"Localized\(targeted=True\)"),
        (
            lambda: Plan(
                jobs=tuple(
                    replace(job, targets=Constant(label=i))
                    for i, job in enumerate(plan_attacks(attacks(TARGETED), EPS, SecondBest()).jobs)
                )
            ),
            "must share their targets",
        ),
        (lambda: evaluate(toy_network(), ToyScenes(1), preset="quick", targets=SecondBest()), "effect on `attacks`"),
    ],
)
def test_plans_without_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_class_that_the_data_lacks_ends_the_evaluation(tmp_path):
    """Before the work starts: it is no fault of single images."""
    given = {"attacks": attacks(TARGETED), "run_dir": tmp_path, "progress": False}
    with pytest.raises(ValueError, match="the data has a, b, c, d"):
        evaluate(toy_network(), NamedScenes(1), targets=Constant(label="sky"), **given)
    with pytest.raises(ValueError, match=r"0\.\.3"):
        evaluate(toy_network(), ToyScenes(1), **{**given, "run_dir": None}, targets=Constant(label=9))
