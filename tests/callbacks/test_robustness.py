import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from callbacks.tiny import OtherProject, RestlessScenes, TinyPairs, TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import IterableDataset

from segrobust.attacks import DLR, FGSM, PGD, AlmaProx
from segrobust.callbacks import RobustnessEvaluation
from segrobust.evaluation import Record, StridedWork, choose_samples, read_records, run
from segrobust.metrics import ConfusionCounts, miou_dataset
from segrobust.tasks import SegmentationTask

ATTACKS = {"pgd": PGD(num_steps=3, random_start=True), "alma": AlmaProx(num_steps=8)}


def make_task(network: nn.Module | None = None) -> SegmentationTask:
    return SegmentationTask(network or tiny_network(), optimizer=lambda parameters: SGD(parameters, lr=0.3))


def states(task: LightningModule) -> dict[str, Tensor]:
    return copy.deepcopy(task.state_dict())


def random_states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002 - global


def without_time(records: tuple[Record, ...]) -> list[dict[str, Any]]:
    rows = [vars(record) | {"seconds": 0.0} for record in records]
    return sorted(rows, key=lambda row: (row["sample_id"], row["digest"], str(row["eps"])))


def measure_by_hand(task: SegmentationTask, evaluation: RobustnessEvaluation) -> tuple[Record, ...]:
    """The engine, called without Lightning on the weights as they are."""
    work = StridedWork(choose_samples(6, evaluation.max_images, evaluation.seed), batch_size=evaluation.batch_size)
    return tuple(run(task.network, TinyScenes(), evaluation.plan, work=work))


def slow_miou(records: tuple[Record, ...], attack: str, eps: float) -> float:
    chosen = [record for record in records if record.attack == attack and record.eps == eps]
    tp, fp, fn = (torch.tensor([getattr(record, name) for record in chosen]) for name in ("tp", "fp", "fn"))
    return 100 * miou_dataset(ConfusionCounts(tp=tp, fp=fp, fn=fn)).item()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_gives_in_every_stage_what_the_engine_gives(tmp_path, stage, precision):
    evaluation = RobustnessEvaluation(ATTACKS, max_images=3, every_n_epochs=1)
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(tmp_path, evaluation, logger=logger, precision=precision)
    task = make_task()
    if stage == "fit":
        trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    else:
        getattr(trainer, stage)(task, loader(TinyScenes()), verbose=False)

    by_hand = measure_by_hand(task, evaluation)
    (folder,) = (tmp_path / "robustness").iterdir()
    assert without_time(read_records(folder)) == without_time(by_hand)
    prefix = "test" if stage == "test" else "val"
    for eps, label in ((2 / 255, "2"), (8 / 255, "8")):
        logged = trainer.callback_metrics[f"{prefix}/pgd/miou_at_{label}"].item()
        assert logged == pytest.approx(slow_miou(by_hand, "pgd", eps), rel=1e-6)
    assert set(trainer.callback_metrics) >= {key.replace("val/", f"{prefix}/", 1) for key in evaluation.keys}


def test_logs_exactly_the_keys_that_it_announces(tmp_path):
    attacks = ATTACKS | {"fgsm": FGSM(eps=3 / 255), "pgd_l2": PGD(num_steps=1, norm="l2")}
    evaluation = RobustnessEvaluation(attacks, max_images=2, panels=0, every_n_epochs=1)
    make_trainer(tmp_path, evaluation, max_epochs=1).fit(make_task(), loader(TinyScenes()), loader(TinyScenes()))
    assert sorted(evaluation.history[0].values) == sorted(evaluation.keys)
    assert len(set(evaluation.keys)) == len(evaluation.keys)


def test_serves_a_project_that_knows_nothing_of_it(tmp_path):
    evaluation = RobustnessEvaluation(
        ATTACKS, max_images=2, network="parts.model", image=0, mask=1, ignore_index=-1, panels=0, every_n_epochs=1
    )
    by_function = RobustnessEvaluation(
        {"same": ATTACKS["pgd"]},
        max_images=2,
        network=lambda module: module.parts["model"],
        image=lambda pair: pair[0],
        mask=lambda pair: pair[1],
        ignore_index=-1,
        panels=0,
        every_n_epochs=1,
        name="by_function",
    )
    trainer = make_trainer(tmp_path, evaluation, by_function)
    trainer.fit(OtherProject(), loader(TinyPairs()), loader(TinyPairs()))
    values = evaluation.history[0].values
    assert by_function.history[0].values["val/by_function/same/apsr_at_8"] == values["val/pgd/apsr_at_8"]
    assert values["val/pgd/apsr_at_8"] > values["val/robust_subset/clean_apsr"]


