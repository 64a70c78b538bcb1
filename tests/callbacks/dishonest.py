"""Projects whose evaluation, set up as an example invites, would measure something else than their validation."""

from typing import Any

import torch
from callbacks.strangers import (
    MEAN,
    STD,
    Habit,
    Habits,
    Project,
    Scenes,
    Transformed,
    loader,
    normalize,
    trained,
    whole,
)
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import nn
from torch.utils.data import BatchSampler, Dataset, SubsetRandomSampler, default_collate
from torchvision.transforms import v2

from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD

HABITS = Habits()


@HABITS.add
def forward_normalizes():
    class Normalizes(Project):
        def forward(self, images):
            return self.model((images - MEAN) / STD)

    return Habit(module=Normalizes(trained()))


@HABITS.add
def step_normalizes():
    class Normalizes(Project):
        def unpack(self, batch):
            return v2.functional.normalize(batch["image"], IMAGENET_MEAN, IMAGENET_STD), batch["mask"]

    return Habit(module=Normalizes(trained()))


@HABITS.add
def module_normalizes_after_the_transfer():
    class Normalizes(Project):
        def __init__(self):
            super().__init__(trained())
            self.transform = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch | {"image": self.transform(batch["image"])}

    return Habit(module=Normalizes())


class NormalizingData(LightningDataModule):
    def __init__(self, hook: str) -> None:
        super().__init__()
        self.transform = v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)
        setattr(self, hook, lambda batch, dataloader_idx: batch | {"image": self.transform(batch["image"])})

    def train_dataloader(self):
        return loader(Scenes())

    def val_dataloader(self):
        return loader(Scenes())


@HABITS.add
def data_module_normalizes_before_the_transfer():
    return Habit(module=Project(trained()), data=NormalizingData("on_before_batch_transfer"))


@HABITS.add
def data_module_normalizes_after_the_transfer():
    return Habit(module=Project(trained()), data=NormalizingData("on_after_batch_transfer"))


@HABITS.add
def collate_function_normalizes():
    def collate(samples):
        batch = default_collate(samples)
        return batch | {"image": normalize(batch["image"])}

    return Habit(module=Project(trained()), val=loader(Scenes(), collate_fn=collate))


@HABITS.add
def hook_of_a_layer_normalizes():
    class Hooked(Project):
        def __init__(self):
            super().__init__(trained())

        def on_validation_epoch_start(self):
            super().on_validation_epoch_start()
            self.hook = self.model.register_forward_pre_hook(lambda layer, inputs: (normalize(inputs[0]),))

        def on_validation_epoch_end(self):
            self.hook.remove()

    return Habit(module=Hooked())


@HABITS.add
def split_in_the_sampler():
    return Habit(module=Project(), val=loader(Scenes(16), sampler=SubsetRandomSampler(range(8, 16))))


@HABITS.add
def split_in_the_batch_sampler():
    batches = BatchSampler(range(8, 16), 2, drop_last=False)
    return Habit(module=Project(), val=loader(Scenes(16), batch_size=1, batch_sampler=batches))


class OtherWeights(Callback):
    """Validates weights that are not those of the training, as averages of other libraries are."""

    def on_validation_start(self, trainer, pl_module):
        self.kept = {name: value.clone() for name, value in pl_module.state_dict().items()}
        pl_module.load_state_dict({name: 0.7 * value for name, value in self.kept.items()})

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.load_state_dict(self.kept)


@HABITS.add
def weights_taken_out_before_the_attack():
    return Habit(module=Project(), before=(OtherWeights(),))


@HABITS.add
def weights_taken_out_by_the_module():
    class Swaps(Project):
        def on_validation_epoch_start(self):
            super().on_validation_epoch_start()
            OtherWeights.on_validation_start(self, None, self)

        def on_validation_epoch_end(self):
            self.load_state_dict(self.kept)

    return Habit(module=Swaps())


@HABITS.add
def another_network_is_validated():
    class Teacher(Project):
        def __init__(self):
            super().__init__()
            self.teacher = whole()
            self.teacher[1].weight.data *= 0.5

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            images, masks = self.unpack(batch)
            self.counts.add(self.teacher(images), masks)

    return Habit(module=Teacher())


@HABITS.add
def red_and_blue_swapped_in_the_step():
    class Swaps(Project):
        def unpack(self, batch):
            return batch["image"].flip(1), batch["mask"]

    return Habit(module=Swaps())


