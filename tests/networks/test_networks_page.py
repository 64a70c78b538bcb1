"""What the page on networks names is there; its Python blocks run in test_docs.py."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).parent.parent.parent / "docs" / "networks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
def test_yaml_blocks_name_what_exists(block):
    def check(value):
        if not isinstance(value, dict):
            return
        if "class_path" in value and not value["class_path"].startswith("my_package."):
            module, _, name = value["class_path"].rpartition(".")
            parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
            assert set(value.get("init_args", {})) <= set(parameters)
        for item in value.values():
            check(item)

    check(yaml.safe_load(block))


def test_files_that_are_named_exist():
    for path in re.findall(r"configs/[\w./]+\w", PAGE):
        assert (Path(__file__).parent.parent.parent / path).exists()