def test_training_is_bit_equal_with_and_without_it(tmp_path):
    ends = []
    for callbacks in ([], [RobustnessEvaluation(ATTACKS, max_images=3, panels=2, every_n_epochs=1)]):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - the global state is what must not change
        torch.manual_seed(1)
        task = make_task()
        logger = CSVLogger(tmp_path / str(len(callbacks)))
        trainer = make_trainer(tmp_path, *callbacks, max_epochs=3, logger=logger)
        trainer.fit(task, loader(TinyScenes(), shuffle=True), loader(RestlessScenes()))
        ends.append((states(task), random_states()))
    (weights, randomness), (weights_with, randomness_with) = ends
    assert all(torch.equal(weights[name], weights_with[name]) for name in weights)
    assert randomness == randomness_with


class Watch(RobustnessEvaluation):
    """Compares the network before and after an evaluation."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network = pl_module.network
        network.network[2].train()  # a mode of its own, which has to come back; without effect on a ReLU
        network.network[0].weight.requires_grad_(False)
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = states(pl_module), random_states(), self.look(network)
        super().on_validation_epoch_end(trainer, pl_module)
        after = states(pl_module), random_states(), self.look(network)
        assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
        assert before[1:] == after[1:]

    def look(self, network: nn.Module) -> tuple[list[bool], list[bool], bool]:
        parameters = list(network.parameters())
        untouched = all(torch.equal(p.grad, torch.ones_like(p)) for p in parameters)
        assert untouched
        return [m.training for m in network.modules()], [p.requires_grad for p in parameters], untouched


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_leaves_weights_buffers_gradients_modes_and_random_states_alone(tmp_path, stage):
    watch = Watch(ATTACKS, max_images=2, panels=0)
    trainer = make_trainer(tmp_path, watch, num_sanity_val_steps=1)
    loaders = [loader(RestlessScenes())] * (2 if stage == "fit" else 1)
    getattr(trainer, stage)(make_task(), *loaders)
    assert "val/pgd/miou_at_4" in trainer.callback_metrics


@pytest.mark.parametrize(
    ("settings", "trainer_settings", "epochs"),
    [
        ({"every_n_epochs": 3}, {"max_epochs": 8}, [2, 5, 7]),
        ({"every_n_epochs": 3, "run_on_last_epoch": False}, {"max_epochs": 8}, [2, 5]),
        ({"every_n_epochs": 3}, {"max_epochs": 8, "check_val_every_n_epoch": 2}, [3, 7]),
        ({"every_n_epochs": 9}, {"max_epochs": -1, "max_steps": 9}, [2]),
        ({"every_n_epochs": 1}, {"max_epochs": 2, "val_check_interval": 1}, [0, 1]),
    ],
)
def test_evaluates_every_n_completed_epochs_and_in_the_last_one(tmp_path, settings, trainer_settings, epochs):
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, max_images=1, panels=0, **settings)
    trainer = make_trainer(tmp_path, evaluation, **trainer_settings)
    trainer.fit(make_task(), loader(TinyScenes()), loader(TinyScenes()))
    assert [measurement.epoch for measurement in evaluation.history] == epochs
    assert all(measurement.step == 3 * (measurement.epoch + 1) for measurement in evaluation.history)


def normalised_outside() -> TinyScenes:
    scenes = TinyScenes()
    scenes.images = (scenes.images - 0.5) / 0.2
    return scenes


def foreign_labels() -> TinyScenes:
    scenes = TinyScenes()
    scenes.masks[:, :, 5] = 3
    return scenes


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([TinyScenes()[0]])


@pytest.mark.parametrize(
    ("settings", "dataset", "error", "message"),
    [
        ({"network": "model"}, TinyScenes(), ValueError, "no attribute 'model'; its modules are 'network'"),
        ({"network": "ignore_index"}, TinyScenes(), TypeError, "must give an nn.Module, got int"),
        (
            {"image": "x"},
            TinyScenes(),
            ValueError,
            r"image='x': samples have the keys \['image', 'mask', 'sample_id'\]",
        ),
        ({"mask": 1}, TinyScenes(), ValueError, "mask=1: samples have the keys"),
        ({}, normalised_outside(), ValueError, r"must lie in \[0, 1\]"),
        ({}, foreign_labels(), ValueError, r"\[3\], outside the network's 3 classes"),
        ({}, Endless(), TypeError, "Endless cannot be read by position"),
    ],
)
def test_a_wrong_setting_fails_before_the_first_step(tmp_path, settings, dataset, error, message):
    evaluation = RobustnessEvaluation(ATTACKS, panels=0, **settings)
    trainer = make_trainer(tmp_path, evaluation, max_epochs=5)
    task = make_task()
    task.validation_step = lambda batch, batch_idx: None  # the task itself would refuse some of these
    task.on_validation_epoch_end = lambda: None
    with pytest.raises(error, match=message):
        trainer.fit(task, loader(TinyScenes()), loader(dataset))
    assert trainer.global_step == 0


def test_a_tuple_needs_positions(tmp_path):
    trainer = make_trainer(tmp_path, RobustnessEvaluation(ATTACKS, network="parts.model", every_n_epochs=1))
    with pytest.raises(TypeError, match=r"samples are tuples of 2; give the position, e\.g\. image=0, mask=1"):
        trainer.fit(OtherProject(), loader(TinyPairs()), loader(TinyPairs()))


def test_weights_in_16_bits_are_refused(tmp_path):
    trainer = make_trainer(tmp_path, RobustnessEvaluation(ATTACKS, every_n_epochs=1), precision="bf16-true")
    with pytest.raises(ValueError, match=r"weights in torch.bfloat16.*bf16-mixed"):
        trainer.fit(make_task(), loader(TinyScenes()), loader(TinyScenes()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1, got 0"),
        ({"max_images": 0}, "max_images must be at least 1, or None for all, got 0"),
        ({"batch_size": 0}, "batch_size is at least 1"),
        ({"panels": -1}, "panels at least 0"),
        ({"eps": (8.0,)}, "did you mean 8/255"),
        ({"attacks": {"robust_subset/clean": FGSM()}}, "letters a to z, digits"),
        ({"attacks": {"worst_linf": FGSM(), "pgd": PGD()}}, "would be logged as 'worst_linf/"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RobustnessEvaluation(**({"attacks": ATTACKS} | settings))


def test_sanity_check_and_dry_run_log_nothing(tmp_path):
    evaluation = RobustnessEvaluation(ATTACKS, max_images=2, every_n_epochs=1)
    make_trainer(tmp_path, evaluation, fast_dev_run=1).fit(make_task(), loader(TinyScenes()), loader(TinyScenes()))
    assert evaluation.history == []
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(tmp_path, evaluation, max_epochs=1, limit_train_batches=0, logger=logger)
    trainer.fit(make_task(), loader(TinyScenes()), loader(TinyScenes()))
    assert evaluation.history == []
    assert not (tmp_path / "robustness").exists()


class CountedNetwork(nn.Module):
    """Counts the images that it sees outside of training."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_network()
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return self.inner(images)


