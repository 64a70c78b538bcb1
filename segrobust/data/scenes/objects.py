"""What stands and moves in the street: cars, trees, lamps, signs, people. Drawn with Pillow, far ones first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from segrobust.data.scenes.world import Array, Camera, Label, Labels, Light, Rng, rgb

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Brush:
    """Draws shapes of one object, at one depth, into the picture and its mask."""

    color: ImageDraw.ImageDraw
    labels: ImageDraw.ImageDraw
    camera: Camera
    light: Light
    z: float
    label: Label

    @property
    def scale(self) -> float:
        """Pixels per metre."""
        return self.camera.focal / self.z

    def paint(self, albedo: Array, lit: Array | float) -> Labels:
        """Surfaces `(..., 3)` as the camera sees them through the air, in bytes."""
        air = np.float32(np.exp(-self.light.fog * self.z))
        light = self.light.ambient + self.light.sun * np.asarray(lit, dtype=np.float32)[..., None]
        seen = albedo * light * air + self.light.horizon * (1 - air)
        return (np.minimum(seen, 1) * 255).astype(np.uint8)

    def polygon(self, points: Sequence[Point], albedo: Array, lit: float) -> None:
        """A filled polygon in pixels."""
        self.color.polygon(points, fill=tuple(self.paint(albedo, lit).tolist()))
        self.labels.polygon(points, fill=self.label)

    def ellipse(self, center: Point, radius: Point, albedo: Array, lit: float) -> None:
        """A filled ellipse in pixels."""
        self._ellipse(center, radius, self.paint(albedo, lit).tolist())

    def dots(self, centers: Sequence[Point], radii: Sequence[Point], albedo: Array, lit: Array) -> None:
        """Ellipses `(N,)` of their own colours `(N, 3)`, the later over the earlier."""
        for center, radius, fill in zip(centers, radii, self.paint(albedo, lit).tolist(), strict=True):
            self._ellipse(center, radius, fill)

    def _ellipse(self, center: Point, radius: Point, fill: list[int]) -> None:
        box = (center[0] - radius[0], center[1] - radius[1], center[0] + radius[0], center[1] + radius[1])
        self.color.ellipse(box, fill=tuple(fill))
        self.labels.ellipse(box, fill=self.label)

    def flat(self, points: Sequence[tuple[float, float]], at: float, albedo: Array, lit: float) -> None:
        """A polygon that faces the camera; points are metres (across, up) from the foot at X = `at`."""
        self.polygon([self.camera.project(at + across, up, self.z) for across, up in points], albedo, lit)


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object with its foot at `(x, z)`: `length` metres deep, `height` tall, drawn by `draw`."""

    x: float
    z: float
    half_width: float
    length: float
    height: float
    label: Label
    draw: "Callable[[Brush, Rng, Thing], None]"


def paint_things(
    image: Image.Image, labels: Image.Image, camera: Camera, light: Light, things: Sequence[Thing], rng: Rng
) -> None:
    """Draws from far to near, so that the nearer one hides the farther one."""
    color, mask = ImageDraw.Draw(image), ImageDraw.Draw(labels)
    for thing in sorted(things, key=lambda thing: -thing.z):
        brush = Brush(color=color, labels=mask, camera=camera, light=light, z=thing.z, label=thing.label)
        thing.draw(brush, rng, thing)


def draw_tree(brush: Brush, rng: Rng, tree: Thing) -> None:
    """A trunk and a crown of blobs, dark below and bright towards the sun."""
    foot = 0.3 * tree.height if tree.height > 2.5 else 0.0
    if foot:
        trunk = max(0.05 * tree.height / 2, 0.8 / brush.scale)
        outline = ((-trunk, 0), (trunk, 0), (trunk * 0.7, foot * 1.6), (-trunk * 0.7, foot * 1.6))
        brush.flat(outline, tree.x, rgb(0.27, 0.21, 0.16), 0.4)
    leaf = rgb(rng.uniform(0.13, 0.42), rng.uniform(0.28, 0.44), rng.uniform(0.08, 0.2))
    radius = (tree.height - foot) / 2
    core = brush.camera.project(tree.x, foot + radius, tree.z)
    brush.ellipse(core, (0.85 * tree.half_width * brush.scale, 0.9 * radius * brush.scale), leaf * np.float32(0.5), 0.1)

    count = int(np.clip(tree.height * brush.scale / 4, 12, 60))
    share = np.linspace(0, 1, count)
    angle, distance = rng.uniform(0, 2 * np.pi, count), np.sqrt(rng.random(count)) * (1 - 0.35 * share)
    across = tree.half_width * (distance * np.cos(angle) + 0.25 * share * brush.light.side)
    up = foot + radius * (1 + 0.85 * distance * np.sin(angle) + 0.12 * share)
    blob = min(tree.half_width, radius) * rng.uniform(0.22, 0.42, count) * (1 - 0.45 * share)
    centers = [brush.camera.project(tree.x + a, b, tree.z) for a, b in zip(across.tolist(), up.tolist(), strict=True)]
    radii = [(size, 0.85 * size) for size in np.maximum(blob * brush.scale, 1).tolist()]
    tone = (0.5 + 0.65 * share) * rng.uniform(0.85, 1.15, count)
    brush.dots(centers, radii, leaf * tone[:, None].astype(np.float32), (0.1 + 0.9 * share).astype(np.float32))


