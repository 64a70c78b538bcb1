"""Image and mask files: pairing, header checks before any decoding, reading, resizing. Pillow is the codec."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from segrobust.data.base import Pixels

Size: TypeAlias = tuple[int, int]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MASK_SUFFIXES = frozenset({".png"})


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image file, its mask file, and the size `(H, W)` that both headers state."""

    name: str
    image: Path
    mask: Path
    size: Size


def pair_files(image_folder: Path, mask_folder: Path) -> tuple[Pair, ...]:
    """Pair images and masks by file name without suffix, sorted by name, and check their headers.

    Nothing is decoded.

    Raises:
        ValueError: A folder is missing or empty, files have no partner, two files share a name, or a pair fails in
            its headers: unreadable, too many pixels, 16 bits per channel, a mask in colours, sizes that differ.
    """
    images = _by_stem(image_folder, IMAGE_SUFFIXES, "images")
    masks = _by_stem(mask_folder, MASK_SUFFIXES, "masks")
    lonely = [
        f"{len(stems)} {what} ({', '.join(sorted(stems)[:5])}{', ...' if len(stems) > 5 else ''})"
        for what, stems in (
            (f"images without a mask in {mask_folder}", images.keys() - masks.keys()),
            (f"masks without an image in {image_folder}", masks.keys() - images.keys()),
        )
        if stems
    ]
    if lonely:
        raise ValueError(f"{'; '.join(lonely)}. An image and its mask share their name, the suffix apart")
    return tuple(_checked_pair(stem, images[stem], masks[stem]) for stem in sorted(images))


def read_image(path: Path, size: Size | None = None) -> Pixels:
    """Decode an image as RGB, `(H, W, 3)`.

    Args:
        path: A file of 8 bits per channel; grey and palette images become RGB, an alpha channel is dropped.
        size: `(H, W)` to resize to, bilinear with antialiasing; the file's own size when None.

    Raises:
        ValueError: The file cannot be decoded, or is too large.
    """
    with _opened(path) as image:
        pixels = image.convert("RGB")
    if size is not None and pixels.size != size[::-1]:
        pixels = pixels.resize(size[::-1], Image.Resampling.BILINEAR)
    return np.array(pixels, dtype=np.uint8)


def read_mask(path: Path, size: Size | None = None) -> Pixels:
    """Decode the label indices of a mask, `(H, W)`; a palette is not applied.

    Args:
        path: A PNG of one 8-bit channel, grey or palette.
        size: `(H, W)` to resize to, nearest neighbour; the file's own size when None.

    Raises:
        ValueError: The file cannot be decoded, is too large, or is not of that kind.
    """
    with _opened(path) as mask:
        _check_mask_mode(mask, path)
        mask.load()
        labels = mask.copy()
    if size is not None and labels.size != size[::-1]:
        labels = labels.resize(size[::-1], Image.Resampling.NEAREST)
    return np.array(labels, dtype=np.uint8)


def check_size(size: Size | None) -> None:
    """Refuse a size that is not two positive integers.

    Raises:
        ValueError: `size` is not `(H, W)` with both at least 1.
    """
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size is (height, width), both at least 1, got {size}")


def _by_stem(folder: Path, suffixes: frozenset[str], what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"the folder of {what} is missing: {folder}")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise ValueError(f"two files for one sample: {files[path.stem]} and {path.name}; keep one of them")
        files[path.stem] = path
    if not files:
        raise ValueError(f"no {what} in {folder}; looked for {', '.join(sorted(suffixes))}")
    return files


def _checked_pair(name: str, image: Path, mask: Path) -> Pair:
    with _opened(image) as header:
        image_size = header.size
        if header.mode[0] in "IF":
            raise ValueError(f"{image} has mode {header.mode}, more than 8 bits per channel; convert it to 8-bit RGB")
    with _opened(mask) as header:
        mask_size = header.size
        _check_mask_mode(header, mask)
    if image_size != mask_size:
        raise ValueError(
            f"{image} is {image_size[0]}x{image_size[1]} but its mask {mask} is {mask_size[0]}x{mask_size[1]} "
            f"(width x height); a mask has one label per pixel of its image"
        )
    return Pair(name=name, image=image, mask=mask, size=(image_size[1], image_size[0]))


def _check_mask_mode(mask: Image.Image, path: Path) -> None:
    if mask.mode not in ("L", "P"):
        raise ValueError(
            f"{path} has mode {mask.mode}; a mask is a PNG of one 8-bit channel (mode L or P) whose values are class "
            f"indices. Convert colours or 16-bit ids to indices first"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open lazily; Pillow's complaints, its size limit included, become a ValueError that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(f"{path}: {error} Raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file") from error
        except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError on a damaged PNG
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
