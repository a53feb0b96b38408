"""The classes of the procedural world: their look, COCO records, and random A/B splits.

A class is a combination of few attribute values. Its pixels show hue, tone, texture and
ink. Outline (how much of its box it fills) follows texture and tone, and aspect follows
the hue, so that, as in photographs, the weights of a box regressor carry information on
the class.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

HUES = {
    "red": 0.0,
    "teal": 0.47,
    "gold": 0.125,
    "violet": 0.76,
    "blue": 0.6,
    "green": 0.33,
    "pink": 0.9,
    "orange": 0.06,
    "lime": 0.23,
    "cyan": 0.53,
    "indigo": 0.68,
    "plum": 0.83,
}
TEXTURES = ("striped", "dotted", "checked", "barred", "gridded", "ringed", "waved", "twilled")
INKS = ("dark", "pale", "contrary", "grey")
TONES = ("vivid", "deep")
ASPECTS = {"tall": 0.62, "upright": 0.86, "broad": 1.18, "wide": 1.62}
"""Width over height."""
OUTLINES = ("block", "oval", "diamond", "cross", "drop", "hexagon", "star", "arch")
DEFAULT_CLASSES = 32
MOST_CLASSES = len(HUES) * len(TEXTURES) * len(INKS) * len(TONES) * len(OUTLINES)
_LIMITS = (
    (4, 2, 2, 2, 1),
    (4, 4, 4, 2, 4),
    (len(HUES), len(TEXTURES), len(INKS), len(TONES), len(OUTLINES)),
)
"""Most values of hue, texture, ink, tone and outline; each row is used up before the
next.
"""


@dataclass(frozen=True, kw_only=True)
class WorldClass:
    """One class: the values of its attributes, by name."""

    hue: str
    texture: str
    tone: str
    ink: str
    aspect: str
    outline: str

    @property
    def name(self) -> str:
        return f"{self.hue}-{self.tone}-{self.texture}-{self.ink}-{self.outline}"

    @property
    def attributes(self) -> dict[str, str]:
        return dict(vars(self))

    def colours(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Returns RGB in 0…255 of the ground and of the ink drawn on it."""
        hue = HUES[self.hue]
        ground = colorsys.hsv_to_rgb(hue, 0.9, 0.95 if self.tone == "vivid" else 0.58)
        ink = {
            "dark": colorsys.hsv_to_rgb(hue, 0.9, 0.12),
            "pale": colorsys.hsv_to_rgb(hue, 0.12, 1.0),
            "contrary": colorsys.hsv_to_rgb((hue + 0.5) % 1.0, 0.9, 0.75),
            "grey": (0.5, 0.5, 0.5),
        }[self.ink]
        red, green, blue = (255 * v for v in ground)
        return (red, green, blue), (255 * ink[0], 255 * ink[1], 255 * ink[2])


def world_classes(count: int) -> list[WorldClass]:
    """Returns the first `count` classes, all different and always the same.

    Up to 512 classes no attribute has more than four values.
    """
    assert 1 <= count <= MOST_CLASSES, (count, MOST_CLASSES)
    hues, textures, inks, tones, outlines = _value_counts(count)
    out = []
    for outline, ink, tone, texture, hue in product(
        *map(range, (outlines, inks, tones, textures, hues))
    ):
        # Where outlines are not free, they follow texture and tone: few values, yet a
        # class has a shape of its own.
        shape = outline if outlines > 1 else (texture * tones + tone) % len(OUTLINES)
        kind = WorldClass(
            hue=list(HUES)[hue],
            texture=TEXTURES[texture],
            tone=TONES[tone],
            ink=INKS[ink],
            aspect=list(ASPECTS)[hue % len(ASPECTS)],
            outline=OUTLINES[shape],
        )
        out.append(kind)
    return out[:count]


def _value_counts(count: int) -> list[int]:
    """Returns the numbers of values that give at least `count` combinations."""
    sizes = [1] * len(_LIMITS[0])
    for limits in _LIMITS:
        while math.prod(sizes) < count and sizes != list(limits):
            # The one that has used the smallest share of its values.
            free = [i for i in range(len(sizes)) if sizes[i] < limits[i]]
            sizes[min(free, key=lambda i: sizes[i] / limits[i])] += 1
    return sizes


def world_categories(classes: list[WorldClass]) -> list[dict[str, Any]]:
    """Returns COCO category records, ids from 1 on, each with its `attributes`."""
    return [
        {"id": i, "name": c.name, "supercategory": c.hue, "attributes": c.attributes}
        for i, c in enumerate(classes, 1)
    ]


def attribute_split(categories: Iterable[Mapping[str, Any]], count: int, seed: int) -> set[int]:
    """Draws a set A of `count` category ids in which each attribute value occurs.

    Args:
        categories: records with `id` and `attributes` (names → values), in any order.
        seed: the same seed gives the same set.
    Raises:
        ValueError: no such set was found.
    """
    values = {
        int(c["id"]): {(str(k), str(v)) for k, v in c["attributes"].items()} for c in categories
    }
    wanted: set[tuple[str, str]] = set().union(*values.values()) if values else set()
    ids = sorted(values)
    if not 0 < count <= len(ids):
        raise ValueError(f"a split needs between 1 and {len(ids)} of the classes, got {count}")
    generator = np.random.default_rng([seed, count, len(ids)])
    for _ in range(1000):
        chosen = {ids[i] for i in generator.choice(len(ids), count, replace=False)}
        if set().union(*(values[i] for i in chosen)) == wanted:
            return chosen
    raise ValueError(f"found no {count} of {len(ids)} classes in which each attribute value occurs")