def draw_lamp(brush: Brush, rng: Rng, lamp: Thing) -> None:
    """A street lamp whose arm reaches over the road."""
    metal = rgb(0.34, 0.36, 0.36) * np.float32(rng.uniform(0.5, 1.5))
    half = max(lamp.half_width, 2.0 / brush.scale)
    brush.flat(((-half, 0), (half, 0), (half * 0.7, lamp.height), (-half * 0.7, lamp.height)), lamp.x, metal, 0.5)
    reach = -np.sign(lamp.x) * 1.6
    low, high = lamp.height - 0.16, lamp.height + half
    brush.flat(((0, low), (0, high), (reach, high + 0.25), (reach, low + 0.25)), lamp.x, metal, 0.5)
    glow = rgb(0.5, 0.5, 0.48) + rgb(2.0, 1.7, 1.1) * np.float32(brush.light.night)
    head = brush.camera.project(lamp.x + reach, lamp.height + 0.15, lamp.z)
    brush.ellipse(head, (max(0.4 * brush.scale, 1), max(0.14 * brush.scale, 1)), glow, 0.6)


def draw_signpost(brush: Brush, rng: Rng, post: Thing) -> None:
    """The pole of a sign; the sign itself is another thing, in front of it."""
    half = max(post.half_width, 1.8 / brush.scale)
    brush.flat(((-half, 0), (half, 0), (half, post.height), (-half, post.height)), post.x, rgb(0.5, 0.5, 0.5), 0.5)


def draw_sign(brush: Brush, rng: Rng, sign: Thing) -> None:
    """A disc, a triangle or a board, with a rim in another colour."""
    rim, face = (rgb(*color) for color in _SIGN_COLORS[rng.integers(len(_SIGN_COLORS))])
    middle = sign.height - sign.half_width
    shape = int(rng.integers(3))
    for share, albedo in ((1.0, rim), (0.7, face)):
        radius = sign.half_width * share
        if shape == 0:
            center = brush.camera.project(sign.x, middle, sign.z)
            brush.ellipse(center, (radius * brush.scale, radius * brush.scale), albedo, 0.6)
        else:
            outline = _TRIANGLE if shape == 1 else _BOARD
            brush.flat([(radius * a, middle + radius * b) for a, b in outline], sign.x, albedo, 0.6)


def draw_pedestrian(brush: Brush, rng: Rng, person: Thing) -> None:
    """Two legs in mid-step, a coat, arms, a head."""
    coat, trousers = (rng.uniform(0.05, 0.6) + rng.normal(0, 0.1, 3).astype(np.float32) for _ in range(2))
    coat, trousers = np.clip(coat, 0.03, 0.8), np.clip(trousers, 0.03, 0.6)
    skin = rgb(0.8, 0.6, 0.48) * np.float32(rng.uniform(0.35, 1.05))
    tall, w, step = person.height, person.half_width, rng.uniform(-0.5, 0.5)
    lit = 0.5 + 0.3 * brush.light.side * float(np.sign(rng.uniform(-1, 1)))
    for leg in (-1, 1):
        foot = leg * step * w
        hip = leg * 0.3 * w
        outline = ((foot - 0.22 * w, 0), (foot + 0.3 * w, 0), (hip + 0.3 * w, 0.5 * tall), (hip - 0.3 * w, 0.5 * tall))
        brush.flat(outline, person.x, trousers * np.float32(1 + 0.12 * leg), lit)
        hand = leg * (0.75 + 0.3 * abs(step)) * w
        brush.flat(
            (
                (leg * 0.5 * w, 0.8 * tall),
                (leg * 0.75 * w, 0.78 * tall),
                (hand, 0.46 * tall),
                (hand * 0.75, 0.46 * tall),
            ),
            person.x,
            coat * np.float32(0.8),
            lit,
        )
    torso = ((-0.6, 0.44), (0.6, 0.44), (0.66, 0.8), (0.3, 0.85), (-0.3, 0.85), (-0.66, 0.8))
    brush.flat([(a * w, b * tall) for a, b in torso], person.x, coat, lit)
    head = brush.camera.project(person.x, 0.92 * tall, person.z)
    brush.ellipse(head, (max(0.055 * tall * brush.scale, 1), max(0.075 * tall * brush.scale, 1)), skin, lit)
    hair = (head[0], head[1] - 0.035 * tall * brush.scale)
    brush.ellipse(hair, (0.056 * tall * brush.scale, 0.045 * tall * brush.scale), skin * np.float32(0.3), lit)


_TRIANGLE = ((-1.0, -0.8), (1.0, -0.8), (0.0, 1.0))
_BOARD = ((-1.0, -0.7), (1.0, -0.7), (1.0, 0.9), (-1.0, 0.9))
_SIGN_COLORS = (
    ((0.75, 0.10, 0.10), (0.90, 0.90, 0.88)),
    ((0.90, 0.90, 0.88), (0.12, 0.28, 0.66)),
    ((0.85, 0.68, 0.10), (0.16, 0.16, 0.16)),
    ((0.70, 0.72, 0.70), (0.10, 0.42, 0.24)),
    ((0.75, 0.10, 0.10), (0.72, 0.12, 0.12)),
)
