"""Projects made of torchgeo, segmentation-models-pytorch and transformers, as their documentation shows it.

Each library is imported by the function that uses it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from callbacks.strangers import MEAN, STD, Counts, Habit, Habits, Project, Scenes, Transformed, loader, normalize, teach
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from segrobust.networks import FullResolution
from segrobust.networks.normalized import IMAGENET_MEAN, IMAGENET_STD

BYTES = {"image": lambda sample: sample["image"] / 255}
"""The image of a sample whose values are those of the file."""


class Watched(Callback):
    """Counts what a module that keeps no counts of its own gets right: the output of its last call, and the masks."""

    def setup(self, trainer, pl_module, stage):
        pl_module.register_forward_hook(lambda module, inputs, output: setattr(self, "logits", output))

    def on_validation_epoch_start(self, trainer, pl_module):
        pl_module.counts = Counts()

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        pl_module.counts.add(self.logits, batch["mask"] if isinstance(batch, Mapping) else batch[1])


def torchgeo_task(function: Any = normalize) -> LightningModule:
    from torchgeo.trainers import SemanticSegmentationTask

    torch.manual_seed(0)
    task = SemanticSegmentationTask(model="fcn", num_classes=3, num_filters=8, ignore_index=255, lr=0.001)
    teach(task.model, function)
    return task


def torchgeo_scenes(scale: int, mean: Any, std: Any) -> Any:
    """A data module of pictures whose values lie between 0 and `scale`, which normalises after the transfer."""
    from torchgeo.datamodules import NonGeoDataModule
    from torchgeo.datasets import NonGeoDataset

    class Pictures(NonGeoDataset):
        def __init__(self, split: str) -> None:
            self.scenes = Scenes(6, seed={"train": 7, "val": 0}[split])

        def __len__(self) -> int:
            return len(self.scenes)

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            sample = self.scenes[index]
            return {"image": sample["image"] * scale, "mask": sample["mask"]}

    class PicturesData(NonGeoDataModule):
        pass

    PicturesData.mean, PicturesData.std = torch.tensor(mean), torch.tensor(std)
    return PicturesData(Pictures, batch_size=2)


def write_rasters(folder: Path, size: int) -> None:
    """Images and masks of 96 x 96 pixels, side by side on the map, as GeoTIFF."""
    import rasterio
    from rasterio.transform import from_origin

    scenes = Scenes(12 * size, seed=size)
    for number in range(size):
        part = slice(12 * number, 12 * number + 12)
        image = torch.cat([torch.cat(list(row), 2) for row in scenes.images[part].split(3)], 1)
        mask = torch.cat([torch.cat(list(row), 1) for row in scenes.masks[part].split(3)], 0)
        for kind, values in (("images", (image * 255).round()), ("masks", mask[None])):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            count, height, width = values.shape
            shape = {"count": count, "height": height, "width": width, "dtype": "uint8"}
            place = {"crs": "EPSG:32633", "transform": from_origin(500_000 + 96 * number, 5_000_000, 1, 1)}
            with rasterio.open(folder / kind / f"tile{number}.tif", "w", driver="GTiff", **shape, **place) as file:
                file.write(values.byte().numpy())


def torchgeo_rasters(root: Path) -> Any:
    """A data module of GeoTIFFs, which a sampler cuts into patches of 48 x 48 pixels."""
    from torchgeo.datamodules import GeoDataModule
    from torchgeo.datasets import IntersectionDataset, RasterDataset
    from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

    class Images(RasterDataset):
        filename_glob = "tile*.tif"

    class Masks(RasterDataset):
        filename_glob = "tile*.tif"
        is_image = False

    class Tiles(GeoDataModule):
        def __init__(self) -> None:
            super().__init__(IntersectionDataset, batch_size=3, patch_size=48)

        def setup(self, stage: str) -> None:
            self.train_dataset, self.val_dataset = (
                Images(root / split / "images") & Masks(root / split / "masks") for split in ("train", "val")
            )
            self.train_sampler = RandomGeoSampler(self.train_dataset, self.patch_size, length=12)
            self.val_sampler = GridGeoSampler(self.val_dataset, self.patch_size, stride=48)

    write_rasters(root / "train", 1)
    write_rasters(root / "val", 2)
    return Tiles()


def documented_smp_module() -> LightningModule:
    """A module as the library's example for several classes has it: `forward` normalises as the encoder asks."""
    import segmentation_models_pytorch as smp

    class CamVidModel(LightningModule):
        def __init__(self, arch: str, encoder_name: str, in_channels: int, out_classes: int, **kwargs: Any) -> None:
            super().__init__()
            self.model = smp.create_model(
                arch, encoder_name=encoder_name, in_channels=in_channels, classes=out_classes, **kwargs
            )
            params = smp.encoders.get_preprocessing_params(encoder_name)
            self.number_of_classes = out_classes
            self.register_buffer("std", torch.tensor(params["std"]).view(1, 3, 1, 1))
            self.register_buffer("mean", torch.tensor(params["mean"]).view(1, 3, 1, 1))
            self.loss_fn = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True)
            self.stats: list[tuple[Tensor, ...]] = []

        def forward(self, image: Tensor) -> Tensor:
            return self.model((image - self.mean) / self.std)

        def shared_step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
            image, mask = batch
            logits = self(image)
            stats = smp.metrics.get_stats(logits.argmax(1), mask, mode="multiclass", num_classes=self.number_of_classes)
            return self.loss_fn(logits, mask), stats

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return self.shared_step(batch)[0]

        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self.stats.append(self.shared_step(batch)[1])

        def on_validation_epoch_end(self) -> None:
            stats = [torch.cat(parts) for parts in zip(*self.stats, strict=True)]
            self.log("valid_dataset_iou", smp.metrics.iou_score(*stats, reduction="micro"))
            self.stats.clear()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.001)

    torch.manual_seed(0)
    small = {"encoder_weights": None, "encoder_depth": 3, "decoder_channels": (16, 8, 8)}
    module = CamVidModel("Unet", "tu-resnet10t", in_channels=3, out_classes=3, **small)
    teach(module.model, steps=25)
    return module


