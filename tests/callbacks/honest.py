"""Projects of different habits, whose evaluation is set up rightly."""

import functools
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from callbacks.strangers import (
    Habit,
    Habits,
    NormalizeFirst,
    Pairs,
    Project,
    Scenes,
    Transformed,
    loader,
    normalize,
    trained,
    whole,
)
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, SequentialSampler, Subset, SubsetRandomSampler
from torchvision.transforms import v2

from segrobust.callbacks import WeightEMA
from segrobust.networks import FullResolution, Normalized, SlidingWindow
from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD

HABITS = Habits()


@HABITS.add
def mappings():
    return Habit(module=Project())


@HABITS.add
def tuples():
    pairs = Transformed(lambda sample: (sample["image"], sample["mask"]))
    return Habit(module=Pairs(), val=loader(pairs), evaluation={"image": 0, "mask": 1})


class Scene(NamedTuple):
    image: Tensor
    mask: Tensor


@HABITS.add
def named_tuples():
    scenes = Transformed(lambda sample: Scene(sample["image"], sample["mask"]))
    entries = {"image": lambda scene: scene.image, "mask": lambda scene: scene.mask}
    return Habit(module=Pairs(), val=loader(scenes), evaluation=entries)


@dataclass
class Item:
    image: Tensor
    mask: Tensor


def stack(items: list[Item]) -> dict[str, Tensor]:
    return {name: torch.stack([getattr(item, name) for item in items]) for name in ("image", "mask")}


@HABITS.add
def dataclasses_and_a_collate_function():
    items = Transformed(lambda sample: Item(sample["image"], sample["mask"]))
    entries = {"image": lambda item: item.image, "mask": lambda item: item.mask}
    return Habit(module=Project(), val=loader(items, collate_fn=stack), evaluation=entries)


@HABITS.add
def other_names_and_a_nested_place():
    class Nested(Pairs):
        def __init__(self):
            super().__init__(nn.ModuleDict({"segmenter": whole()}))

        def forward(self, images):
            return self.model["segmenter"](images)

        def unpack(self, batch):
            return batch["pixels"], batch["classes"]

    scenes = Transformed(lambda sample: {"pixels": sample["image"], "classes": sample["mask"], "name": "a"})
    entries = {"network": "model.segmenter", "image": "pixels", "mask": "classes"}
    return Habit(module=Nested(), val=loader(scenes), evaluation=entries)


def part(module: Any, name: str) -> nn.Module:
    found: nn.Module = getattr(module, name)
    return found


@HABITS.add
def place_by_a_partial_function():
    return Habit(module=Project(), evaluation={"network": functools.partial(part, name="model")})


class NormalizesItself(Project):
    def forward(self, images):
        return self.model(normalize(images))


@HABITS.add
def forward_normalizes_and_the_wrapper_too():
    def network(module):
        return Normalized(module.model, IMAGENET_MEAN, IMAGENET_STD)

    return Habit(module=NormalizesItself(trained()), evaluation={"network": network})


@HABITS.add
def wrapped_in_normalized():
    return Habit(module=Project(Normalized(trained())))


@HABITS.add
def data_set_normalizes_nothing_and_the_step_divides_uint8():
    class Bytes(Project):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch | {"image": batch["image"].float() / 255}

    scenes = Transformed(lambda sample: sample | {"image": (sample["image"] * 255).round().byte()})
    return Habit(module=Bytes(), val=loader(scenes), evaluation={"image": lambda sample: sample["image"].float() / 255})


