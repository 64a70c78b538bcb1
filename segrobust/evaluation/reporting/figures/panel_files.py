"""Panels of a run, made from its records and its stored adversarial images."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from segrobust.attacks.targets import TargetMaps
from segrobust.evaluation.dataset import LoadedSample, SampleSource, label_space_of, load_sample, target_maps
from segrobust.evaluation.forward import device_of, precision_of
from segrobust.evaluation.plan import Job, Plan, Radius
from segrobust.evaluation.reporting.figures.panels import compose, panel_title, plain_label_space
from segrobust.evaluation.reporting.figures.tiles import Tile, Tiles, make_tiles
from segrobust.evaluation.run.adversarial_images import AdversarialStore
from segrobust.evaluation.run.records import Key, Record, read_records
from segrobust.evaluation.run.run_directory import RunDirectory
from segrobust.evaluation.run.strict_json import write_json
from segrobust.functional.modes import attackable

PANEL_SCHEMA: Final = 1
TILES: Final = "tiles"
"""Folder in that of the panels."""

_WIDEST: Final = 640
_LOSSY: Final = {"image", "adversarial", "perturbation"}
_QUALITY: Final = 88


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
    record or a stored adversarial image has no panel: its attack raised an error, or was skipped.

    Returns:
        The panels.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.panels.mkdir(exist_ok=True)
    records = {record.key: record for record in read_records(directory.path)}
    written = []
    for sample_id in sample_ids:
        found = [job for job in plan.jobs if _is_kept(records, store, job, sample_id)]
        if not found:
            continue
        sample = load_sample(dataset, sample_id)
        before = _prediction(network, sample.image)
        maps = _target_maps(network, dataset, plan, sample, ignore_index)
        for job in found:
            record = records[sample_id, job.digest, _shown_radius(job)]
            adv = store.load(job.digest, _shown_radius(job), sample_id)
            space = label_space_of(dataset) or plain_label_space(len(record.tp), ignore_index)
            tiles = make_tiles(sample.image, adv, sample.mask, before, _prediction(network, adv), space, maps)
            path = directory.panels / f"{sample_id:06d}-{job.name}.png"
            compose(tiles, panel_title(record)).save(path)
            if tiles_too:
                _write_tiles(tiles, record, directory.panels / TILES / path.stem)
            written.append(path)
    return tuple(written)


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


def _is_kept(records: Mapping[Key, Record], store: AdversarialStore, job: Job, sample_id: int) -> bool:
    eps = _shown_radius(job)
    return (sample_id, job.digest, eps) in records and store.path(job.digest, eps, sample_id).exists()


def _write_tiles(tiles: Tiles, record: Record, folder: Path) -> None:
    """Writes tiles small enough for a page; the colours of class maps are stored exactly."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = tiles.tiles[0].pixels.shape[:2]
    scale = min(1.0, _WIDEST / width)
    size = (round(width * scale), max(1, round(height * scale)))
    for tile in tiles.tiles:
        _save(tile, size, folder / f"{tile.name}.webp")
    write_json(folder / "panel.json", _describe(tiles, record, size))


def _describe(tiles: Tiles, record: Record, size: tuple[int, int]) -> dict[str, object]:
    """The content of `panel.json`, which describes the tiles beside it: values of the record, and those of the tiles.

    `job` is the name of the attack, `digest` that of its identity, `eps` its radius or "min", `norm` that of the
    perturbation in image units, `factor` that by which the perturbation is amplified, `size` width and height in
    pixels, and `legend` the names and colours.
    """
    names = ("sample_id", "sample_name", "digest", "norm", "success", "apsr", "clean_apsr")
    return {
        **{name: getattr(record, name) for name in names},
        "job": record.attack,
        "norm_name": record.norm_name or "linf",
        "eps": "min" if record.eps is None else record.eps,
        "factor": tiles.factor,
        "size": size,
        "legend": tiles.legend,
        "schema": PANEL_SCHEMA,
    }


def _save(tile: Tile, size: tuple[int, int], path: Path) -> None:
    picture = tile.resized(size)
    if tile.name in _LOSSY:
        picture.save(path, quality=_QUALITY, method=4)
    else:
        picture.save(path, lossless=True, method=4)


def _prediction(network: nn.Module, image: Tensor) -> Tensor:
    """Classes `(H, W)` that are predicted for one image."""
    with attackable(network), torch.no_grad():
        logits: Tensor = network(image[None].to(device_of(network), precision_of(network)))
    return logits.argmax(1)[0]
