"""Every row of the first table of `docs/data.md` is run: its `classes.yaml`, its command or its code."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from data_rows import ROWS, Files, network
from object_rows import Rows  # noqa: F401  its rows are registered by the import

import segrobust
from segrobust.attacks import FGSM
from segrobust.cli.data_command import data_command
from segrobust.data import Folder

PAGE = (Path(__file__).parent.parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
TABLE = {
    name: re.findall(r"`([^`]+)`", written)
    for name, written in re.findall(r"^\| <!-- row: (\w+) -->[^|]*\|(.*)\|$", PAGE, flags=re.MULTILINE)
}
COMMAND = "python evaluate.py data init my_data"


def test_the_page_opens_with_the_table_and_each_row_has_its_data():
    first = PAGE.index("\n| ")
    assert PAGE[first:].startswith("\n| what you have | what you write |\n")
    assert len(re.findall(r"^#", PAGE[:first], flags=re.MULTILINE)) <= 2
    lines = PAGE[first:].split("\n\n")[0].strip().splitlines()[2:]
    assert len(lines) == len(TABLE) >= 20, [line for line in lines if "<!-- row: " not in line]
    assert TABLE.keys() == ROWS.keys()


@pytest.mark.parametrize("name", TABLE)
def test_a_row_is_what_is_written(name, tmp_path, monkeypatch, capsys):
    root = tmp_path / "my_data"
    root.mkdir()
    monkeypatch.chdir(tmp_path)
    case, written = ROWS[name](root), TABLE[name]
    if not isinstance(case, Files):
        options = {"attacks": {"fgsm": FGSM()}, "eps": [2 / 255], "checks": "off", "progress": False}
        value, names = None, {"segrobust": segrobust, "options": options, **case.names}
        for code in written:
            value = eval(code, names)
        assert case.holds(value), value
        return
    if COMMAND in written:
        data_command(COMMAND.split()[3:])
    else:
        names = yaml.safe_dump({"names": [f"class {index}" for index in range(case.num_classes)]})
        (root / "classes.yaml").write_text(names + "\n".join(written), encoding="utf-8")
    data = Folder(root, case.split)
    assert data.label_space.num_classes == case.num_classes
    np.testing.assert_array_equal(data[0]["mask"].numpy(), case.labels)
    seen = data[0]["image"].permute(1, 2, 0).numpy()
    assert seen.shape[2] == 3 if case.image is None else np.allclose(seen, case.image, rtol=0, atol=1e-6)
    with pytest.raises(SystemExit) as done:
        data_command(["check", "--data", "Folder", "--data.root", str(root), "--data.split", case.split])
    assert done.value.code == 0, capsys.readouterr().out
    report = segrobust.evaluate(
        network(case.num_classes, seen.shape[2]),
        data,
        attacks={"fgsm": FGSM()},
        eps=[2 / 255],
        checks="off",
        progress=False,
    )
    assert report.summary.num_images == len(data)
