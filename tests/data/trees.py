"""Small data sets on disk, in the layouts that the package reads."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_mask(path: Path, labels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(labels.astype(np.uint8))
    if palette:
        mask.putpalette([channel for index in range(256) for channel in (index, 255 - index, 7)])
    mask.save(path)


def stripes(size: tuple[int, int], values: tuple[int, ...]) -> np.ndarray:
    """Labels in vertical stripes, one column per value, repeated."""
    return np.broadcast_to(np.resize(np.array(values), size[1]), size)


def camvid_tree(root: Path, size: tuple[int, int] = (13, 17), num: int = 3) -> Path:
    for split, sequence in (("train", "0001TP"), ("val", "0016E5")):
        for index in range(num):
            name = f"{sequence}_{index:05d}.png"
            write_image(root / split / name, size, seed=index)
            write_mask(root / f"{split}annot" / name, stripes(size, (0, 3, 10, 11)))
    return root
