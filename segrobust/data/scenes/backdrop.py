"""Sky, skyline and ground, computed for all pixels at once."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from segrobust.data.scenes.world import Array, Camera, Label, Labels, Light, Rng, Side, Street, rgb

Flags: TypeAlias = npt.NDArray[np.bool_]

_TILE = 128  # a power of two


@dataclass(frozen=True, kw_only=True)
class Plate:
    """Colour `(3, H, W)`, class `(H, W)` and depth in metres `(H, W)` of everything that does not stand free.

    The depth of the sky is 0: it already has the colour of the air.
    """

    color: Array
    labels: Labels
    depth: Array

    @classmethod
    def empty(cls, height: int, width: int) -> "Plate":
        """All sky, without a colour yet."""
        return cls(
            color=np.zeros((3, height, width), dtype=np.float32),
            labels=np.full((height, width), Label.SKY, dtype=np.uint8),
            depth=np.zeros((height, width), dtype=np.float32),
        )


def planes(color: Array) -> Array:
    """A colour `(3,)` as `(3, 1, 1)`."""
    return color[:, None, None]


def smooth_noise(rng: Rng, grid: tuple[int, int], size: tuple[int, int]) -> Array:
    """Noise in [0, 1] on a coarse grid, `(H, W)` after bicubic enlargement."""
    coarse = Image.fromarray(rng.random(grid, dtype=np.float32))
    return np.asarray(coarse.resize(size[::-1], Image.Resampling.BICUBIC), dtype=np.float32)


def paint_sky(plate: Plate, camera: Camera, light: Light, rng: Rng) -> None:
    """A gradient from zenith to horizon, with clouds that thin out upwards."""
    rows = min(camera.height, int(camera.center[1]) + 2)
    ramp = (np.linspace(0, 1, rows, dtype=np.float32) ** 1.4)[:, None]
    sky = planes(light.zenith) * (1 - ramp) + planes(light.horizon) * ramp
    size = (rows, camera.width)
    noise = 0.6 * smooth_noise(rng, (5, 5), size) + 0.4 * smooth_noise(rng, (14, 10), size)
    cover = np.clip((noise - np.float32(1.0 - 0.75 * light.clouds)) * 4, 0, np.float32(0.85))
    cloud = planes(light.horizon * 0.45 + (light.ambient + light.sun) * 0.55)
    plate.color[:, :rows] = sky + (cloud - sky) * cover


def paint_skyline(plate: Plate, camera: Camera, light: Light, rng: Rng) -> None:
    """Far houses behind the end of the street."""
    horizon = int(camera.center[1])
    column = 0
    while column < camera.width:
        step = int(camera.width * rng.uniform(0.02, 0.07)) + 1
        tall = int(camera.height * rng.uniform(0.01, 0.11))
        area = (slice(max(horizon - tall, 0), horizon + 2), slice(column, column + step))
        plate.color[:, *area] = planes(light.shade(rgb(*rng.uniform(0.35, 0.6, 3)), 0.4))
        plate.labels[area] = Label.BUILDING
        plate.depth[area] = 160.0
        column += step


class _Zone(IntEnum):
    """What the ground can be covered with: the columns of `_zone_table`."""

    ASPHALT = 0
    MARKING = 1
    KERB = 2
    SLAB = 3
    JOINT = 4
    VERGE_LEFT = 5
    VERGE_RIGHT = 6


def paint_ground(plate: Plate, camera: Camera, light: Light, street: Street, sunny: Array, rng: Rng) -> None:
    """Road with markings, verges, walks and what lies behind them, by the world position of every pixel.

    Args:
        plate: painted below the horizon.
        camera: the view.
        light: the sun's colours.
        street: widths and materials.
        sunny: share of the sun that reaches each pixel, `(H, W)`.
        rng: grain and stains.
    """
    top = int(camera.center[1]) + 1
    rows = np.arange(top, camera.height) + 0.5 - camera.center[1]
    z = (camera.focal * camera.elevation / rows).astype(np.float32)[:, None]
    columns = (np.arange(camera.width) + 0.5 - camera.center[0]) / camera.focal
    x = columns.astype(np.float32) * z

    zone = np.zeros(x.shape, dtype=np.uint8)
    zone[_markings(x, z, street)] = _Zone.MARKING
    for side, verge in ((street.left, _Zone.VERGE_LEFT), (street.right, _Zone.VERGE_RIGHT)):
        _zone_side(zone, x, z, side, verge)
    colors, labels = _zone_table(street)
    surface = np.take(colors, zone, axis=1)
    surface *= 1 + _world_noise(rng, x, z)
    surface *= planes(light.ambient) + planes(light.sun) * sunny[top:]
    plate.color[:, top:] = surface
    plate.labels[top:] = labels[zone]
    plate.depth[top:] = z


def _zone_table(street: Street) -> tuple[Array, Labels]:
    colors = [street.asphalt, rgb(0.82, 0.81, 0.76), rgb(0.62, 0.61, 0.6), street.paving, street.paving * 0.82]
    labels = [Label.ROAD, Label.ROAD, Label.SIDEWALK, Label.SIDEWALK, Label.SIDEWALK]
    for side in street.sides:
        colors.append(street.grass if side.green else street.paving * 0.9)
        labels.append(Label.VEGETATION if side.green else Label.SIDEWALK)
    return np.stack(colors, axis=1).astype(np.float32), np.array(labels, dtype=np.uint8)


def _zone_side(zone: Labels, x: Array, z: Array, side: Side, verge: _Zone) -> None:
    outward = x * np.float32(side.sign)
    beyond = outward > side.kerb
    walk_from = side.kerb + side.verge
    walk = beyond & (outward > walk_from) & (outward < walk_from + side.walk)
    joints = (_fraction(outward, 0.8) < 0.07) | (_fraction(z, 0.8) < 0.07)
    zone[beyond] = verge
    zone[walk] = _Zone.SLAB
    zone[walk & joints & (z < 25)] = _Zone.JOINT
    zone[beyond & (outward < side.kerb + 0.18)] = _Zone.KERB


def _markings(x: Array, z: Array, street: Street) -> Flags:
    dashed = (np.abs(x + np.float32(0.5 * street.lane)) < 0.08) & (_fraction(z, 6.0) < 0.53)
    left = np.abs(x + np.float32(street.left.kerb - 0.35)) < 0.06
    right = np.abs(x - np.float32(street.right.kerb - 0.35)) < 0.06
    line: Flags = dashed | left | right
    if street.crossing is not None:
        rows = np.abs(z[:, 0] - np.float32(street.crossing)) < 1.6
        line[rows] |= _fraction(x[rows], 1.1) < 0.5
    return line


def _fraction(value: Array, period: float) -> Array:
    """Position within the period, in [0, 1)."""
    turns = value * np.float32(1 / period)
    fraction: Array = turns - np.floor(turns)
    return fraction


def _world_noise(rng: Rng, x: Array, z: Array) -> Array:
    """Grain of 12 cm and stains of about 2 m, fixed to the ground so that they shrink with distance."""
    grain = rng.normal(0, 0.07, (_TILE, _TILE)).astype(np.float32)
    stains = (smooth_noise(rng, (8, 8), (_TILE // 2, _TILE // 2)) - 0.5) * np.float32(0.4)
    half = np.concatenate([stains, stains[::-1]])
    tile = grain + np.concatenate([half, half[:, ::-1]], axis=1)  # mirrored: no seam where the tile repeats
    row, column = (z * 8).astype(np.int32) & (_TILE - 1), (x * 8).astype(np.int32) & (_TILE - 1)
    noise: Array = tile.ravel()[row * _TILE + column] * np.clip(1.4 - z / 40, np.float32(0.25), 1)
    return noise
