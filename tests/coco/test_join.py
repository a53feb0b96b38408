"""Several COCO files become one, with the photographs where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.join import join_files
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.recipes.recipe import parse_recipe
from halfmask.training.data import read_training_data

CLASSES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


def a_set(
    folder: Path, colours: list[int], categories: list[dict[str, Any]], first: int = 1
) -> tuple[CocoFile, Path]:
    """Writes photographs of one colour each, with a square of the last class on each."""
    (folder / "images").mkdir(parents=True)
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    for k, colour in enumerate(colours, first):
        name = f"{k}.png"
        Image.new("RGB", (20, 16), (colour, 0, 0)).save(folder / "images" / name)
        document["images"].append({"id": k, "file_name": name, "width": 20, "height": 16})
        document["annotations"].append(
            {
                "id": k,
                "image_id": k,
                "category_id": categories[-1]["id"],
                "bbox": [k, 2, 8, 8],
                "area": 32,
                "iscrowd": 0,
                "segmentation": [[k, 2, k + 8, 2, k + 8, 10]],
            }
        )
    path = folder / "instances.json"
    path.write_text(json.dumps(document))
    return CocoFile.read(path), folder / "images"


def test_ids_classes_and_photographs_of_the_joined_file(tmp_path: Path) -> None:
    one = a_set(tmp_path / "a", [10, 20], CLASSES)
    two = a_set(tmp_path / "deep" / "b", [30, 40], [{"id": 9, "name": "cat"}], first=2)
    joined, folder = join_files([one, two])
    assert joined.image_ids == [1, 2, 4, 3], "2 is taken; 3 stays"
    assert [a["id"] for i in joined.image_ids for a in joined.annotations_of(i)] == [1, 2, 4, 3]
    assert joined.categories == CLASSES
    data = CocoInstances(joined, folder)
    red = [round(float(data[k][0][0].mean()) * 255) for k in range(4)]
    assert red == [10, 20, 30, 40]
    assert [data.target(k).labels.tolist() for k in range(4)] == [[2], [2], [1], [1]]
    assert [data.target(k).boxes[0, 0].item() for k in range(4)] == [1, 2, 2, 3]
    assert all(int(data.target(k).masks.areas()[0]) >= 28 for k in range(4))


def test_what_cannot_be_joined_is_named(tmp_path: Path) -> None:
    one = a_set(tmp_path / "a", [1], CLASSES)
    with pytest.raises(InputError, match=r"its photograph 1\.png is in .* too"):
        join_files([one, one])
    other = a_set(tmp_path / "b", [2], [{"id": 1, "name": "horse"}])
    with pytest.raises(InputError, match="'horse' is not among"):
        join_files([one, other])


def test_a_recipe_learns_from_more_files_and_holds_out_of_the_first_only(tmp_path: Path) -> None:
    a_set(tmp_path / "a", list(range(12)), CLASSES)
    a_set(tmp_path / "b", [30, 40, 50], CLASSES, first=5)

    def source(name: str) -> dict[str, str]:
        folder = tmp_path / name
        return {"annotations": str(folder / "instances.json"), "images": str(folder / "images")}

    stage = {"name": "masks", "train": ["all"], "loss": "masks", "steps": 1, "batch_size": 1}
    recipe = parse_recipe(
        {
            "name": "two",
            "model": {"kind": "box_segmenter", "encoder": {"name": "small_resnet"}},
            "data": {**source("a"), "more": [source("b")], "development": 0.5},
            "stages": [{**stage, "optimiser": {"lr": 0.1}}],
        },
        "test",
    )
    read = read_training_data(recipe)
    assert read.development is not None
    held = set(read.development.image_ids)
    assert held
    assert held < set(range(1, 13))
    assert len(read.training) == 12 - len(held) + 3
    files = read.files(recipe)
    assert [path.parent.name for path in files["annotations"]] == ["a", "b"]
    assert len(files["photographs"]) == 15
    assert all(path.is_file() for path in files["photographs"])
    seen = {round(float(read.training[k][0][0].mean()) * 255) for k in range(len(read.training))}
    assert {30, 40, 50} < seen
    kept = {round(float(read.development[k][0][0].mean()) * 255) for k in range(len(held))}
    assert kept == {k - 1 for k in held}
    assert torch.equal(read.development.target(0).labels, torch.tensor([2]))
