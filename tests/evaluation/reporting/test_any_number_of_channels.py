"""Evaluations of images of other than three channels, and of a stated range: numbers, pictures and reports."""

import csv
import html
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import segrobust
from segrobust.attacks import PGD, AlmaProx
from segrobust.evaluation import RunDirectory
from segrobust.evaluation.dataset import bands_of, value_range_of
from segrobust.evaluation.reporting.comparison.compare import compare_runs
from segrobust.evaluation.reporting.figures.picture_faults import PictureWarning
from segrobust.evaluation.run.manifest import Manifest
from segrobust.functional.display import ChannelView
from segrobust.networks import Normalized
from segrobust.value_range import ValueRange


class Fields:
    """Images of C channels, which rise or fall from top to bottom; the first tells the class, left or right."""

    def __init__(self, channels, **attributes):
        self.masks = (torch.arange(14) > 6).long().expand(2, 12, 14).clone()
        rising = torch.linspace(0.2, 0.3, 12)[:, None].expand(12, 14)
        self.images = torch.stack([rising if channel % 2 else 0.5 - rising for channel in range(channels)]).repeat(
            2, 1, 1, 1
        )
        self.images[:, 0] += 0.2 * self.masks
        self.names = ("north", "south")
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.images[index], self.masks[index]


def network_of(channels):
    network = torch.nn.Conv2d(channels, 2, 1)
    with torch.no_grad():
        network.weight.zero_()[1, 0], network.bias[:] = 9.0, torch.tensor([0.0, -9 * 0.35])
    return network


def evaluate(channels, run_dir=None, attack=None, network=None, **attributes):
    return segrobust.evaluate(
        network or network_of(channels),
        Fields(channels, **attributes),
        attacks={"pgd": attack or PGD(num_steps=2)},
        eps=None if attack else [8 / 255],
        run_dir=run_dir,
        progress=False,
        checks="off",
    )


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_panels_show_the_bands_that_the_data_set_names(tmp_path, channels):
    bands = None if channels < 4 else (3, 2, 1)
    report = evaluate(channels, tmp_path / "run", bands=bands)
    assert report.summary.num_images == 2
    folder = RunDirectory(tmp_path / "run").panels / "tiles" / "000001-pgd"
    image = Fields(channels).images[1]
    expected = (ChannelView.of(image, bands).rgb(image) * 255).round().permute(1, 2, 0).numpy()
    shown = np.asarray(Image.open(folder / "image.webp").convert("RGB")).astype(float)
    assert np.abs(shown - expected).mean() < 8  # the tile is lossy; other channels differ by 85 and more
    assert len(list((tmp_path / "run" / "panels").glob("*.png"))) == 2


def test_a_fault_in_drawing_is_a_warning_that_names_the_sample(tmp_path):
    with pytest.warns(PictureWarning) as caught:
        report = evaluate(4, tmp_path / "run", bands=(9, 2, 1))
    assert report.summary.num_images == 2
    assert report.missing == 0
    messages = sorted(str(warning.message) for warning in caught if warning.category is PictureWarning)
    assert [message.split(":")[0] for message in messages] == [
        "no panels of image 0 (north)",
        "no panels of image 1 (south)",
    ]
    assert "0..3 for images of 4 channels, got [9, 2, 1]" in messages[0]
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_curve_that_cannot_be_drawn_does_not_end_the_report(tmp_path, monkeypatch):
    (tmp_path / "run" / "pictures" / "asr_linf.png").mkdir(parents=True)  # in the way
    with pytest.warns(PictureWarning, match="no curves in linf"):
        assert evaluate(1, tmp_path / "run").summary.num_images == 2
    assert (tmp_path / "run" / "summary.md").exists()


@pytest.mark.parametrize("wrapped", [False, True])
def test_networks_and_images_of_other_channels_are_refused_before_the_work(tmp_path, wrapped):
    network = Normalized(network_of(4), [0.5] * 4, [0.5] * 4) if wrapped else network_of(4)
    with pytest.raises(ValueError, match=r"the network's first convolution takes 4|expected \(B, 4, H, W\)"):
        evaluate(3, tmp_path / "run", network=network)
    assert not list((tmp_path / "run").rglob("*.jsonl"))


def test_reports_have_radii_and_norms_in_the_units_of_the_sensor(tmp_path):
    values = ValueRange(((0.0, 10_000.0),))
    report = evaluate(4, tmp_path / "run", attack=AlmaProx(num_steps=30, step_size=0.02), value_range=values)
    median = report.summary.minimal_norm[0]["median"]
    assert median > 0.1  # 1000 and more of 10000, written without decimals
    text = f"{255 * median:.2f}/255 of the range (= {10_000 * median:.0f} of 10000)"
    assert f"median minimal norm of pgd: {text}" in str(report)
    assert "range of the values: 0..10000" in str(report)
    assert text in (tmp_path / "run" / "summary.md").read_text().replace("\\", "")
    assert f"{10_000 * median:.0f} of 10000" in (tmp_path / "run" / "report.html").read_text()
    in_memory = evaluate(4, attack=AlmaProx(num_steps=30, step_size=0.02), value_range=values)
    assert f"median minimal norm of pgd: {text}" in str(in_memory)


