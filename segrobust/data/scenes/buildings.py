"""Houses along the street: boxes with a facade towards the road and an end wall towards the camera."""

from dataclasses import dataclass, replace

import numpy as np

from segrobust.data.scenes.backdrop import Plate
from segrobust.data.scenes.world import Array, Camera, Label, Labels, Light, Rng, Side, rgb

_NEAR = 1.5
_END_OF_STREET = 130.0
_WALLS = (
    (0.70, 0.66, 0.58),
    (0.62, 0.40, 0.32),
    (0.52, 0.30, 0.24),
    (0.78, 0.74, 0.66),
    (0.55, 0.57, 0.60),
    (0.40, 0.42, 0.45),
    (0.76, 0.62, 0.42),
    (0.48, 0.54, 0.46),
    (0.60, 0.66, 0.72),
)


@dataclass(frozen=True, kw_only=True)
class Building:
    """A box from `start` to `end` along the street, its facade at `line` metres from the axis.

    `exposed` is False where the nearer neighbour hides the whole end wall.
    """

    sign: int
    line: float
    start: float
    end: float
    height: float
    wall: Array
    trim: Array
    pitch: float
    storey: float
    window: tuple[float, float]
    roof: float
    lights: Array
    exposed: bool = True


def draw_row(rng: Rng, side: Side) -> list[Building]:
    """The houses of one side, far ones first, with gaps for side streets and gardens."""
    buildings: list[Building] = []
    z = rng.uniform(-6.0, 8.0)
    typical = rng.uniform(5.0, 17.0)
    while z < _END_OF_STREET:
        length = rng.uniform(7.0, 20.0)
        house = _draw_building(rng, side, z, length, typical * rng.uniform(0.65, 1.4))
        buildings.append(replace(house, exposed=not (buildings and _hides(buildings[-1], house))))
        z += length + (rng.uniform(3.0, 14.0) if rng.random() < 0.35 else 0.0)
    return buildings[::-1]


def _hides(near: Building, far: Building) -> bool:
    return near.end >= far.start and near.line <= far.line and near.height >= far.height


def _draw_building(rng: Rng, side: Side, start: float, length: float, height: float) -> Building:
    wall = rgb(*_WALLS[rng.integers(len(_WALLS))]) * rng.uniform(0.85, 1.12, 3).astype(np.float32)
    return Building(
        sign=side.sign,
        line=side.line + (rng.uniform(0.0, 2.0) if rng.random() < 0.3 else 0.0),
        start=start,
        end=start + length,
        height=height,
        wall=wall,
        trim=wall * np.float32(rng.uniform(0.55, 1.3)),
        pitch=rng.uniform(1.8, 3.4),
        storey=rng.uniform(2.7, 3.6),
        window=(rng.uniform(0.35, 0.72), rng.uniform(0.4, 0.68)),
        roof=rng.uniform(0.8, 2.4) if rng.random() < 0.5 else 0.0,
        lights=rng.random((16, 16), dtype=np.float32),
    )


def paint_building(plate: Plate, camera: Camera, light: Light, building: Building) -> None:
    """End wall, then facade; whatever was there before is behind."""
    lit_facade = 0.85 if light.side != building.sign else 0.1
    if building.exposed and building.start > _NEAR:
        _paint_end_wall(plate, camera, light, building)
    near, far = max(building.start, _NEAR), building.end
    if far <= near:
        return
    x = building.sign * building.line
    edges = sorted((camera.project(x, 0, near)[0], camera.project(x, 0, far)[0]))
    first, last = (int(np.clip(round(edge), 0, camera.width)) for edge in edges)
    columns = np.arange(first, last, dtype=np.float32)[None] + np.float32(0.5)
    z = np.clip(np.float32(camera.focal * x) / (columns - np.float32(camera.center[0])), near, far)
    _paint_face(plate, camera, light, building, z - np.float32(building.start), z, (first, last), lit_facade)


def _paint_end_wall(plate: Plate, camera: Camera, light: Light, building: Building) -> None:
    inner, outer = building.sign * building.line, building.sign * (building.line + 11.0)
    edges = sorted((camera.project(inner, 0, building.start)[0], camera.project(outer, 0, building.start)[0]))
    first, last = (int(np.clip(round(edge), 0, camera.width)) for edge in edges)
    columns = np.arange(first, last, dtype=np.float32)[None] + np.float32(0.5)
    z = np.full_like(columns, building.start)
    along = np.abs((columns - np.float32(camera.center[0])) * z / np.float32(camera.focal)) - np.float32(building.line)
    _paint_face(plate, camera, light, building, along, z, (first, last), 0.45)


def _paint_face(
    plate: Plate,
    camera: Camera,
    light: Light,
    building: Building,
    along: Array,
    z: Array,
    span: tuple[int, int],
    lit: float,
) -> None:
    """One wall in the columns `span`; `along` and `z` `(1, W)` are metres along the wall and into the picture."""
    if span[1] <= span[0]:
        return
    nearest = float(z.min())
    top = int(max(camera.project(0, building.height, nearest)[1], 0))
    bottom = int(min(camera.project(0, 0, nearest)[1] + 1, camera.height))
    if bottom <= top:
        return
    rows = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5)
    y = np.float32(camera.elevation) + (np.float32(camera.center[1]) - rows) * z / np.float32(camera.focal)
    inside = (y >= 0) & (y < building.height)
    area = (slice(top, bottom), slice(*span))
    wall = np.take(_wall_colors(building, light, lit), _wall_parts(building, light, along, y), axis=1)
    np.copyto(plate.color[:, *area], wall, where=inside)
    plate.labels[area][inside] = Label.BUILDING
    np.copyto(plate.depth[area], z, where=inside)


_WALL, _LEDGE, _GROUND_FLOOR, _ROOF, _GLOW, _GLASS = range(6)
_GLASSES = 8


def _wall_colors(building: Building, light: Light, lit: float) -> Array:
    """Colours of the parts of a wall, `(3, parts)`: the last ones are window panes, from dark to bright."""
    albedos = (building.wall, building.trim, building.trim * np.float32(0.8), rgb(0.36, 0.22, 0.18))
    reflected = light.horizon * 0.5 + light.zenith * 0.6
    panes = [reflected * np.float32(0.10 + 0.5 * (pane / _GLASSES) ** 2) for pane in range(_GLASSES)]
    colors = [*(light.shade(albedo, lit) for albedo in albedos), rgb(0.95, 0.78, 0.42), *panes]
    return np.stack(colors, axis=1).astype(np.float32)


def _wall_parts(building: Building, light: Light, along: Array, y: Array) -> Labels:
    """Which part of a wall each pixel shows, `(H, W)`, given metres along `(1, W)` and up `(H, W)`."""
    column, across = np.divmod(along / np.float32(building.pitch), 1)
    levels = y / np.float32(building.storey)
    storey = levels.astype(np.int32)
    up = levels - storey
    parts = np.where(up < 0.06, np.uint8(_LEDGE), np.uint8(_WALL))
    parts[storey < 1] = _GROUND_FLOOR
    width, height = building.window
    window = (np.abs(up - 0.52) < height / 2) & (np.abs(across - 0.5) < width / 2)
    window &= y < building.height - building.roof - 0.4
    key = building.lights[storey % 16, column.astype(np.int32) % 16]
    panes = (key * _GLASSES).astype(np.uint8) + np.uint8(_GLASS)
    panes[key < 0.45 * light.night] = _GLOW
    np.copyto(parts, panes, where=window)
    if building.roof:
        parts[y > building.height - building.roof] = _ROOF
    return parts
