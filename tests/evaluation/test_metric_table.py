"""The table of metrics: its entries, its documentation, and that every writer shows each of them."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation.reporting.runs import make_run
from evaluation.test_summary import CLEAN, EIGHT, FOUR, attacked, minimal
from rich.console import Console
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import DiceScore

from segrobust.evaluation import RunDirectory, summarize, summary_tables
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS, UNITS, in_place
from segrobust.evaluation.reporting.csv_export import write_csv
from segrobust.evaluation.reporting.html.plots import report_series
from segrobust.evaluation.reporting.html.report_page import build_page
from segrobust.evaluation.reporting.markdown import write_markdown
from segrobust.evaluation.reporting.run_files import read_run
from segrobust.metrics import confusion_counts

DOCS = Path(__file__).parents[2] / "docs" / "numbers.md"
ALL = (*METRICS, *NORM_METRICS)
CLASSES = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("run") / "toy", panels=0)


def random_maps(seed):
    """Labels and predictions of four images; class 3 is predicted and never there, and 4 is rare."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 4], p=[0.6, 0.25, 0.1, 0.05], size=(4, 12, 13))
    prediction = np.where(rng.random(labels.shape) < 0.6, labels, rng.integers(0, CLASSES, labels.shape))
    return torch.from_numpy(labels), torch.from_numpy(prediction)


def scores_of(labels, prediction):
    """Clean scores of predictions, by way of records."""
    found = confusion_counts(prediction, labels, CLASSES, torch.ones_like(labels, dtype=torch.bool))
    tables = [
        {name: tuple(getattr(found, name)[i].tolist()) for name in ("tp", "fp", "fn")} for i in range(len(labels))
    ]
    return summarize([replace(CLEAN, sample_id=i, **table) for i, table in enumerate(tables)]).clean


@pytest.mark.parametrize("table", [METRICS, NORM_METRICS])
def test_names_are_unique_and_can_be_parts_of_keys(table):
    for names in ([m.key for m in table], [m.log_name for m in table], [m.label for m in table]):
        assert len(set(names)) == len(names)
    for metric in table:
        assert re.fullmatch("[a-z0-9_]+", metric.key)
        assert re.fullmatch("[a-z0-9_]+", metric.log_name)
        assert not re.search(r"_at_[0-9.]+$|^clean_|^by_product_", metric.log_name)


def test_a_metric_of_both_tables_has_one_meaning():
    """A log key does not say which table it is from."""
    for metric in NORM_METRICS:
        for other in METRICS:
            if other.log_name == metric.log_name:
                assert (other.unit, other.higher_is_better) == (metric.unit, metric.higher_is_better)


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.key)
def test_every_metric_has_its_line_in_the_documentation(metric):
    assert f"| {metric.docs_name} | {metric.explanation} |" in DOCS.read_text().splitlines()


