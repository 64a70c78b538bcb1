"""Who may import whom: packages import floors strictly below them, and heavy libraries stay on their floors."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "segrobust"

FLOORS = {
    "untrusted": 0,
    "functional": 1,
    "inputs": 1,
    "label_space": 1,
    "shipped": 1,
    "value_range": 1,
    "attacks.core": 2,
    "attacks": 3,
    "networks": 3,
    "metrics": 3,
    "evaluation": 4,
    "tasks": 5,
    "data": 5,
    "callbacks": 6,
    "cli": 7,
    "__main__": 8,
}
LIGHTNING_FROM = 5
EVALUATION = (
    "plan",
    "presets",
    "signs",
    "dataset",
    "image_values",
    "class_as_void",
    "labels",
    "forward",
    "run",
    "engine",
    "numbers",
    "checks",
    "reporting",
    "jobs",
    "transfer",
    "bench",
    "api",
)
"""Parts of `segrobust.evaluation`; each imports only those before it."""
VAGUE_NAMES = {"utils", "helpers", "common", "misc"}


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path, root=ROOT):
    """The part of `FLOORS` that a file belongs to: `attacks` for `segrobust/attacks/pgd.py`; None where it has none."""
    return part_named(path.relative_to(root).with_suffix("").parts)


def part_named(parts):
    """The same for the parts of a dotted name below `segrobust`."""
    return next((name for name in (".".join(parts[:2]), ".".join(parts[:1])) if name in FLOORS), None)


def imports(tree, package):
    """Lines and dotted names of everything that a file imports, wherever it stands; relative names made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = [*parents, *([node.module] if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def violations(path, source, root=ROOT):
    """What a file imports against the rules, as `file:line: reason`."""
    part = part_of(path, root)
    floor = FLOORS[part]
    package = ["segrobust", *path.relative_to(root).parent.parts]
    for line, name in imports(ast.parse(source), package):
        top, *rest = name.split(".")
        where = f"{path.relative_to(root.parent)}:{line}: imports {name}"
        if top == "segrobust":
            imported = part_named(rest)
            if imported not in (None, part) and FLOORS[imported] >= floor:
                yield f"{where}, floor {FLOORS[imported]}, from floor {floor}"
        elif top in {"lightning", "pytorch_lightning"} and floor < LIGHTNING_FROM:
            yield f"{where} below floor {LIGHTNING_FROM}"
        elif top == "albumentations" and part != "data":
            yield f"{where} outside data"
        elif top == "wandb" and part != "callbacks":
            yield f"{where} outside callbacks"
        elif top == "matplotlib" and floor <= 3:
            yield f"{where} on floor {floor}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    found = list(violations(path, path.read_text()))
    assert not found, "\n".join(found)


def test_every_package_has_a_floor():
    assert [path for path in modules() if part_of(path) is None] == []


def upward_imports(path, source):
    """Imports between parts of `segrobust.evaluation` that point from an earlier to a later one."""
    own = EVALUATION.index(path.relative_to(ROOT).parts[1].removesuffix(".py"))
    for line, name in imports(ast.parse(source), ["segrobust", *path.relative_to(ROOT).parent.parts]):
        top, *rest = name.split(".")
        if top == "segrobust" and rest[:1] == ["evaluation"] and rest[1:] and rest[1] in EVALUATION[own + 1 :]:
            yield f"{path.relative_to(ROOT.parent)}:{line}: {EVALUATION[own]} imports {name}"


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in modules()
        if path.is_relative_to(ROOT / "evaluation") and path.parts[-2:] != ("evaluation", "__init__.py")
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_parts_of_the_evaluation_import_earlier_parts(path):
    assert list(upward_imports(path, path.read_text())) == []


def test_an_upward_import_in_the_evaluation_is_found():
    source = "from segrobust.evaluation.jobs.session import Session"
    assert len(list(upward_imports(ROOT / "evaluation" / "run" / "records.py", source))) == 1
    assert not list(upward_imports(ROOT / "evaluation" / "api.py", source))


def test_no_two_modules_share_a_name():
    names = [path.stem for path in modules() if path.stem != "__init__"]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def public_classes(source):
    """Names of the classes at the top of a module that do not begin with an underscore."""
    return [
        node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def test_no_two_public_classes_share_a_name():
    names = [name for path in modules() for name in public_classes(path.read_text())]
    shared = {name for name in names if names.count(name) > 1}
    assert shared == set()


def test_a_public_class_is_found():
    assert public_classes("class A: ...\nclass _B: ...\ndef f():\n    class C: ...\n") == ["A"]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_say_what_is_inside(path):
    assert not VAGUE_NAMES & {*path.relative_to(ROOT).with_suffix("").parts}


@pytest.mark.parametrize(
    ("file", "source", "line"),
    [
        ("functional/norms.py", "import torch\nfrom segrobust.attacks import PGD", 2),
        ("attacks/pgd.py", "from segrobust.networks import Normalized", 1),
        ("attacks/pgd.py", "from ..networks import Normalized", 1),
        ("attacks/pgd.py", "from .. import evaluation", 1),
        ("attacks/pgd.py", "from segrobust import evaluation", 1),
        ("attacks/core/loop.py", "from segrobust.attacks import PGD", 1),
        ("attacks/core/loop.py", "from segrobust.attacks.pgd import PGD", 1),
        ("attacks/pgd.py", "def f():\n    import segrobust.evaluation.engine.runner", 2),
        ("data/segmentation_dataset.py", "from segrobust.tasks import Task", 1),
        ("evaluation/engine/runner.py", "import lightning.pytorch as pl", 1),
        ("evaluation/engine/runner.py", "from lightning import Trainer", 1),
        ("tasks/task.py", "import albumentations as A", 1),
        ("evaluation/engine/runner.py", "import wandb", 1),
        ("metrics/confusion.py", "import matplotlib.pyplot as plt", 1),
    ],
)
def test_a_breach_is_found_with_its_line(file, source, line):
    (found,) = violations(ROOT / file, source)
    assert found.startswith(f"segrobust/{file}:{line}: ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "attacks/pgd.py",
            "from segrobust.functional.norms import norm\nfrom segrobust.attacks.core.attack import Attack",
        ),
        ("attacks/pgd.py", "from .core.attack import Attack\nfrom ..functional import norms"),
        ("tasks/task.py", "import lightning\nfrom segrobust.attacks import PGD"),
        ("data/transforms.py", "import albumentations"),
        ("callbacks/panels.py", "import wandb\nfrom segrobust import evaluation"),
        ("evaluation/curves.py", "import matplotlib"),
    ],
)
def test_what_is_allowed_is_not_found(file, source):
    assert not list(violations(ROOT / file, source))
