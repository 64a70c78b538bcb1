"""What the page on networks shows works."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch
import yaml

PAGE = (Path(__file__).parent.parent.parent / "docs" / "networks.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_python_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    module, wrapped = blocks("python")
    exec(compile(module, "networks.md", "exec"), namespace)
    torch.save(namespace["MyNetwork"](11).state_dict(), "weights.pth")
    exec(compile(wrapped, "networks.md", "exec"), namespace)
    assert namespace["network"](torch.rand(1, 3, 30, 50)).shape == (1, 11, 30, 50)


@pytest.mark.parametrize("block", blocks("yaml"))
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
