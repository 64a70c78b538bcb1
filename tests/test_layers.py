"""Who may import whom: packages import floors strictly below them, and heavy libraries stay on their floors."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "segrobust"

FLOORS = {
    "functional": 1,
    "label_space": 1,
    "attacks": 2,
    "networks": 2,
    "metrics": 2,
    "evaluation": 3,
    "tasks": 4,
    "data": 4,
    "callbacks": 5,
    "cli": 6,
}
LIGHTNING_FROM = 4
VAGUE_NAMES = {"utils", "helpers", "common", "misc"}


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def part_of(path, root=ROOT):
    """The package or module directly below the root: `attacks` for `segrobust/attacks/pgd.py`."""
    return path.relative_to(root).parts[0].removesuffix(".py")


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
            if rest and rest[0] in FLOORS and rest[0] != part and FLOORS[rest[0]] >= floor:
                yield f"{where}, floor {FLOORS[rest[0]]}, from floor {floor}"
        elif top in {"lightning", "pytorch_lightning"} and floor < LIGHTNING_FROM:
            yield f"{where} below floor {LIGHTNING_FROM}"
        elif top == "albumentations" and part != "data":
            yield f"{where} outside data"
        elif top == "wandb" and part != "callbacks":
            yield f"{where} outside callbacks"
        elif top == "matplotlib" and floor <= 2:
            yield f"{where} on floor {floor}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    found = list(violations(path, path.read_text()))
    assert not found, "\n".join(found)


def test_every_package_has_a_floor():
    assert {part_of(path) for path in modules()} <= set(FLOORS)


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
        ("attacks/pgd.py", "def f():\n    import segrobust.evaluation.runner", 2),
        ("data/base.py", "from segrobust.tasks import Task", 1),
        ("evaluation/runner.py", "import lightning.pytorch as pl", 1),
        ("evaluation/runner.py", "from lightning import Trainer", 1),
        ("tasks/task.py", "import albumentations as A", 1),
        ("evaluation/runner.py", "import wandb", 1),
        ("metrics/confusion.py", "import matplotlib.pyplot as plt", 1),
    ],
)
def test_a_breach_is_found_with_its_line(file, source, line):
    (found,) = violations(ROOT / file, source)
    assert found.startswith(f"segrobust/{file}:{line}: ")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("attacks/pgd.py", "from segrobust.functional.norms import norm\nfrom segrobust.attacks.base import Attack"),
        ("attacks/pgd.py", "from .base import Attack\nfrom ..functional import norms"),
        ("tasks/task.py", "import lightning\nfrom segrobust.attacks import PGD"),
        ("data/transforms.py", "import albumentations"),
        ("callbacks/panels.py", "import wandb\nfrom segrobust import evaluation"),
        ("evaluation/curves.py", "import matplotlib"),
    ],
)
def test_what_is_allowed_is_not_found(file, source):
    assert not list(violations(ROOT / file, source))
