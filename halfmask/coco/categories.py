"""COCO's 80 classes, the 20 of VOC among them, and the ways to name masked classes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from halfmask.errors import InputError

_NAMES = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire
hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports
ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine
glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot
dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock,
vase, scissors, teddy bear, hair drier, toothbrush
"""
_UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_NAMES: dict[int, str] = dict(
    zip(
        (i for i in range(1, 91) if i not in _UNUSED_IDS),
        " ".join(_NAMES.split()).split(", "),
        strict=True,
    )
)
"""COCO's category ids and names."""

VOC_IDS: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 9, 16, 17, 18, 19, 20, 21, 44, 62, 63, 64, 67, 72)
"""COCO's ids of the 20 VOC classes (paper.md, section 3)."""

NONVOC_IDS: tuple[int, ...] = tuple(i for i in COCO_NAMES if i not in VOC_IDS)
"""COCO's ids of the other 60 classes."""

_VOC_SPELLINGS = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
"""VOC's own spellings → COCO's. Some detectors of COCO's classes use them."""
VOC_NAMES: frozenset[str] = frozenset(COCO_NAMES[i] for i in VOC_IDS) | set(_VOC_SPELLINGS)

_TRIALS, _COUNTS = range(1, 6), (20, 30, 40, 50, 60)


def random_split(trial: int, count: int, classes: int = 80) -> list[int]:
    """Draws the paper's random masked classes (figure 3).

    The 25 splits of 80 classes come from one stream of NumPy's legacy generator, seed
    3, so all splits up to the requested one are drawn. Any other number of classes or
    of masked classes has its own stream.

    Args:
        trial: 1…5 in the paper; otherwise any number from 1 on.
        count: number of masked classes; 20, 30, 40, 50 or 60 in the paper.
        classes: number of categories.
    Returns:
        Sorted positions among the categories, from 0.
    Raises:
        InputError: there is no such split.
    """
    if trial < 1 or not 0 < count <= classes:
        raise InputError(
            f"random:{trial}:{count}: expected a trial of at least 1 and a count of 1 … {classes} "
            "(the file's classes)"
        )
    if classes != 80 or trial not in _TRIALS or count not in _COUNTS:
        own = np.random.default_rng([3, trial, count, classes])
        return sorted(own.choice(classes, count, replace=False).tolist())
    stream = np.random.RandomState(3)  # the paper's stream
    for e in _TRIALS:
        for a in _COUNTS:
            chosen = stream.choice(80, a, replace=False)
            if (e, a) == (trial, count):
                return sorted(chosen.tolist())
    raise AssertionError("unreachable: trial and count were checked")


def folded_name(name: str) -> str:
    """Returns a class name without case, spaces, hyphens and underscores, in COCO's spelling."""
    plain = re.sub(r"[\s_-]+", "", name.casefold())
    return re.sub(r"\s", "", _VOC_SPELLINGS.get(plain, plain))


def labels_by_name(names: Iterable[object], known: Mapping[str, int]) -> list[int]:
    """Returns the label of each class name; 0 for an unknown one.

    An equal name comes first, then one that differs in case, spaces, hyphens,
    underscores or between VOC's spelling and COCO's, if there is only one.

    Args:
        names: class names.
        known: class name → label.
    """
    folded: dict[str, set[int]] = {}
    for name, label in known.items():
        folded.setdefault(folded_name(name), set()).add(label)
    out = []
    for name in map(str, names):
        near = folded.get(folded_name(name), set())
        out.append(known.get(name, min(near) if len(near) == 1 else 0))
    return out


def distinct_classes(
    categories: Sequence[dict[str, Any]], used: Collection[int]
) -> tuple[list[dict[str, Any]], list[str], list[str]]:
    """Returns classes that a format can hold which knows them by name only.

    The root class is left out: without objects, and the supercategory of every other
    class, as Roboflow writes it. Of classes with the same name, those without objects
    are left out, and the others but the first are renamed.

    Args:
        categories: records with id and name.
        used: ids of the classes with objects.
    Returns:
        The records that stay, and the names of those left out and of those renamed.
    """
    left = [c for c in categories if not _is_root(c, categories, used)]
    by_name: dict[str, list[dict[str, Any]]] = {}
    for record in left:
        by_name.setdefault(str(record["name"]).strip(), []).append(record)
    kept: list[dict[str, Any]] = []
    renamed: list[str] = []
    for name, twins in by_name.items():
        filled = [c for c in twins if c["id"] in used]
        for position, record in enumerate(filled or twins[:1]):
            new, number = name, 1
            while position and new in by_name:
                new, number = f"{name} ({record['id']}{'*' * (number - 1)})", number + 1
            renamed += [f"{name} → {new}"] if position else []
            kept.append({**record, "name": new} if position else record)
    ids = {record["id"] for record in kept}
    return kept, [str(c["name"]) for c in categories if c["id"] not in ids], renamed


def _is_root(
    record: dict[str, Any], categories: Sequence[dict[str, Any]], used: Collection[int]
) -> bool:
    others = [c for c in categories if c is not record]
    own, name = record.get("supercategory"), record["name"]
    below = bool(others) and all(c.get("supercategory") == name for c in others)
    return below and record["id"] not in used and own in (None, "", "none", name)


def resolve_masked(
    spec: str, categories: Sequence[dict[str, Any]], file: str = "this file"
) -> set[int]:
    """Returns the category ids that a `masked` setting names.

    Args:
        spec: `voc`, `nonvoc` (by the names of the classes), `random:TRIAL:COUNT`
            (`random_split`), or class names `a,b,c`.
        categories: the file's categories, each with id and name.
        file: name of the file in errors.
    Raises:
        InputError: a class is unknown (similar names are listed), or none is named.
    """
    spec = spec.strip()
    if spec in ("voc", "nonvoc"):
        return _voc(spec, categories, file)
    if spec.startswith("random:"):
        match = re.fullmatch(r"random:(\d{1,9}):(\d{1,9})", spec)
        if match is None:
            raise InputError(f"{spec}: expected random:TRIAL:COUNT, for example random:1:20")
        ids = sorted(c["id"] for c in categories)
        return {ids[i] for i in random_split(int(match[1]), int(match[2]), len(ids))}
    wanted = [name.strip() for name in spec.split(",") if name.strip()]
    if not wanted:
        raise InputError(
            "no class is named: expected voc, nonvoc, random:TRIAL:COUNT or class names a,b,c"
        )
    return {i for name in wanted for i in _named(name, categories, file)}


def _voc(spec: str, categories: Sequence[dict[str, Any]], file: str) -> set[int]:
    voc = {c["id"] for c in categories if c["name"].lower() in VOC_NAMES}
    if not voc:
        raise InputError(
            f"{spec}: none of the 20 VOC classes is in {file}; name the masked classes as a,b,c"
        )
    return voc if spec == "voc" else {c["id"] for c in categories} - voc


def _named(name: str, categories: Sequence[dict[str, Any]], file: str) -> list[int]:
    found = [c["id"] for c in categories if c["name"] == name]
    found = found or [c["id"] for c in categories if c["name"].lower() == name.lower()]
    if not found:
        near = difflib.get_close_matches(name, [c["name"] for c in categories], n=3, cutoff=0.5)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise InputError(f"{name!r} is not a class of {file} ({len(categories)} classes){hint}")
    return found
