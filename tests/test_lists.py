"""Everything that the package offers is in its lists: the battery, the documentation, the configurations.

A new attack, loss, criterion, check, metric, data set, network or task that is forgotten in one of them fails here; the
message names the list.
"""

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from conformance import BATTERY, made_by_default, parts
from networks.published.cases import CASES
from torchmetrics import Metric

import segrobust.attacks
import segrobust.attacks.targets
import segrobust.data
import segrobust.evaluation.checks
import segrobust.metrics
import segrobust.networks
import segrobust.networks.published
import segrobust.tasks
from segrobust.attacks import PGD, Attack, Criterion, PixelLoss
from segrobust.attacks.targets import Region, Targets
from segrobust.data import SegmentationDataset
from segrobust.networks import AdaptedNetwork
from segrobust.networks.published import PublishedNetwork
from segrobust.tasks import SegmentationTask

ROOT = Path(__file__).parent.parent
API = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
RENDERED = re.findall(r"^::: (\S+)$", API, re.MULTILINE)


def exported(package, *kinds):
    """Concrete classes of these kinds in a package's `__all__`."""
    objects = [getattr(package, name) for name in package.__all__]
    classes = [cls for cls in objects if inspect.isclass(cls) and issubclass(cls, kinds) and cls not in kinds]
    return [cls for cls in classes if not inspect.isabstract(cls)]


def class_paths(value):
    """Last parts of all class paths in parsed YAML."""
    if isinstance(value, dict):
        if isinstance(value.get("class_path"), str):
            yield value["class_path"].rsplit(".", 1)[-1]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from class_paths(item)


def configured(*folders):
    """Names of the classes in the YAML files of some folders of `configs`."""
    files = [path for folder in folders for path in (ROOT / "configs" / folder).glob("*.yaml")]
    return {name for path in files for name in class_paths(yaml.safe_load(path.read_text(encoding="utf-8")))}


def yaml_blocks(page):
    """Names of the classes in the YAML blocks of a page of the documentation."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    return {name for block in blocks for name in class_paths(yaml.safe_load(block))}


def in_page(name, page):
    """Whether a page of the documentation has the name in code, with or without arguments, or imports it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.search(rf"`{name}\b|\bimport .*\b{name}\b", text) is not None


def in_table(name, page):
    """Whether the name begins a row of a table of a page."""
    return re.search(rf"^\| `{name}\b", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE) is not None


def rendered(path):
    """What a dotted path names: the function where a module has the same name."""
    package, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError):
        return pkgutil.resolve_name(path)


def in_api(thing):
    """Whether a page of `docs/api/` renders a class, a function or a constant."""
    return any(rendered(path) is thing for path in RENDERED)


DOCUMENTED = (
    *("attacks", "attacks.targets", "callbacks", "data", "evaluation", "evaluation.checks", "inputs", "metrics"),
    *("networks", "networks.published", "tasks"),
)


@pytest.mark.parametrize("package", DOCUMENTED)
def test_every_exported_name_has_its_place_in_the_api_pages(package):
    exporting = importlib.import_module(f"segrobust.{package}")
    assert [name for name in exporting.__all__ if not in_api(getattr(exporting, name))] == []


def test_the_api_pages_render_each_thing_once_and_are_in_the_navigation():
    assert sorted(path for path in {*RENDERED} if RENDERED.count(path) > 1) == []
    pages = {page.name for page in (ROOT / "docs" / "api").glob("*.md")}
    for listed in (ROOT / "mkdocs.yml", ROOT / "docs" / "api.md"):
        assert {*re.findall(r"\bapi/(\w+\.md)", listed.read_text(encoding="utf-8"))} == pages