def test_the_documentation_has_no_line_of_a_metric_that_is_none():
    table = DOCS.read_text().partition("| metric | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    names = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()]
    assert names == list(dict.fromkeys(metric.docs_name for metric in ALL))


@pytest.mark.parametrize(
    ("key", "table", "place"),
    [
        ("robust_subset/clean_<metric>", METRICS, "log clean"),
        ("<fixed-budget attack>/<metric>_at_<radius>", METRICS, "log attack"),
        ("<minimal-norm attack>/<metric>", NORM_METRICS, "log attack"),
        ("<minimal-norm attack>/by_product_<metric>_at_<radius>", METRICS, "log by-product"),
    ],
)
def test_the_documentation_names_the_metrics_that_are_logged(key, table, place):
    (row,) = (line for line in DOCS.read_text().splitlines() if line.startswith(f"| `val/{key}` |"))
    assert re.findall("`([^`]+)`", row)[1:] == [metric.log_name for metric in in_place(table, place)]


def test_every_metric_is_in_every_file(run):
    files = read_run(run)
    scores = json.loads(run.summary.read_text())
    assert {*scores["clean"]["values"]} == {metric.key for metric in METRICS}
    assert {*scores["minimal_norm"][0]["values"]} == {metric.key for metric in NORM_METRICS}
    assert {metric.key: metric.unit for metric in ALL}.items() <= scores["units"].items()
    with write_csv(run)[0].open(newline="") as table:
        head, first, *_ = csv.reader(table)
    for metric in METRICS:
        value = float(first[head.index(metric.key)])
        assert value == pytest.approx(100 * files.summary.clean[metric.key], nan_ok=True)
    menu = report_series(files.summary, files.records, files.label_space.names)
    assert menu["metrics"].items() >= {metric.key: metric.title for metric in METRICS}.items()
    heads = [" ".join(table.head) for tables in build_page(files, 10**6).tables.values() for table in tables]
    for metric in ALL:
        assert any(metric.label in head for head in heads) or "headline" in metric.places, metric.key


def test_the_text_shows_the_metrics_that_ask_for_it(run):
    console = Console(file=io.StringIO(), width=160, color_system=None)
    summary = read_run(run).summary
    console.print(summary_tables(summary))
    texts = {"terminal": console.file.getvalue(), "clean": write_markdown(run).read_text()}
    shown = {place: [*in_place(METRICS, place), *in_place(NORM_METRICS, place)] for place in texts}
    for place, metrics in shown.items():
        assert len(metrics) > 3
        assert all(metric.label in texts[place] for metric in metrics)
    for metric in shown["clean"]:
        assert f"{metric.label} {100 * summary.clean[metric.key]:.1f} %" in texts["clean"]


def test_numbers_are_written_in_their_units_and_counts_stay():
    total, partial = ((0, 0, 0), (5, 5, 0), (5, 5, 0)), ((4, 4, 0), (1, 1, 0), (1, 1, 0))
    records = [CLEAN, minimal(0, 0.01), attacked(0, "ce", FOUR, *partial), attacked(0, "ce", EIGHT, *total)]
    summary = summarize(records)
    content = summary.to_dict()
    assert content["clean"]["values"]["miou"] == 100 * summary.clean.miou
    assert content["clean"]["iou"][0] == 100 * summary.clean.iou[0]
    assert content["clean"]["objects"] == summary.clean.objects
    assert content["minimal_norm"][0]["values"]["median"] == 0.01
    assert content["minimal_norm"][0]["asr_at"] == [100.0, 100.0]
    assert content["fixed_budget"][0]["scores"][1]["eps"] == EIGHT
    assert content["any_attack"][0]["asr"] == [100.0, 100.0]
    assert content["any_attack"][0]["eps"] == [FOUR, EIGHT]
    assert content["units"] == UNITS


def test_a_metric_that_does_not_exist_is_named():
    with pytest.raises(KeyError, match="no metric 'mIoU'; there are miou, miou_image"):
        summarize([CLEAN]).clean["mIoU"]


@pytest.mark.parametrize("seed", range(3))
def test_means_over_images_and_classes_are_those_of_pixels(seed):
    """From pixels in loops, without confusion counts."""
    labels, prediction = random_maps(seed)
    scores = scores_of(labels, prediction)
    recalls, ious = [], []
    for truth, guess in zip(labels, prediction, strict=True):
        present = truth.unique().tolist()
        recalls.append(np.mean([(guess[truth == c] == c).double().mean().item() for c in present]))
        overlaps = [((guess == c) & (truth == c), (guess == c) | (truth == c)) for c in present]
        ious.append(np.mean([(both.sum() / either.sum()).item() for both, either in overlaps]))
    assert scores["mean_class_apsr"] == pytest.approx(1 - np.mean(recalls))
    assert scores["miou_image"] == pytest.approx(np.mean(ious))
    assert scores["miou_image_worst_25"] == pytest.approx(min(ious))
    assert scores["miou_image_worst_5"] == pytest.approx(min(ious))
    accuracies = (prediction == labels).double().mean((1, 2))
    assert scores["accuracy_worst_10"] == pytest.approx(accuracies.min().item())
    recall = [(prediction[labels == c] == c).double().mean().item() for c in labels.unique().tolist()]
    assert scores["mean_class_accuracy"] == pytest.approx(np.mean(recall))


def test_records_without_regions_have_no_scores_of_regions():
    clean = summarize([CLEAN, replace(CLEAN, sample_id=1, boundary=None, objects=None)]).clean
    missing = {key for key, value in clean.values.items() if np.isnan(value)}
    assert missing == {metric.key for metric in METRICS if metric.group == "regions"}
    assert clean.objects == {}


def test_each_metric_of_a_worst_case_is_of_the_choice_that_it_names():
    """Image 0 can lose more pixels of a large class, or fewer of a small one, which lowers mIoU^D more."""
    pixels = ((60, 9, 0), (1, 30, 0), (30, 1, 0))
    classes = ((85, 0, 0), (10, 5, 0), (5, 10, 0))
    records = [attacked(0, "a", EIGHT, *pixels), attacked(0, "b", EIGHT, *classes)]
    first, second = (entry.scores[0] for entry in summarize(records).fixed_budget)
    worst = summarize(records).worst_case[0].scores[0]
    assert first.accuracy < second.accuracy
    assert second.miou < first.miou
    for metric in METRICS:
        expected = {"accuracy": first, "miou": second}[metric.worst_case][metric.key]
        assert worst[metric.key] == pytest.approx(expected, nan_ok=True), metric.key
    assert worst.iou[:2] == second.iou[:2]


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_that_of_torchmetrics_over_the_classes_that_occur(seed):
    labels, prediction = random_maps(seed)
    metric = DiceScore(CLASSES, average="none", aggregation_level="global", input_format="index")
    metric.update(prediction, labels)
    assert scores_of(labels, prediction)["dice"] == pytest.approx(metric.compute()[labels.unique()].mean().item())


@pytest.mark.parametrize("seed", range(3))
def test_frequency_weighted_iou_is_the_weighted_jaccard_index_of_torchmetrics(seed):
    labels, prediction = random_maps(seed)
    expected = MulticlassJaccardIndex(CLASSES, average="weighted")(prediction, labels)
    assert scores_of(labels, prediction)["frequency_weighted_iou"] == pytest.approx(expected.item())
