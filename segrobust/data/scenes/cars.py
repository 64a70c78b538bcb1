"""Cars as boxes with a cabin, drawn face by face."""

from typing import Final, Literal, NamedTuple

import numpy as np

from segrobust.data.scenes.objects import Brush, Point, Thing
from segrobust.data.scenes.world import Array, Rng, rgb

Corner = tuple[float, float, float]


class Face(NamedTuple):
    """A face in units of the car: half widths across, heights up, lengths along.

    `across` of a `side` face is 1 at the flank that can be seen, whichever it is.
    """

    corners: tuple[Corner, ...]
    material: Literal["paint", "glass", "dark", "lamp", "plate"]
    lit: float
    side: bool = False


_BELOW: Final = (
    Face(((-0.95, 0.0, 0.05), (-0.95, 0.3, 0.05), (0.95, 0.3, 0.05), (0.95, 0.0, 0.05)), "dark", 0.1),
    Face(((1, 0.16, 0), (1, 0.62, 0), (1, 0.58, 1), (1, 0.16, 1)), "paint", 0.5, side=True),
)
_ABOVE: Final = (
    Face(((-1, 0.62, 0), (1, 0.62, 0), (1, 0.58, 1), (-1, 0.58, 1)), "paint", 1.0),
    Face(((0.95, 0.61, 0.02), (0.8, 1, 0.17), (0.8, 1, 0.6), (0.95, 0.6, 0.78)), "paint", 0.5, side=True),
    Face(((0.93, 0.64, 0.08), (0.82, 0.95, 0.2), (0.82, 0.95, 0.38), (0.93, 0.64, 0.38)), "glass", 0.4, side=True),
    Face(((0.93, 0.64, 0.41), (0.82, 0.95, 0.41), (0.82, 0.95, 0.57), (0.93, 0.63, 0.72)), "glass", 0.4, side=True),
    Face(((-0.8, 1, 0.17), (0.8, 1, 0.17), (0.8, 1, 0.6), (-0.8, 1, 0.6)), "paint", 1.0),
    Face(((-0.95, 0.61, 0.02), (0.95, 0.61, 0.02), (0.8, 1, 0.17), (-0.8, 1, 0.17)), "paint", 0.5),
    Face(((-0.84, 0.66, 0.04), (0.84, 0.66, 0.04), (0.72, 0.95, 0.15), (-0.72, 0.95, 0.15)), "glass", 0.6),
    Face(((-1, 0.16, 0), (1, 0.16, 0), (1, 0.62, 0), (-1, 0.62, 0)), "paint", 0.4),
    Face(((-1, 0.16, 0), (1, 0.16, 0), (1, 0.27, 0), (-1, 0.27, 0)), "dark", 0.6),
    Face(((-0.96, 0.44, 0), (-0.64, 0.44, 0), (-0.64, 0.56, 0), (-0.96, 0.56, 0)), "lamp", 0.6),
    Face(((0.96, 0.44, 0), (0.64, 0.44, 0), (0.64, 0.56, 0), (0.96, 0.56, 0)), "lamp", 0.6),
    Face(((-0.28, 0.32, 0), (0.28, 0.32, 0), (0.28, 0.41, 0), (-0.28, 0.41, 0)), "plate", 0.6),
)
_PAINTS: Final = (
    (0.80, 0.80, 0.80),
    (0.56, 0.57, 0.58),
    (0.36, 0.37, 0.39),
    (0.10, 0.10, 0.11),
    (0.55, 0.10, 0.09),
    (0.12, 0.20, 0.42),
    (0.16, 0.30, 0.22),
    (0.62, 0.55, 0.42),
)


def draw_car(brush: Brush, rng: Rng, car: Thing) -> None:
    """A car along the street, its near end in view, with the flank that faces the axis."""
    flank = -1.0 if car.x > 0 else 1.0
    paint = rgb(*_PAINTS[rng.integers(len(_PAINTS))]) * np.float32(rng.uniform(0.85, 1.1))
    oncoming = car.x < -1.2
    night = np.float32(1 + 1.5 * brush.light.night)
    materials = {
        "paint": paint,
        "glass": rgb(0.13, 0.16, 0.19) * np.float32(rng.uniform(0.7, 2.0)),
        "dark": rgb(0.06, 0.06, 0.07),
        "lamp": (rgb(0.9, 0.88, 0.8) if oncoming else rgb(0.6, 0.06, 0.05)) * night,
        "plate": rgb(0.8, 0.78, 0.6),
    }
    seen = abs(car.x) > car.half_width
    _draw_faces(brush, car, _BELOW, materials, flank, seen)
    if seen:
        for along in (0.2, 0.8):
            _draw_wheel(brush, car, flank, along)
    _draw_faces(brush, car, _ABOVE, materials, flank, seen)


def _draw_faces(
    brush: Brush, car: Thing, faces: tuple[Face, ...], materials: dict[str, Array], flank: float, seen: bool
) -> None:
    sun = 0.35 if flank == brush.light.side else -0.3
    for face in faces:
        if face.side and not seen:
            continue
        mirror = flank if face.side else 1.0
        lit = face.lit + sun if face.side else face.lit
        points = [_corner(brush, car, (mirror * across, up, along)) for across, up, along in face.corners]
        brush.polygon(points, materials[face.material], lit)


def _draw_wheel(brush: Brush, car: Thing, flank: float, along: float) -> None:
    radius = 0.23
    center = _corner(brush, car, (flank, radius, along))
    rim = _corner(brush, car, (flank, radius, along + radius * car.height / car.length))
    up = radius * car.height * brush.camera.focal / (car.z + along * car.length)
    across = max(abs(rim[0] - center[0]), 0.8)
    brush.ellipse(center, (across, up), rgb(0.07, 0.07, 0.08), 0.2)
    brush.ellipse(center, (across * 0.5, up * 0.5), rgb(0.42, 0.42, 0.44), 0.3)


def _corner(brush: Brush, car: Thing, corner: Corner) -> Point:
    across, up, along = corner
    return brush.camera.project(car.x + across * car.half_width, up * car.height, car.z + along * car.length)
