import json
import math
import os
import re
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from evaluation.toy import CRITERION, NUM_CLASSES, ToyScenes, comparable, toy_network, toy_plan
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from segrobust.evaluation import AdversarialStore, evaluate, evaluate_stored, plain_label_space, read_records
from segrobust.evaluation.transfer.matrix import transfer_matrix
from segrobust.evaluation.transfer.matrix_plot import write_transfer
from segrobust.evaluation.transfer.transfer_result import Discrepancy, find_discrepancies
from segrobust.networks import Normalized

SCENES = ToyScenes(5)


def network(seed=0):
    return toy_network(torch.float32, seed)


def attack_scenes(path, seed=0, dataset=SCENES, **settings):
    settings = {"keep_adversarials": True, "panels": 0, **settings}
    plan = toy_plan()
    return evaluate(network(seed), dataset, plan=plan, run_dir=path, progress=False, batch_size=3, **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    for seed in (0, 1):
        attack_scenes(path / str(seed), seed)
    return path


@pytest.fixture
def run(made, tmp_path):
    """A run against `network(0)` that kept all its images."""
    return shutil.copytree(made / "0", tmp_path / "run")


@pytest.fixture
def other_run(made, tmp_path):
    return shutil.copytree(made / "1", tmp_path / "other")


def judgements(path):
    """A folder beside a run, never in it."""
    return path.parent / "judged"


def matrix_of(*runs):
    return transfer_matrix(runs, judgements(runs[0]))


def on_network(path, seed=0, dataset=SCENES, **settings):
    chosen = {"name": f"net {seed}", "progress": False, "output": judgements(path)} | settings
    return evaluate_stored(path, chosen.pop("network", network(seed)), dataset, **chosen)


def image_file(path, attack, sample_id):
    """The file of an attack's image at its largest radius."""
    record = next(r for r in reversed(read_records(path)) if r.attack == attack and r.kind != "by-product")
    return AdversarialStore(path).path(record.digest, record.eps, sample_id)


def change(file, edit):
    """Replaces the image of a file by another one."""
    adv = load_file(file)["adv"]
    save_file({"adv": edit(adv).contiguous()}, file)


def at_one_value(delta):
    """A perturbation of the same norm at one value alone."""
    place = delta.abs().flatten().argmax()
    return torch.zeros_like(delta).flatten().index_fill(0, place, delta.flatten()[place].item()).view_as(delta)


SAME_FIELDS = (
    *("key", "attack", "kind", "norm_name", "success", "apsr", "clean_apsr"),
    *("num_valid", "tp", "fp", "fn", "boundary", "objects", "flags"),
)


def outcome(record):
    return [getattr(record, name) for name in SAME_FIELDS]


def test_the_runs_own_network_confirms_every_record(run):
    result = on_network(run, batch_size=2)
    assert (result.status, result.is_own, result.discrepancies) == ("ok", True, ())
    recorded = {r.key: r for r in read_records(run) if r.kind != "by-product"}
    assert len(result.records) == len(recorded) == 5 * (1 + 3)
    assert {r.success for r in recorded.values()} == {True, False}
    for record in result.records:
        source = recorded[record.key]
        assert repr(outcome(record)) == repr(outcome(source))
        assert record.norm == pytest.approx(source.norm, abs=1e-7) or math.isinf(source.norm)
        assert math.isfinite(record.norm)
    assert result.num_evaluated == result.num_recorded == 15


def test_another_network_is_evaluated_on_the_same_images(run):
    result = on_network(run, seed=1)
    assert (result.status, result.is_own) == ("ok", False)
    shown = [r for r in result.records if r.kind != "clean"]
    assert len(shown) == 15
    for record in shown:
        mask = SCENES[record.sample_id]["mask"]
        adv = AdversarialStore(run).load(record.digest, record.eps, record.sample_id)
        with torch.no_grad():
            wrong = network(1)(adv[None]).argmax(1)[0] != mask
        valid = mask != 255
        share = (wrong & valid).sum().item() / valid.sum().item() if valid.any() else math.nan
        assert record.apsr == pytest.approx(share, nan_ok=True)
        assert record.success is (share >= CRITERION.apsr)
        assert sum(record.tp) + sum(record.fn) == record.num_valid == valid.sum()
        assert record.norm == pytest.approx((adv - SCENES[record.sample_id]["image"]).abs().max().item(), abs=1e-7)


def test_results_do_not_depend_on_the_batch_although_sizes_and_what_was_kept_differ(run, tmp_path):
    image_file(run, "pgd", 0).unlink()
    copy = shutil.copytree(run, tmp_path / "copy")
    one, all_at_once = on_network(run, 1, batch_size=1), on_network(copy, 1, batch_size=8)
    assert [repr(outcome(r)) for r in one.records] == [repr(outcome(r)) for r in all_at_once.records]


def test_a_killed_result_continues(run):
    first = on_network(run, 1)
    file = first.folder / "records" / "rank000.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 20
    file.write_bytes(b"".join(lines[:7]) + lines[7][:30])  # the torn line of a killed job
    scenes = ToyScenes(5)
    again = on_network(run, 1, scenes)
    assert file.read_bytes().splitlines(keepends=True)[:7] == lines[:7]
    assert [repr(outcome(r)) for r in again.records] == [repr(outcome(r)) for r in first.records]
    assert {*scenes.loaded} == {0, 1, 2, 3, 4}  # sample 0 by the check of the image size
    written = file.read_bytes()
    on_network(run, 1)
    assert file.read_bytes() == written
    content = json.loads((first.folder / "judgement.json").read_text())
    assert (content["name"], content["status"], content["discrepancies"]) == ("net 1", "ok", [])


class TestFindings:
    """What speaks against a run is found and named."""

    @staticmethod
    def only(result):
        assert result.status == "fail"
        (discrepancy,) = result.discrepancies
        assert json.loads((result.folder / "judgement.json").read_text())["status"] == "fail"
        return str(discrepancy)

    @pytest.mark.parametrize("seed", [0, 1])
    def test_an_image_outside_the_box(self, run, seed):
        change(image_file(run, "pgd", 1), lambda adv: adv - 1e-6 - adv.min())
        message = self.only(on_network(run, seed))
        assert "image 1 (toy_1), pgd" in message
        assert "outside [0, 1]" in message

    @pytest.mark.parametrize("seed", [0, 1])
    def test_a_norm_above_the_radius(self, run, seed):
        image = SCENES[4]["image"]
        further = lambda adv: (image + 1.01 * (adv - image)).clamp(0, 1)  # noqa: E731
        change(image_file(run, "pgd", 4), further)
        message = self.only(on_network(run, seed))
        assert "image 4" in message
        assert "above the radius" in message

    def test_a_success_that_is_none(self, run):
        broken = next(r for r in read_records(run) if r.kind == "minimal-norm" and r.success)
        image = SCENES[broken.sample_id]["image"]
        file = AdversarialStore(run).path(broken.digest, broken.eps, broken.sample_id)
        change(file, lambda adv: image + at_one_value(adv - image))
        assert "success False, recorded True" in self.only(on_network(run))
        assert on_network(run, 1).status == "ok"  # another network cannot know

    def test_a_norm_that_was_not_recorded(self, run):
        broken = next(r for r in read_records(run) if r.kind == "minimal-norm" and r.success)
        line = broken.to_line()
        smaller = line.replace(f'"norm":{broken.norm!r}', f'"norm":{broken.norm - 3e-6!r}')
        assert smaller != line
        file = run / "records" / "rank000.jsonl"
        file.write_text(file.read_text().replace(line, smaller))
        assert "recorded" in self.only(on_network(run, 1))

    def test_counts_of_classes_that_are_others(self, run):
        """The share of broken pixels is that of the image, and the mIoU is invented."""
        file = run / "records" / "rank000.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        wrong = next(line for line in lines if line["kind"] == "fixed-budget" and sum(line["fn"]) > 20)
        wrong["fp"] = [sum(wrong["fn"]), *[0] * (NUM_CLASSES - 1)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert re.search(r"fp \[.*\], recorded \[", self.only(on_network(run)))
        assert on_network(run, 1).status == "ok"  # another network cannot know

    def test_a_number_of_valid_pixels_that_is_another(self, run):
        record = next(r for r in read_records(run) if r.sample_id == 1)
        claimed = {record.key: replace(record, num_valid=record.num_valid + 1)}
        (found,) = find_discrepancies([record], claimed, is_own=False)
        assert found.detail == f"{record.num_valid} valid pixels, recorded {record.num_valid + 1}"

    def test_many_are_not_all_printed(self, run):
        result = on_network(run)
        discrepancy = Discrepancy(sample_id=1, sample_name="toy_1", attack="pgd", eps=0.5, detail="wrong")
        lines = str(replace(result, discrepancies=(discrepancy,) * 50)).splitlines()
        assert len(lines) == 1 + 20 + 1
        assert lines[1] == "  image 1 (toy_1), pgd at 0.5: wrong"
        assert "and 30 more" in lines[-1]

    def test_it_is_found_again_without_a_new_pass(self, run):
        change(image_file(run, "pgd", 1), lambda adv: adv - 1e-6 - adv.min())
        first = on_network(run)
        assert on_network(run).discrepancies == first.discrepancies


class TestRefusals:
    def test_other_data(self, run):
        class Masked(ToyScenes):
            def __getitem__(self, index):
                item = super().__getitem__(index)
                return item if index != 1 else {**item, "mask": item["mask"].clamp(max=2)}

        with pytest.raises(
            ValueError, match=r"other data \(the image or the mask of 1 sample, 1 \(toy_1\), is another"
        ):
            on_network(run, dataset=Masked(5))

    def test_fewer_data(self, run):
        with pytest.raises(ValueError, match=r"other data \(the image or the mask of sample 4 is missing"):
            on_network(run, dataset=ToyScenes(4))

    def test_another_label_space(self, tmp_path):
        scenes = ToyScenes(2)
        scenes.label_space = plain_label_space(NUM_CLASSES, 255)
        attack_scenes(tmp_path / "run", dataset=scenes)
        others = ToyScenes(2)
        others.label_space = plain_label_space(NUM_CLASSES + 1, 255)
        with pytest.raises(ValueError, match="label spaces differ"):
            on_network(tmp_path / "run", dataset=others)

    def test_another_number_of_classes(self, run):
        with pytest.raises(ValueError, match="predicts 7 classes, the run's network 4"):
            on_network(run, network=nn.Conv2d(3, 7, 1))

    def test_nothing_was_kept(self, tmp_path):
        attack_scenes(tmp_path / "run", keep_adversarials=False)
        with pytest.raises(ValueError, match="--keep_adversarials true"):
            on_network(tmp_path / "run")

    def test_radii_that_have_no_effect(self, run):
        for file in (run / "adversarials").glob("*/min/*"):
            file.unlink()
        with pytest.raises(ValueError, match="minimal-norm attacks only"):
            on_network(run, eps=(0.1,))

    def test_no_run(self, tmp_path):
        with pytest.raises(ValueError, match="holds no run"):
            on_network(tmp_path)

    def test_the_runs_weights_behind_another_normalisation(self, tmp_path):
        inner = network()
        evaluate(
            Normalized(inner, mean=(0.5, 0.5, 0.5), std=(1, 1, 1)),
            SCENES,
            plan=toy_plan(),
            run_dir=tmp_path / "run",
            max_images=1,
            progress=False,
            keep_adversarials=True,
            panels=0,
        )
        wrapped = Normalized(inner, mean=(0.4, 0.5, 0.5), std=(1, 1, 1))
        with pytest.raises(ValueError, match="other wrappers"):
            on_network(tmp_path / "run", network=wrapped)

    def test_an_image_of_another_size(self, run):
        change(image_file(run, "pgd", 1), lambda adv: adv[:, :6])
        with pytest.raises(ValueError, match=r"000001.safetensors is of size \(3, 6, 9\)"):
            on_network(run)

    def test_an_image_without_record(self, run):
        file = image_file(run, "pgd", 1)
        shutil.copy(file, file.with_name("000077.safetensors"))
        with pytest.raises(ValueError, match=r"000077.safetensors has no record"):
            on_network(run)

    def test_a_network_whose_folder_is_taken(self, run):
        folder = on_network(run, 1).folder
        content = json.loads((folder / "judgement.json").read_text())
        (folder / "judgement.json").write_text(json.dumps(content | {"weights": content["weights"][:8] + "0" * 56}))
        with pytest.raises(ValueError, match="records of another network"):
            on_network(run, 1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-40]), "is damaged"),
        (lambda file: file.write_bytes(b""), "is damaged"),
        (lambda file: file.write_text("<html>sign in</html>" * 9), "is damaged"),
        (lambda file: save_file({"weight": torch.ones(3)}, file), "holds weight torch.float32"),
        (lambda file: change(file, lambda adv: adv.half()), "holds adv torch.float16"),
        (lambda file: change(file, lambda adv: adv * math.nan), "not finite"),
    ],
)
def test_a_damaged_image_is_named_and_the_rest_stays(run, damage, said):
    file = image_file(run, "pgd", 4)
    whole = file.read_bytes()
    damage(file)
    with pytest.raises(ValueError, match=said) as raised:
        on_network(run, 1)
    assert str(file) in str(raised.value)
    assert "delete it and run the evaluation again" in str(raised.value)
    (records,) = judgements(run).glob("run-*/*/records/rank000.jsonl")
    before = records.read_bytes()
    assert before.count(b"\n") >= 4 * 4
    file.unlink()
    attack_scenes(run)
    assert file.read_bytes() == whole
    assert on_network(run, 1).num_evaluated == 15
    assert records.read_bytes().startswith(before)