def test_every_radius_and_norm_of_a_report_is_in_the_units_of_the_sensor_too(tmp_path):
    values = ValueRange(((0.0, 10_000.0),))
    for name in ("first", "second"):
        evaluate(4, tmp_path / name, value_range=values)
    norms = evaluate(4, tmp_path / "norms", attack=AlmaProx(num_steps=30, step_size=0.02), value_range=values)
    page = compare_runs([tmp_path / "first", tmp_path / "second"], tmp_path / "compare.html")
    files = [tmp_path / "first" / name for name in ("summary.md", "report.html")]
    for text in (visible_text(path.read_text()) for path in (*files, page)):
        assert "8/255 = 314" in text
        bare = [text[max(place - 60, 0) : place + 40] for place in without_units(text)]
        assert not bare, bare
    assert "1/255 = 39.2" in files[1].read_text()  # titles of axes
    median = norms.summary.minimal_norm[0]["median"]
    terminal = str(norms).splitlines()
    several = replace(norms, value_range=ValueRange(((0.0, 10_000.0), (200.0, 300.0))))
    assert "…" not in f"{norms} {several}"
    (place,) = (index for index, line in enumerate(terminal) if line.startswith("pgd"))
    assert terminal[place + 1].strip() == f"= {10_000 * median:.0f}"
    assert [part.split()[0] for part in terminal[place - 1].split("= ")[1:]] == ["39.2", "78.4", "157", "314"]
    rows = list(csv.DictReader((tmp_path / "first/tables/scores.csv").open()))
    assert {row["eps"]: row["eps_in_units"] for row in rows if row["scope"] == "attack"} == {
        str(8 / 255): "314 of 10000"
    }
    rows = list(csv.DictReader((tmp_path / "norms/tables/norms.csv").open()))
    assert rows[0]["norm_in_units"] == f"{10_000 * float(rows[0]['norm']):.0f} of 10000"


def visible_text(text):
    """Without scripts, styles and tags, and without the plain explanation of the unit."""
    text = re.sub(r"(?s)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    return (
        re.sub(r"\s+", " ", html.unescape(text))
        .replace("\\", "")
        .replace("in units of 1/255", "")
        .replace("32/255, l2", "")
    )


def without_units(text):
    """Where a length in 1/255 has none in the sensor's units behind it."""
    return [found.start() for found in re.finditer(r"\d/255(?! = \d| of the range \(= \d)", text)]


def test_a_page_that_cannot_be_made_does_not_end_the_report(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)  # a damaged installation
    with pytest.warns(PictureWarning, match=r"no page report\.html"):
        assert evaluate(1, tmp_path / "run").summary.num_images == 2
    assert (tmp_path / "run" / "tables" / "scores.csv").exists()


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({}, None),
        ({"bands": [3, 2, 1]}, [3, 2, 1]),
        ({"bands": ("B02", "B03", "B04", "B08"), "rgb_bands": ("B04", "B03", "B02")}, (2, 1, 0)),
        ({"bands": ("B08",), "rgb_bands": ("B04", "B03", "B02")}, None),
        ({"bands": lambda: 3}, None),
    ],
)
def test_bands_may_have_names(attributes, found):
    assert bands_of(Fields(4, **attributes)) == found


def test_a_range_may_be_given_by_its_limits():
    assert value_range_of(Fields(4, value_range=[0, 10])) == ValueRange(((0.0, 10.0),))
    with pytest.raises(ValueError, match="a range is"):
        evaluate(4, value_range="0 to 10")


def test_pictures_of_8_bits_have_no_other_units(tmp_path):
    report = evaluate(3, tmp_path / "run")
    assert "of the range" not in str(report) + (tmp_path / "run" / "summary.md").read_text()


def test_older_manifests_have_no_range(tmp_path):
    evaluate(3, tmp_path / "run", value_range=ValueRange(((0.0, 1.0), (0.0, 2.0), (-1.0, 1.0))))
    path = RunDirectory(tmp_path / "run").manifest
    assert Manifest.read(path).value_range == ValueRange(((0.0, 1.0), (0.0, 2.0), (-1.0, 1.0)))
    content = json.loads(path.read_text())
    del content["value_range"]
    path.write_text(json.dumps(content))
    assert Manifest.read(path).value_range is None


def test_what_was_read_is_said_before_the_work(capsys):
    data = Fields(2, value_range=ValueRange(((0.0, 100.0), (-50.0, 50.0))))
    data.images[0, 1, 0, 0], data.images[1, 0, 0, 0] = 0.0, 1.0
    segrobust.evaluate(network_of(2), data, attacks={"pgd": PGD(num_steps=1)}, eps=[0.1], checks="off")
    low, high = data.images[:, 0].min().item() * 100, data.images[:, 1].max().item() * 100 - 50
    line = f"2 channels in float32, values {low:.4g}..100; -50..{high:.4g} in a range of 0..100, -50..50"
    assert f"images, 2 of 2: {line}" in " ".join(capsys.readouterr().err.split())
