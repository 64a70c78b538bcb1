import json
import shutil
from dataclasses import replace

import pytest
import torch
from evaluation.reporting.runs import EvilScenes, make_run
from evaluation.reporting.test_html import read
from evaluation.toy import toy_network, toy_plan

from segrobust.attacks import PGD
from segrobust.evaluation import Manifest, RunDirectory, plan_attacks
from segrobust.evaluation.numbers.envelope import KnownNorms, global_optimality, nearness, norms_of_run
from segrobust.evaluation.reporting.comparison.compare import compare_runs, run_labels
from segrobust.evaluation.reporting.html.report_page import write_html
from segrobust.evaluation.reporting.markdown import write_markdown
from segrobust.evaluation.run.records import read_records
from segrobust.metrics import geometric_mean_ratio, local_optimality

pytest.importorskip("jinja2", reason="the extra `report` is not installed")
pytest.importorskip("plotly", reason="the extra `report` is not installed")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    other = plan_attacks(
        {"alma": toy_plan().jobs[0].attack, "mine": PGD(num_steps=2, criterion=toy_plan().criterion)},
        (16 / 255, 64 / 255),
    )
    make_run(folder / "standard", panels=0)
    make_run(folder / "other", network=toy_network(seed=1), plan=other, panels=0)
    return folder


@pytest.fixture
def runs(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "runs")
    return [tmp_path / "runs" / "standard", tmp_path / "runs" / "other"]


def change(path, **values):
    directory = RunDirectory(path)
    replace(Manifest.read(directory.manifest), **values).write(directory.manifest)


def change_data(path, *samples):
    """Records as they are where the image or the mask of these samples is another one."""
    shard = path / "records" / "rank000.jsonl"
    records = [json.loads(line) for line in shard.open()]
    for record in records:
        if record["sample_id"] in samples:
            record["sample_digest"] = record["sample_digest"][::-1]
    shard.write_text("".join(json.dumps(record) + "\n" for record in records))


def text_of(path):
    return " ".join("".join(read(path).text).split())


def test_runs_stand_side_by_side(runs, tmp_path):
    page = compare_runs(runs, tmp_path / "out" / "compare.html")
    text, data = text_of(page), json.loads(read(page).scripts[0])
    assert "Comparison of 2 runs" in text
    assert "Not comparable" not in text
    labels = [curve["label"] for norm in data["norms"] for curve in norm["curves"]]
    assert {label.split(":")[0] for label in labels} == {"standard", "other"}
    assert [step["label"] for step in data["norms"][0]["steps"]] == ["standard: alma", "other: alma"]
    assert page.read_bytes() == compare_runs(runs, tmp_path / "again.html").read_bytes()


def test_attacks_that_not_all_have_are_left_out_and_named(runs, tmp_path):
    page = compare_runs(runs, tmp_path / "compare.html")
    text, data = text_of(page), json.loads(read(page).scripts[0])
    assert "standard: pgd" in text
    assert "other: mine" in text
    assert not [c for norm in data["norms"] for c in norm["curves"] if "pgd" in c["label"] or "mine" in c["label"]]


def add_attack(path, name, factor, radii=()):
    """A minimal-norm attack whose norms are those of alma times a factor; with radii, a fixed-budget attack instead."""
    manifest = Manifest.read(RunDirectory(path).manifest)
    alma = next(entry for entry in manifest.attacks if entry.name == "alma")
    names = {"attack": name, "digest": f"digest-of-{name}"}
    found = [r for r in read_records(path) if r.digest == alma.digest and r.eps == "min"]
    made = [replace(r, **names, norm=r.norm * factor) for r in found]
    if radii:
        made = [replace(r, **names, kind="fixed-budget", eps=eps, norm=eps) for r in found for eps in radii]
    entry = replace(alma, name=name, digest=names["digest"], eps=tuple(radii) or alma.eps)
    entry = replace(entry, kind=made[0].kind, attack=f"{name}()")
    change(path, attacks=(*manifest.attacks, entry))
    with (path / "records" / "rank000.jsonl").open("a") as shard:
        shard.writelines(r.to_line() + "\n" for r in made)


def norms_of(path, name):
    return {r.sample_id: r.norm for r in read_records(path) if (r.attack, r.eps) == (name, "min") and not r.flags}


def test_the_smallest_norms_are_those_of_shared_attacks(runs, tmp_path):
    """An attack that one run has alone must not make its smallest norms smaller."""
    add_attack(runs[0], "tighter", 0.01)
    for path, factor in zip(runs, (0.5, 2), strict=True):
        add_attack(path, "fmn", factor)
    page = compare_runs(runs, tmp_path / "compare.html")
    (norms,) = json.loads(read(page).scripts[0])["norms"]
    assert [step["label"] for step in norms["steps"] if not step["off"]] == [
        "standard: smallest of 2 attacks",
        "other: smallest of 2 attacks",
    ]
    for step, path, name in zip((norms["steps"][0], norms["steps"][3]), runs, ("fmn", "alma"), strict=True):
        expected = sorted(255 * norm for norm in norms_of(path, name).values() if norm < float("inf"))
        assert step["x"] == pytest.approx(expected, abs=1e-4)
    text = text_of(page)
    assert "standard: pgd, tighter" in text
    assert text.count("median norm (IQR), smallest of 2 attacks, l_inf") == 1
    assert "other / standard smallest of 2 attacks, l_inf" in text


