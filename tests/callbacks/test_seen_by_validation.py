"""What is attacked is what `validation_step` validates: proven before the first attack, or refused."""

import pytest
import torch
from callbacks.tiny import TinyPairs, TinyScenes, loader, make_trainer, tiny_network
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, Dataset, default_collate

from segrobust.attacks import FGSM
from segrobust.callbacks import RobustnessEvaluation
from segrobust.callbacks.view_mismatch import find_constants
from segrobust.networks import Normalized

MEAN, STD = (0.4, 0.45, 0.5), (0.2, 0.225, 0.25)


def normalise(images):
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def inner_network():
    return tiny_network(dropout=0.0).network  # without its normalisation


class Module(LightningModule):
    """A project with dict batches, whose parts the habits below override."""

    def __init__(self) -> None:
        super().__init__()
        self.model = inner_network()
        self.steps = 0
        self.build()

    def build(self) -> None:
        pass

    def predict(self, images):
        return self.model(images)

    def validation_step(self, batch, batch_idx):
        logits = self.predict(batch["image"])
        self.steps += 1
        self.log("loss", cross_entropy(logits, batch["mask"], ignore_index=255))

    training_step = test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Inside(Module):
    """Normalises in `forward`, which is called directly, as in SMP's example."""

    def forward(self, images):
        return self.model(normalise(images))

    def predict(self, images):
        return self.forward(images)


class AfterTransfer(Module):
    """Normalises batches on the device."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {**batch, "image": normalise(batch["image"])}


class Flips(Module):
    def predict(self, images):
        return (self.model(images) + self.model(images.flip(3)).flip(3)) / 2


class StackedFlips(Module):
    def predict(self, images):
        straight, turned = self.model(torch.cat([images.flip(3), images])).chunk(2)
        return straight.flip(3) + turned


class Pads(Module):
    def predict(self, images):
        return self.model(pad(images, (0, 8, 0, 8)))[..., :-8, :-8]


class Direct(Module):
    def predict(self, images):
        return self.model.forward(images)


class Parts(Module):
    """Calls the parts of the network, not the network."""

    def predict(self, images):
        features = self.model[:3](images)
        return self.model[4](self.model[3](features))


class Compiled(Module):
    def build(self) -> None:
        self.model = torch.compile(self.model, backend="eager")


class CompiledInPlace(Module):
    def build(self) -> None:
        self.model.compile(backend="eager")


class Scripted(Module):
    def build(self) -> None:
        self.model = torch.jit.script(self.model)


class Half(Module):
    def predict(self, images):
        return self.model(images.bfloat16().float())


class ChannelsLast(Module):
    def build(self) -> None:
        self.model.to(memory_format=torch.channels_last)


class Random(Module):
    """Is random in validation too."""

    def predict(self, images):
        return self.model(images)

    def build(self) -> None:
        class Noisy(nn.Module):
            def __init__(self, network) -> None:
                super().__init__()
                self.network = network

            def forward(self, images):
                return self.network(images) + torch.randn(3, 1, 1)

        self.model = Noisy(self.model)


class Hidden(Module):
    """Keeps the network out of its modules."""

    def build(self) -> None:
        self.kept = [self.model]

    def predict(self, images):
        return self.kept[0](images)


class Counts(Module):
    """Counts its validation batches with a metric, and logs before it predicts."""

    def predict(self, images):
        self.log("batch_size", float(len(images)), on_step=True)
        return self.model(images)


class Collated(Dataset):
    """Samples that become normalised batches in the collate function."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        scene = TinyScenes(4)[index]
        return {"picture": scene["image"], "labels": scene["mask"]}


def collate(samples):
    batch = default_collate(samples)
    return {"image": normalise(batch["picture"]), "mask": batch["labels"]}


def evaluation(**settings):
    defaults = {
        "network": "model",
        "max_images": 2,
        "panels": 0,
        "checks": False,
        "every_n_epochs": 1,
        "eps": (4 / 255,),
    }
    return RobustnessEvaluation({"fgsm": FGSM()}, **(defaults | settings))


def wrapped(module):
    return Normalized(module.model, mean=MEAN, std=STD)


def validate(root, module, *, data=None, stage="validate", precision="32-true", **settings):
    robust = evaluation(**settings)
    trainer = make_trainer(root, robust, precision=precision)
    getattr(trainer, stage)(module, loader(TinyScenes()) if data is None else data, verbose=False)
    return trainer


