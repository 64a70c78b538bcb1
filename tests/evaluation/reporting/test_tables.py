import io
import shutil

import pytest
from evaluation.reporting.runs import make_run
from rich.console import Console

from segrobust.evaluation import RunDirectory, summary_tables
from segrobust.evaluation.checks import Check
from segrobust.evaluation.numbers.metrics import METRICS, in_place
from segrobust.evaluation.numbers.summary import BOUND_ANY
from segrobust.evaluation.reporting.csv_export import write_csv
from segrobust.evaluation.reporting.html.report_page import write_html
from segrobust.evaluation.reporting.markdown import write_markdown
from segrobust.evaluation.reporting.run_files import read_run
from segrobust.evaluation.reporting.score_lines import strongest


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "evil", panels=0)


def printed(*arguments):
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(summary_tables(*arguments))
    return console.file.getvalue()


def row_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start)).split()


def test_where_it_breaks_is_told_clean_and_attacked(run):
    summary = read_run(run).summary
    text = printed(summary)
    attacked, line = strongest(summary)[0].headline
    column = 1 + [metric.key for metric in in_place(METRICS, "terminal")].index("boundary_accuracy")
    clean = row_of(text[text.index("where it breaks") :], "clean")
    assert clean[column] == f"{100 * summary.clean['boundary_accuracy']:.1f}"
    assert f"{line.label} at 64/255" in text
    assert f"{100 * attacked['interior_accuracy']:.1f}" in text[text.index(f"{line.label} at 64/255") :]
    assert all(len(row) <= 160 for row in text.splitlines())


def test_images_broken_by_any_attack_are_counted(run):
    summary = read_run(run).summary
    text = printed(summary)
    assert row_of(text, "alma, pgd")[-2:] == [f"{100 * rate:.1f}" for rate in summary.any_attack[0].asr]
    assert BOUND_ANY in text


def test_checks_that_are_not_ok_are_told(run):
    good = Check(name="good", status="ok", detail="fine", meaning="m", fix="")
    bad = Check(name="bad", status="fail", detail="it is bad", meaning="m", fix="repair it")
    text = printed(read_run(run).summary, (good, bad))
    assert "1 of 2 ok" in text
    assert "fail bad: it is bad. Repair it." in text
    assert "fine" not in text
    assert "checks" not in printed(read_run(run).summary)


def test_the_strongest_is_the_lowest_at_each_radius(run):
    summary = read_run(run).summary
    (found,) = strongest(summary)
    for scores in found.scores:
        rivals = [s for e in (*summary.fixed_budget,) for s in e.scores] + list(summary.minimal_norm[0].by_products)
        assert scores.miou == min(rival.miou for rival in rivals if rival.eps == scores.eps)


def test_success_rates_alone_can_be_reported(tmp_path):
    run = make_run(tmp_path / "run", asr_only=True, panels=0)
    summary = read_run(run).summary
    assert summary.fixed_budget == ()
    text = printed(summary)
    assert "broken by any attack" in text
    write_csv(run)
    assert "broken by" in write_markdown(run).read_text()
    pytest.importorskip("jinja2", reason="the extra `report` is not installed")
    pytest.importorskip("plotly", reason="the extra `report` is not installed")
    assert "images are broken by 2 attacks within" in write_html(run).read_text()


def test_an_unfinished_run_without_attacks_can_be_read(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "copy")
    copy = RunDirectory(tmp_path / "copy")
    shard = copy.records / "rank000.jsonl"
    shard.write_text("".join(line for line in shard.open() if '"kind":"clean"' in line))
    assert "no attack has finished" in write_markdown(copy).read_text()
    printed(read_run(copy).summary)
    shard.write_text("")
    assert "No image with a valid pixel" in write_markdown(copy).read_text()
    pytest.importorskip("jinja2", reason="the extra `report` is not installed")
    pytest.importorskip("plotly", reason="the extra `report` is not installed")
    assert "No image with a valid pixel" in write_html(copy).read_text()
