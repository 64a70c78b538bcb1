"""Where things stand: random positions along the street that leave each other room."""

from segrobust.data.scenes.cars import draw_car
from segrobust.data.scenes.objects import Thing, draw_lamp, draw_pedestrian, draw_sign, draw_signpost, draw_tree
from segrobust.data.scenes.world import Label, Rng, Side, Street

_FARTHEST = 75.0


def place_things(rng: Rng, street: Street) -> list[Thing]:
    """Everything that stands free in the street."""
    things = _traffic(rng, street)
    for side in street.sides:
        things += _kerbside(rng, side)
        things += _parked(rng, side)
        things += _greenery(rng, side)
        things += _people(rng, side)
    if rng.random() < 0.3:
        things.append(_person(rng, rng.uniform(-street.left.kerb, street.right.kerb), rng.uniform(7.0, 14.0)))
    return things


def _car(rng: Rng, x: float, z: float) -> Thing:
    van = 1.35 if rng.random() < 0.15 else 1.0
    return Thing(
        x=x,
        z=z,
        half_width=rng.uniform(0.82, 0.95),
        length=rng.uniform(3.7, 4.8),
        height=rng.uniform(1.38, 1.6) * van,
        label=Label.CAR,
        draw=draw_car,
    )


def _traffic(rng: Rng, street: Street) -> list[Thing]:
    cars = []
    for x, near in ((0.0, 9.0), (-street.lane, 7.0)):
        z = near + rng.exponential(14.0)
        while z < _FARTHEST:
            cars.append(_car(rng, x + rng.uniform(-0.4, 0.4), z))
            z += 9.0 + rng.exponential(24.0)
    return cars


def _parked(rng: Rng, side: Side) -> list[Thing]:
    cars = []
    share = rng.uniform(0.2, 0.8) if rng.random() < 0.55 and side.kerb > 3.2 else 0.0
    z = rng.uniform(4.5, 9.0)
    while z < 60.0:
        if rng.random() < share:
            cars.append(_car(rng, side.sign * (side.kerb - 1.1), z))
        z += rng.uniform(5.6, 7.0)
    return cars


def _kerbside(rng: Rng, side: Side) -> list[Thing]:
    things = []
    x = side.sign * (side.kerb + 0.45)
    z, spacing = rng.uniform(5.0, 18.0), rng.uniform(13.0, 24.0)
    height = rng.uniform(5.0, 8.0)
    while z < 32.0:
        things.append(Thing(x=x, z=z, half_width=0.2, length=0.2, height=height, label=Label.POLE, draw=draw_lamp))
        z += spacing
    for _ in range(rng.integers(1, 4)):
        z, top, radius = rng.uniform(5.5, 15.0), rng.uniform(2.4, 3.4), rng.uniform(0.45, 0.7)
        post = Thing(x=x, z=z, half_width=0.1, length=0.1, height=top, label=Label.POLE, draw=draw_signpost)
        plate = Thing(x=x, z=z - 0.05, half_width=radius, length=0.1, height=top, label=Label.SIGN, draw=draw_sign)
        things += [post, plate]
    return things


def _greenery(rng: Rng, side: Side) -> list[Thing]:
    things = []
    row = side.kerb + (0.5 * side.verge if side.verge else 1.0)
    share = rng.uniform(0.25, 0.9) if rng.random() < 0.6 else 0.0
    z, spacing = rng.uniform(6.0, 12.0), rng.uniform(7.0, 12.0)
    while z < _FARTHEST:
        if rng.random() < share:
            things.append(_plant(rng, side.sign * row, z, rng.uniform(4.0, 9.0)))
        if side.green and rng.random() < 0.6:
            behind = side.kerb + side.verge + side.walk
            things.append(_plant(rng, side.sign * (behind + 0.7), z + rng.uniform(-2, 2), rng.uniform(0.8, 2.2)))
        z += spacing * rng.uniform(0.8, 1.2)
    return things


def _plant(rng: Rng, x: float, z: float, height: float) -> Thing:
    half = height * rng.uniform(0.24, 0.36) if height > 2.5 else height * rng.uniform(0.6, 1.1)
    return Thing(x=x, z=z, half_width=half, length=half, height=height, label=Label.VEGETATION, draw=draw_tree)


def _people(rng: Rng, side: Side) -> list[Thing]:
    inner = side.kerb + side.verge
    return [
        _person(rng, side.sign * (inner + rng.uniform(0.2, 1.0) * side.walk), rng.uniform(4.5, 14.0))
        for _ in range(rng.poisson(3.2))
    ]


def _person(rng: Rng, x: float, z: float) -> Thing:
    return Thing(
        x=x,
        z=z,
        half_width=rng.uniform(0.34, 0.46),
        length=0.4,
        height=rng.uniform(1.45, 1.95),
        label=Label.PEDESTRIAN,
        draw=draw_pedestrian,
    )
