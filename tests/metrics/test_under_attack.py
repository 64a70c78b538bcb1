import math
from pathlib import Path

import pytest
import torch
from callbacks.tiny import OtherProject, TinyPairs, loader, make_trainer
from evaluation.toy import CRITERION, NUM_CLASSES, ToyScenes, toy_network
from torchmetrics import JaccardIndex, MetricCollection

from segrobust.attacks import FGSM, PGD, AlmaProx
from segrobust.evaluation import evaluate
from segrobust.metrics import (
    AttackSuccessRate,
    ConfusionMetric,
    MedianNorm,
    NormMetric,
    RobustAccuracy,
    RobustMeanIoU,
)

EPS = 48 / 255
ATTACKS = {
    "pgd": PGD(num_steps=4, eps=EPS, random_start=True, criterion=CRITERION),
    "alma": AlmaProx(num_steps=12, step_size=0.05, criterion=CRITERION),
}


def collection():
    return MetricCollection(
        {
            "miou": RobustMeanIoU(NUM_CLASSES),
            "accuracy": RobustAccuracy(NUM_CLASSES),
            "asr": AttackSuccessRate(),
            "asr_at_eps": AttackSuccessRate(EPS),
            "median": MedianNorm(),
        }
    )


def results(attack, positions):
    """`(id, result, labels)` of toy images, one at a time as their sizes differ; image 2 is void."""
    scenes, network = ToyScenes(6), toy_network()
    for index in positions:
        image, mask = (scenes[index][name][None] for name in ("image", "mask"))
        yield torch.tensor([index]), attack(network, image.double(), mask, ignore_index=255, sample_ids=[index]), mask


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    network, folder = toy_network(), tmp_path_factory.mktemp("run")
    return evaluate(network, ToyScenes(6), attacks=ATTACKS, run_dir=folder / "run", progress=False, panels=0)


def expected(report, name):
    summary = report.summary
    if name == "pgd":
        (entry,) = summary.fixed_budget
        (scores,) = entry.scores
        return {"miou": scores.miou, "accuracy": scores.accuracy, "asr": scores["asr"]}
    (entry,) = summary.minimal_norm
    at = dict(zip(entry.eps, entry.asr_at, strict=True))
    return {"asr": entry["asr"], "median": entry["median"], "asr_at_eps": at[EPS]}


@pytest.mark.parametrize("name", ATTACKS)
def test_they_give_what_an_evaluation_gives(report, name):
    metrics = collection()
    for ids, result, labels in results(ATTACKS[name], range(6)):
        metrics.update(**vars(result), labels=labels, sample_ids=ids)
    found = {key: value.item() for key, value in metrics.compute().items()}
    known = expected(report, name)
    assert {key: found[key] for key in known} == pytest.approx(known, rel=1e-12)
    assert len({*known.values()}) == 3
    assert 0 < max(known.values()) < 1


def test_a_batch_is_several_images():
    """Nothing depends on how images are shared among calls, and metrics work alone."""
    alone = dict(collection().items())
    norm, success = torch.tensor([0.01, 0.03, 0.02, 0.5]), torch.tensor([True, True, True, False])
    for rows in ([0, 1, 2, 3],), ([0], [1, 2], [3]):
        for metric in alone.values():
            metric.reset()
        for chosen in rows:
            for name in ("asr", "median", "asr_at_eps"):
                alone[name].update(norm[chosen], success[chosen])
        assert alone["asr"].compute() == 0.75
        assert alone["asr_at_eps"].compute() == 0.75
        assert alone["median"].compute().item() == pytest.approx(0.025)
    assert AttackSuccessRate(0.015)(norm, success) == 0.25


def test_half_of_the_images_resist():
    assert MedianNorm()(torch.tensor([0.01, 0.02]), torch.tensor([True, False])) == math.inf


def test_an_image_without_a_valid_pixel_is_left_out():
    norm, success = torch.tensor([0.01, torch.inf]), torch.tensor([True, False])
    assert AttackSuccessRate()(norm, success, apsr=torch.tensor([1.0, torch.nan])) == 1