def test_worst_cases_are_those_of_shared_radii(runs, tmp_path):
    """A radius that one run has alone lies inside the larger balls of its worst case."""
    for path, radii in zip(runs, ((16 / 255, 64 / 255), (64 / 255,)), strict=True):
        add_attack(path, "one", 1, radii)
        add_attack(path, "two", 1, (64 / 255,))
    page = compare_runs(runs, tmp_path / "compare.html")
    assert "standard: pgd, one at 16/255" in text_of(page)
    (norms,) = json.loads(read(page).scripts[0])["norms"]
    worst = [curve for curve in norms["curves"] if curve["label"].endswith("worst of 2 attacks")]
    assert [curve["x"] for curve in worst] == [[0, 64], [0, 64]]


def test_ratios_are_those_of_the_images_that_both_break(runs, tmp_path):
    norms = []
    for path in runs:
        found = [r for r in read_records(path) if r.kind == "minimal-norm" and not r.flags]
        norms.append(torch.tensor([r.norm for r in found], dtype=torch.float64))
    expected = geometric_mean_ratio(norms[1], norms[0])
    assert f"other / standard alma {expected.ratio:.3f} {expected.num_both} " in text_of(
        compare_runs(runs, tmp_path / "c.html")
    )


def of_run(path, label="standard"):
    manifest = Manifest.read(RunDirectory(path).manifest)
    return norms_of_run(read_records(path), label, (manifest.weights, manifest.preprocessing, manifest.criterion))


def test_attacks_are_measured_against_the_smallest_norms_of_all_runs_and_of_a_bench(runs, tmp_path):
    """Also against those of attacks that one run has alone, because the envelope is not a score of a run."""
    add_attack(runs[0], "tighter", 0.9)
    (alma, tighter) = of_run(runs[0])
    least = {image: min(alma.norms[image], tighter.norms[image]) for image in alma.norms}
    a, b = (torch.tensor([*norms.values()], dtype=torch.float64) for norms in (alma.norms, least))
    ratio, optimality = geometric_mean_ratio(a, b).ratio, local_optimality(a, b)
    assert ratio == pytest.approx(1 / 0.9)
    page = text_of(compare_runs(runs, tmp_path / "a.html"))
    number, missed = len(alma.norms), 0
    assert f"standard alma l_inf {number} {missed} {optimality:.3f} {ratio:.3f}" in page
    assert "standard tighter l_inf" in page
    assert "Global optimality" in page  # alma ran on two networks
    halved = replace(alma, source="bench x", attack="", norms={image: norm / 2 for image, norm in alma.norms.items()})
    page = text_of(compare_runs(runs, tmp_path / "b.html", known=(halved,)))
    assert f"standard alma l_inf {number} {missed} 0.000 2.000" in page
    assert "over all attacks of bench x, standard, other" in page


def test_global_optimality_is_the_mean_over_networks():
    def known(network, attack, *norms):
        return KnownNorms(
            source=network, attack=attack, digest=attack, target=(network, "", ""), norm_name="linf",
            norms={str(image): norm for image, norm in enumerate(norms)},
        )  # fmt: skip

    every = [known("a", "x", 1, 2), known("a", "y", 1, 1.5), known("b", "x", 1, 2), known("b", "y", 3, 4)]
    found = nearness(every)
    # Against (1, 1.5): x has areas (1.5 - 1.25) / (1.5 - 1.25); against (1, 2): y has 0.
    assert [each.optimality for each in found] == [1, 1, 1, 0]
    assert global_optimality(found) == {("x", "x"): (1, 2), ("y", "y"): (0.5, 2)}
    assert global_optimality(found[:2]) == {}


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("samples", (0, 1, 3), "images: 5 at 0, 1, 2, 3, 4 in standard, 3 at 0, 1, 3 in other"),
        ("ignore_index", 7, "label of void pixels: 255 in standard, 7 in other"),
        ("criterion", "Untargeted(apsr=0.9001)", r"criterion of success: Untargeted\(apsr=0.9\) in standard"),
        ("precision", "float32", "precision: float64 in standard, float32 in other"),
        ("label_space", None, "classes: .* in standard, None in other"),
    ],
)
def test_runs_that_differ_are_refused_unless_forced(runs, tmp_path, field, value, named):
    change(runs[1], **{field: value})
    with pytest.raises(ValueError, match=named) as caught:
        compare_runs(runs, tmp_path / "compare.html")
    assert "--force" in str(caught.value)
    assert str(caught.value).count("\n") == 2  # this field alone
    assert not (tmp_path / "compare.html").exists()
    text = text_of(compare_runs(runs, tmp_path / "compare.html", force=True))
    assert "Not comparable" in text
    assert str(caught.value).split("\n")[1].strip() in text


