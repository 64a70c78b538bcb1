"""Presets: what they cost, that a version never changes, and that a run tells which one it is."""

import re
from pathlib import Path
from typing import get_args

import pytest
import torch

import segrobust
from segrobust.cli.interfaces import INTERFACES
from segrobust.evaluation import STANDARD_EPS, PresetName, preset
from segrobust.evaluation.engine.runtime_estimate import max_passes
from segrobust.evaluation.presets import preset_of
from segrobust.evaluation.reporting.report import summarize_run

VERSIONS = {
    "validation-v1": {"lagrangian_fmn_50": "47beab0851aff9ea", "curve_64": "71fa23c9ef08da32"},
    "quick-v1": {"lagrangian_fmn_50": "47beab0851aff9ea", "curve_120": "0ccbf07527f2c890"},
    "standard-v1": {
        "lagrangian_fmn_100": "1f165153c14c0425",
        "alma_prox_500": "b03a19bc6a2ed1d2",
        "curve_180": "9cc062553f7d4bac",
        "balanced_curve_120": "3e8cfd09c4ce7705",
    },
    "thorough-v1": {
        "lagrangian_fmn_300": "5c7f99c7412812d1",
        "calibrated_alma_prox_300": "16f5671328ceea60",
        "alma_prox_1000": "4900c7ef603d7d28",
        "apgd_40_search": "345655252d65f3b4",
        "curve_900": "af417caf7802b919",
        "sea.mce_balanced": "fd03ebc712f62e0e",
        "sea.mce": "c95e56e62098b986",
        "sea.js": "c63d58ae94aa6df1",
    },
}
"""Attacks of each version by name, with the digest of all their settings. Published numbers refer to it."""


def digests(name):
    return {job.name: job.digest for job in preset(name).jobs}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_never_changes(version):
    assert digests(version) == VERSIONS[version]
    assert all(job.radii == STANDARD_EPS for job in preset(version).jobs)


@pytest.mark.parametrize("name", ["validation", "quick", "standard", "thorough"])
def test_a_name_without_version_is_the_newest(name):
    newest = max(version for version in VERSIONS if version.startswith(f"{name}-"))
    assert digests(name) == digests(newest)


def test_every_version_is_stored_and_can_be_given():
    names = set(get_args(PresetName))
    assert {name for name in names if "-" in name} == set(VERSIONS)
    assert set(INTERFACES["evaluate"].find("preset").choices) == names


@pytest.mark.parametrize(
    ("name", "passes"), [("validation", 233), ("quick", 345), ("standard", 1811), ("thorough", 13320)]
)
def test_presets_cost_what_their_table_says(name, passes):
    assert 1 + sum(sum(max_passes(call)) for call in preset(name).attack_calls) == passes
    assert f"{passes} |" in preset.__doc__
    page = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{name}` \|.*\| {passes // 2} \|", page, re.MULTILINE)


def test_validation_costs_at_most_120_passes():
    assert sum(sum(max_passes(call)) for call in preset("validation").attack_calls) / 2 <= 120


@pytest.mark.parametrize("name", ["fast", "standard-v0", "standard-v2", ""])
def test_an_unknown_preset_is_told_the_names(name):
    with pytest.raises(ValueError, match="'validation', 'quick', 'standard', 'thorough', or a version"):
        preset(name)


def test_other_attacks_or_radii_are_no_preset():
    jobs = [(job.digest, job.radii) for job in preset("quick").jobs]
    assert preset_of(reversed(jobs)) == "quick-v1"
    assert preset_of(jobs[:1]) is None
    assert preset_of([jobs[0], (jobs[1][0], STANDARD_EPS[:-1])]) is None


def test_a_run_names_its_preset_with_the_version(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 1)
    images = torch.rand(2, 3, 6, 8)
    data = [(image, network(image).argmax(0)) for image in images]
    segrobust.evaluate(network, data, preset="validation", run_dir=tmp_path, checks="off", panels=0, progress=False)
    assert "preset validation-v1" in str(summarize_run(tmp_path).heading)
    assert "preset validation-v1" in (tmp_path / "summary.md").read_text()