def smp_data() -> Any:
    return loader(Transformed(lambda sample: (sample["image"], sample["mask"].clamp(max=2))))


class SegFormerModule(Project):
    """A usual module around SegFormer, whose batches are its arguments."""

    def __init__(self, function: Any = normalize) -> None:
        from transformers import SegformerConfig, SegformerForSemanticSegmentation

        torch.manual_seed(0)
        config = SegformerConfig(
            depths=[1, 1, 1, 1],
            hidden_sizes=[8, 8, 16, 16],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
            sr_ratios=[4, 2, 1, 1],
            num_labels=3,
            semantic_loss_ignore_index=255,
        )
        super().__init__(SegformerForSemanticSegmentation(config))
        teach(FullResolution(self.model), function)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.model(**batch).loss
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        outputs = self.model(pixel_values=batch["pixel_values"], labels=batch["labels"])
        labels = batch["labels"]
        logits = nn.functional.interpolate(outputs.logits, labels.shape[-2:], mode="bilinear", align_corners=False)
        self.counts.add(logits, labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.001)


def processed(do_normalize: bool) -> Any:
    """Samples as the library's image processor makes them."""
    from transformers import SegformerImageProcessor

    processor = SegformerImageProcessor(do_resize=False, do_normalize=do_normalize, do_reduce_labels=False)

    def process(sample: Mapping[str, Any]) -> dict[str, Tensor]:
        image = (sample["image"] * 255).round().byte()
        encoded = processor(image, sample["mask"], return_tensors="pt")
        return {name: values[0] for name, values in encoded.items()}

    return loader(Transformed(process))


HABITS = Habits()


def identity(images: Tensor) -> Tensor:
    return images


@HABITS.add
def torchgeo_with_the_values_of_files(root):
    data = torchgeo_scenes(255, 0, 255)  # torchgeo's default
    return Habit(module=torchgeo_task(identity), data=data, before=(Watched(),), evaluation=BYTES)


@HABITS.add
def torchgeo_that_normalizes(root):
    data = torchgeo_scenes(1, IMAGENET_MEAN, IMAGENET_STD)
    return Habit(module=torchgeo_task(), data=data, before=(Watched(),))


@HABITS.add
def torchgeo_that_normalizes_the_values_of_files(root):
    data = torchgeo_scenes(255, *([255 * value for value in values] for values in (IMAGENET_MEAN, IMAGENET_STD)))
    return Habit(module=torchgeo_task(), data=data, before=(Watched(),), evaluation=BYTES)


@HABITS.add
def torchgeo_with_a_grid_of_patches(root):
    data = torchgeo_rasters(root)
    return Habit(module=torchgeo_task(identity), data=data, before=(Watched(),), evaluation=BYTES)


@HABITS.add
def smp_as_documented(root):
    module = documented_smp_module()
    return Habit(module=module, val=smp_data(), before=(Watched(),), evaluation={"image": 0, "mask": 1})


PIXELS = {"image": "pixel_values", "mask": "labels"}


def in_image_units(sample: Mapping[str, Tensor]) -> Tensor:
    return sample["pixel_values"] * STD + MEAN


@HABITS.add
def segformer_without_a_wrapper(root):
    return Habit(module=SegFormerModule(identity), val=processed(do_normalize=False), evaluation=PIXELS)


@HABITS.add
def segformer_that_normalizes_samples(root):
    return Habit(module=SegFormerModule(), val=processed(do_normalize=True), evaluation=PIXELS)


@HABITS.add
def segformer_whose_samples_are_put_into_image_units(root):
    wrapped = {"image": in_image_units, "network": lambda module: FullResolution(module.model)}
    return Habit(module=SegFormerModule(), val=processed(do_normalize=True), evaluation=PIXELS | wrapped)