class TwoHeads(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body, self.auxiliary, self.kind = whole(), nn.Conv2d(3, 3, 1), kind

    def forward(self, images):
        out, aux = self.body(images), self.auxiliary(images)
        results = {
            "mapping": {"out": out, "aux": aux},
            "object": SimpleNamespace(logits=out, hidden=None),
            "list": [aux, out],
        }
        return results[self.kind]


class UsesTwoHeads(Project):
    def forward(self, images):
        results = self.model(images)
        kinds = {"mapping": lambda: results["out"], "object": lambda: results.logits, "list": lambda: results[-1]}
        return kinds[self.model.kind]()


@HABITS.add
def network_that_returns_a_mapping():
    return Habit(
        module=UsesTwoHeads(TwoHeads("mapping")), evaluation={"network": lambda module: FullResolution(module.model)}
    )


@HABITS.add
def network_that_returns_an_object():
    return Habit(
        module=UsesTwoHeads(TwoHeads("object")), evaluation={"network": lambda module: FullResolution(module.model)}
    )


@HABITS.add
def network_with_an_auxiliary_head_first():
    place = {"network": lambda module: FullResolution(module.model, output=-1)}
    return Habit(module=UsesTwoHeads(TwoHeads("list")), evaluation=place)


@HABITS.add
def masks_with_a_channel():
    class Squeezes(Project):
        def unpack(self, batch):
            return batch["image"], batch["mask"][:, 0]

    scenes = Transformed(lambda sample: sample | {"mask": sample["mask"][None]})
    return Habit(module=Squeezes(), val=loader(scenes), evaluation={"mask": lambda sample: sample["mask"][0]})


@HABITS.add
def masks_of_one_hot_classes():
    class Chooses(Project):
        def unpack(self, batch):
            return batch["image"], batch["mask"].argmax(1)

    def one_hot(sample):
        scores = nn.functional.one_hot(sample["mask"].clamp(max=2), 3).permute(2, 0, 1)
        return sample | {"mask": scores}

    return Habit(
        module=Chooses(), val=loader(Transformed(one_hot)), evaluation={"mask": lambda sample: sample["mask"].argmax(0)}
    )


@HABITS.add
def batches_of_one():
    class Frozen(Project):
        def training_step(self, batch, batch_idx):
            self.model.eval()
            return super().training_step(batch, batch_idx)

    return Habit(module=Frozen(), val=loader(Scenes(3), batch_size=1), evaluation={"batch_size": 1})


@HABITS.add
def batches_of_four_the_last_of_two():
    return Habit(module=Project(), val=loader(Scenes(), batch_size=4), evaluation={"batch_size": 3})


@HABITS.add
def shuffled_validation():
    return Habit(module=Project(), val=loader(Scenes(), shuffle=True))


@HABITS.add
def subset():
    return Habit(module=Project(), val=loader(Subset(Scenes(12), [1, 4, 7, 10])))


@HABITS.add
def subset_by_a_sampler():
    scenes = Scenes(12)
    return Habit(module=Project(), val=loader(scenes, sampler=SubsetRandomSampler([1, 4, 7, 10])))


@HABITS.add
def batch_sampler():
    batches = BatchSampler(SequentialSampler(range(5)), 2, drop_last=False)
    return Habit(module=Project(), val=DataLoader(Scenes(12), batch_sampler=batches))


@HABITS.add
def joined_data_sets():
    return Habit(module=Project(), val=loader(ConcatDataset([Scenes(3, seed=1), Scenes(3, seed=2)])))


@HABITS.add
def several_loaders():
    return Habit(module=Project(), val=[loader(Scenes(4, seed=1)), loader(Scenes(3, seed=2))])


@HABITS.add
def part_of_the_validation():
    return Habit(module=Project(), val=loader(Scenes(9)), trainer={"limit_val_batches": 2})


@HABITS.add
def last_batch_dropped():
    return Habit(module=Project(), val=loader(Scenes(7), drop_last=True))


@HABITS.add
def loader_processes():
    return Habit(module=Project(), val=loader(Scenes(4), num_workers=1, persistent_workers=True))


@HABITS.add
def data_module():
    class Data(LightningDataModule):
        def train_dataloader(self):
            return loader(Scenes(), shuffle=True)

        def val_dataloader(self):
            return loader(Scenes(4, seed=3))

    return Habit(module=Project(), data=Data())


@HABITS.add
def augmentation_of_training_batches_on_the_device():
    class Augments(Project):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            if self.trainer.training:
                return batch | {"image": v2.ColorJitter(0.1)(batch["image"])}
            return batch

    return Habit(module=Augments())


@HABITS.add
def mixed_precision():
    return Habit(module=Project(), trainer={"precision": "bf16-mixed"})


@HABITS.add
def double_precision():
    return Habit(module=Project(), trainer={"precision": "64-true"})


@HABITS.add
def compiled():
    return Habit(module=Project(torch.compile(whole(), backend="eager")))


@HABITS.add
def compiled_task():
    return Habit(module=torch.compile(Project(), backend="eager"))


@HABITS.add
def channels_last():
    class Last(Project):
        def forward(self, images):
            return self.model(images.contiguous(memory_format=torch.channels_last))

    return Habit(module=Last(whole().to(memory_format=torch.channels_last)))


@HABITS.add
def gradient_checkpointing():
    class Saves(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = whole()

        def forward(self, images):
            return checkpoint(self.layers, images, use_reentrant=False)

    return Habit(module=Project(Saves()))


class BodyAndHead(nn.Module):
    def __init__(self):
        super().__init__()
        layers = whole()
        self.body, self.head = layers[:-1], layers[-1]

    def forward(self, images):
        return self.head(self.body(images))


@HABITS.add
def frozen_backbone():
    class Frozen(Project):
        def __init__(self):
            super().__init__(BodyAndHead())
            self.model.body.requires_grad_(False)

    return Habit(module=Frozen(), trainer={"inference_mode": False})


@HABITS.add
def network_made_in_configure_model():
    class Late(Project):
        def __init__(self):
            super().__init__(nn.Identity())

        def configure_model(self):
            self.model = whole()

    return Habit(module=Late())


@HABITS.add
def averaged_weights():
    return Habit(module=Project(), before=(WeightEMA(decay=0.5),), trainer={"max_epochs": 2})


@HABITS.add
def lightnings_averaged_weights_listed_after():
    return Habit(module=Project(), after=(EMAWeightAveraging(decay=0.5),), trainer={"max_epochs": 2})


@HABITS.add
def manual_optimisation():
    class Manual(Project):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.optimizers().zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            self.optimizers().step()

    return Habit(module=Manual())


@HABITS.add
def sliding_window():
    return Habit(module=Project(SlidingWindow(whole(), window=(16, 16))))


@HABITS.add
def padding_in_the_step_and_in_the_wrapper():
    class Pads(Project):
        def forward(self, images):
            *_, height, width = images.shape
            padded = nn.functional.pad(images, (0, -width % 20, 0, -height % 20), mode="replicate")
            return self.model(padded)[..., :height, :width]

    return Habit(module=Pads(), evaluation={"network": lambda module: FullResolution(module.model, stride=20)})


@HABITS.add
def student_with_a_teacher():
    class Distilled(Project):
        def __init__(self):
            super().__init__()
            self.teacher = whole().requires_grad_(False)

        def training_step(self, batch, batch_idx):
            images, _ = self.unpack(batch)
            return nn.functional.mse_loss(self(images), self.teacher(images))

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.teacher(self.unpack(batch)[0])
            super().validation_step(batch, batch_idx)

    return Habit(module=Distilled())


@HABITS.add
def no_sanity_check():
    return replace(mappings(), trainer={"num_sanity_val_steps": 0})


@HABITS.add
def step_that_leaves_the_sanity_check_out():
    class Skips(Project):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            if not self.trainer.sanity_checking:
                super().validation_step(batch, batch_idx)

    return Habit(module=Skips())


@HABITS.add
def validation_twice_an_epoch():
    return replace(mappings(), trainer={"val_check_interval": 0.5})


@HABITS.add
def one_channel():
    scenes = Transformed(lambda sample: sample | {"image": sample["image"][:1]})
    network = Normalized(trained(channels=1), IMAGENET_MEAN[:1], IMAGENET_STD[:1])
    return Habit(module=Project(network), val=loader(scenes))


@HABITS.add
def step_calls_the_network_and_not_forward():
    class Direct(Project):
        def forward(self, images):
            raise NotImplementedError

        def training_step(self, batch, batch_idx):
            images, masks = self.unpack(batch)
            return nn.functional.cross_entropy(self.model(images), masks, ignore_index=255)

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            images, masks = self.unpack(batch)
            self.counts.add(self.model(images), masks)

    return Habit(module=Direct())


@HABITS.add
def step_flattens_images_of_a_clip():
    class Clips(Project):
        def unpack(self, batch):
            return batch["image"].flatten(0, 1), batch["mask"].flatten(0, 1)

    def clip(sample):
        return sample | {"image": sample["image"][None], "mask": sample["mask"][None]}

    entries = {"image": lambda sample: sample["image"][0], "mask": lambda sample: sample["mask"][0]}
    return Habit(module=Clips(), val=loader(Transformed(clip)), evaluation=entries)


@HABITS.add
def network_that_begins_with_its_normalisation_layer_by_name():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.preprocess, self.layers = NormalizeFirst(), trained()

        def forward(self, images):
            return self.layers(self.preprocess(images))

    return Habit(module=Project(Named()))
