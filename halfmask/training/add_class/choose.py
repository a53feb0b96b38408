"""Chooses the classes to add, their ids, and their boxes in a data set."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from halfmask.coco.categories import labels_by_name
from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import is_crowd
from halfmask.errors import InputError
from halfmask.models.checkpoint import Category
from halfmask.text import listed

SHOWN = 5
"""How many names a message shows."""


def new_classes(
    known: Sequence[Category], file: CocoFile | None, names: Sequence[str] | None, *, where: str
) -> list[Category]:
    """Returns the classes to add, with ids above those of the model.

    A class keeps the file's id if all added ones have ids above the model's.

    Args:
        known: the model's classes.
        file: data with boxes of the new classes; None: words alone.
        names: of the classes; None: all of the file that the model does not have.
        where: the model, in messages.
    Raises:
        InputError: none is new, one is known already, or one has no usable box.
    """
    labels = {category["name"]: i + 1 for i, category in enumerate(known)}
    if names is None:
        if file is None:
            raise InputError("add-class: name the new classes with --names, or give data")
        found = [str(c["name"]) for c in file.categories]
        fresh = zip(found, labels_by_name(found, labels), strict=True)
        names = [name for name, label in fresh if label == 0]
        if not names:
            raise InputError(
                f"{file.name}: {where} knows all of its {len(found)} classes already "
                f"({listed(found, SHOWN)}); nothing to add"
            )
    _check_names(names, labels, where)
    own = [max((c["id"] for c in known), default=0) + 1 + k for k in range(len(names))]
    if file is not None:
        records = [_record(name, file) for name in names]
        _check_boxes(file, records)
        ids = [int(record["id"]) for record in records]
        own = ids if min(ids) >= own[0] else own
        names = [str(record["name"]) for record in records]
    new: list[Category] = [{"id": i, "name": n} for i, n in zip(own, names, strict=True)]
    return sorted(new, key=lambda category: category["id"])


def added_boxes(file: CocoFile, new: Sequence[Category]) -> CocoFile:
    """Returns the file with the annotations of the new classes alone, labels 1…n."""
    ids = {int(_record(c["name"], file)["id"]): c["id"] for c in new}
    document: dict[str, Any] = {
        **file.document,
        "categories": [dict(category) for category in new],
        "annotations": [
            {k: v for k, v in a.items() if k != "segmentation"}
            | {"category_id": ids[a["category_id"]]}
            for image in file.image_ids
            for a in file.annotations_of(image)
            if a["category_id"] in ids
        ],
    }
    return CocoFile.from_document(document, file.name)


def count_boxes(file: CocoFile, new: Sequence[Category]) -> list[int]:
    """Returns the usable boxes of each class, without crowds."""
    counts = dict.fromkeys((c["id"] for c in new), 0)
    for image in file.image_ids:
        for annotation in file.annotations_of(image):
            if annotation["category_id"] in counts and not is_crowd(annotation):
                counts[annotation["category_id"]] += 1
    return list(counts.values())


def _check_names(names: Sequence[str], labels: dict[str, int], where: str) -> None:
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise InputError("--names: expected class names a,b,c, found none or an empty one")
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise InputError(f"--names: {twice[0]!r} stands there twice")
    there = [n for n, k in zip(names, labels_by_name(names, labels), strict=True) if k]
    if there:
        raise InputError(f"{where}: knows {listed(there, SHOWN)} already; name new classes only")


def _record(name: str, file: CocoFile) -> dict[str, Any]:
    exact = [c for c in file.categories if str(c["name"]) == name]
    exact = exact or [c for c in file.categories if str(c["name"]).lower() == name.lower()]
    if len(exact) == 1:
        return dict(exact[0])
    if exact:
        raise InputError(f"{file.name}: {len(exact)} of its classes have the name {name!r}")
    near = difflib.get_close_matches(name, [str(c["name"]) for c in file.categories], 3, 0.5)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise InputError(
        f"{name!r} is not a class of {file.name} ({len(file.categories)} classes){hint}"
    )


def _check_boxes(file: CocoFile, records: Sequence[dict[str, Any]]) -> None:
    wanted: list[Category] = [{"id": int(r["id"]), "name": str(r["name"])} for r in records]
    counts = zip(wanted, count_boxes(file, wanted), strict=True)
    empty = [category["name"] for category, count in counts if count == 0]
    if empty:
        raise InputError(
            f"{file.name}: no usable box of {listed(empty, SHOWN)} to learn from (crowds aside); "
            f"see `halfmask doctor {file.name}`, or name other classes with --names"
        )
