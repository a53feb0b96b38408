"""Draws one picture of the procedural world, with the exact mask of every object.

A picture holds groups on a noisy ground. A group is one object, or two objects of
different classes that share nearly one box: split by a wavy line, or one over the
other, at random. So a box alone does not show which of its pixels are its object's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from halfmask.data.synthetic.classes import ASPECTS, DEFAULT_CLASSES, WorldClass, world_classes

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """The look of a world. Sizes are in pixels.

    Attributes:
        size: side of the square pictures.
        classes: the classes that occur, all equally often.
        groups: least and most groups in a picture.
        group_size: least and most length of a group's longer side.
        shared: probability that a group is two objects that share a box.
        noise: strength of the noise on ground and objects, 1 = default.
    """

    size: int = 112
    classes: tuple[WorldClass, ...] = field(
        default_factory=lambda: tuple(world_classes(DEFAULT_CLASSES))
    )
    groups: tuple[int, int] = (3, 4)
    group_size: tuple[int, int] = (36, 60)
    shared: float = 0.43
    noise: float = 1.0


@dataclass(frozen=True)
class WorldInstance:
    """One object of a picture.

    Attributes:
        label: 1…number of classes.
        bitmap: uint8 [h, w], its visible pixels, tight.
        offset: (x, y) of the bitmap's upper left pixel.
        group: number of its group in the picture; objects of one group share nearly one
            box.
    """

    label: int
    bitmap: Array
    offset: tuple[int, int]
    group: int


def render(spec: WorldSpec, seed: int, index: int) -> tuple[Array, list[WorldInstance]]:
    """Draws picture `index` of world `seed`: uint8 [size, size, 3], and its objects."""
    rng = np.random.default_rng([seed, index])
    picture = _ground(rng, spec)
    owner = np.zeros((spec.size, spec.size), dtype=np.uint8)
    drawn: list[tuple[int, int]] = []
    for group, place in enumerate(_layout(rng, spec)):
        window = (slice(place.y, place.y + place.h), slice(place.x, place.x + place.w))
        for row, inside in _parts(rng, spec, place):
            paint = _paint(rng, spec.classes[row], place.w, h=place.h)
            np.copyto(picture[window], paint, where=inside[..., None])
            drawn.append((row + 1, group))
            np.copyto(owner[window], np.uint8(len(drawn)), where=inside)
    # Uniform noise: drawing normal numbers would cost as much as all the rest.
    picture += rng.integers(-128, 128, picture.shape, dtype=np.int8) * np.float32(spec.noise / 8)
    visible = [_visible(owner == i, label, group) for i, (label, group) in enumerate(drawn, 1)]
    return picture.clip(0, 255).astype(np.uint8), [v for v in visible if v is not None]


def _visible(mask: Array, label: int, group: int) -> WorldInstance | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return None
    x0, y0 = int(columns[0]), int(rows[0])
    bitmap = mask[y0 : rows[-1] + 1, x0 : columns[-1] + 1].astype(np.uint8)
    return WorldInstance(label, bitmap, (x0, y0), group)


def _ground(rng: np.random.Generator, spec: WorldSpec) -> Array:
    """Returns a cloudy, nearly grey ground, float32 [size, size, 3]."""
    cells = max(2, spec.size // 12)
    spread = int(26 * spec.noise)
    clouds = rng.integers(128 - spread, 128 + spread + 1, (cells, cells, 3), dtype=np.uint8)
    grey = clouds.mean(2, keepdims=True)
    clouds = (0.6 * grey + 0.4 * clouds).astype(np.uint8)
    smooth = Image.fromarray(clouds).resize((spec.size, spec.size), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32).copy()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The rectangle of a group, and the rows of its one or two classes."""

    x: int
    y: int
    w: int
    h: int
    rows: tuple[int, ...]


