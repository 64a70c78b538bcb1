"""Files of somebody else, for the tutorial: a network in its own conventions, a checkpoint, satellite images."""

import sys
from pathlib import Path

import numpy as np
import rasterio
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

NETWORK = '''"""The network of the tutorial, as its authors publish it."""

from torch import nn


class FieldNet(nn.Module):
    """Near infrared, red, green and blue in 0..255 to void, background and field, at a quarter of the size."""

    def __init__(self):
        super().__init__()
        layers = nn.Conv2d(4, 16, 4, stride=4), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, images):
        return {"seg": self.head(self.encoder((images - 127.5) / 64))}
'''


def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bands `(4, 64, 96)` of 0..10000, blue first, and a mask `(64, 96)` of 0 and 255: fields reflect near infrared."""
    mask = np.zeros((64, 96), dtype=np.uint8)
    for _ in range(4):
        top, left = generator.integers(0, 48), generator.integers(0, 72)
        mask[top : top + generator.integers(12, 28), left : left + generator.integers(16, 32)] = 255
    soil, plants = np.array([1200, 1600, 2200, 2600]), np.array([500, 900, 700, 5200])
    bands = np.where(mask[None] == 255, plants[:, None, None], soil[:, None, None])
    noise = generator.normal(0, 350, (4, 64, 96))
    return (bands + noise).clip(0, 10000).astype(np.uint16), mask


def write_files(folder: Path) -> None:
    """Writes `fieldnet.py`, `fields.pth` and the folder `fields`."""
    generator = np.random.default_rng(0)
    for split, number in (("train", 12), ("val", 4)):
        for kind in ("images", "masks"):
            (folder / "fields" / kind / split).mkdir(parents=True)
        for index in range(number):
            bands, mask = draw(generator)
            settings = {"driver": "GTiff", "count": 4, "height": 64, "width": 96, "dtype": "uint16"}
            with rasterio.open(folder / f"fields/images/{split}/tile{index:02d}.tif", "w", **settings) as file:
                file.write(bands)
            Image.fromarray(mask).save(folder / f"fields/masks/{split}/tile{index:02d}.png")
    (folder / "fieldnet.py").write_text(NETWORK, encoding="utf-8")
    torch.save({"epoch": 40, "net": _trained(folder).state_dict(), "best": np.float64(0.9)}, folder / "fields.pth")


def _trained(folder: Path) -> nn.Module:
    """The network after the training of its authors, with their own loop."""
    sys.path.insert(0, str(folder))
    from fieldnet import FieldNet

    sys.path.remove(str(folder))
    torch.manual_seed(0)
    network, generator = FieldNet(), np.random.default_rng(1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        bands, masks = (np.stack(parts) for parts in zip(*(draw(generator) for _ in range(8)), strict=True))
        images = torch.from_numpy(bands[:, ::-1].astype(np.float32)) * (255 / 10000)
        logits = F.interpolate(network(images)["seg"], size=masks.shape[1:], mode="bilinear")
        loss = F.cross_entropy(logits, torch.from_numpy(masks // 255).long() + 1)  # 0 is void, which none of these has
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network