HONEST = {
    "plain": (Module, {}),
    "inside": (Inside, {"network": lambda module: module}),
    "inside, wrapped": (Inside, {"network": wrapped}),
    "after transfer": (AfterTransfer, {"network": wrapped}),
    "flips": (Flips, {}),
    "stacked flips": (StackedFlips, {}),
    "pads": (Pads, {}),
    "direct": (Direct, {}),
    "parts": (Parts, {}),
    "compiled": (Compiled, {}),
    "compiled in place": (CompiledInPlace, {}),
    "scripted": (Scripted, {}),
    "half": (Half, {"precision": "bf16-mixed"}),
    "channels last": (ChannelsLast, {}),
    "random": (Random, {}),
    "hidden": (Hidden, {"network": lambda module: module.kept[0]}),
    "counts": (Counts, {}),
    "collated": (Module, {"network": wrapped, "image": "picture", "mask": "labels"}),
}


@pytest.mark.parametrize("habit", HONEST)
def test_honest_modules_are_not_refused(tmp_path, habit):
    kind, settings = HONEST[habit]
    data = DataLoader(Collated(), batch_size=2, collate_fn=collate) if habit == "collated" else None
    module = kind()
    trainer = validate(tmp_path, module, data=data, **settings)
    assert "val/fgsm/miou_at_4" in trainer.callback_metrics
    assert module.steps == len(data or loader(TinyScenes()))  # steps that are cut off leave no trace
    assert "log" not in module.__dict__
    assert "forward" not in module.model.__dict__ or habit in ("compiled", "scripted")


class Teacher(Module):
    def build(self) -> None:
        self.teacher = inner_network()


class Scaled(Module):
    def predict(self, images):
        return self.model(255 * images)


class Turned(Module):
    def predict(self, images):
        return self.model(normalise(images.flip(1)))


class Resized(Module):
    def validation_step(self, batch, batch_idx):
        self.model(batch["image"][..., ::2, ::2])


class Squared(Module):
    def predict(self, images):
        return self.model(images.square())


class Switched(Module):
    """Asks the network by another argument than the attack does."""

    def build(self) -> None:
        class Switch(nn.Module):
            def __init__(self, network) -> None:
                super().__init__()
                self.network = network

            def forward(self, images, normalised=False):
                return self.network(normalise(images) if normalised else images)

        self.model = Switch(self.model)

    def predict(self, images):
        return self.model(images, normalised=True)


class OtherHead(Module):
    """Validates another head than is attacked."""

    def build(self) -> None:
        self.head = nn.Conv2d(8, 3, 1)

    def predict(self, images):
        return self.head(self.model[:4](images))


LINE = r"Write network=lambda module: Normalized\(module.model, mean=\(0.4, 0.45, 0.5\), std=\(0.2, 0.225, 0.25\)\)"
WRONG = {
    "inside": (Inside, {}, LINE),
    "after transfer": (AfterTransfer, {}, r"\(AfterTransfer.on_after_batch_transfer may be where\). " + LINE),
    "collated": (Module, {"image": "picture", "mask": "labels"}, LINE),
    "twice": (
        Module,
        {"network": wrapped},
        r"as they are in the sample, .* Write network=lambda module: module.model$",
    ),
    "other constants": (AfterTransfer, {"network": lambda module: Normalized(module.model)}, LINE),
    "scaled": (Scaled, {}, r"mean=\(0.0, 0.0, 0.0\), std=\(0.00392157, 0.00392157, 0.00392157\)"),
    "turned": (Turned, {}, r"opposite order, .* " + LINE + r' and image=lambda sample: sample\["image"\].flip\(0\)'),
    "resized": (Resized, {}, "images of 3 channels and 12 x 16 pixels, but what is attacked is of .* 24 x 32"),
    "squared": (Squared, {}, "no mean and std per channel explains it"),
    "switched": (Switched, {}, "the same images as network='model', but gets other logits"),
    "teacher": (Teacher, {"network": "teacher"}, "not called by .*: write network=lambda module: module.model, or set"),
    "other head": (OtherHead, {}, "gives 'model.0' the same images|is not called"),
}


@pytest.mark.parametrize("habit", WRONG)
def test_another_view_stops_with_the_line_to_write(tmp_path, habit):
    kind, settings, message = WRONG[habit]
    data = DataLoader(Collated(), batch_size=2, collate_fn=collate) if habit == "collated" else None
    with pytest.raises(ValueError, match=message):
        validate(tmp_path, kind(), data=data, **settings)