def test_the_bits_of_the_file_reach_the_network(run):
    """Adding the difference of two images to one of them may miss the other by a last bit; this image shows it."""
    image, file = SCENES[1]["image"], image_file(run, "pgd", 1)
    adv = torch.rand(image.shape, generator=torch.Generator().manual_seed(0)) ** 8
    assert not torch.equal(image + (adv - image), adv)
    change(file, lambda _: adv)
    seen = []

    class Recording(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(1)

        def forward(self, images):
            seen.extend(images.clone())
            return self.inner(images)

    on_network(run, network=Recording())
    assert sum(torch.equal(each, adv) for each in seen) == 1


def test_by_products_of_the_own_network_are_those_of_the_run(run):
    radii = (16 / 255, 64 / 255)
    result = on_network(run, eps=radii, batch_size=3)
    assert (result.status, result.num_evaluated) == ("ok", 15)
    found = {r.key: r for r in result.records if r.kind == "by-product"}
    recorded = {r.key: r for r in read_records(run) if r.kind == "by-product"}
    assert {key: repr(outcome(r)) for key, r in found.items()} == {k: repr(outcome(r)) for k, r in recorded.items()}
    assert len(found) == 10
    assert {r.success for r in found.values()} == {True, False}
    assert on_network(run, 1, eps=(0.5,)).missing == 0


class TestEngine:
    """What the engine of evaluations does for attacks, it does for stored images."""

    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_what_the_network_raises_for_one_image_costs_that_image_alone(self, run, tmp_path, batch_size):
        adv = load_file(image_file(run, "pgd", 1))["adv"]

        class Refusing(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = network(1)

            def forward(self, images):
                if images.shape[1:] == adv.shape and bool((images == adv).flatten(1).all(1).any()):
                    raise RuntimeError("no kernel for this image")
                return self.inner(images)

        copy = shutil.copytree(run, tmp_path / "copy")
        result = on_network(run, network=Refusing(), batch_size=batch_size)
        healthy = comparable(on_network(copy, 1).records)
        ((fault, key),) = [(fault, fault.key) for fault in result.faults]
        assert (fault.sample_id, fault.attack, fault.eps) == (1, "pgd", 64 / 255)
        assert "RuntimeError: no kernel" in fault.error
        assert comparable(result.records) == {k: line for k, line in healthy.items() if k != key}
        assert (result.status, result.missing, result.num_evaluated) == ("unfinished", 0, 14)
        assert "errors occurred for 1 images" in str(result)
        assert json.loads((result.folder / "judgement.json").read_text())["status"] == "unfinished"

    def test_batches_that_do_not_fit_in_memory_are_halved(self, run, tmp_path):
        class Small(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner, self.sizes = network(1), []

            def forward(self, images):
                self.sizes.append(len(images))
                if len(images) > 2:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                return self.inner(images)

        small, copy = Small(), shutil.copytree(run, tmp_path / "copy")
        with pytest.warns(UserWarning, match="batches of 4 images do not fit in the memory"):
            result = on_network(run, network=small, batch_size=8)
        assert small.sizes.count(4) == 1  # image 3 has another size
        assert (result.status, result.faults) == ("ok", ())
        assert comparable(result.records) == comparable(on_network(copy, 1).records)

    def test_a_signal_ends_the_work_between_batches(self, run, tmp_path):
        class Stopping(ToyScenes):
            """Asks for a stop once the work has begun: before, all samples are compared with the recorded ones."""

            def __getitem__(self, index):
                if index == 2 and list(judgements(run).rglob("rank*.jsonl")):
                    os.kill(os.getpid(), signal.SIGTERM)
                return super().__getitem__(index)

        before, copy = signal.getsignal(signal.SIGTERM), shutil.copytree(run, tmp_path / "copy")
        result = on_network(run, 1, Stopping(5))
        assert signal.getsignal(signal.SIGTERM) == before
        assert (result.interrupted, result.missing, result.status) == (signal.SIGTERM, 12, "unfinished")
        assert {record.sample_id for record in result.records} == {0, 1}
        assert "stopped by SIGTERM" in str(result)
        assert "12 records are missing" in str(result)
        assert json.loads((result.folder / "judgement.json").read_text())["status"] == "unfinished"
        again = on_network(run, 1)
        assert comparable(again.records) == comparable(on_network(copy, 1).records)


class TestTransfer:
    def test_numbers_are_those_of_the_records(self, run, other_run):
        for path in (run, other_run):
            for seed in (0, 1):
                on_network(path, seed)
        matrix = matrix_of(run, other_run)
        assert matrix.judges == ("net 0", "net 1")
        assert [(row.source, row.label) for row in matrix.rows[:4]] == [
            ("net 0", "clean"),
            ("net 0", "alma minimal norm"),
            ("net 0", "pgd 16/255"),
            ("net 0", "pgd 64/255"),
        ]
        assert len(matrix.rows) == 8
        assert {row.num_images for row in matrix.rows} == {4}  # one of five is void
        row = matrix.rows[3]
        evaluated = {seed: on_network(run, seed).records for seed in (0, 1)}
        for seed, cell in enumerate(row.cells):
            chosen = [r for r in evaluated[seed] if (r.digest, r.eps) == (row.digest, row.eps) and r.num_valid]
            tp, fp, fn = (torch.tensor([getattr(r, name) for r in chosen]).sum(0) for name in ("tp", "fp", "fn"))
            assert cell.miou == pytest.approx((tp / (tp + fp + fn)).mean().item())
            assert cell.accuracy == pytest.approx((tp.sum() / (tp + fn).sum()).item())
            assert cell.asr == sum(r.success for r in chosen) / 4
            assert cell.is_source is (seed == 0)
        written = matrix.to_dict()
        assert written["rows"][3]["cells"][0]["miou"] == 100 * row.cells[0].miou
        assert written["units"] == {"miou": "%", "accuracy": "%", "asr": "%"}
        assert "alma minimal norm" in str(matrix)

    def test_the_own_column_needs_no_result_and_counts_kept_images_alone(self, run):
        for sample_id in (0, 4):
            image_file(run, "pgd", sample_id).unlink()
        on_network(run, 1)
        matrix = matrix_of(run)
        by_label = {row.label: row for row in matrix.rows}
        assert [by_label[label].num_images for label in ("pgd 16/255", "pgd 64/255")] == [4, 2]
        row = by_label["pgd 64/255"]
        own = [r for r in read_records(run) if (r.digest, r.eps) == (row.digest, row.eps) and r.sample_id in (1, 3)]
        assert row.cells[0].accuracy == pytest.approx(sum(sum(r.tp) for r in own) / sum(r.num_valid for r in own))
        assert matrix.judges[0].startswith("Conv2d")

    def test_a_row_compares_the_same_images(self, run):
        first = on_network(run, 1)
        file = first.folder / "records" / "rank000.jsonl"
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[:8]))  # of samples 0 and 1 alone
        assert {row.num_images for row in matrix_of(run).rows} == {2}

    def test_images_that_are_not_allowed_count_for_no_network(self, run):
        on_network(run, 1)
        change(image_file(run, "pgd", 1), lambda adv: adv - 1e-6 - adv.min())
        on_network(run, 2)
        counts = {row.label: row.num_images for row in matrix_of(run).rows}
        assert counts == {"clean": 4, "alma minimal norm": 4, "pgd 16/255": 4, "pgd 64/255": 3}

    def test_a_network_that_saw_one_run_only_leaves_gaps(self, run, other_run):
        on_network(run, 2)
        matrix = matrix_of(run, other_run)
        assert [cell is None for cell in matrix.rows[0].cells] == [False, True, False]
        assert [cell is None for cell in matrix.rows[4].cells] == [True, False, True]

    def test_equal_names_are_told_apart(self, run):
        for seed in (1, 2):
            on_network(run, seed, name="mine")
        names = matrix_of(run).judges
        assert len({*names}) == 3
        assert sum(name.startswith("mine ") for name in names) == 2

    def test_a_wide_table_is_not_cut(self, run):
        on_network(run, 1)
        matrix = matrix_of(run)
        names = tuple(f"a network with a long name {index}" for index in range(20))
        wide = replace(matrix, judges=names, rows=tuple(replace(r, cells=r.cells * 10) for r in matrix.rows))
        lines = str(wide).splitlines()
        assert all(name in lines[2] for name in names)
        asr = 100 * matrix.rows[1].cells[0].asr
        assert lines[4].count(f"{asr:5.1f}*") == 10

    def test_runs_on_other_data_are_refused(self, run, tmp_path):
        class Masked(ToyScenes):
            def __getitem__(self, index):
                item = super().__getitem__(index)
                return item if index != 1 else {**item, "mask": item["mask"].clamp(max=2)}

        attack_scenes(tmp_path / "more", dataset=Masked(5))
        with pytest.raises(
            ValueError, match=r"do not fit into one matrix \(.* of 1 sample, 1 \(toy_1\), is not the same"
        ):
            matrix_of(run, tmp_path / "more")

    def test_files(self, run, tmp_path):
        on_network(run, 1)
        numbers, picture = write_transfer(matrix_of(run), tmp_path / "out")
        content = json.loads(numbers.read_text())
        assert content["judges"][1] == "net 1"
        assert len(content["rows"]) == 4
        assert Image.open(picture).width > 300
