import json
import shutil

import numpy as np
import pytest
import torch
from evaluation.reporting.runs import EvilScenes, make_run
from evaluation.toy import ToyScenes, toy_network, toy_plan
from PIL import Image

from segrobust.evaluation import AdversarialStore, RunDirectory, choose_samples, read_records
from segrobust.evaluation.dataset import load_sample
from segrobust.evaluation.reporting.figures.panel_files import write_panels


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run") / "evil", keep_adversarials=True)


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "panels")
    return RunDirectory(tmp_path / "copy")


def draw(run, samples, dataset=None):
    dataset = EvilScenes(5) if dataset is None else dataset
    store = AdversarialStore(run.path)
    return [path.name for path in write_panels(toy_network(), dataset, toy_plan(), run, store, samples, 255)]


def test_each_panel_has_tiles_of_the_same_picture(run):
    assert draw(run, [1]) == ["000001-alma.png", "000001-pgd.png"]
    folder = run.panels / "tiles" / "000001-pgd"
    names = {"image", "adversarial", "perturbation", "errors", "truth", "clean", "prediction"}
    assert {path.stem for path in folder.glob("*.webp")} == names
    info = json.loads((folder / "panel.json").read_text())
    record = next(r for r in read_records(run.path) if (r.sample_id, r.attack, r.eps) == (1, "pgd", 64 / 255))
    assert (info["job"], info["eps"], info["norm"], info["apsr"]) == ("pgd", record.eps, record.norm, record.apsr)
    truth = np.asarray(Image.open(folder / "truth.webp").convert("RGB"))
    np.testing.assert_array_equal(truth, EvilScenes.label_space.colorize(load_sample(EvilScenes(5), 1).mask))


class WideScenes(ToyScenes):
    def __getitem__(self, index):
        sample = super().__getitem__(index)
        if index != 0:
            return sample
        image = torch.rand(3, 20, 1000, generator=torch.Generator().manual_seed(0))
        return {"image": image, "mask": toy_network()(image[None].double()).argmax(1)[0]}


def test_tiles_of_large_images_are_reduced_without_new_colours(tmp_path):
    run = make_run(tmp_path / "wide", WideScenes(1), panels=1)
    folder = run.panels / "tiles" / "000000-alma"
    truth = np.asarray(Image.open(folder / "truth.webp").convert("RGB"))
    assert truth.shape == (13, 640, 3)
    legend = json.loads((folder / "panel.json").read_text())["legend"]
    assert {tuple(color) for color in truth.reshape(-1, 3).tolist()} <= {tuple(color) for _, color in legend}


def test_images_without_an_adversarial_or_a_record_have_no_panel(run):
    first, second = choose_samples(5, 2, 0)
    manifest = {job.name: job for job in toy_plan().jobs}
    AdversarialStore(run.path).path(manifest["alma"].digest, "min", first).unlink()
    shard = run.records / "rank000.jsonl"
    kept = [line for line in shard.open() if not (f'"sample_id":{second},' in line and '"attack":"pgd"' in line)]
    shard.write_text("".join(kept))
    assert draw(run, [first, second]) == [f"{first:06d}-pgd.png", f"{second:06d}-alma.png"]


def test_an_image_without_any_panel_is_not_read(run):
    shutil.rmtree(run.path / "adversarials")
    dataset = EvilScenes(5)
    assert draw(run, [1], dataset) == []
    assert dataset.loaded == []
