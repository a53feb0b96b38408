"""Draws one composite: cut-outs pasted on a piece of a photograph, with the exact mask
of each.

A picture holds groups. A group is one object, or two objects of different classes that
share nearly one box: one lying over the other, or divided by a wavy line. So a box
alone does not tell which of its pixels are its object's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.composites.bank import Background, Bank
from benchmarks.composites.cutouts import Cutout, Limits
from halfmask.data.synthetic.render import WorldInstance
from halfmask.errors import InputError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class CompositeSpec:
    """What composites look like. Sizes in pixels.

    Attributes:
        size: side of the square pictures.
        groups: least and most groups in a picture.
        group_size: least and most longer side of a group.
        shared: probability that a group is meant to be two objects that share a box;
            where no two fit, it is one.
        enlarged: most by which a cut-out may be enlarged over its size in the
            photograph.
    """

    size: int = 128
    groups: tuple[int, int] = (2, 4)
    group_size: tuple[int, int] = (48, 88)
    shared: float = 0.5
    enlarged: float = 1.5

    @property
    def limits(self) -> Limits:
        """Which objects of a photograph are large enough for these pictures."""
        low, high = self.group_size
        return Limits(side=(low / self.enlarged, low / 2.5), keep=round(1.25 * high))


def composite_spec(size: int = 128) -> CompositeSpec:
    """Composites of this side, objects scaled with it.

    Raises:
        InputError: a size that there is not.
    """
    if not 64 <= size <= 512:
        raise InputError(f"--size: composites have sides of 64 to 512 pixels, got {size}")
    low, high = CompositeSpec.group_size
    return CompositeSpec(size, group_size=(round(low * size / 128), round(high * size / 128)))


@dataclass(frozen=True)
class Composite:
    """One picture.

    Attributes:
        picture: uint8 [size, size, 3] RGB.
        instances: its objects; `label` is the category id.
        cutouts: the annotation id each was cut from.
        photographs: the ids of the photographs that are in it, sorted.
    """

    picture: Array
    instances: list[WorldInstance]
    cutouts: list[int]
    photographs: list[int]


def compose(spec: CompositeSpec, bank: Bank, seed: int, index: int) -> Composite:
    """Picture `index` of a seed. Depends on nothing but its arguments."""
    rng = np.random.default_rng([seed, index])
    ground = bank.backgrounds[int(rng.integers(len(bank.backgrounds)))]
    canvas = _Canvas(_ground(rng, spec.size, ground))
    for group in range(int(rng.integers(spec.groups[0], spec.groups[1] + 1))):
        canvas.paste(rng, _draw_group(rng, spec, bank), group)
    kept = [(piece, instance) for piece, instance in canvas.visible() if instance is not None]
    sources = [piece.cutout for piece, _ in kept]
    return Composite(
        canvas.picture.clip(0, 255).astype(np.uint8),
        [instance for _, instance in kept],
        [c.annotation_id for c in sources],
        sorted({ground.image_id, *(c.image_id for c in sources)}),
    )


@dataclass(frozen=True)
class _Piece:
    """A cut-out, ready to be pasted: float32 [h, w, 3] and [h, w] with alpha in [0, 1].
    Pieces of a group have one size.
    """

    cutout: Cutout
    colour: Array
    alpha: Array

    @property
    def solid(self) -> Array:
        """The pixels that are its own, bool [h, w]."""
        return self.alpha >= 0.5


class _Canvas:
    """A picture in the making; nothing is pasted where it would hide much of another
    object, so nothing goes unlabelled.
    """

    TRIES = 12
    KEPT = 0.7
    """Least share of an object that stays to be seen whatever is pasted later."""

    def __init__(self, ground: Array) -> None:
        self.picture = ground
        self.owner = np.zeros(ground.shape[:2], dtype=np.int64)
        self.pieces: list[tuple[_Piece, int]] = []
        self.areas = [0]

    def paste(self, rng: np.random.Generator, pieces: list[_Piece], group: int) -> None:
        """Pastes a group from the bottom up, or nothing where there is no room for it."""
        h, w = pieces[0].alpha.shape
        size = len(self.owner)
        covered = np.any([p.solid for p in pieces], axis=0)
        for u, v in rng.random((self.TRIES, 2)).tolist():
            x, y = int(u * (size - w + 1)), int(v * (size - h + 1))
            window = (slice(y, y + h), slice(x, x + w))
            hidden = np.bincount(self.owner[window][covered], minlength=len(self.areas))
            seen = np.bincount(self.owner.reshape(-1), minlength=len(self.areas)) - hidden
            if all(
                s >= self.KEPT * area
                for s, area in zip(seen[1:].tolist(), self.areas[1:], strict=True)
            ):
                self._blend(window, pieces, group)
                return

    def _blend(self, window: tuple[slice, slice], pieces: list[_Piece], group: int) -> None:
        for piece in pieces:
            view = self.picture[window]
            view += piece.alpha[..., None] * (piece.colour - view)
            self.pieces.append((piece, group))
            np.copyto(self.owner[window], len(self.pieces), where=piece.solid)
        first = len(self.pieces) - len(pieces) + 1
        self.areas += [int((self.owner == i).sum()) for i in range(first, len(self.pieces) + 1)]

    def visible(self) -> list[tuple[_Piece, WorldInstance | None]]:
        """Each pasted piece with what is to be seen of it, tight."""
        return [
            (piece, _tight(self.owner == i, piece, group))
            for i, (piece, group) in enumerate(self.pieces, 1)
        ]


def _tight(mask: Array, piece: _Piece, group: int) -> WorldInstance | None:
    if not mask.any():
        return None
    x0, y0, x1, y1 = _box(mask)
    return WorldInstance(
        piece.cutout.category_id, mask[y0:y1, x0:x1].astype(np.uint8), (x0, y0), group
    )


def _box(mask: Array) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _ground(rng: np.random.Generator, size: int, ground: Background) -> Array:
    """A random part of a background, float32 [size, size, 3]."""
    whole = len(ground.pixels)
    side = int(rng.integers(round(0.55 * whole), whole + 1))
    x, y = (int(v) for v in rng.integers(0, whole - side + 1, 2))
    piece = Image.fromarray(np.ascontiguousarray(ground.pixels[y : y + side, x : x + side]))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    shown = np.asarray(piece.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    return _light(rng, shown)


def _light(rng: np.random.Generator, colour: Array) -> Array:
    """The same in another light: brightness, contrast, a slight tint."""
    gain = np.float32(rng.uniform(0.8, 1.2)) * rng.uniform(0.94, 1.06, 3).astype(np.float32)
    lit: Array = colour * gain + np.float32(rng.uniform(-18, 18))
    return lit


def _draw_group(rng: np.random.Generator, spec: CompositeSpec, bank: Bank) -> list[_Piece]:
    """One piece, or two that share a box, from the bottom up."""
    names = list(bank.by_class)
    first = _any_of(rng, bank, names[int(rng.integers(len(names)))])
    partner = _partner(rng, bank, first) if rng.random() < spec.shared else None
    w, h = _shape(rng, spec, [first] if partner is None else [first, partner])
    piece = _resized(rng, first, w, h)
    if partner is not None:
        pair = [piece, _resized(rng, partner, w, h)]
        low, high = (pair[i] for i in rng.permutation(2))
        for form in rng.permutation(_FORMS).tolist():
            both = _shared(rng, low, high, form)
            if both is not None:
                return both
    return [piece]


def _any_of(rng: np.random.Generator, bank: Bank, category: int) -> Cutout:
    cutouts = bank.by_class[category]
    return cutouts[int(rng.integers(len(cutouts)))]


def _partner(rng: np.random.Generator, bank: Bank, first: Cutout) -> Cutout | None:
    """A cut-out of another class whose form is like enough: either is stretched to the
    form between theirs.
    """
    others = [c for c in bank.by_class if c != first.category_id]
    for _ in range(12 if others else 0):
        second = _any_of(rng, bank, others[int(rng.integers(len(others)))])
        if abs(np.log(_aspect(first) / _aspect(second))) < np.log(1.8):
            return second
    return None


def _aspect(cutout: Cutout) -> float:
    height, width = cutout.pixels.shape[:2]
    return float(width / height)


def _shape(rng: np.random.Generator, spec: CompositeSpec, cutouts: list[Cutout]) -> tuple[int, int]:
    """Width and height of a group: a random longer side, no larger than the
    photographs' resolution bears.
    """
    low, high = spec.group_size
    most = min(high, *(spec.enlarged * c.native for c in cutouts))
    side = float(np.exp(rng.uniform(np.log(low), np.log(max(low, most)))))
    aspect = float(
        np.exp(np.mean([np.log(_aspect(c)) for c in cutouts]) + rng.uniform(-0.12, 0.12))
    )
    return max(4, round(side * min(1.0, aspect))), max(4, round(side * min(1.0, 1 / aspect)))


def _resized(rng: np.random.Generator, cutout: Cutout, w: int, h: int) -> _Piece:
    image = Image.fromarray(np.ascontiguousarray(cutout.pixels))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(image.resize((w, h), Image.Resampling.BILINEAR), dtype=np.float32)
    return _Piece(cutout, _light(rng, pixels[..., :3]), pixels[..., 3] / np.float32(255))


_FORMS = ("over", "over", "line", "line", "band")
_SHARE = 0.3
"""Least share of either object of a pair that is to be seen."""
_ALIKE = 0.7
"""Least IoU of their boxes."""


def _shared(rng: np.random.Generator, low: _Piece, high: _Piece, form: str) -> list[_Piece] | None:
    """Both pieces on one box, the upper one cut to a form; None where too little of one
    is left or their boxes differ.
    """
    whole = high.solid
    if form != "over":
        cut = high.alpha * _part(rng, form, *high.alpha.shape)
        high = _Piece(high.cutout, high.colour, cut)
    top, rest = high.solid, low.solid & ~high.solid
    if rest.sum() < _SHARE * low.solid.sum() or top.sum() < _SHARE * whole.sum():
        return None
    a, b = _box(rest), _box(top)
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, across) * max(0, down)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return [low, high] if both >= _ALIKE * union else None


def _part(rng: np.random.Generator, form: str, h: int, w: int) -> Array:
    """What a cut leaves of the upper piece, float32 [h, w]: one side of a wavy line
    from corner to corner, or a wavy band along it.
    """
    x = (np.arange(w, dtype=np.float32)[None] + 0.5) * (2 / w) - 1
    y = (np.arange(h, dtype=np.float32)[:, None] + 0.5) * (2 / h) - 1
    side = 1.0 if rng.random() < 0.5 else -1.0
    across, along = (x + side * y) / 2, (x - side * y) / 2
    wave = rng.uniform(0.05, 0.12) * np.sin(along * rng.uniform(5, 9) + rng.uniform(0, 6.3))
    kept = (
        across + wave > rng.uniform(-0.1, 0.1)
        if form == "line"
        else np.abs(across + wave) < rng.uniform(0.25, 0.4)
    )
    return np.asarray(kept, dtype=np.float32)