def test_an_evaluation_that_was_killed_goes_on(tmp_path):
    """The second run finds a torn file with two thirds of the records, and makes the others only."""
    whole, spent = None, []
    for folder in ("whole", "torn"):
        logger = CSVLogger(tmp_path / folder, name="", version="")
        task = make_task(CountedNetwork())
        if folder == "torn":
            (source,) = (tmp_path / "whole" / "robustness").iterdir()
            target = tmp_path / "torn" / "robustness" / source.name / "records"
            target.mkdir(parents=True)
            lines = (source / "records" / "rank000.jsonl").read_bytes()
            (target / "rank000.jsonl").write_bytes(lines[: 2 * len(lines) // 3])
        evaluation = RobustnessEvaluation(
            ATTACKS, max_images=4, batch_size=1, panels=0, every_n_epochs=1, compare_with_validation=False
        )
        trainer = make_trainer(tmp_path, evaluation, logger=logger)
        trainer.validate(task, loader(TinyScenes()), verbose=False)
        spent.append(task.network.seen)
        (run_folder,) = (tmp_path / folder / "robustness").iterdir()
        records = without_time(read_records(run_folder))
        whole = whole or records
        assert records == whole
    assert spent[1] < 0.6 * spent[0]  # the probe of the network is passed in both


def test_state_of_other_attacks_is_not_taken_over():
    keys = {
        RobustnessEvaluation({"fgsm": FGSM()}).state_key,
        RobustnessEvaluation({"fgsm": FGSM()}, eps=(8 / 255,)).state_key,
        RobustnessEvaluation({"fgsm": FGSM(loss=DLR())}).state_key,
        RobustnessEvaluation({"fgsm": FGSM()}, max_images=9).state_key,
        RobustnessEvaluation({"fgsm": FGSM()}, network="model").state_key,
    }
    assert len(keys) == 5
    assert RobustnessEvaluation({"fgsm": FGSM()}).state_key in keys


def test_several_validation_sets_are_joined(tmp_path):
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, max_images=None, panels=0, every_n_epochs=1)
    trainer = make_trainer(tmp_path, evaluation)
    task = make_task()
    task.validation_step = lambda batch, batch_idx, dataloader_idx=0: task.network(batch["image"]).mean()
    task.on_validation_epoch_end = lambda: None
    trainer.fit(task, loader(TinyScenes()), [loader(TinyScenes(4)), loader(TinyScenes(3, seed=1))])
    assert evaluation.history[0].num_images == 7


def test_validate_reads_its_own_data_after_fit(tmp_path):
    evaluation = RobustnessEvaluation({"fgsm": FGSM()}, max_images=None, panels=0, every_n_epochs=1)
    trainer, task = make_trainer(tmp_path, evaluation), make_task()
    trainer.fit(task, loader(TinyScenes()), loader(TinyScenes()))
    trainer.validate(task, loader(TinyScenes(6, seed=1)), verbose=False)
    first = trainer.callback_metrics["val/fgsm/miou_at_4"].item()
    assert first != pytest.approx(evaluation.history[0].values["val/fgsm/miou_at_4"])
    assert len(evaluation.history) == 1
