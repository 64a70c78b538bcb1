import json
import re
import shutil
import sys
from html.parser import HTMLParser

import pytest
from evaluation.reporting.runs import EVIL, QUOTES, make_run

from segrobust.evaluation import RunDirectory
from segrobust.evaluation.checks import Check, write_checks
from segrobust.evaluation.reporting.html import report_page
from segrobust.evaluation.reporting.html.page import Page
from segrobust.evaluation.reporting.html.page_panels import choose_panels
from segrobust.evaluation.reporting.html.report_page import can_write_html, render, script_json, write_html
from segrobust.evaluation.reporting.notable import notable_samples
from segrobust.evaluation.reporting.run_files import read_run
from segrobust.evaluation.run.failures import Fault, FaultLog

pytest.importorskip("jinja2", reason="the extra `report` is not installed")
pytest.importorskip("plotly", reason="the extra `report` is not installed")

SECTIONS = ("attacks", "classes", "where", "checks", "faults")
"""Of the tables of a report."""


class Reader(HTMLParser):
    """Elements, their attributes, and the text outside scripts and styles."""

    def __init__(self):
        super().__init__()
        self.elements, self.text, self.scripts, self._inside = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        {"script": self.scripts, "style": []}.get(self._inside, self.text).append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text("utf-8"))
    return reader


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "evil")


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "copy")
    return RunDirectory(tmp_path / "copy")


def test_names_are_text_and_nothing_else(run):
    page = read(write_html(run))
    text = "".join(page.text)
    assert EVIL in text
    assert QUOTES in text
    assert not [entry for entry in page.elements if entry[0] == "img" and "onerror" in entry[1]]
    assert [tag for tag, _ in page.elements].count("script") == 4  # data, library, two of its own
    assert json.loads(page.scripts[0])["classes"][0] == EVIL


def test_nothing_in_the_data_ends_the_script():
    dangerous = {"a": EVIL, "b": "<!-- &amp;", "c": float("nan")}
    text = script_json(dangerous)
    assert not re.search("[<>&]", text)
    assert json.loads(text) == {**dangerous, "c": "nan"}


def test_what_cannot_be_printed_is_escaped_in_the_page_and_its_data():
    page = Page(title="a\u202eb", subtitle="c\x1bd", attacks=(("e", "f\u200bg"),), tables=dict.fromkeys(SECTIONS, ()))
    text = render(page, "report.html.j2", "").decode()
    for shown in (r"a\u202eb", r"c\x1bd", r"f\u200bg"):
        assert shown in text
    assert json.loads(script_json({"h": ["i\u202e\x07"]})) == {"h": [r"i\u202e\x07"]}


def test_the_page_is_a_function_of_the_files(run):
    first = write_html(run).read_bytes()
    assert write_html(run).read_bytes() == first


def test_nothing_is_loaded_from_elsewhere(run):
    page = read(write_html(run))
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, attributes)


def test_the_page_says_what_was_found(run):
    text = " ".join("".join(read(write_html(run)).text).split())
    files = read_run(run)
    assert re.search(
        r"A perturbation of at most \d+/255 lowers mIoU from .* % \((the worst of|pgd|alma, clipped)", text
    )
    assert "a stronger attack can only lower the mIoU further" in text
    assert re.search(r"An image is broken when at least [\d.]+ % of its labelled pixels are wrong\.", text)
    assert "Only 4 images were evaluated" in text
    assert f"{len(files.checks)} ok" in text
    for part in ("no-valid-pixel", "weights", files.manifest.data, files.manifest.criterion, "worst image"):
        assert part in text
    for entry in files.manifest.attacks:
        assert entry.attack in text


