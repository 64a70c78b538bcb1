"""Targets that are image files: one for all samples, one for each, and the majority of a training set."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from scipy import ndimage
from torch import Tensor

from segrobust.attacks.targets.target_maps import Scene, TargetMaps, Targets
from segrobust.label_space import LabelSpace, parse_names
from segrobust.shipped import resolve
from segrobust.untrusted.documents import parse_json
from segrobust.untrusted.pictures import opened_picture
from segrobust.untrusted.printable import visible
from segrobust.untrusted.regular_files import read_limited

_KEY: Final = "segrobust"
"""Key of the text in a PNG file that records how the map was made."""

_LARGEST: Final = 2**28
"""Bytes of a file."""


@dataclass(frozen=True, kw_only=True)
class LabelMap(Targets):
    """Target classes from a picture of class indices.

    The picture is a grey or palette image of 8 bits, or one of 16 bits; the void value means no target. A picture of
    another size is resized by nearest neighbour. A digest of the content, not the path, identifies results.

    Args:
        path: an image for all samples, such as one by `write_label_map`, or a folder with `<sample name>.png` for each.
            `segrobust:NAME` is one that comes with the package.
    """

    path: str

    @property
    def identity(self) -> str:
        """With the digest of the content."""
        return f"LabelMap(content={digest_of(self.path)!r})"

    def maps(self, scene: Scene) -> TargetMaps:
        """See `Targets`."""
        return TargetMaps(read_maps(self.path, scene))


def digest_of(path: str | os.PathLike[str]) -> str:
    """16 hex digits of the SHA-256 of a file, or of the names and contents of the PNG files in a folder.

    Raises:
        ValueError: there is no such file, or no PNG file in the folder.
    """
    place = resolve(path)
    files = sorted(place.rglob("*.png")) if place.is_dir() else [place]
    if not files or not files[0].exists():
        raise ValueError(f"there is no label map at {place}; give an image file, or a folder with <sample name>.png")
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(place).as_posix() if place.is_dir() else ""
        digest.update(
            json.dumps([name, hashlib.sha256(read_limited(file, _LARGEST, "a label map")).hexdigest()]).encode()
        )
    return digest.hexdigest()[:16]


def read_maps(path: str | os.PathLike[str], scene: Scene) -> Tensor:
    """The map of every sample at the size of the images: `(B, H, W)` int64 on their device.

    Raises:
        ValueError: a folder for samples without names, a missing or unreadable file, a colour picture, or a map for
            other classes.
    """
    size = scene.labels.shape[1], scene.labels.shape[2]
    place = resolve(path)
    if not place.is_dir():
        found = _read(place, size, scene.label_space)
        return found.to(scene.labels.device).expand(len(scene.labels), -1, -1).clone()
    if scene.names is None:
        raise ValueError(f"{place} is a folder with a label map for each sample; give the samples' names")
    maps = [_read(place / f"{name}.png", size, scene.label_space) for name in scene.names]
    return torch.stack(maps).to(scene.labels.device)


def majority_map(
    masks: Iterable[Tensor],
    num_classes: int,
    *,
    ignore_index: int = 255,
    size: tuple[int, int] | None = None,
    smoothing: float = 0.01,
) -> Tensor:
    """The most frequent class of every position over the masks of a training set, smoothed (Rony et al., CVPR 2023).

    A Gaussian filter smooths the counts of each class, not the map, which removes classes that are the most frequent by
    chance. Ties go to the lower class, and positions without a label are void.

    Args:
        masks: `(H, W)` integers of every sample; other sizes than the first are resized with the nearest pixel.
        num_classes: K.
        ignore_index: label of void pixels.
        size: `(H, W)` of the map; None for that of the first mask.
        smoothing: standard deviation of the filter over the image's diagonal; 0 for none.

    Returns:
        `(H, W)` int64.

    Raises:
        ValueError: no mask, a foreign label, or a negative smoothing.
    """
    if smoothing < 0:
        raise ValueError(f"smoothing is a share of the diagonal, at least 0, got {smoothing}")
    counts = None
    for mask in masks:
        if counts is None:
            height, width = size or (mask.shape[0], mask.shape[1])
            counts = np.zeros((num_classes, height, width))
        classes = _resized(mask.long(), (height, width)).cpu()
        foreign = classes[((classes < 0) | (classes >= num_classes)) & (classes != ignore_index)]
        if foreign.numel():
            raise ValueError(f"masks hold {torch.unique(foreign).tolist()[:5]}, the classes are 0..{num_classes - 1}")
        for c in range(num_classes):
            counts[c] += (classes == c).numpy()
    if counts is None:
        raise ValueError("a majority needs at least one mask")
    sigma = smoothing * float(np.hypot(height, width))
    weight = np.stack([ndimage.gaussian_filter(plane, sigma) for plane in counts]) if sigma else counts
    majority = weight.argmax(0)
    majority[weight.max(0) <= 0] = ignore_index
    return torch.from_numpy(majority)


def write_label_map(
    path: str | os.PathLike[str], label_map: Tensor, *, label_space: LabelSpace | None = None, made_from: str = ""
) -> None:
    """Writes a label map as a PNG file, in the colours and with the class names of a label space.

    Args:
        path: of the file.
        label_map: `(H, W)` integers, in 0..65535; a file of 16 bits, without colours, where one is above 255.
        label_space: classes.
        made_from: its source, such as the fingerprint of a data set; stored as text in the file.

    Raises:
        ValueError: another shape or other values.
        OSError: the file cannot be written.
    """
    if label_map.dim() != 2 or label_map.min() < 0 or label_map.max() > 65535:
        raise ValueError(f"a label map is (H, W) with values in 0..65535, got {tuple(label_map.shape)}")
    is_wide = bool(label_map.max() > 255)
    picture = Image.fromarray(label_map.cpu().numpy().astype(np.uint16 if is_wide else np.uint8))
    about = {"made_from": made_from, "classes": None if label_space is None else list(label_space.names)}
    if label_space is not None:
        label_space.check(label_map)
    if label_space is not None and not is_wide:
        colors = [channel for color in label_space.palette for channel in color][:768]
        picture.putpalette(colors + [0] * (768 - len(colors)))  # all 256, or Pillow cuts large indices off
    text = PngImagePlugin.PngInfo()
    text.add_text(_KEY, json.dumps(about))
    picture.save(path, pnginfo=text)


def _read(path: Path, size: tuple[int, int], label_space: LabelSpace | None) -> Tensor:
    """One map at a size: `(H, W)` int64."""
    with opened_picture(path) as picture:
        picture.load()
        mode, about, values = picture.mode, picture.info.get(_KEY), np.array(picture)
    if mode not in ("L", "P", "1") and not mode.startswith("I"):
        raise ValueError(
            f"{path} is a picture of mode {mode}; a label map holds class indices, as grey or palette image"
        )
    classes = _classes_of(about, path)
    if label_space is not None and classes is not None and classes != label_space.names:
        raise ValueError(
            f"{path} was made for the classes {', '.join(classes)}; the data has {', '.join(label_space.names)}"
        )
    return _resized(torch.from_numpy(values.astype(np.int64)), size)


def _classes_of(about: object, path: Path) -> tuple[str, ...] | None:
    """The classes that `write_label_map` stored in a file; None if it stored none."""
    if not isinstance(about, str):
        return None
    value = parse_json(about, f"the text {_KEY!r} in {path}")
    classes = value.get("classes") if isinstance(value, dict) else None
    return None if classes is None else tuple(map(visible, parse_names(classes)))


def _resized(classes: Tensor, size: tuple[int, int]) -> Tensor:
    """A class map at another size: the pixel that holds the middle of each new one."""
    if tuple(classes.shape) == size:
        return classes
    rows, columns = (
        (torch.arange(new) * 2 + 1) * old // (2 * new) for new, old in zip(size, classes.shape, strict=True)
    )
    return classes[rows][:, columns]