@pytest.mark.parametrize("stage", ["sanity check", "first validation", "test", "dry run"])
def test_every_entry_point_asks_for_the_proof(tmp_path, stage):
    trainer_settings = {"first validation": {"num_sanity_val_steps": 0}, "dry run": {"fast_dev_run": 1}}.get(stage, {})
    trainer, module = make_trainer(tmp_path, evaluation(every_n_epochs=9), max_epochs=9, **trainer_settings), Inside()
    run, loaders = (trainer.test, 1) if stage == "test" else (trainer.fit, 2)
    with pytest.raises(ValueError, match=LINE):
        run(module, *[loader(TinyScenes())] * loaders)
    assert trainer.global_step == {"first validation": 3, "dry run": 1}.get(stage, 0)


def test_a_training_without_a_validation_is_compared_at_its_end(tmp_path):
    robust = evaluation(network=wrapped)
    settings = {"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}
    make_trainer(tmp_path, robust, **settings).fit(Module(), datamodule=Data())
    assert len(robust.history) == 1
    with pytest.raises(ValueError, match=LINE):
        make_trainer(tmp_path, evaluation(), **settings).fit(Module(), datamodule=Data())


def test_who_is_sure_can_leave_the_comparison_out(tmp_path):
    trainer = validate(tmp_path, Teacher(), network="teacher", compare_with_validation=False)
    assert "val/fgsm/miou_at_4" in trainer.callback_metrics


class Data(LightningDataModule):
    """Normalises in its own hook, as torchgeo does."""

    def train_dataloader(self):
        return loader(TinyScenes())

    val_dataloader = train_dataloader

    def on_after_batch_transfer(self, batch, dataloader_idx):
        if self.trainer.training:
            return batch
        return {**batch, "image": normalise(batch["image"])}


def test_hooks_of_the_data_module_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"Data.on_after_batch_transfer may be where.*" + LINE):
        make_trainer(tmp_path, evaluation()).validate(Module(), datamodule=Data(), verbose=False)
    trainer = make_trainer(tmp_path, evaluation(network=wrapped))
    trainer.validate(Module(), datamodule=Data(), verbose=False)
    assert "val/fgsm/miou_at_4" in trainer.callback_metrics


def test_the_module_itself_can_be_the_network_of_a_run_directory(tmp_path):
    robust = evaluation(network=lambda module: module)
    trainer = make_trainer(tmp_path, robust, logger=CSVLogger(tmp_path, name="", version=""), max_epochs=2)
    trainer.fit(Inside(), loader(TinyScenes()), loader(TinyScenes()))
    assert len(robust.history) == 2


class Needs2(Module):
    def validation_step(self, batch, batch_idx):
        first, _ = batch["image"]
        self.model(first[None])


def test_a_step_that_fails_on_one_sample_is_named(tmp_path):
    with pytest.raises(
        ValueError, match=r"validation_step of Needs2 fails on a batch of one sample.*not enough values"
    ):
        validate(tmp_path, Needs2())


class Tuples(Module):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        images, masks = batch
        self.log("loss", cross_entropy(self.model(images), masks, ignore_index=-1))


class Zipped(Module):
    def validation_step(self, batch, batch_idx):
        self.model(batch["a"][0])
        self.model(batch["b"][0])


@pytest.mark.parametrize("loaders", ["one", "two", "zipped"])
def test_loaders_of_tuples_one_after_the_other_and_together(tmp_path, loaders):
    one, two = loader(TinyPairs(4)), loader(TinyPairs(3))
    data = {"one": one, "two": [one, two], "zipped": CombinedLoader({"a": one, "b": two}, "max_size_cycle")}[loaders]
    settings = {"image": 0, "mask": 1, "ignore_index": -1, "max_images": None}
    trainer = validate(tmp_path, (Zipped if loaders == "zipped" else Tuples)(), data=data, **settings)
    assert "val/fgsm/miou_at_4" in trainer.callback_metrics


def test_constants_are_found_as_they_were_written():
    images = torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    assert find_constants(images, normalise(images)) == (MEAN, STD)
    assert find_constants(images, 2 * images - 1) == ((0.5,) * 3, (0.5,) * 3)
    assert find_constants(images, 1 - images) is None
    assert find_constants(torch.full((1, 3, 4, 4), 0.2), images[..., :4, :4]) is None
