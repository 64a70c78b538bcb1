"""From random numbers to a picture and its mask."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from segrobust.data.scenes.backdrop import Plate, paint_ground, paint_sky, paint_skyline, planes, smooth_noise
from segrobust.data.scenes.buildings import Building, draw_row, paint_building
from segrobust.data.scenes.layout import place_things
from segrobust.data.scenes.objects import Thing, paint_things
from segrobust.data.scenes.world import VOID, Array, Camera, Label, Labels, Light, Rng, Street

_SUPERSAMPLING = 2
_NEAR = 1.5


def render_scene(rng: Rng, height: int, width: int) -> tuple[Labels, Labels]:
    """Draws one scene; everything random comes from `rng`.

    Returns:
        RGB `(height, width, 3)` and labels `(height, width)`, both uint8; void is 255.
    """
    camera = Camera.draw(rng, _SUPERSAMPLING * height, _SUPERSAMPLING * width)
    light = Light.draw(rng)
    street = Street.draw(rng)
    buildings = [building for side in street.sides for building in draw_row(rng, side)]
    things = place_things(rng, street)

    plate = Plate.empty(camera.height, camera.width)
    paint_sky(plate, camera, light, rng)
    paint_skyline(plate, camera, light, rng)
    paint_ground(plate, camera, light, street, _cast_shadows(camera, light, buildings, things), rng)
    for building in buildings:
        paint_building(plate, camera, light, building)
    _add_air(plate, light)

    bands = (np.minimum(plate.color, 1) * 255).astype(np.uint8)
    picture = Image.merge("RGB", [Image.fromarray(band) for band in bands])
    mask = Image.fromarray(plate.labels)
    paint_things(picture, mask, camera, light, things, rng)
    labels = _mark_void(np.array(mask), rng)[::_SUPERSAMPLING, ::_SUPERSAMPLING]
    return _expose(picture.reduce(_SUPERSAMPLING), labels, rng), np.ascontiguousarray(labels)


def _cast_shadows(camera: Camera, light: Light, buildings: Sequence[Building], things: Sequence[Thing]) -> Array:
    """Share of the sun that reaches the ground, `(H, W)`: flat shadows, soft at their edges."""
    sunny = Image.new("L", (camera.width, camera.height), 255)
    draw = ImageDraw.Draw(sunny)

    def throw(outline: Sequence[tuple[float, float]]) -> None:
        draw.polygon([camera.project(x, 0, max(z, _NEAR)) for x, z in outline], fill=0)

    for building in buildings:
        if building.sign == light.side and building.end > _NEAR:
            wall = building.sign * building.line
            tip = wall - light.side * light.reach * building.height
            throw(((wall, building.start), (wall, building.end), (tip, building.end), (tip, building.start)))
    for thing in things:
        tip = thing.x - light.side * light.reach * thing.height
        if thing.label == Label.VEGETATION:
            throw(_blob((thing.x + tip) / 2, thing.z, thing.half_width + abs(tip - thing.x) / 4, thing.half_width))
        else:
            w, end = thing.half_width, thing.z + thing.length
            throw(((thing.x - w, thing.z), (tip, thing.z), (tip, end), (thing.x - w, end)))
            throw(((thing.x - w, thing.z), (thing.x + w, thing.z), (thing.x + w, end), (thing.x - w, end)))
    return np.asarray(sunny.filter(ImageFilter.BoxBlur(1.5)), dtype=np.float32) * np.float32(1 / 255)


def _blob(x: float, z: float, across: float, along: float) -> list[tuple[float, float]]:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return [(x + across * float(np.cos(a)), z + along * float(np.sin(a))) for a in angles]


def _add_air(plate: Plate, light: Light) -> None:
    """Fades what is far into the colour of the horizon."""
    clear = np.exp(plate.depth * np.float32(-light.fog))
    horizon = planes(light.horizon)
    np.subtract(plate.color, horizon, out=plate.color)
    np.multiply(plate.color, clear, out=plate.color)
    np.add(plate.color, horizon, out=plate.color)


def _mark_void(labels: Labels, rng: Rng) -> Labels:
    """Void where annotators doubt: a thin band around some classes, others in every scene.

    Thin things are left out, a band would eat them.
    """
    doubtful = rng.random(len(Label)) < 0.4
    doubtful[[Label.POLE, Label.SIGN]] = False
    unsure = doubtful[labels]
    edge = np.zeros(labels.shape, dtype=bool)
    down = (labels[1:] != labels[:-1]) & (unsure[1:] | unsure[:-1])
    edge[1:] |= down
    edge[:-1] |= down
    right = (labels[:, 1:] != labels[:, :-1]) & (unsure[:, 1:] | unsure[:, :-1])
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return np.where(edge, np.uint8(VOID), labels)


def _expose(picture: Image.Image, labels: Labels, rng: Rng) -> Labels:
    """What the camera and the surfaces add: gain, white balance, tone curve, texture by class, vignette, noise."""
    gain = np.exp(rng.normal(0.06, 0.12)) * rng.uniform(0.97, 1.03, (3, 1))
    curve = np.clip(gain * np.linspace(0, 1, 256), 0, 1) ** rng.uniform(0.8, 1.15)
    toned = picture.point(np.rint(255 * curve).astype(int).ravel().tolist())

    size = (labels.shape[0], labels.shape[1])
    texture = rng.standard_normal(size, dtype=np.float32) * _TEXTURE[np.minimum(labels, len(Label))] + 1
    texture *= 0.94 + 0.12 * smooth_noise(rng, (12, 16), size)
    rows = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, size[1], dtype=np.float32)
    texture *= 1 - np.float32(rng.uniform(0.0, 0.16)) * (rows**2 + columns**2)

    exposed = rng.standard_normal((*size, 3), dtype=np.float32)
    exposed *= np.float32(255 * rng.uniform(0.006, 0.03))
    exposed += np.asarray(toned, dtype=np.float32) * texture[..., None]
    return np.clip(exposed, 0, 255).astype(np.uint8)


# Per class of `Label`, then void
_TEXTURE = np.array([0.01, 0.05, 0.05, 0.05, 0.12, 0.02, 0.03, 0.03, 0.05, 0.03], dtype=np.float32)
