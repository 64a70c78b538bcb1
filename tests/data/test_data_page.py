"""What `docs/data.md` names is there."""

import inspect
import re
from pathlib import Path

import yaml

from segrobust import data
from segrobust.data import Folder
from segrobust.data.files.archives import ARCHIVES

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_every_protocol_is_listed_and_every_listed_one_is_there():
    listed = set(re.findall(r"`(\w+\.yaml)`", PAGE)) - {"classes.yaml"}
    assert listed == {path.name for path in (ROOT / "configs" / "data").glob("*.yaml")}


def test_every_data_set_and_its_variable_is_described():
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "segrobust" / "data").rglob("*.py"))
    variables = set(re.findall(r"SEGROBUST_[A-Z0-9_]+", source))
    assert variables == set(re.findall(r"SEGROBUST_[A-Z0-9_]+", PAGE))
    for name, value in vars(data).items():
        if inspect.isclass(value) and issubclass(value, data.SegmentationDataset) and not inspect.isabstract(value):
            assert f"`{name}`" in PAGE or f"import {name}" in PAGE, name
    assert {name for name in ARCHIVES if f"data download {name}" in PAGE} == set(ARCHIVES)


def test_the_file_for_an_own_folder_is_what_the_data_module_takes(tmp_path):
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]
    (classes,) = (block for block in blocks if "names" in block)
    (experiment,) = (block for block in blocks if "data" in block)
    arguments = experiment["data"]["init_args"]
    assert set(arguments) <= set(inspect.signature(data.SegmentationDataModule).parameters)
    assert set(arguments["val"]["init_args"]) <= set(inspect.signature(Folder).parameters)
    assert set(arguments["train"]["init_args"]) <= set(inspect.signature(Folder).parameters)
    assert len(classes["names"]) == 3
