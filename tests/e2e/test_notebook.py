"""A notebook that is executed: what its cells show of an attack, an evaluation and a data set."""

import re

import pytest

nbformat = pytest.importorskip("nbformat", reason="the extra `test` installs nbclient")
nbclient = pytest.importorskip("nbclient", reason="the extra `test` installs it")
pytest.importorskip("ipykernel", reason="the extra `test` installs it")
pytest.importorskip("ipywidgets", reason="the extra `test` installs it")

WITHOUT_WIDGETS = "import sys; sys.modules['ipywidgets'] = None"  # as where they are not installed
CELLS = (
    WITHOUT_WIDGETS,
    """\
import torch, segrobust
from segrobust.attacks import FGSM
from segrobust.data import SyntheticScenes
network = torch.nn.Conv2d(3, 9, 1)
scenes = SyntheticScenes(2, size=(32, 64))
scenes""",
    """\
images, labels = scenes[0]["image"][None], scenes[0]["mask"][None]
FGSM(eps=8 / 255)(network, images, labels, ignore_index=255)""",
    'segrobust.evaluate(network, scenes, attacks={"fgsm": FGSM()}, eps=[8 / 255], run_dir="run", checks="off")',
    """\
del sys.modules["ipywidgets"]
segrobust.evaluate(network, scenes, attacks={"fgsm": FGSM()}, eps=[8 / 255], checks="off")""",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What each cell shows, by kind; a stream is under its name."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    place = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=280, kernel_name="python3", resources=place).execute()
    found = []
    for cell in notebook.cells:
        shown = {}
        for output in cell.outputs:
            if output.output_type == "stream":
                shown[output.name] = shown.get(output.name, "") + output.text
            else:
                shown |= output.data
        found.append(shown)
    return found


def test_a_data_set_says_what_it_holds(outputs):
    assert outputs[1]["text/plain"].startswith("<SyntheticScenes: ")
    assert "2" in outputs[1]["text/plain"]


def test_a_result_is_a_row_per_image(outputs):
    table = outputs[2]["text/html"]
    assert len(re.findall("<tr>", table)) == 2
    assert "adv is 1 x 3 x 32 x 64" in table
    assert "tensor" not in outputs[2]["text/plain"]
    assert len(outputs[2]["text/plain"]) < 120


def test_a_report_is_its_tables(outputs):
    shown = outputs[3]
    assert shown["text/html"].startswith("<pre")
    for text in ("fgsm", "mIoU", "8/255", "run/report.html"):
        assert text in shown["text/html"]
    assert shown["text/plain"] == "Report(2 images, attacks: fgsm, run)"


def test_progress_is_a_bar_where_there_are_widgets_and_no_warning_without(outputs):
    without, with_widgets = outputs[3:]
    assert "stderr" not in without
    assert "application/vnd.jupyter.widget-view+json" not in without
    assert "application/vnd.jupyter.widget-view+json" in with_widgets


def test_text_of_a_run_is_no_html():
    from segrobust.evaluation.reporting.format import html_text

    shown = html_text("<script>alert(1)</script>\x1b[2J", 80)
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "\x1b" not in shown