@pytest.mark.parametrize(
    ("samples", "named"),
    [
        ((3,), r"data: the image or the mask of 1 sample, 3 \(.*3\), is not the same in standard and in other"),
        ((0, 1, 4), r"data: the image or the mask of 3 samples, 0 .*, 1 .*, 4 .*, is not the same in standard"),
    ],
)
def test_runs_on_other_data_are_refused_by_sample(runs, tmp_path, samples, named):
    """Names, sizes and fingerprint are the same; the records' digests are not."""
    change_data(runs[1], *samples)
    with pytest.raises(ValueError, match=named):
        compare_runs(runs, tmp_path / "compare.html")
    text = text_of(compare_runs(runs, tmp_path / "compare.html", force=True))
    assert "is not the same in standard and in other" in text


def test_fingerprints_and_positions_do_not_matter_where_images_and_masks_are_the_same(runs, tmp_path):
    change(runs[1], data="else", image_size="1x2")
    assert "Not comparable" not in text_of(compare_runs(runs, tmp_path / "compare.html"))


def test_ratios_leave_out_images_that_differ(runs, tmp_path):
    def count():
        text = text_of(compare_runs(runs, tmp_path / "c.html", force=True))
        numbers = text.split("other / standard alma ")[1].split()[1:6]
        return sum(map(int, numbers))

    before = count()
    change_data(runs[1], 1)
    assert count() == before - 1


def test_runs_without_a_common_attack_are_refused_unless_forced(runs, tmp_path):
    manifest = Manifest.read(RunDirectory(runs[1]).manifest)
    shard = runs[1] / "records" / "rank000.jsonl"
    shard.write_text("".join(line for line in shard.open() if '"attack":"alma"' not in line))
    change(runs[1], attacks=tuple(entry for entry in manifest.attacks if entry.name == "mine"))
    with pytest.raises(ValueError, match="alma, pgd in standard; mine in other"):
        compare_runs(runs, tmp_path / "compare.html")
    assert "Not comparable" in text_of(compare_runs(runs, tmp_path / "compare.html", force=True))


def test_networks_and_seeds_may_differ(runs, tmp_path):
    change(runs[1], seed=5, weights="w", preprocessing="p")
    for shard in (runs[1] / "records").glob("rank*.jsonl"):
        shard.write_text(shard.read_text().replace('"seed":0', '"seed":5'))
    assert "Not comparable" not in text_of(compare_runs(runs, tmp_path / "compare.html"))


@pytest.mark.parametrize("paths", [[], ["standard"], ["standard", "standard"]])
def test_one_run_is_no_comparison(runs, tmp_path, paths):
    with pytest.raises(ValueError, match="at least two different runs"):
        compare_runs([tmp_path / "runs" / name for name in paths], tmp_path / "compare.html")


def test_labels_are_short_and_differ(tmp_path):
    paths = [tmp_path / "a" / "evaluation-1", tmp_path / "b" / "evaluation-2"]
    assert run_labels(paths) == ("a/evaluation-1", "b/evaluation-2")
    assert run_labels([tmp_path / "a", tmp_path / "b"]) == ("a", "b")
    assert run_labels([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ("a/x", "b/x")


def test_images_that_chose_the_checkpoint_are_told(runs, tmp_path):
    training = tmp_path / "training"
    chosen = training / "csv" / "version_0" / "robustness" / "epoch=001-step=000010-abc"
    evaluated = training / "evaluation-1"
    shutil.copytree(runs[0], chosen)
    shutil.copytree(runs[0], evaluated)
    shard = chosen / "records" / "rank000.jsonl"
    shard.write_text("".join(line for line in shard.open() if json.loads(line)["sample_id"] in (1, 3)))
    warning = "2 of 5 images were also used to select this checkpoint (csv/version_0/robustness)"
    assert warning in text_of(write_html(RunDirectory(evaluated)))
    assert "2 of 5 images" in write_markdown(RunDirectory(evaluated)).read_text()
    assert f"evaluation-1: {warning}" in text_of(compare_runs([evaluated, runs[1]], tmp_path / "c.html"))
    change_data(chosen, 1)
    assert "1 of 5 images were also used" in text_of(write_html(RunDirectory(evaluated)))
    change_data(chosen, 3)
    assert "used to select" not in text_of(write_html(RunDirectory(evaluated)))


def test_a_run_of_a_training_does_not_warn_of_itself(runs, tmp_path):
    own = tmp_path / "log" / "robustness" / "epoch=001-step=000010-abc"
    shutil.copytree(runs[0], own)
    assert "used to select" not in text_of(write_html(RunDirectory(own)))


def test_classes_that_differ_are_not_set_side_by_side(runs, tmp_path):
    space = replace(EvilScenes.label_space, names=("a", "b", "c", "d"))
    change(runs[1], label_space=space)
    assert "no classes or no radius in common" in text_of(compare_runs(runs, tmp_path / "c.html", force=True))
