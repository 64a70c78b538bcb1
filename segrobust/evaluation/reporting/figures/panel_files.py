"""Panels of a run, made from its records and its stored adversarial images."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Final, Self

import torch
from PIL import Image
from torch import Tensor, nn

from segrobust.attacks.targets import TargetMaps
from segrobust.evaluation.dataset import (
    LoadedSample,
    SampleSource,
    bands_of,
    label_space_of,
    load_sample,
    name_of,
    target_maps,
    value_range_of,
)
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.plan import Job, Plan, Radius
from segrobust.evaluation.reporting.figures.panels import compose, panel_title, plain_label_space
from segrobust.evaluation.reporting.figures.picture_faults import warned
from segrobust.evaluation.reporting.figures.tiles import Tiles, make_tiles
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.records import Key, Record, read_radius, read_records
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import read_document, write_json
from segrobust.evaluation.signs import give_sign
from segrobust.functional.modes import attackable
from segrobust.functional.norms import NormName
from segrobust.label_space import Color
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.fields import boolean, list_of, number, one_of, read_fields, text, token, whole
from segrobust.untrusted.printable import shortened
from segrobust.untrusted.regular_files import replace_file

PANEL_SCHEMA: Final = 1
TILES: Final = "tiles"
"""Folder in that of the panels."""

_WIDEST: Final = 640
_LOSSY: Final = {"image", "adversarial", "perturbation"}
_QUALITY: Final = 88


@dataclass(frozen=True, kw_only=True)
class PanelInfo:
    """The content of `panels/tiles/<sample id>-<job>/panel.json`, which describes the tiles beside it.

    Attributes:
        sample_id: position of the image in the data set.
        sample_name: its name there.
        job: name of the attack.
        digest: of the attack's identity.
        norm_name: norm of the attack.
        eps: radius, or "min".
        norm: of the perturbation, image units.
        success: whether the criterion is met.
        apsr: share of broken pixels.
        clean_apsr: the same without attack.
        factor: by which the perturbation is amplified.
        size: width and height of the tiles in pixels.
        legend: names and colours.
        schema: version of this format.
    """

    sample_id: int
    sample_name: str
    job: str
    digest: str
    norm_name: NormName
    eps: Radius
    norm: float
    success: bool
    apsr: float
    clean_apsr: float
    factor: int
    size: tuple[int, int]
    legend: tuple[tuple[str, Color], ...]
    schema: int = PANEL_SCHEMA

    @classmethod
    def read(cls, path: Path, root: Path) -> Self:
        """The content of a file.

        Args:
            path: of the file.
            root: the run directory, from which on no link is followed.

        Raises:
            DataFault: it is damaged, or of another schema.
            OSError: it cannot be read.
        """
        try:
            return cls(**read_fields(read_document(path, "a description of tiles", root=root), _READERS))
        except DataFault:
            raise
        except ValueError as error:
            raise DataFault(f"{path} is damaged: {error}; delete {path.parent} and run the evaluation again") from error


def _read_legend(value: object) -> tuple[str, Color]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"must be a name and a colour, got {shortened(value)}")
    name: str = text()(value[0])
    color: Color = list_of(whole(0, 255), least=3, most=3)(value[1])
    return name, color


_READERS: Final = {
    "sample_id": whole(),
    "sample_name": text(),
    "job": text(),
    "digest": token,
    "norm_name": one_of("linf", "l2", "l1"),
    "eps": read_radius,
    "norm": number(0, named=("inf",)),
    "success": boolean,
    "apsr": number(0, 1, named=("nan",)),
    "clean_apsr": number(0, 1, named=("nan",)),
    "factor": whole(),
    "size": list_of(whole(1, 2**16), least=2, most=2),
    "legend": list_of(_read_legend),
    "schema": whole(PANEL_SCHEMA, PANEL_SCHEMA),
}


def write_panels(
    network: nn.Module,
    dataset: SampleSource,
    plan: Plan,
    directory: RunDirectory,
    store: AdversarialStore,
    sample_ids: Iterable[int],
    ignore_index: int,
    *,
    tiles_too: bool = True,
) -> tuple[Path, ...]:
    """Draws one panel per image and job as `panels/<sample id>-<job>.png`; fixed budgets at their largest radius.

    The tiles of each are written to `panels/tiles/<sample id>-<job>/` for the page, if requested. An image without a
    record or a stored adversarial image has no panel: its attack raised an error, or was skipped. A fault in drawing is
    a `PictureWarning` that names the sample.

    Returns:
        The panels.
    """
    records = {record.key: record for record in read_records(directory.path)}
    artist = _Artist(network, dataset, plan, directory, store, ignore_index, tiles_too)
    written: list[Path] = []
    for sample_id in sample_ids:
        found = {job: records[key] for job in plan.jobs if (key := _kept(store, job, sample_id)) in records}
        if found:
            with warned(f"panels of image {sample_id} ({name_of(dataset, sample_id)})"):
                written += artist.draw(sample_id, found)
    return tuple(written)


@dataclass(frozen=True)
class _Artist:
    """Draws the panels of single images."""

    network: nn.Module
    dataset: SampleSource
    plan: Plan
    directory: RunDirectory
    store: AdversarialStore
    ignore_index: int
    tiles_too: bool

    def draw(self, sample_id: int, found: Mapping[Job, Record]) -> Iterator[Path]:
        """Writes the panels of an image, and gives each as soon as it exists."""
        network, dataset = self.network, self.dataset
        sample = load_sample(dataset, sample_id)
        before = _prediction(network, sample.image)
        maps = _target_maps(network, dataset, self.plan, sample, self.ignore_index)
        for job, record in found.items():
            adv = self.store.load(job.digest, _shown_radius(job), sample_id, sample.image.shape)
            tiles = make_tiles(
                sample.image,
                adv,
                sample.mask,
                before,
                _prediction(network, adv),
                label_space_of(dataset) or plain_label_space(len(record.tp), self.ignore_index),
                maps,
                bands=bands_of(dataset),
                stretched=value_range_of(dataset) is not None,
            )
            path, root = self.directory.panels / f"{sample_id:06d}-{job.name}.png", self.directory.path
            content = _encoded(compose(tiles, panel_title(record, value_range_of(dataset))), "PNG")
            replace_file(path, content, root=root)
            if self.tiles_too:
                _write_tiles(tiles, record, self.directory.panels / TILES / path.stem, root)
            yield path


def _target_maps(
    network: nn.Module, dataset: SampleSource, plan: Plan, sample: LoadedSample, ignore_index: int
) -> TargetMaps | None:
    """The targets of one image, `(H, W)`; None if the plan has none."""
    if plan.targets is None:
        return None
    images = sample.image[None].to(device_of(network), precision_of(network))
    masks = sample.mask[None].to(images.device)
    maps = target_maps(plan.targets, network, dataset, (sample.sample_id,), images, masks, ignore_index)
    return TargetMaps(maps.targets[0], None if maps.keep_mask is None else maps.keep_mask[0], maps.targeted)


def _shown_radius(job: Job) -> Radius:
    return "min" if job.attack.minimal_norm else max(job.radii)


def _kept(store: AdversarialStore, job: Job, sample_id: int) -> Key | None:
    """The key of the record whose adversarial image is shown; None if the image is not stored."""
    eps = _shown_radius(job)
    return (sample_id, job.digest, eps) if store.path(job.digest, eps, sample_id).exists() else None


def _write_tiles(tiles: Tiles, record: Record, folder: Path, root: Path) -> None:
    """Writes tiles small enough for a page; the colours of class maps are stored exactly."""
    height, width = tiles.tiles[0].pixels.shape[:2]
    scale = min(1.0, _WIDEST / width)
    size = (round(width * scale), max(1, round(height * scale)))
    for tile in tiles.tiles:
        options = {"quality": _QUALITY} if tile.name in _LOSSY else {"lossless": True}
        content = _encoded(tile.resized(size), "WEBP", method=4, **options)
        replace_file(folder / f"{tile.name}.webp", content, root=root)
    info = PanelInfo(
        sample_id=record.sample_id,
        sample_name=record.sample_name,
        job=record.attack,
        digest=record.digest,
        norm_name=record.norm_name or "linf",
        eps="min" if record.eps is None else record.eps,
        norm=record.norm,
        success=record.success,
        apsr=record.apsr,
        clean_apsr=record.clean_apsr,
        factor=tiles.factor,
        size=size,
        legend=tiles.legend,
    )
    write_json(folder / "panel.json", asdict(info), root=root)


def _encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    content = BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def _prediction(network: nn.Module, image: Tensor) -> Tensor:
    """Classes `(H, W)` that are predicted for one image."""
    with attackable(network), torch.no_grad():
        logits: Tensor = network(image[None].to(device_of(network), precision_of(network), copy=True))
    give_sign()
    return logits.argmax(1)[0]