def _layout(rng: np.random.Generator, spec: WorldSpec) -> list[_Place]:
    """Returns places that hardly overlap; without room all groups become smaller."""
    count = int(rng.integers(spec.groups[0], spec.groups[1] + 1))
    # Large ones first: they are harder to fit in.
    sides = np.sort(rng.uniform(*spec.group_size, count))[::-1].tolist()
    shapes = []
    for side in sides:
        rows = _classes_of_group(rng, spec)
        # The aspect of a shared box lies between those of its classes, and shows
        # neither.
        logs = [np.log(ASPECTS[spec.classes[r].aspect]) for r in rows]
        aspect = float(np.exp(sum(logs) / len(logs) + rng.uniform(-0.12, 0.12)))
        shapes.append((side * min(1.0, aspect), side * min(1.0, 1 / aspect), rows))
    filled = sum(w * h for w, h, _ in shapes) / spec.size**2
    scale = min(1.0, spec.size / max(sides), (0.55 / filled) ** 0.5)
    while True:
        places = _try_layout(
            rng, spec.size, [(w * scale, h * scale, rows) for w, h, rows in shapes]
        )
        if len(places) == count or scale < 0.05:
            return places
        scale *= 0.97


def _try_layout(
    rng: np.random.Generator, size: int, shapes: list[tuple[float, float, tuple[int, ...]]]
) -> list[_Place]:
    places: list[_Place] = []
    for wide, high, rows in shapes:
        w, h = max(4, round(wide)), max(4, round(high))
        for u, v in rng.random((12, 2)).tolist():
            x, y = int(u * (size - w + 1)), int(v * (size - h + 1))
            if _is_free(places, x, y, w=w, h=h):
                places.append(_Place(x=x, y=y, w=w, h=h, rows=rows))
                break
        else:
            break
    return places


def _is_free(places: list[_Place], x: int, y: int, *, w: int, h: int) -> bool:
    for p in places:
        across = min(p.x + p.w, x + w) - max(p.x, x)
        if across > 0:
            down = min(p.y + p.h, y + h) - max(p.y, y)
            if down > 0 and across * down > 0.05 * min(p.w * p.h, w * h):
                return False
    return True


def _classes_of_group(rng: np.random.Generator, spec: WorldSpec) -> tuple[int, ...]:
    first = int(rng.integers(len(spec.classes)))
    if rng.random() >= spec.shared:
        return (first,)
    for _ in range(50):
        second = int(rng.integers(len(spec.classes)))
        a, b = spec.classes[first], spec.classes[second]
        if a.hue != b.hue and (a.texture, a.tone) != (b.texture, b.tone):
            return (first, second)
    return (first,)


def _parts(rng: np.random.Generator, spec: WorldSpec, place: _Place) -> list[tuple[int, Array]]:
    """Returns the objects of a group, bottom up: class row and pixels, bool [h, w]."""
    x, y = _grid(place.w, place.h)
    if len(place.rows) == 1:
        return [(place.rows[0], _silhouette(rng, spec.classes[place.rows[0]].outline, x, y=y))]
    body = _silhouette(rng, "block", x, y=y)
    low, high = (place.rows[i] for i in rng.permutation(2))
    return [(low, body), (high, body & _upper_part(rng, x, y))]


def _grid(w: int, h: int) -> tuple[Array, Array]:
    """Returns pixel centres in (−1, 1) of the half sides: x [1, w], y [h, 1]."""
    x = (np.arange(w, dtype=np.float32) + 0.5) * (2 / w) - 1
    y = (np.arange(h, dtype=np.float32) + 0.5) * (2 / h) - 1
    return x[None, :], y[:, None]