@HABITS.add
def step_multiplies_by_255():
    class Multiplies(Project):
        def forward(self, images):
            return self.model(images * 255)

    layers = trained()
    layers[0].weight.data /= 255
    return Habit(module=Multiplies(layers))


@HABITS.add
def step_inverts_images_of_the_second_loader():
    class ByNumber(Project):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            image = 1 - batch["image"] if dataloader_idx else batch["image"]
            super().validation_step({**batch, "image": image}, batch_idx)

    return Habit(module=ByNumber(), val=[loader(Scenes(7)), loader(Scenes(1, seed=2))])


@HABITS.add
def the_shortest_loader_ends_the_validation():
    class Together(Project):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            for part in batch:
                super().validation_step(part, batch_idx)

    loaders = [loader(Scenes(2)), loader(Scenes(6, seed=2))]
    return Habit(module=Together(), val=CombinedLoader(loaders, "min_size"))


@HABITS.add
def step_resizes():
    class Resizes(Project):
        def forward(self, images):
            small = nn.functional.interpolate(images, size=(16, 20), mode="bilinear")
            return nn.functional.interpolate(self.model(small), size=images.shape[-2:], mode="bilinear")

    return Habit(module=Resizes())


@HABITS.add
def step_crops():
    class Crops(Project):
        def unpack(self, batch):
            return batch["image"][..., 4:20, 8:24], batch["mask"][..., 4:20, 8:24]

    return Habit(module=Crops())


@HABITS.add
def data_module_crops_after_the_transfer():
    class Crops(Project):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return {name: batch[name][..., 4:20, 8:24] for name in ("image", "mask")}

    return Habit(module=Crops())


@HABITS.add
def gamma_in_the_step():
    class Gamma(Project):
        def forward(self, images):
            return self.model(images**1.5)

    return Habit(module=Gamma())


@HABITS.add
def each_image_is_standardized():
    class Standardizes(Project):
        def forward(self, images):
            mean, std = (f(images, dim=(1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
            return self.model((images - mean) / std)

    return Habit(module=Standardizes(trained()))


@HABITS.add
def sum_of_two_networks():
    class Sums(Project):
        def __init__(self):
            super().__init__()
            self.other = whole()
            self.other[1].weight.data *= 0.5

        def forward(self, images):
            return self.model(images) + self.other(images)

    return Habit(module=Sums())


@HABITS.add
def head_outside_of_the_network():
    class Head(Project):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(3, 3, 1)

        def forward(self, images):
            return self.head(self.model(images))

    return Habit(module=Head())


@HABITS.add
def logits_shifted_after_the_network():
    class Shifts(Project):
        prior = torch.tensor([0.0, 1.5, 0.0]).view(3, 1, 1)

        def forward(self, images):
            return self.model(images) + self.prior

    return Habit(module=Shifts())


@HABITS.add
def dropout_in_the_validation():
    class Drops(Project):
        def on_validation_model_eval(self):
            super().on_validation_model_eval()
            self.model[4].train()

    return Habit(module=Drops())


@HABITS.add
def batch_statistics_in_the_validation():
    class Adapts(Project):
        def on_validation_model_eval(self):
            """Leaves the module in training mode."""

    return Habit(module=Adapts())


@HABITS.add
def masks_mapped_after_the_transfer():
    class Maps(Project):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            masks = batch["mask"]
            return batch | {"mask": torch.where(masks == 255, masks, (masks + 1) % 3)}

    layers = whole()
    for values in (layers[-1].weight.data, layers[-1].bias.data):
        values.copy_(values.roll(1, 0).clone())
    return Habit(module=Maps(layers))


@HABITS.add
def a_class_becomes_void_after_the_transfer():
    class Ignores(Project):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch | {"mask": batch["mask"].masked_fill(batch["mask"] == 0, 255)}

    return Habit(module=Ignores())


@HABITS.add
def another_image_than_the_network_sees():
    scenes = Transformed(lambda sample: sample | {"preview": (sample["image"] * 0.8 + 0.1)})
    return Habit(module=Project(), val=loader(scenes), evaluation={"image": "preview"})


class RandomBrightness(Dataset[Any]):
    """Gives another image whenever it is read, as an augmentation that was left in does."""

    def __init__(self) -> None:
        self.scenes = Scenes()

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> Any:
        sample = self.scenes[index]
        return sample | {"image": (sample["image"] * (0.5 + 0.5 * torch.rand(1))).clamp(0, 1)}


@HABITS.add
def augmentation_left_in():
    return Habit(module=Project(), val=loader(RandomBrightness()))
