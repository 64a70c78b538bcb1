"""The pages in a real browser: they work from disk, without network, at the width of a phone and on paper."""

import shutil
from contextlib import contextmanager

import pytest
from evaluation.reporting.runs import EVIL, QUOTES, make_run
from evaluation.toy import toy_network

from segrobust.attacks import FGSM, PGD
from segrobust.evaluation import plan_attacks
from segrobust.evaluation.reporting.comparison.compare import compare_runs
from segrobust.evaluation.reporting.html.report_page import SIZE_CAP, write_html

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jinja2", reason="the extra `report` is not installed")
pytest.importorskip("plotly", reason="the extra `report` is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Paths of a report and of a comparison."""
    from evaluation.toy import CRITERION, toy_plan

    folder = tmp_path_factory.mktemp("runs")
    attacks = {
        "alma": toy_plan().jobs[0].attack,
        "pgd": PGD(num_steps=4, criterion=CRITERION),
        "fgsm": FGSM(criterion=CRITERION),
        "pgd_l2": PGD(num_steps=4, norm="l2", criterion=CRITERION),
    }
    plan = plan_attacks(attacks, (16 / 255, 64 / 255))
    first = make_run(folder / "first", plan=plan)
    second = make_run(folder / "second", plan=plan, network=toy_network(seed=1), panels=0)
    compared = compare_runs([first.path, second.path], folder / "compare.html")
    return {"report": write_html(first), "compare": compared}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@contextmanager
def opened(browser, path, width=1280, **settings):
    """The page; afterwards, that it neither complained nor asked for anything but itself."""
    page = browser.new_page(viewport={"width": width, "height": 844}, **settings)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert complaints == []
    assert {url for url in requests if not url.startswith(("data:", "blob:"))} == {path.as_uri()}


def traces(page, key="scores"):
    """Names and values of what a plot shows."""
    return page.evaluate(
        "key => document.querySelector(`#plot-${key} .canvas`).data.filter(t => t.meta !== 'band')"
        ".map(t => [t.name, t.x, t.y])",
        key,
    )


@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_page_is_small_quiet_and_its_anchors_exist(browser, pages, name):
    assert pages[name].stat().st_size < SIZE_CAP
    with opened(browser, pages[name]) as page:
        assert len(page.query_selector_all(".canvas .main-svg")) >= 3
        for anchor in page.query_selector_all("nav a"):
            assert page.query_selector(anchor.get_attribute("href")) is not None


@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_phone_need_not_scroll_sideways(browser, pages, name):
    with opened(browser, pages[name], width=390) as page:
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
        plots = page.query_selector_all(".plot .canvas")
        assert plots
        assert all(plot.bounding_box()["width"] <= 390 for plot in plots)


def test_the_score_switches_what_is_drawn(browser, pages):
    with opened(browser, pages["report"]) as page:
        before = traces(page)
        assert len(before) == 4  # worst case, two attacks, by-product
        assert not page.is_visible("#plot-scores select[name=class]")
        page.select_option("#plot-scores select[name=metric]", "mean_apsr")
        assert traces(page) != before
        page.select_option("#plot-scores select[name=metric]", "iou")
        assert page.is_visible("#plot-scores select[name=class]")
        first = traces(page)
        page.select_option("#plot-scores select[name=class]", "1")
        assert [trace[0] for trace in traces(page)] == [trace[0] for trace in first]
        assert traces(page) != first
        page.select_option("#plot-scores select[name=metric]", "miou")
        assert traces(page) == before


def test_the_norm_switches_the_attacks(browser, pages):
    with opened(browser, pages["report"]) as page:
        page.select_option("#plot-scores select[name=norm]", label="l_2")
        assert [trace[0] for trace in traces(page)] == ["pgd_l2"]
        assert page.eval_on_selector_all("#plot-scores input", "all => all.map(input => input.value)") == ["pgd_l2"]
        assert not page.is_visible("#plot-norms select[name=norm]")  # there are minimal norms in l_inf alone


def test_attacks_come_and_go(browser, pages):
    with opened(browser, pages["report"]) as page:
        page.uncheck("#plot-scores input[value=pgd]")
        assert [trace[0] for trace in traces(page)] == [
            "worst of 2 attacks",
            "fgsm",
            "by-product of alma, weak upper bound",
        ]
        page.check("#plot-scores input[value=pgd]")
        assert len(traces(page)) == 4
        page.uncheck("#plot-norms input[value=alma]")
        assert [trace[0] for trace in traces(page, "norms")] == ["pgd at fixed eps", "fgsm at fixed eps"]


def test_the_radius_switches_the_classes(browser, pages):
    with opened(browser, pages["report"]) as page:
        before = traces(page, "classes")
        options = page.eval_on_selector_all(
            "#plot-classes select[name=eps] option", "all => all.map(o => o.textContent)"
        )
        assert options == ["16/255", "64/255"]
        page.select_option("#plot-classes select[name=eps]", "1")
        assert traces(page, "classes") != before
        chosen = traces(page, "classes")
        page.select_option("#plot-classes select[name=attack]", label="fgsm")
        assert traces(page, "classes") != chosen


def test_panels_show_one_picture_at_a_time(browser, pages):
    shown = "article:not([hidden]) figure.view"
    with opened(browser, pages["report"]) as page:
        panel = page.query_selector(".panel:not([hidden])")

        def visible():
            return [
                v.get_attribute("class").split()[1] for v in panel.query_selector_all("figure.view") if v.is_visible()
            ]

        assert visible() == ["before", "prediction"]
        for name in ("clean", "adversarial", "perturbation", "before", "prediction", "errors", "truth"):
            panel.query_selector(f"input[value={name}]").evaluate("input => input.click()")
            assert visible() == [name]
        panel.query_selector("input[value=truth]").focus()
        page.keyboard.press("ArrowRight")
        assert visible() == ["before", "prediction"]
        sizes = page.eval_on_selector_all(f"{shown} img", "all => all.map(i => i.naturalWidth)")
        assert min(sizes) > 0


def test_the_attack_switches_the_panels(browser, pages):
    with opened(browser, pages["report"]) as page:
        jobs = page.eval_on_selector_all("input[name=job]", "all => all.map(input => input.value)")
        assert jobs == ["alma", "pgd at eps 64/255", "fgsm at eps 64/255", "pgd_l2 at eps 0.251"]
        for index, job in enumerate(jobs, start=1):
            page.click(f"label[for=job-{index}]")
            shown = page.eval_on_selector_all(".panel:not([hidden])", "all => all.map(panel => panel.dataset.job)")
            assert shown
            assert set(shown) == {job}


def test_tables_sort(browser, pages):
    with opened(browser, pages["report"]) as page:
        table = page.locator("#classes .table").first
        heading = table.locator("th:nth-child(2)")

        def column():
            return [float(text) for text in table.locator("td:nth-child(2)").all_text_contents()]

        before = column()
        heading.locator("button").click()
        assert column() == sorted(before, reverse=True) != before
        heading.locator("button").click()
        assert column() == sorted(before)
        assert heading.get_attribute("aria-sort") == "ascending"


def test_names_are_shown_and_not_run(browser, pages):
    with opened(browser, pages["report"]) as page:
        assert EVIL in page.inner_text("#classes")
        assert QUOTES in page.inner_text("#images")
        page.select_option("#plot-scores select[name=metric]", "iou")
        assert EVIL in page.text_content("#plot-scores .ytitle")
        page.select_option("#plot-scores select[name=class]", "1")
        assert "road <b>&</b> sky" in page.text_content("#plot-scores .ytitle")
        assert EVIL in page.text_content("#plot-classes .yaxislayer-above")
        assert page.query_selector("img[src=x]") is None


def test_paper_has_all_pictures_and_no_controls(browser, pages):
    with opened(browser, pages["report"]) as page:
        page.emulate_media(media="print")
        assert not page.is_visible("nav")
        assert not page.is_visible("#plot-scores select[name=metric]")
        assert all(view.is_visible() for view in page.query_selector_all("figure.view"))
        assert page.pdf(format="A4")[:5] == b"%PDF-"


def test_the_page_and_its_plots_follow_the_colours_of_the_reader(browser, pages):
    """Dark, then light, then print, which is always light; lines of the worst case differ from the ground in each."""
    with opened(browser, pages["report"]) as page:

        def colors():
            body = page.evaluate("getComputedStyle(document.body).backgroundColor")
            plot = page.evaluate("document.querySelector('#plot-scores .canvas')._fullLayout.paper_bgcolor")
            lines = page.evaluate("document.querySelector('#plot-scores .canvas')._fullData.map(d => d.line.color)")
            return body, plot, set(lines)

        light, dark = ("rgb(255, 255, 255)", "#fff", "#1c2430"), ("rgb(20, 24, 30)", "#14181e", "#e6eaef")
        for media, (body, plot, ink) in (
            ({"color_scheme": "dark"}, dark),
            ({"color_scheme": "light"}, light),
            ({"color_scheme": "dark", "media": "print"}, light),
        ):
            page.emulate_media(**media)
            found = colors()
            assert found[:2] == (body, plot), media
            assert ink in found[2], "the worst case has the colour of the text"


def test_without_scripts_numbers_and_pictures_are_there(browser, pages):
    with opened(browser, pages["report"], java_script_enabled=False) as page:
        assert "hold the same numbers" in " ".join(page.inner_text("#plot-scores").split())
        assert page.is_visible("#attacks table")
        assert page.is_visible(".panel figure.prediction img")


def test_a_comparison_starts_with_the_strongest_attack_of_each_run(browser, pages):
    with opened(browser, pages["compare"]) as page:
        names = [f"{run}: strongest attack at each eps" for run in ("first", "second")]
        assert [trace[0] for trace in traces(page)] == names
        page.check("#plot-scores input[value='second: pgd']")
        assert len(traces(page)) == 3
        assert [trace[0] for trace in traces(page, "norms")] == ["first: alma", "second: alma"]
