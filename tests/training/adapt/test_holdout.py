"""Which masks an adapted model does not learn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances, development_split
from halfmask.errors import InputError
from halfmask.models.fixed.baselines import build_baseline
from halfmask.recipes.recipe import load_recipe
from halfmask.training.adapt.holdout import MEASURED, HoldOut, draw_rows, hold_out
from halfmask.training.measure import measure_masks


def pictures(tmp_path: Path, masks: dict[str, int], images: int = 20) -> CocoInstances:
    """Photographs with so many masked objects of each class, and a box-only one each."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(images):
        Image.new("RGB", (64, 48)).save(folder / f"{k}.png")
    names = [*masks, "bare"]
    rows: list[dict[str, Any]] = []

    def add(name: str, image: int, masked: bool) -> None:
        row = {"id": len(rows) + 1, "image_id": image, "category_id": names.index(name) + 1}
        row |= {"bbox": [4, 4, 20, 20], "area": 200, "iscrowd": 0}
        if masked:
            row["segmentation"] = [[4, 4, 24, 4, 14, 24]]
        rows.append(row)

    for name, count in masks.items():
        for k in range(count):
            add(name, k % images, True)
    for image in range(images):
        add("bare", image, False)
    document = {
        "images": [
            {"id": k, "file_name": f"{k}.png", "width": 64, "height": 48} for k in range(images)
        ],
        "annotations": rows,
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
    }
    return CocoInstances(CocoFile.from_document(document, "test"), folder)


def held(found: CocoInstances, known: set[str] | None = None) -> HoldOut | None:
    counts = found.file.mask_counts()
    return hold_out(load_recipe("adapt"), found, counts, known=known or set())


def classes_of(found: CocoInstances, chosen: dict[int, Any]) -> Counter[str]:
    out: Counter[str] = Counter()
    for index, rows in chosen.items():
        labels = found.target(index).labels[rows].tolist()
        out.update(found.file.categories[label - 1]["name"] for label in labels)
    return out


def test_each_class_is_measured_by_a_training_without_it(tmp_path: Path) -> None:
    found = pictures(tmp_path, {"a": 60, "b": 40, "c": 20})
    out = held(found)
    assert out is not None
    assert out.by == "classes"
    assert set(out.names) == {"a", "b", "c"}
    hidden = [{found.file.name_of(i) for i in fold.hidden} for fold in out.folds]
    assert hidden == [{"a"}, {"b", "c"}]  # about as many masks on both sides
    for fold in out.folds:
        assert set(classes_of(found, fold.chosen)) == {"a", "b", "c"}
        data = fold.recipe.data
        apart = development_split(found.image_ids, data.development, data.development_fold)[1]
        for index, rows in fold.chosen.items():
            labels = found.target(index).labels[rows].tolist()
            ids = {found.file.categories[label - 1]["id"] for label in labels}
            # On photographs that the training sees, only classes whose masks it does not.
            assert found.image_ids[index] in apart or ids <= fold.hidden
    learnt = [set((fold.recipe.data.masked or "").split(",")) for fold in out.folds]
    assert learnt == [{"b", "c"}, {"a"}]


def test_classes_that_the_start_knows_are_held_out_only_in_need(tmp_path: Path) -> None:
    found = pictures(tmp_path, {"a": 60, "b": 40, "c": 20})
    out = held(found, known={"c"})
    assert out is not None
    assert set(out.names) == {"a", "b"}
    assert out.known == []
    needed = held(found, known={"b", "c"})
    assert needed is not None
    assert set(needed.names) == {"a", "b", "c"}
    assert needed.known == ["b", "c"]


@pytest.mark.parametrize(
    "masks", [{"a": 60}, {"a": 60, "b": 5}, {"a": 60, "b": 15}, {"a,b": 60, "c": 40}]
)
def test_photographs_are_held_out_where_classes_do_not_do(
    tmp_path: Path, masks: dict[str, int]
) -> None:
    """One class; a class of few masks; too few left to learn from; names with a comma."""
    found = pictures(tmp_path, masks)
    out = held(found)
    assert out is not None
    assert out.by == "photographs"
    first, second = ({found.image_ids[i] for i in fold.chosen} for fold in out.folds)
    assert first
    assert second
    assert not first & second
    assert not any(fold.hidden for fold in out.folds)


def test_few_masks_judge_nothing(tmp_path: Path) -> None:
    assert held(pictures(tmp_path, {"a": 12})) is None


def test_the_sample_is_even_over_classes_and_photographs(tmp_path: Path) -> None:
    found = pictures(tmp_path, {"a": 400, "b": 30, "c": 10}, images=40)
    order = np.random.default_rng(0).permutation(len(found)).tolist()
    drawn = draw_rows(found, order, 60)
    counts = classes_of(found, drawn)
    assert counts == {"a": 25, "b": 25, "c": 10}
    for index, rows in drawn.items():
        assert found.target(index).has_mask[rows].all()
    assert classes_of(found, draw_rows(found, order, 60, masked=False)) == {"bare": 40}
    assert MEASURED >= 100


def test_photographs_that_cannot_be_read_are_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = pictures(tmp_path, {"a": 20})
    (tmp_path / "photos" / "3.png").write_bytes(b"no picture")
    rows = draw_rows(found, range(len(found)), 100)
    model = build_baseline("baseline:box")
    measured = measure_masks(model, found, rows, title="t", progress=lambda *_: None)
    assert sorted({*measured.images}) == [i for i in found.image_ids if i != 3]
    assert "3.png" in caplog.text
    only = {3: rows[3]}
    with pytest.raises(InputError, match=r"3\.png"):
        measure_masks(model, found, only, title="t", progress=lambda *_: None)
