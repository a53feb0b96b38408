"""`complete` changes no mask that a person may have drawn, whatever the file is like."""

from __future__ import annotations

import json
import logging
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import halfmask
from halfmask.errors import InputError
from tests.bad_input.fuzz.mutations import mutate
from tests.bad_input.malformed.base import build
from tests.bad_input.malformed.states import GROUPS

SEED, CASES = 7, 200
SIDE = 48
FORMS: list[Any] = [
    [[4, 4, 24, 4, 14, 24]],
    [[4, 4, 24, 4, 14, 24], [9, 9, 10, 10]],
    [4, 4, 24, 4, 14, 24],
    [[[4, 4], [24, 4], [14, 24]]],
    {"size": [SIDE, SIDE], "counts": [100, 50, 2154]},
    [{"size": [SIDE, SIDE], "counts": [100, 50, 2154]}],
    {"size": [9, 9], "counts": "~"},
    "polygon",
    None,
    [],
]
"""Masks of every kind: sound, with a sliver, in other forms, broken, none."""


def masks_of(document: Any) -> Counter[str]:
    """The masks of a file as JSON text; an annotation that stands twice counts once."""
    rows = document.get("annotations") if isinstance(document, dict) else None
    records = {json.dumps(row): row for row in rows or [] if isinstance(row, dict)}
    found = [row.get("segmentation") for row in records.values()]
    return Counter(json.dumps(mask) for mask in found if mask not in (None, [], [[]]))


def check_kept(data: Path, images: Path, out: Path) -> bool:
    """Completes a file; whether it could be read."""
    try:
        halfmask.complete("baseline:box", data, images=images, out=out, workers=0)
    except InputError:
        return False
    before = masks_of(json.loads(data.read_bytes().decode("utf-8-sig")))
    after = masks_of(json.loads(out.read_bytes().decode("utf-8-sig")))
    assert not before - after, f"masks that are gone: {before - after}"
    return True


@pytest.fixture
def source(tmp_path: Path) -> bytes:
    """Two images and an annotation for each of FORMS; their photographs are in `photos`."""
    (tmp_path / "photos").mkdir()
    images = [{"id": i, "width": SIDE, "height": SIDE, "file_name": f"{i}.png"} for i in (1, 2, 3)]
    for image in images:
        Image.new("RGB", (SIDE, SIDE), "gray").save(tmp_path / "photos" / image["file_name"])
    base = {"bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
    rows = [
        {"id": k, "image_id": 1 + k % 3, "category_id": 1 + k % 2, **base, "segmentation": mask}
        for k, mask in enumerate(FORMS)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    document = {"images": images, "annotations": rows, "categories": categories}
    return json.dumps(document).encode()


def test_the_fuzz_corpus(source: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "halfmask")
    read = 0
    for case in range(CASES):
        data = tmp_path / "case.json"
        data.write_bytes(mutate(source, random.Random(f"{SEED}:{case}")))
        try:
            read += check_kept(data, tmp_path / "photos", tmp_path / "out.json")
        except AssertionError as error:
            raise AssertionError(f"case {case}: {error}") from error
    assert 40 < read < CASES - 20


@pytest.mark.parametrize("group", ["Masks", "Boxes", "Records and ids", "JSON"])
def test_the_malformed_states(group: str, tmp_path: Path) -> None:
    read = 0
    for number, state in enumerate(GROUPS[group]):
        given = build(state, tmp_path / str(number))
        read += check_kept(given.data, given.images, tmp_path / f"{number}.out.json")
    assert read > 3
