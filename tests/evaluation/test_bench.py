"""A bench of a toy network: its cells are true, a run lowers them, and each tampering is named."""

import json
import math
import os
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation.toy import CRITERION, ToyScenes, toy_network, toy_plan

from segrobust.attacks import PGD, AlmaProx
from segrobust.evaluation import evaluate, plan_attacks, read_records
from segrobust.evaluation.bench.bench_consistency import norms_of_bench, read_bench
from segrobust.evaluation.bench.bench_file import BenchFile
from segrobust.evaluation.bench.bench_submission import lowered, submit_run
from segrobust.evaluation.bench.bench_verification import verify_bench
from segrobust.evaluation.bench.choice import accuracy_of, miou_of
from segrobust.evaluation.bench.stored_samples import sample_path
from segrobust.evaluation.bench.witness import (
    Witness,
    WitnessError,
    content_digest,
    quantized,
    read_witness,
    witness_path,
    write_witness,
)
from segrobust.evaluation.dataset import load_sample
from segrobust.functional.norms import norm

FILE = "toy_linf.json"
DATA = ToyScenes(5)
IMAGES = (0, 1, 3, 4)  # image 2 has no valid pixel


def network(seed=0):
    return toy_network(torch.float32, seed)


def make_run(folder, plan, **options):
    evaluate(
        network(), DATA, plan=plan, run_dir=folder, keep_adversarials=True, panels=0, checks="off", progress=False,
        **options,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of weak attacks, and one of stronger ones."""
    folder = tmp_path_factory.mktemp("runs")
    strong = {
        "alma_40": AlmaProx(num_steps=40, step_size=0.05, criterion=CRITERION),
        "pgd_20": PGD(num_steps=20, criterion=CRITERION),
    }
    plan = plan_attacks(strong, (16 / 255, 64 / 255))
    return make_run(folder / "weak", toy_plan()), make_run(folder / "strong", plan)


@pytest.fixture(scope="module")
def honest(runs, tmp_path_factory):
    """A bench of the weak run."""
    folder = tmp_path_factory.mktemp("bench")
    submit_run(runs[0], network(), DATA, folder, name="toy")
    return folder


@pytest.fixture
def bench(honest, tmp_path):
    """A copy to tamper with."""
    return Path(shutil.copytree(honest, tmp_path / "bench"))


def problems(folder, *, net=None, data=DATA, **options):
    return verify_bench(folder / FILE, net or network(), data, **options).problems


# --- cells


def test_every_cell_is_verified(honest):
    found = verify_bench(honest / FILE, network(), DATA)
    bench = read_bench(honest / FILE)
    assert (found.problems, found.num_missing, found.num_rounded) == ((), 0, 0)
    assert found.num_cells == sum(each is not None for each in bench.norms) + 4 * len(IMAGES)
    assert [image.sample_id for image in bench.images] == [*IMAGES]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("threads", [1, 2])
def test_batch_sizes_and_threads_change_nothing(honest, batch_size, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert problems(honest, batch_size=batch_size) == ()
    finally:
        torch.set_num_threads(before)


def test_a_witness_is_within_its_radius_and_near_the_norm_of_the_run(honest, runs):
    bench, records = read_bench(honest / FILE), read_records(runs[0])
    by_key = {(r.sample_id, r.digest, r.eps): r for r in records}
    for entry in bench.entries:
        sample = load_sample(DATA, entry.sample_id)
        adv = read_witness(honest, entry.witness, sample.image.shape).adversarial(sample.image)
        assert entry.norm == norm((adv.double() - sample.image.double())[None], "linf").item()
        source = by_key.get((entry.sample_id, entry.attack_digest, entry.eps))
        if isinstance(entry.eps, float):
            assert entry.norm <= entry.eps + 2.0**-23
        elif source is not None and source.success:
            assert entry.norm <= 1.021 * source.norm
        assert source is None or entry.num_forwards == source.num_forwards


def test_the_envelope_is_the_smallest_norm_of_any_certain_witness(honest):
    bench = read_bench(honest / FILE)
    for image, least in bench.envelope.items():
        certain = [e.norm for e in bench.entries if e.sample_id == image and e.slack >= e.close]
        assert least == min(certain, default=math.inf)
    (known,) = norms_of_bench(honest)
    assert [*known.norms.values()] == [*bench.envelope.values()]


# --- submission


def numbers(folder):
    bench = read_bench(folder / FILE)
    return [*bench.envelope.values(), *(value for cell in bench.radii for value in (cell.accuracy, cell.miou))]


def test_a_stronger_run_lowers_cells_and_says_by_how_much(bench, runs):
    before = numbers(bench)
    (found,) = submit_run(runs[1], network(), DATA, bench, name="toy")
    after = numbers(bench)
    assert all(now <= there for there, now in zip(before, after, strict=True))
    assert len(found.changes) == sum(now < there for there, now in zip(before, after, strict=True)) > 0
    assert any(" -> " in change for change in found.changes)
    assert problems(bench) == ()
    assert {path.stem for path in (bench / "witnesses").iterdir()} == read_bench(bench / FILE).named


def test_a_weaker_or_the_same_run_changes_nothing(bench, runs):
    submit_run(runs[1], network(), DATA, bench, name="toy")
    content = {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()}
    for run in (*runs, runs[0]):
        (found,) = submit_run(run, network(), DATA, bench, name="toy")
        assert found.changes == ()
    assert content == {path: path.read_bytes() for path in bench.rglob("*") if path.is_file()}


def test_the_order_of_runs_does_not_matter_for_norms_and_accuracy(bench, runs, tmp_path):
    other = tmp_path / "other"
    submit_run(runs[1], network(), DATA, bench, name="toy")
    for run in (runs[1], runs[0]):
        submit_run(run, network(), DATA, other, name="toy")
    a, b = (read_bench(folder / FILE) for folder in (bench, other))
    assert a.envelope == b.envelope
    assert [cell.accuracy for cell in a.radii] == [cell.accuracy for cell in b.radii]


def test_a_record_that_lies_lowers_nothing(bench, runs, tmp_path):
    """A norm and counts in the records of a run are not believed: its perturbations are judged again."""
    run = Path(shutil.copytree(runs[0], tmp_path / "run"))
    shard = run / "records" / "rank000.jsonl"
    lines = [json.loads(line) for line in shard.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "minimal-norm" and line["success"]:
            line["norm"] /= 2
    shard.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (found,) = submit_run(run, network(), DATA, bench, name="toy")
    assert found.changes == ()


def test_what_a_bench_cannot_hold_is_refused(bench, runs, tmp_path):
    with pytest.raises(ValueError, match="attacked another network: weights"):
        submit_run(runs[0], network(1), DATA, bench, name="toy")
    evaluate(network(), DATA, plan=toy_plan(), run_dir=tmp_path / "plain", panels=0, checks="off", progress=False,
             max_images=1)  # fmt: skip
    with pytest.raises(ValueError, match=r"stored no adversarial images.*keep_adversarials"):
        submit_run(tmp_path / "plain", network(), DATA, bench, name="toy")
    with pytest.raises(ValueError, match="the name of a network"):
        submit_run(runs[0], network(), DATA, bench, name="../toy")
    with pytest.raises(ValueError, match="run on other data"):
        submit_run(runs[0], network(), Shifted(5), bench, name="toy")


def test_a_bench_that_is_not_true_is_not_lowered(bench, runs):
    change(bench, lambda file: file["entries"][1].update(norm=1e-3))
    with pytest.raises(ValueError, match=r"only a bench that is verified is lowered[\s\S]*norm"):
        submit_run(runs[1], network(), DATA, bench, name="toy")


def test_lowering_keeps_cells_that_nothing_beats(honest):
    bench = read_bench(honest / FILE)
    weak = [replace(e, witness=f"{n:032x}", norm=e.norm + 1e-3, tp=e.tp) for n, e in enumerate(bench.entries)]
    assert lowered(bench, weak, (), {}) == bench


# --- tampering


class Shifted(ToyScenes):
    """Another seed of the data: the same names with other images."""

    def __getitem__(self, index):
        return {**super().__getitem__((index + 1) % 5 if index not in (1, 2) else index), "sample_id": index}


class Relabelled(ToyScenes):
    """The same images with another label in a pixel."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item["mask"][-1, -1] = (item["mask"][-1, -1] + 1) % 4
        return item


def change(folder, edit):
    """Edits the JSON of a bench."""
    path = folder / FILE
    file = json.loads(path.read_text())
    edit(file)
    path.write_text(json.dumps(file))


def first(file, **wanted):
    """The first entry with these values, of an attack with a radius by default."""
    return next(e for e in file["entries"] if all(e[name] == value for name, value in wanted.items()) and e["eps"])


def of_norm(file):
    """The entry behind the first norm."""
    return next(e for e in file["entries"] if e["witness"] in file["norms"])


def rename(folder, entry_witness, content):
    """Puts a forged witness in the place of one, under the digest of its content, in every cell."""
    digest = content_digest(content)
    witness_path(folder, entry_witness).unlink()
    witness_path(folder, digest).write_bytes(content)
    path = folder / FILE
    path.write_text(path.read_text().replace(entry_witness, digest))


def forge(folder, edit):
    """Forges the witness of the first norm, with a digest that fits."""
    entry = of_norm(json.loads((folder / FILE).read_text()))
    path = witness_path(folder, entry["witness"])
    witness = Witness.from_bytes(path.read_bytes())
    rename(folder, entry["witness"], edit(witness).to_bytes())


def header(folder, **values):
    """Changes the first line of the witness of the first norm."""
    entry = of_norm(json.loads((folder / FILE).read_text()))
    line, _, packed = witness_path(folder, entry["witness"]).read_bytes().partition(b"\n")
    rename(folder, entry["witness"], json.dumps({**json.loads(line), **values}).encode() + b"\n" + packed)


def swap(folder):
    """Exchanges the files of two witnesses of different images."""
    file = json.loads((folder / FILE).read_text())
    a = of_norm(file)
    b = next(e for e in file["entries"] if e["sample_id"] not in (a["sample_id"], 3))
    one, two = (witness_path(folder, each["witness"]) for each in (a, b))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


def claim(folder):
    """Lets a cell name the witness of another image."""

    def edit(file):
        file["norms"] = [file["norms"][1], file["norms"][0], *file["norms"][2:]]

    change(folder, edit)


def link(folder):
    entry = of_norm(json.loads((folder / FILE).read_text()))
    path = witness_path(folder, entry["witness"])
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


def truncate(folder):
    entry = of_norm(json.loads((folder / FILE).read_text()))
    path = witness_path(folder, entry["witness"])
    path.write_bytes(path.read_bytes()[:-5])


def bomb(folder):
    """A witness whose integers unpack to far more than it states."""
    entry = of_norm(json.loads((folder / FILE).read_text()))
    line, _, _ = witness_path(folder, entry["witness"]).read_bytes().partition(b"\n")
    rename(folder, entry["witness"], line + b"\n" + zlib.compress(bytes(10**6)))


def twice(folder):
    path = folder / FILE
    path.write_text(path.read_text().replace('"weights":', '"weights": "abc", "weights":', 1))


def text(folder, old, new):
    path = folder / FILE
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def edited(edit):
    return lambda folder: change(folder, edit)


def outside(witness):
    return replace(witness, levels=torch.full_like(witness.levels, 127), step=1 / 127)


TAMPERINGS = {
    "norm lower": (edited(lambda f: of_norm(f).update(norm=of_norm(f)["norm"] * 0.99)), "norm .* measured"),
    "norm higher": (edited(lambda f: of_norm(f).update(norm=of_norm(f)["norm"] * 1.01)), "norm .* in the file"),
    "norm nan": (edited(lambda f: of_norm(f).update(norm="nan")), "norm must be a number"),
    "norm not the smallest": (edited(lambda f: f["norms"].__setitem__(0, None)), "not the smallest|other witnesses"),
    "slack negative": (edited(lambda f: of_norm(f).update(slack=-3)), "slack -3"),
    "slack higher": (edited(lambda f: of_norm(f).update(slack=of_norm(f)["slack"] + 9)), "slack .* measured"),
    "close pixels": (edited(lambda f: of_norm(f).update(close=40)), "40 pixels too close to call in the file"),
    "accuracy": (edited(lambda f: f["radii"][0].update(accuracy=0.01)), "accuracy 0.01 in the file"),
    "miou": (edited(lambda f: f["radii"][1].update(miou=0.01)), "miou 0.01 in the file"),
    "radius": (edited(lambda f: f["radii"][1].update(eps=0.1)), "radius 0.1: .* has norm"),
    "radius of a witness": (edited(lambda f: first(f).update(eps=0.001)), "witness says eps"),
    "counts": (lambda folder: shifted_counts(folder), "tp .* in the file, .* counted"),
    "class count": (edited(lambda f: f.update(num_classes=5)), "classes"),
    "image digest": (edited(lambda f: f["images"][0].update(image="0" * 32)), "the image of image 0"),
    "label digest": (edited(lambda f: f["images"][0].update(label="0" * 32)), "the label of image 0"),
    "sample digest": (edited(lambda f: f["images"][1].update(sample="0" * 16)), "the sample of image 1"),
    "valid pixels": (edited(lambda f: f["images"][0].update(num_valid=60)), "60 valid pixels"),
    "image twice": (edited(lambda f: f["images"][1].update(sample_id=0)), "listed twice"),
    "weights": (edited(lambda f: f.update(weights="0" * 64)), "the network is another one: weights"),
    "preprocessing": (edited(lambda f: f.update(preprocessing="x")), "the network is another one: preprocessing"),
    "criterion": (edited(lambda f: f.update(criterion="Untargeted(apsr=0.5)")), "slack .* in the file"),
    "criterion of another kind": (edited(lambda f: f.update(criterion="Targeted(apsr=0.9)")), "is of Untargeted"),
    "void label": (edited(lambda f: f.update(ignore_index=0)), "holds other values than the classes"),
    "norm name": (edited(lambda f: f.update(norm_name="l2")), "is named"),
    "network name": (edited(lambda f: f.update(network="other")), "is named"),
    "attack name": (edited(lambda f: of_norm(f).update(attack="mine")), "witness says attack"),
    "attack settings": (edited(lambda f: f.update(attacks={k: v + " " for k, v in f["attacks"].items()})), "settings"),
    "attack digest": (edited(lambda f: of_norm(f).update(attack_digest="0" * 16)), "is not listed"),
    "passes": (edited(lambda f: of_norm(f).update(num_forwards=1)), "witness says num_forwards"),
    "clean with a perturbation": (edited(lambda f: first(f).update(attack="clean")), "named clean|witness says attack"),
    "witness digest": (lambda folder: other_digest(folder), "other witnesses"),
    "witnesses swapped": (swap, "has the digest"),
    "witness of another image in a cell": (claim, "names a witness of another image"),
    "witness is a link": (link, "is a link"),
    "witness cut": (truncate, "the file is cut, or another one"),
    "witness outside the box": (lambda folder: forge(folder, outside), r"outside \[0, 1\]"),
    "witness smaller": (lambda folder: forge(folder, lambda w: replace(w, step=w.step * 0.9)), "norm .* measured"),
    "witness of other passes": (lambda folder: header(folder, num_backwards=3), "witness says num_backwards"),
    "witness of another size": (lambda folder: header(folder, shape=[3, 2, 2]), "do not fill the stated size"),
    "witness nan": (lambda folder: header(folder, step="nan"), "step must be a number"),
    "witness with more fields": (lambda folder: header(folder, more=1), "missing or unknown"),
    "witness unpacks to more": (bomb, "do not fill the stated size"),
    "key twice": (twice, "occurs twice"),
    "nan in the file": (lambda folder: text(folder, '"schema": 1', '"schema": NaN'), "NaN is no number"),
    "file cut": (lambda folder: (folder / FILE).write_text((folder / FILE).read_text()[:500]), "strict JSON"),
    "file is a link": (lambda folder: linked_file(folder), "is a link"),
    "field missing": (edited(lambda f: f.pop("radii")), "missing or unknown"),
    "schema": (edited(lambda f: f.update(schema=2)), "schema must be"),
}


def other_digest(folder):
    text(folder, of_norm(json.loads((folder / FILE).read_text()))["witness"], "0" * 32)


def linked_file(folder):
    path = folder / FILE
    path.rename(folder.parent / "file")
    path.symlink_to(folder.parent / "file")


def shifted_counts(folder):
    """Moves correct pixels of a class to another one, with sums that fit."""

    def edit(file):
        entry = max((e for e in file["entries"] if e["eps"]), key=lambda e: max(e["tp"]))
        place = entry["tp"].index(max(entry["tp"]))
        for name, by in (("tp", -5), ("fn", 5), ("fp", 0)):
            entry[name][place] += by
        entry["fp"][(place + 1) % 4] += 5

    change(folder, edit)


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampering_is_named(bench, name):
    tamper, says = TAMPERINGS[name]
    tamper(bench)
    found = problems(bench)
    assert any(re.search(says, problem) for problem in found), found


def test_other_data_and_networks_are_named(bench):
    assert "is another one" in problems(bench, data=Shifted(5))[0]
    assert "the label of image 0" in problems(bench, data=Relabelled(5))[0]
    assert "is not in the data set" in problems(bench, data=ToyScenes(4))[0]
    assert "another one: weights" in problems(bench, net=network(1))[0]
    assert "precision 'float32' in the file, 'float64' now" in " ".join(problems(bench, net=toy_network()))


def test_witnesses_that_are_not_at_hand_are_counted(bench):
    file = read_bench(bench / FILE)
    witness_path(bench, file.entries[0].witness).unlink()
    found = verify_bench(bench / FILE, network(), DATA)
    assert (found.problems, found.num_missing) == ((), 1)
    assert found.num_cells < sum(each is not None for each in file.norms) + 4 * len(IMAGES)


def test_a_file_is_written_and_read_back(honest, tmp_path):
    bench = read_bench(honest / FILE)
    bench.write(tmp_path)
    assert (tmp_path / FILE).read_bytes() == (honest / FILE).read_bytes()
    assert BenchFile.read(tmp_path / FILE) == bench
    assert sorted(os.listdir(tmp_path)) == [FILE]
    cell = bench.radii[0]
    assert cell.accuracy == accuracy_of([bench.by_witness[each] for each in cell.worst_accuracy])
    assert cell.miou == miou_of([bench.by_witness[each] for each in cell.worst_miou])


# --- stored images


class EightBits(ToyScenes):
    """Images of 8 bits; `changed` values are another one, as other versions of libraries draw them."""

    def __init__(self, num, changed=0):
        super().__init__(num)
        self.changed = changed

    def __getitem__(self, index):
        item = super().__getitem__(index)
        image = torch.nn.functional.interpolate(item["image"][None], scale_factor=8)[0].mul(255).round()
        image.view(-1)[: self.changed] = 255 - image.view(-1)[: self.changed]
        mask = torch.nn.functional.interpolate(item["mask"][None, None].float(), scale_factor=8)[0, 0].long()
        return {"image": image / 255, "mask": mask, "sample_id": index}


@pytest.fixture(scope="module")
def with_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    plan = plan_attacks({"pgd": PGD(num_steps=2, criterion=CRITERION)}, (64 / 255,))
    evaluate(network(), EightBits(2), plan=plan, run_dir=folder / "run", keep_adversarials=True, panels=0,
             checks="off", progress=False)  # fmt: skip
    submit_run(folder / "run", network(), EightBits(2), folder / "bench", name="toy", store_images=True)
    return folder / "bench"


def test_a_few_other_pixels_are_taken_from_the_stored_image(with_images):
    assert verify_bench(with_images / FILE, network(), EightBits(2)).num_near == 0
    found = verify_bench(with_images / FILE, network(), EightBits(2, changed=1))
    assert (found.problems, found.num_near) == ((), 2)
    assert "2 images have a few other pixels here" in str(found)


@pytest.mark.parametrize("change_file", [None, lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_more_pixels_or_another_stored_image_are_named(with_images, tmp_path, change_file):
    folder = Path(shutil.copytree(with_images, tmp_path / "bench"))
    image = read_bench(folder / FILE).images[0]
    if change_file is not None:
        change_file(sample_path(folder, image))
    data = EightBits(2, changed=40 if change_file is None else 1)
    (problem,) = problems(folder, data=data)
    assert re.search(
        r"the image of image 0 .* is another one|\.sample: its values cannot be unpacked|\.sample: its values do not",
        problem,
    )


def test_only_images_of_8_bits_are_stored(bench, runs):
    with pytest.raises(ValueError, match="not of 8 bits"):
        submit_run(runs[0], network(), DATA, bench, name="toy", store_images=True)


# --- witnesses


@pytest.mark.parametrize("levels", ["int8", "int16"])
def test_a_witness_is_read_back_and_stays_in_the_box(honest, levels, tmp_path):
    bench = read_bench(honest / FILE)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 40, 50, generator=generator).mul(1.4).sub(0.2).clamp(0, 1)  # many values at both ends
    adv = (image + 0.1 * (2 * torch.rand(image.shape, generator=generator) - 1)).clamp(0, 1)
    for stretch in (1.0, 1.02, 3.0):
        witness = quantized(image, adv, bench.origin(bench.entries[0]), levels=levels, stretch=stretch)
        found = witness.adversarial(image)
        assert 0 <= found.min() <= found.max() <= 1
        if stretch == 1:
            assert (found - adv).abs().max() <= witness.step * 1.01
        digest = write_witness(witness, tmp_path)
        again = read_witness(tmp_path, digest, image.shape)
        assert (again.origin, again.step) == (witness.origin, witness.step)
        assert torch.equal(again.levels, witness.levels)


def test_a_witness_of_another_size_is_refused(honest):
    bench = read_bench(honest / FILE)
    witness = quantized(torch.zeros(3, 4, 4), torch.ones(3, 4, 4), bench.origin(bench.entries[0]))
    with pytest.raises(WitnessError, match="of size"):
        witness.adversarial(torch.zeros(3, 4, 5))