def in_tests(name, folder):
    """Whether a test of a folder names it."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests" / folder).rglob("test_*.py"))
    return any(re.search(rf"\b{re.escape(name)}\b", source) for source in sources)


def missing(lists):
    """Names of the lists in which something is not."""
    return [where for where, found in lists.items() if not found]


BATTERY_TYPES = {cls for contestant in BATTERY for cls in parts(contestant.attack)}
ATTACK_CONFIGS = configured("attack")


def attack_lists(attack):
    """The lists of an attack; wrappers and ensembles are attacks and need all of them too."""
    return {
        "BATTERY in tests/conformance.py": attack in BATTERY_TYPES,
        "a table of docs/attacks.md": in_table(attack.__name__, "attacks.md"),
        "docs/api/": in_api(attack),
        "configs/attack/": attack.__name__ in ATTACK_CONFIGS,
    }


@pytest.mark.parametrize("attack", exported(segrobust.attacks, Attack))
def test_an_attack_is_in_battery_docs_and_configs(attack):
    assert missing(attack_lists(attack)) == []


@pytest.mark.parametrize("part", exported(segrobust.attacks, PixelLoss, Criterion))
def test_a_loss_or_criterion_is_in_battery_and_docs(part):
    lists = {
        "BATTERY in tests/conformance.py": part in BATTERY_TYPES,
        "docs/attacks.md": in_page(part.__name__, "attacks.md"),
        "docs/api/": in_api(part),
    }
    assert missing(lists) == []


@pytest.mark.parametrize("part", exported(segrobust.attacks.targets, Targets, Region))
def test_targets_and_regions_are_in_tests_and_docs(part):
    lists = {
        "tests/": in_tests(part.__name__, "."),
        "docs/attacks.md": in_page(part.__name__, "attacks.md"),
        "docs/api/": in_api(part),
    }
    assert missing(lists) == []


def checks():
    """Names of all checks, from the calls that make them."""
    folder = Path(segrobust.evaluation.checks.__file__).parent
    source = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*_checks.py"))
    made = r'(?:make_check|unmeasured)\(\s*"([^"]+)"|\bname(?:, \w+)? = "([^"]+)"|\bname="([^"]+)"'
    return sorted({name for groups in re.findall(made, source) for name in groups if name})


@pytest.mark.parametrize("check", checks())
def test_a_check_is_in_tests_and_docs(check):
    quoted = f'"{check}"'
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "evaluation").rglob("test_*.py")]
    lists = {
        "tests/evaluation/": any(quoted in source for source in sources),
        "the table of segrobust.evaluation.checks": f"| `{check}` |" in segrobust.evaluation.checks.__doc__,
    }
    assert missing(lists) == []


def test_the_table_of_checks_lists_no_other():
    assert sorted(re.findall(r"^\| `([^`]+)`", segrobust.evaluation.checks.__doc__, re.MULTILINE)) == checks()


def metrics():
    """Functions and torchmetrics' metrics; what functions return belongs to them."""
    public = [getattr(segrobust.metrics, name) for name in segrobust.metrics.__all__]
    return [each for each in public if inspect.isfunction(each) or (inspect.isclass(each) and issubclass(each, Metric))]


@pytest.mark.parametrize("metric", metrics())
def test_a_metric_is_in_tests_and_docs(metric):
    lists = {"tests/metrics/": in_tests(metric.__name__, "metrics"), "docs/api/": in_api(metric)}
    assert missing(lists) == []


DATA_CONFIGS = configured("data", "experiment", "reproduction", ".") | yaml_blocks("data.md")


@pytest.mark.parametrize("data", exported(segrobust.data, SegmentationDataset))
def test_a_data_set_is_in_tests_docs_and_configs(data):
    lists = {
        "tests/data/": in_tests(data.__name__, "data"),
        "docs/data.md": in_page(data.__name__, "data.md"),
        "docs/api/": in_api(data),
        "configs/, or the YAML of docs/data.md": data.__name__ in DATA_CONFIGS,
    }
    assert missing(lists) == []


MODEL_CONFIGS = configured("model")


@pytest.mark.parametrize(
    "network",
    [
        *exported(segrobust.networks, AdaptedNetwork),
        segrobust.networks.program_network,
        segrobust.networks.SlidingWindow,
        segrobust.networks.Normalized,
        segrobust.networks.FullResolution,
    ],
)
def test_a_network_is_in_tests_docs_and_configs(network):
    lists = {
        "tests/networks/": in_tests(network.__name__, "networks"),
        "docs/networks.md": in_page(network.__name__, "networks.md"),
        "docs/api/": in_api(network),
        "configs/model/": network.__name__ in MODEL_CONFIGS,
    }
    assert missing(lists) == []


@pytest.mark.parametrize("network", exported(segrobust.networks.published, PublishedNetwork))
def test_a_published_format_has_a_case_and_docs(network):
    lists = {
        "CASES in tests/networks/published/cases.py": network in {case.architecture for case in CASES.values()},
        "docs/published.md": in_page(network.__name__, "published.md"),
        "docs/api/": in_api(network),
    }
    assert missing(lists) == []


@pytest.mark.parametrize("task", [*exported(segrobust.tasks, SegmentationTask), SegmentationTask])
def test_a_task_is_in_tests_and_docs(task):
    lists = {
        "tests/tasks/": in_tests(task.__name__, "tasks"),
        "docs/training.md": task is SegmentationTask or in_page(task.__name__, "training.md"),
        "docs/api/": in_api(task),
    }
    assert missing(lists) == []


def test_an_attack_that_is_in_no_list_is_found(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Forgotten(PGD):
        """An attack that somebody exports and lists nowhere."""

    Forgotten.__module__ = "segrobust.attacks.forgotten"
    monkeypatch.setattr(segrobust.attacks, "Forgotten", Forgotten, raising=False)
    monkeypatch.setattr(segrobust.attacks, "__all__", (*segrobust.attacks.__all__, "Forgotten"))
    assert Forgotten in exported(segrobust.attacks, Attack)
    assert missing(attack_lists(Forgotten)) == [
        "BATTERY in tests/conformance.py",
        "a table of docs/attacks.md",
        "docs/api/",
        "configs/attack/",
    ]
    made = [contestant.attack for contestant in made_by_default()]  # what a new start of the tests has in its battery
    assert Forgotten(num_steps=8, eps=8 / 255) in made