def test_failed_checks_and_faults_come_first(run):
    (entry, _) = read_run(run).manifest.attacks
    bad = Check(
        name="made up", status="fail", detail="it is <b>bad</b>", meaning="m", fix="repair it", attacks=(entry.digest,)
    )
    write_checks(run.network_checks, [bad], weights="w")
    FaultLog(run.path).add(Fault.of(ValueError("unreadable"), 4, "four", "load"))
    page = read(write_html(run))
    text = " ".join("".join(page.text).split())
    assert text.index("Unreliable. Some checks failed") < text.index("Robustness curves")
    assert "it is <b>bad</b>" in text
    badges = [
        attributes["class"] for tag, attributes in page.elements if attributes.get("class", "").startswith("badge")
    ]
    assert "badge fail" in badges
    assert "badge ok" in badges  # the other attack is not touched
    # The image has records, so its fault is resolved: only what lacks a record is listed.
    assert "Incomplete" not in text


def test_an_image_that_raised_is_listed(run):
    shard = run.records / "rank000.jsonl"
    shard.write_text("".join(line for line in shard.open() if not line.startswith('{"sample_id":4,')))
    FaultLog(run.path).add(Fault.of(ValueError("<unreadable>"), 4, "four", "load"))
    text = " ".join("".join(read(write_html(run)).text).split())
    assert "Errors occurred for 1 images" in text
    assert "ValueError: <unreadable>" in text


def test_panels_that_do_not_fit_are_counted(run):
    files = read_run(run)
    panels, left_out = choose_panels(files, 10**9)
    assert left_out == 0
    assert {panel.why for panel in panels} >= {"worst image", "median image"}
    assert panels[0].why == "worst image"
    sizes = [sum(len(view.uri) for view in panel.views) for panel in panels]
    some, rest = choose_panels(files, max(sizes) + 10)
    assert len(some) + rest == len(panels)
    assert 1 <= len(some) < len(panels)
    assert some[0].why == "worst image"


def test_copies_of_a_panel_are_shown_once(run):
    panels, _ = choose_panels(read_run(run), 10**9)
    folder = next((run.panels / "tiles").iterdir())
    for number in range(3):
        shutil.copytree(folder, folder.with_name(f"{folder.name}-{number}"))
    assert choose_panels(read_run(run), 10**9) == (panels, 0)


def test_a_page_stays_below_its_cap(run, monkeypatch):
    size = write_html(run).stat().st_size
    assert size < report_page.SIZE_CAP
    panels, _ = choose_panels(read_run(run), 10**9)
    pictures = sum(len(view.uri) for panel in panels for view in panel.views)
    library = len(report_page.plot_library().encode())
    monkeypatch.setattr(report_page, "SIZE_CAP", library + report_page._RESERVED + pictures // 2)
    page = write_html(run)
    assert page.stat().st_size < report_page.SIZE_CAP
    assert "further panels are left out" in page.read_text("utf-8")


def test_notable_images_are_those_of_the_smallest_and_the_middle_norm(run):
    records = read_run(run).records
    norms = {r.sample_id: r.norm for r in records if r.kind == "minimal-norm" and not r.flags}
    found = notable_samples(records)
    assert norms[found["worst"]] == min(norms.values())
    assert norms[found["median"]] == sorted(norms.values())[(len(norms) - 1) // 2]
    budgets = [r for r in records if r.kind == "fixed-budget" and not r.flags]
    largest = max(r.eps for r in budgets)
    worst = max((r for r in budgets if r.eps == largest), key=lambda r: r.apsr)
    assert notable_samples(budgets)["worst"] == worst.sample_id
    assert notable_samples([r for r in records if r.kind == "clean"]) == {}


@pytest.mark.parametrize("package", ["jinja2", "plotly.offline"])
def test_a_missing_extra_is_named(run, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r'pip install "segrobust\[report\]"'):
        write_html(run)


def test_whether_a_page_can_be_written(monkeypatch):
    assert can_write_html()
    monkeypatch.setitem(sys.modules, "plotly", None)
    assert not can_write_html()


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: there is no manifest\.json; evaluate makes it"):
        write_html(RunDirectory(tmp_path))
    (tmp_path / "evaluation-1").mkdir()
    (tmp_path / "evaluation-1" / "manifest.json").touch()
    with pytest.raises(ValueError, match=r"name the folder of a run in it, such as .*evaluation-1$"):
        write_html(RunDirectory(tmp_path))