@pytest.mark.parametrize("name", [*collection()])
def test_nothing_yet_is_nan_and_reset_forgets(name):
    metric = collection()[name]
    with pytest.warns(UserWarning, match="before"):
        assert metric.compute().isnan()
    given = (
        (torch.zeros(1, 2, 2).long(), torch.zeros(1, 2, 2).long())
        if isinstance(metric, ConfusionMetric)
        else (torch.tensor([0.1]), torch.tensor([True]))
    )
    metric.update(*given)
    assert not metric.compute().isnan()
    metric.reset()
    metric.update(*(value[:0] for value in given))
    assert metric.compute().isnan()


def test_a_collection_holds_metrics_of_torchmetrics_too():
    prediction, labels = torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 0, 1, 255]]])
    both = MetricCollection([RobustMeanIoU(2), JaccardIndex("multiclass", num_classes=2, ignore_index=255)])
    both.update(prediction, labels)
    found = both.compute()
    assert found["RobustMeanIoU"].item() == pytest.approx(found["MulticlassJaccardIndex"].item())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.1], [1]), TypeError, "success bool"),
        (([1], [True]), TypeError, "floating point"),
        (([0.1, 0.2], [True]), ValueError, "one value per image"),
        (([[0.1]], [[True]]), ValueError, "one value per image"),
        (([-0.1], [True]), ValueError, "got -0.1"),
        (([math.nan], [True]), ValueError, "got nan"),
        (([0.1], [True], [0.5, 0.5]), ValueError, "apsr"),
    ],
)
def test_wrong_results_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MedianNorm().update(*map(torch.tensor, arguments))


@pytest.mark.parametrize("eps", [-1, math.nan])
def test_a_radius_is_not_negative(eps):
    with pytest.raises(ValueError, match="at least 0"):
        AttackSuccessRate(eps)


class Attacked(OtherProject):
    """A LightningModule that logs the metrics itself."""

    def __init__(self):
        super().__init__()
        self.metrics = MetricCollection([RobustMeanIoU(3, ignore_index=-1), AttackSuccessRate()], prefix="robust/")

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        with torch.inference_mode(False):
            result = FGSM(eps=0.05)(self.parts["model"], images.clone(), labels.clone(), ignore_index=-1)
        self.metrics.update(**vars(result), labels=labels)
        self.log_dict(self.metrics)


def test_a_lightning_module_logs_them(tmp_path):
    module, data = Attacked(), TinyPairs()
    (found,) = make_trainer(tmp_path).validate(module, loader(data), verbose=False)
    metric = RobustMeanIoU(3, ignore_index=-1)
    for images, labels in loader(data, batch_size=6):
        result = FGSM(eps=0.05)(module.parts["model"], images, labels, ignore_index=-1)
        metric.update(result.prediction, labels)
    assert found["robust/RobustMeanIoU"] == pytest.approx(metric.compute().item())
    assert found["robust/AttackSuccessRate"] == pytest.approx(result.success.double().mean().item())


SHARDINGS = {"uneven": ([0, 1, 3, 4], [5]), "empty rank": ([0, 1, 3], []), "repeated": ([0, 1, 4], [3, 5, 0])}


def _update(metrics, positions):
    for ids, result, labels in results(ATTACKS["alma"], positions):
        metrics.update(**vars(result), labels=labels, sample_ids=ids)
    return {name: value.item() for name, value in metrics.compute().items()}


def _measure_shards(rank, directory):
    store = torch.distributed.FileStore(f"{directory}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    found = {name: _update(collection(), shards[rank]) for name, shards in SHARDINGS.items()}
    torch.save(found, f"{directory}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.ddp
def test_two_processes_measure_like_one(tmp_path: Path):
    torch.multiprocessing.spawn(_measure_shards, args=(str(tmp_path),), nprocs=2)
    expected = {name: _update(collection(), sorted({*a, *b})) for name, (a, b) in SHARDINGS.items()}
    for rank in range(2):
        assert repr(torch.load(tmp_path / f"rank{rank}.pt")) == repr(expected)


def test_the_base_classes_give_no_number():
    for base in (ConfusionMetric, NormMetric):
        with pytest.raises(TypeError, match="abstract"):
            base()
