"""What a street scene is made of, before anything is drawn: classes, camera, light, street.

World axes in metres: X to the right, Y up from the ground, Z along the viewing direction. Colours are RGB in [0, 1].
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from segrobust.label_space import LabelSpace

Array: TypeAlias = npt.NDArray[np.float32]
Labels: TypeAlias = npt.NDArray[np.uint8]
Rng: TypeAlias = np.random.Generator

VOID: Final = 255


class Label(IntEnum):
    """Class indices of a scene."""

    SKY = 0
    BUILDING = 1
    ROAD = 2
    SIDEWALK = 3
    VEGETATION = 4
    CAR = 5
    POLE = 6
    SIGN = 7
    PEDESTRIAN = 8


SCENES: Final = LabelSpace(
    names=tuple(label.name.lower() for label in Label),
    palette=(
        (70, 130, 180),
        (70, 70, 70),
        (128, 64, 128),
        (244, 35, 232),
        (107, 142, 35),
        (0, 0, 142),
        (153, 153, 153),
        (220, 220, 0),
        (220, 20, 60),
    ),
    ignore_index=VOID,
)


def rgb(*channels: float) -> Array:
    """A colour as an array of three."""
    return np.array(channels, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera that looks along the street; the image plane is measured in pixels."""

    height: int
    width: int
    focal: float
    center: tuple[float, float]
    elevation: float

    @classmethod
    def draw(cls, rng: Rng, height: int, width: int) -> "Camera":
        """A random mounting, from a car's windscreen to a bus."""
        return cls(
            height=height,
            width=width,
            focal=width * rng.uniform(0.72, 1.05),
            center=(width * rng.uniform(0.32, 0.68), height * rng.uniform(0.38, 0.54)),
            elevation=rng.uniform(1.35, 2.3),
        )

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """Pixel position (column, row) of a point with z > 0."""
        return (
            self.center[0] + self.focal * x / z,
            self.center[1] + self.focal * (self.elevation - y) / z,
        )


@dataclass(frozen=True, kw_only=True)
class Light:
    """Sun, sky and air.

    `sun` and `ambient` are the colours by which lit and shaded surfaces are multiplied; `side` is +1 for a sun to the
    right, -1 to the left; a shadow is `reach` times as long as what throws it; `fog` is the extinction per metre.
    """

    zenith: Array
    horizon: Array
    sun: Array
    ambient: Array
    side: int
    reach: float
    fog: float
    clouds: float
    night: float

    @classmethod
    def draw(cls, rng: Rng) -> "Light":
        """Noon, overcast, a low sun or dusk, each with its own spread."""
        zenith, horizon, sun, ambient, reach, night = _MOODS[rng.choice(len(_MOODS), p=_MOOD_SHARES)]
        tint = rng.uniform(0.94, 1.06, 3).astype(np.float32)
        return cls(
            zenith=rgb(*zenith) * tint,
            horizon=rgb(*horizon) * tint,
            sun=rgb(*sun) * np.float32(rng.uniform(0.85, 1.1)),
            ambient=rgb(*ambient) * np.float32(rng.uniform(0.85, 1.15)),
            side=int(rng.choice((-1, 1))),
            reach=reach * rng.uniform(0.6, 1.3),
            fog=float(np.exp(rng.uniform(np.log(0.0015), np.log(0.016)))),
            clouds=rng.uniform(0.0, 1.0),
            night=night,
        )

    def shade(self, albedo: Array, lit: float) -> Array:
        """Colour `(3,)` of a surface of which the share `lit` sees the sun."""
        return albedo * (self.ambient + self.sun * np.float32(lit))


# zenith, horizon, sun, ambient, shadow length per height, night
_MOODS = (
    ((0.24, 0.46, 0.80), (0.74, 0.84, 0.93), (0.62, 0.58, 0.50), (0.42, 0.45, 0.52), 0.8, 0.0),
    ((0.62, 0.66, 0.71), (0.80, 0.82, 0.83), (0.12, 0.12, 0.12), (0.68, 0.70, 0.73), 0.3, 0.0),
    ((0.36, 0.46, 0.68), (0.98, 0.76, 0.52), (0.78, 0.52, 0.30), (0.36, 0.34, 0.42), 2.2, 0.1),
    ((0.10, 0.13, 0.28), (0.55, 0.38, 0.42), (0.10, 0.07, 0.09), (0.30, 0.30, 0.42), 1.5, 1.0),
)
_MOOD_SHARES = (0.38, 0.26, 0.22, 0.14)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of the street, by distance from the middle axis: kerb, then verge, walk and building line."""

    sign: int
    kerb: float
    verge: float
    walk: float
    line: float
    green: bool

    @classmethod
    def draw(cls, rng: Rng, sign: int, kerb: float) -> "Side":
        """A walk of 2 to 5 m, a verge on every third side, buildings behind."""
        verge = rng.uniform(0.8, 2.0) if rng.random() < 0.35 else 0.0
        walk = rng.uniform(2.0, 5.0)
        line = kerb + verge + walk + (rng.uniform(2.0, 7.0) if rng.random() < 0.4 else 0.0)
        return cls(sign=sign, kerb=kerb, verge=verge, walk=walk, line=line, green=bool(rng.random() < 0.7))


@dataclass(frozen=True, kw_only=True)
class Street:
    """Lanes and sides; X = 0 is below the camera."""

    left: Side
    right: Side
    lane: float
    asphalt: Array
    paving: Array
    grass: Array
    crossing: float | None

    @classmethod
    def draw(cls, rng: Rng) -> "Street":
        """Two to four lanes; the camera drives on the right."""
        lane = rng.uniform(2.8, 3.6)
        grey = rng.uniform(0.24, 0.46)
        paving = rng.uniform(0.34, 0.62)
        return cls(
            left=Side.draw(rng, -1, lane * rng.uniform(1.3, 2.4)),
            right=Side.draw(rng, 1, lane * rng.uniform(0.55, 1.5)),
            lane=lane,
            asphalt=rgb(grey, grey, grey) * rng.uniform(0.94, 1.06, 3).astype(np.float32),
            paving=rgb(paving * 1.04, paving, paving * 0.94) * rng.uniform(0.95, 1.05, 3).astype(np.float32),
            grass=rgb(rng.uniform(0.22, 0.42), rng.uniform(0.34, 0.48), rng.uniform(0.12, 0.24)),
            crossing=rng.uniform(7.0, 26.0) if rng.random() < 0.4 else None,
        )

    @property
    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return (self.left, self.right)
