"""Hypothesis strategies: any COCO file, with everything that a file may hold at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from halfmask.masks.rle import rle_of

Size = tuple[int, int]

FOLDERS = ("", "a/", "b/", "a/b/", "images/", "train/", "labels/", "Ünïcode ☃/")
BASES = (
    "img",
    "img_1",
    "a_img",
    "0001",
    "010",
    "x.y",
    "yes",
    "a b",
    "100%",
    "q=1&r",
    "é",
    "e\u0301",
)
CLASSES = (
    "cat",
    "Cat",
    "yes",
    "no",
    "010",
    "1e3",
    "null",
    "~",
    "a: b",
    "- c",
    "it's",
    '"q"',
    "<x>&",
)
ENDINGS = (".png", ".jpg", ".JPG", ".jpeg", ".webp")
_LETTERS = st.characters(
    exclude_categories=("Cs", "Cc"), exclude_characters="/\\\u2028\u2029\ufffe\uffff"
)


def words(*known: str) -> st.SearchStrategy[str]:
    """One of some known words, or any text without a space at its ends."""
    text = st.text(_LETTERS, min_size=1, max_size=8)
    odd = text.filter(lambda t: t.strip() == t and t.strip(".") != "")
    return st.one_of(st.sampled_from(known), odd)


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    """(H, W) from one pixel."""
    side = st.one_of(st.integers(1, 3), st.integers(4, 40))
    return draw(side), draw(side)


def coordinate(low: float, high: float) -> st.SearchStrategy[float]:
    """Whole, in hundredths or in millionths of a pixel."""
    digits = st.sampled_from([0, 2, 6])
    return st.tuples(st.floats(low, high), digits).map(lambda p: round(p[0], p[1]))


@st.composite
def boxes(draw: st.DrawFn, size: Size) -> list[float]:
    """x, y, width, height: on the image, partly outside, or (seldom) unusable."""
    height, width = size
    x, y = draw(coordinate(-5, width)), draw(coordinate(-5, height))
    w, h = draw(coordinate(0, width + 5)), draw(coordinate(0, height + 5))
    return [x, y, w, h]


@st.composite
def polygons(draw: st.DrawFn, size: Size) -> list[list[float]]:
    height, width = size
    over = draw(st.sampled_from([0, 0, 6]))
    corner = st.tuples(coordinate(-over, width + over), coordinate(-over, height + over))
    return [
        [v for point in draw(st.lists(corner, min_size=3, max_size=6)) for v in point]
        for _ in range(draw(st.sampled_from([1, 1, 2, 3])))
    ]


@st.composite
def bitmaps(draw: st.DrawFn, size: Size) -> np.ndarray[Any, Any]:
    """Blocks that are apart, touch, overlap or leave holes; perhaps nothing at all."""
    canvas = np.zeros(size, dtype=np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        y, x = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
        h, w = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
        canvas[y : y + h, x : x + w] ^= 1
    return canvas


@st.composite
def masks(draw: st.DrawFn, size: Size) -> dict[str, Any]:
    """The key `segmentation`, or none."""
    kind = draw(st.sampled_from(["none", "null", "[]", "rle", "runs", "polygons", "polygons"]))
    if kind == "none":
        return {}
    if kind == "polygons":
        return {"segmentation": draw(polygons(size))}
    if kind in ("null", "[]"):
        return {"segmentation": None if kind == "null" else []}
    canvas = draw(bitmaps(size))
    if kind == "rle":
        return {"segmentation": rle_of(canvas, (0, 0), size)}
    bits = np.concatenate([[0], canvas.T.reshape(-1)])
    edges = [0, *np.flatnonzero(np.diff(bits)).tolist(), canvas.size]
    return {"segmentation": {"size": list(size), "counts": np.diff(edges).tolist()}}


@st.composite
def coco_files(draw: st.DrawFn) -> dict[str, Any]:
    """A document; names of files are distinct even without their endings."""
    splits = draw(st.booleans())
    numbers = draw(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True))
    names = draw(
        st.lists(words(*CLASSES), min_size=len(numbers), max_size=len(numbers), unique=True)
    )
    stem = st.tuples(st.sampled_from(FOLDERS), words(*BASES)).map("".join)
    stems = draw(st.lists(stem, min_size=1, max_size=3, unique=True))
    images = []
    for number, name in enumerate(stems):
        height, width = draw(sizes())
        file_name = name + draw(st.sampled_from(ENDINGS))
        image = {"id": number * 3, "file_name": file_name, "width": width, "height": height}
        split = draw(st.sampled_from(["train", "val", "test"])) if splits else None
        images.append({**image, **({"split": split} if split else {})})
    rows = [draw(_rows(images, numbers, i)) for i in range(draw(st.integers(0, 6)))]
    categories = [{"id": i, "name": name} for i, name in zip(numbers, names, strict=True)]
    return {"images": images, "annotations": rows, "categories": categories}


@st.composite
def _rows(draw: st.DrawFn, images: list[Any], numbers: list[int], number: int) -> dict[str, Any]:
    image = draw(st.sampled_from(images))
    size = (image["height"], image["width"])
    row = {
        "id": number + 10,
        "image_id": image["id"],
        "category_id": draw(st.sampled_from(numbers)),
        "bbox": draw(boxes(size)),
        "area": 1,
        "iscrowd": draw(st.sampled_from([0, 0, 0, 1])),
        **draw(masks(size)),
    }
    found = row.get("segmentation")
    if draw(st.booleans()) and isinstance(found, list) and found and len(found[0]) >= 6:
        xs, ys = found[0][0::2], found[0][1::2]
        row["bbox"] = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    state = draw(st.sampled_from([None, None, None, "filled", "accepted", "redrawn", "rejected"]))
    if state is not None and "segmentation" in row:
        row["halfmask"] = {"model": "m", "score": 0.5, "state": state}
    return row