def _upper_part(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Returns the pixels of the upper of two objects; each reaches all four sides."""
    side = 1.0 if rng.random() < 0.5 else -1.0
    down, along = (x + side * y) * np.float32(0.7071), (x - side * y) * np.float32(0.7071)
    wave = np.float32(rng.uniform(0.06, 0.16)) * np.sin(
        along * np.float32(rng.uniform(4, 8)) + np.float32(rng.uniform(0, 6.3))
    )
    form = rng.integers(5)
    upper: Array
    if form < 2:  # a wavy line from corner to corner
        upper = down + wave > rng.uniform(-0.12, 0.12)
    elif form == 2:  # a band
        upper = np.abs(down + wave) < rng.uniform(0.3, 0.45)
    elif form == 3:  # a plus
        upper = (np.abs(x + wave) < rng.uniform(0.28, 0.42)) | (
            np.abs(y + wave) < rng.uniform(0.28, 0.42)
        )
    else:  # an X
        upper = np.minimum(np.abs(down), np.abs(along)) + wave * np.float32(0.5) < rng.uniform(
            0.2, 0.3
        )
    return upper


def _silhouette(rng: np.random.Generator, outline: str, x: Array, *, y: Array) -> Array:
    """Returns a lone object's pixels, bool [h, w]; its tight box is nearly the grid."""
    a, b = np.abs(x), np.abs(y)
    inside: Array
    if outline == "cross":
        arm = rng.uniform(0.36, 0.46)
        inside = ((a < arm) | (b < arm)) & (np.maximum(a, b) < 0.99)
    elif outline == "hexagon":
        inside = np.maximum(b, a * np.float32(0.8) + b * np.float32(0.5)) < 0.98
    elif outline == "drop":
        inside = a * a * np.float32(4.0) < (1 - y) * (1 + y) * (1 + y) * np.float32(1.69)
    elif outline == "star":
        inside = np.sqrt(a) + np.sqrt(b) < rng.uniform(1.1, 1.2)
    elif outline == "arch":
        inside = (a**4 + b**4 < 1) & ~((a < 0.4) & (y > -0.2))
    else:
        power = {"block": 6.0, "oval": 2.0, "diamond": 1.15}[outline]
        bumps = np.sin(
            np.float32(rng.integers(3, 6)) * np.arctan2(y, x) + np.float32(rng.uniform(0, 6.3))
        )
        inside = a**power + b**power < 1 + np.float32(rng.uniform(0.0, 0.05)) * bumps
    return inside


def _paint(rng: np.random.Generator, kind: WorldClass, w: int, *, h: int) -> Array:
    """Returns the class's ground with its texture in ink, float32 [h, w, 3]."""
    angle, period = rng.uniform(-0.15, 0.15), rng.uniform(6.5, 8.0)
    turn = np.float32(2 * np.pi / period)
    x = np.arange(w, dtype=np.float32)[None, :] * turn + np.float32(rng.uniform(0, 6.3))
    y = np.arange(h, dtype=np.float32)[:, None] * turn + np.float32(rng.uniform(0, 6.3))
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    pattern = _texture(kind.texture, x * cos - y * sin, x * sin + y * cos)
    ground, ink = (np.asarray(c, dtype=np.float32) for c in kind.colours())
    light = np.float32(rng.uniform(0.88, 1.08))
    cover = np.clip(pattern * np.float32(2.5) + np.float32(0.5), 0, 1)[..., None]
    painted: Array = (ground + cover * (ink - ground)) * light
    return painted


def _texture(name: str, x: Array, y: Array) -> Array:
    """Returns values that are positive under ink; x, y in radians of the period."""
    pattern: Array
    if name == "striped":
        pattern = np.sin(y)
    elif name == "barred":
        pattern = np.sin(x)
    elif name == "dotted":
        pattern = np.sin(x * np.float32(0.8)) * np.sin(y * np.float32(0.8)) * 2 - np.float32(0.5)
    elif name == "checked":
        pattern = np.sin(x * np.float32(0.6)) * np.sin(y * np.float32(0.6)) * 3
    elif name == "gridded":
        pattern = np.maximum(np.sin(x), np.sin(y)) - np.float32(0.6)
    elif name == "ringed":
        pattern = np.sin(np.hypot(x - x.mean(), y - y.mean()))
    elif name == "waved":
        pattern = np.sin(y + np.float32(1.2) * np.sin(x * np.float32(0.5)))
    else:
        pattern = np.sin(y + np.abs(np.mod(x * np.float32(0.5), 6.2832) - np.float32(3.1416)))
    return np.broadcast_to(pattern, np.broadcast_shapes(x.shape, y.shape))
