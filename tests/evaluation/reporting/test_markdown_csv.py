import csv
import json
import math
import re
import shutil
from dataclasses import replace

import pytest
from evaluation.reporting.runs import EVIL, QUOTES, make_run

from segrobust.evaluation import Manifest, RunDirectory
from segrobust.evaluation.checks import Check, write_checks
from segrobust.evaluation.reporting.csv_export import write_csv
from segrobust.evaluation.reporting.html.report_page import write_html
from segrobust.evaluation.reporting.markdown import markdown_table, write_markdown
from segrobust.evaluation.reporting.run_files import read_run
from segrobust.untrusted.printable import for_markdown

UNITLESS = {
    *("scope", "attack", "norm_name", "eps", "num_images", "bound", "class", "name", "digest", "flags"),
    *("sample_id", "sample_name", "sequence", "success", "first_success", "num_forwards", "num_backwards", "seconds"),
}
"""Names, counts, radii in image units, and seconds."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "evil", panels=0)


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "copy")
    return RunDirectory(tmp_path / "copy")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_have_a_row_per_attack_radius_and_scope(run):
    summary = read_run(run).summary
    scores, *_ = write_csv(run)
    rows = rows_of(scores)
    keys = [(row["scope"], row["attack"], row["eps"]) for row in rows]
    assert len(set(keys)) == len(keys) == 1 + 2 + 2 + 2  # clean; pgd, by-products and any attack at two radii
    row = next(row for row in rows if (row["scope"], float(row["eps"])) == ("attack", 16 / 255))
    entry = summary.fixed_budget[0].scores[0]
    assert float(row["miou"]) == 100 * entry.miou
    assert float(row["miou_low"]) == 100 * entry.intervals["miou"].low
    assert row["bound"] == entry.bound
    rate = next(row for row in rows if (row["scope"], float(row["eps"])) == ("any attack", 64 / 255))
    assert float(rate["asr"]) == 100 * summary.any_attack[0].asr[1]


def test_norms_have_a_row_per_image_with_failures_and_flags(run):
    _, norms, *_ = write_csv(run)
    found = [r for r in read_run(run).records if r.kind == "minimal-norm"]
    rows = rows_of(norms)
    assert [row["sample_name"] for row in rows] == [f"{QUOTES}{r.sample_id}" for r in found]
    assert [float(row["norm"]) for row in rows] == [r.norm for r in found]
    assert [row["flags"] for row in rows if row["sample_id"] == "2"] == ["no-valid-pixel"]


def test_the_smallest_norms_of_several_attacks_are_rows_and_sentences(run):
    """Added to alma: an attack that finds half of its norms on even images, and twice on odd ones."""
    found = [r for r in read_run(run).records if r.kind == "minimal-norm"]
    other = [replace(r, attack="fmn", digest="f", norm=r.norm * (2 if r.sample_id % 2 else 0.5)) for r in found]
    with (run.records / "rank000.jsonl").open("a") as shard:
        shard.writelines(r.to_line() + "\n" for r in other)
    manifest = Manifest.read(run.manifest)
    entry = replace(manifest.attacks[0], name="fmn", digest="f", attack="FMN()")
    replace(manifest, attacks=(*manifest.attacks, entry)).write(run.manifest)
    _, norms, *_ = write_csv(run)
    rows = [row for row in rows_of(norms) if row["attack"] == "smallest of 2 attacks"]
    expected = {r.sample_id: min(r.norm, o.norm) for r, o in zip(found, other, strict=True) if not r.flags}
    assert {int(row["sample_id"]): float(row["norm"]) for row in rows} == expected
    pairs = [(r.norm, o.norm) for r, o in zip(found, other, strict=True) if not r.flags]
    assert {row["digest"] for row in rows if float(row["norm"]) in {o for n, o in pairs if o < n}} == {"f"}
    text = write_markdown(run).read_text()
    broken = [(n, o) for n, o in pairs if min(n, o) < math.inf]
    counts = {"alma": sum(n <= o for n, o in broken), "fmn": sum(o <= n for n, o in broken)}
    assert 0 < counts["fmn"] < len(broken)
    told = ", ".join(f"{name} on {count}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    assert f"smallest of 2 attacks: {told}" in text
    assert "| smallest of 2 attacks |" in text
    page = write_html(run).read_text()
    assert f"are broken (smallest of 2 attacks: {told})" in page


def test_classes_have_names(run):
    _, _, classes, _ = write_csv(run)
    rows = [row for row in rows_of(classes) if row["scope"] == "clean"]
    assert [row["name"] for row in rows] == [EVIL, "road <b>&</b> sky", "car", "pole"]
    assert [float(row["iou"]) for row in rows] == [100 * iou for iou in read_run(run).summary.clean.iou]


def test_every_column_of_numbers_has_its_unit(run):
    """Shares of the records and of the summary are in percent, and the table of columns says so."""
    *tables, columns = write_csv(run)
    units = {(row["table"], row["column"]): row["unit"] for row in rows_of(columns)}
    for path in tables:
        head = rows_of(path)[0]
        named = {column for table, column in units if table == path.stem}
        assert named == {*head} - UNITLESS
        assert named
    record = next(r for r in read_run(run).records if r.kind == "minimal-norm" and not r.flags)
    row = next(row for row in rows_of(tables[1]) if row["sample_id"] == str(record.sample_id))
    assert (units["norms", "apsr"], float(row["apsr"])) == ("%", 100 * record.apsr)
    assert (units["norms", "norm"], float(row["norm"])) == ("norm", record.norm)
    assert {unit for (table, _), unit in units.items() if table == "scores"} == {"%", "sensor"}


def test_files_are_functions_of_the_records(run):
    first = [path.read_bytes() for path in (*write_csv(run), write_markdown(run))]
    assert [path.read_bytes() for path in (*write_csv(run), write_markdown(run))] == first


def test_the_text_to_paste_holds_findings_bounds_and_source(run):
    files = read_run(run)
    text = write_markdown(run).read_text()
    (entry,) = files.summary.minimal_norm
    assert "a stronger attack can only lower the mIoU further" in text
    assert entry.bound in text
    assert f"Clean, {files.summary.num_images} images: mIoU^D {100 * files.summary.clean.miou:.1f} %" in text
    for part in (files.manifest.weights[:8], "float64", "seed 0", "by-product", "without a valid pixel are left out"):
        assert part in text
    for attack in files.manifest.attacks:
        assert attack.attack in text
    widths = {
        line.count(" | ") for line in text.splitlines() if line.startswith("| minimal") or line.startswith("| alma")
    }
    assert len(widths) == 1


def test_failed_checks_are_told(run):
    bad = Check(name="made_up", status="fail", detail="it is bad", meaning="m", fix="repair it")
    write_checks(run.network_checks, [bad], weights="w")
    text = write_markdown(run).read_text()
    assert "**Unreliable**" in text
    assert r"**fail** made\_up: it is bad. Repair it." in text


def test_nothing_in_a_name_ends_a_cell_or_starts_html():
    table = markdown_table(["a", "b"], [[EVIL, "x|y\nz"]])
    assert "<script" not in table
    assert len(table.splitlines()) == 3
    assert len(re.findall(r"(?<!\\)\|", table.splitlines()[-1])) == 3
    assert for_markdown("a_b*c") == r"a\_b\*c"


def test_an_infinite_norm_stays_one(run):
    shard = run.records / "rank000.jsonl"
    lines = [re.sub(r'"norm":[0-9.e-]+', '"norm":"inf"', x) if '"eps":"min"' in x else x for x in shard.open()]
    lines = [x.replace('"success":true', '"success":false') if '"norm":"inf"' in x else x for x in lines]
    lines = [re.sub(r'"apsr":[0-9.e-]+', '"apsr":0.5', x) if '"norm":"inf"' in x else x for x in lines]
    shard.write_text("".join(lines))
    assert all(math.isinf(float(row["norm"])) for row in rows_of(write_csv(run)[1]))
    assert "resist alma" in write_markdown(run).read_text()


def test_a_name_that_a_spreadsheet_would_compute_is_text(run):
    shard = run.records / "rank000.jsonl"
    lines = [{**json.loads(line), "sample_name": "=1+1"} for line in shard.read_text().splitlines()]
    shard.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {row["sample_name"] for row in rows_of(write_csv(run)[1])} == {"'=1+1"}


def test_an_attack_in_markdown_cannot_end_its_code(run):
    manifest = Manifest.read(run.manifest)
    attacks = tuple(replace(entry, attack=f"{entry.attack}``<img>") for entry in manifest.attacks)
    replace(manifest, attacks=attacks).write(run.manifest)
    assert all(f"``` {entry.attack} ```" in write_markdown(run).read_text() for entry in attacks)
