"""A mistyped key of a recipe comes with the nearest valid ones."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfmask.errors import InputError
from halfmask.recipes.faults import override_of
from halfmask.recipes.recipe import load_recipe, parse_recipe

DOCUMENT: dict[str, Any] = {
    "name": "tiny",
    "model": {"kind": "box_segmenter", "encoder": {"name": "mobilenet_v2"}},
    "data": {"annotations": "a.json", "images": "photos"},
    "stages": [
        {"name": "one", "train": ["all"], "steps": 9, "batch_size": 2, "optimiser": {"lr": 0.1}}
    ],
}


def fault(document: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        parse_recipe(document, "r.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.0.step=3", "stages.0.step: unknown key; the nearest is: steps"),
        ("data.mask=voc", "data.mask: unknown key; the nearest is: masked"),
        ("sead=3", "sead: unknown key; the nearest is: seed"),
        ("stage.0.steps=3", "stage: unknown key; the nearest is: stages"),
        ("stages.0.optimizer.lr=3", "stages.0.optimizer: unknown key; the nearest is: optimiser"),
        ("model.encoder.nam=x", "model.encoder.nam: unknown key; the nearest is: name"),
        ("lr=0.1", "lr: unknown key; the nearest is: stages.0.optimiser.lr"),
        (
            "steps=3",
            "steps: unknown key; the nearest are: stages, stages.0.steps, stages.0.optimiser.steps",
        ),
        (
            "model.mask_head.width=3",
            "model.mask_head: unknown key; it is a key of `kind: mask_rcnn`",
        ),
        (
            "foo=1",
            "foo: unknown key; the keys here are: name, seed, detectron, model, data, stages, ",
        ),
    ],
)
def test_overrides_name_the_nearest_keys(tmp_path: Path, override: str, words: str) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(DOCUMENT))
    with pytest.raises(InputError) as caught:
        load_recipe(file, ["seed=3", override])
    assert str(caught.value).startswith(f"override {override!r}: {words}")


def test_files_name_the_nearest_keys() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["data"]["image"] = document["data"].pop("images")  # `images` is missing, too
    assert fault(document) == "r.yaml: data.image: unknown key; the nearest is: images (1 more)"


def test_an_override_is_blamed_only_for_its_own_key(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(DOCUMENT | {"sead": 3}))
    with pytest.raises(InputError, match=r"tiny\.yaml: sead: unknown key"):
        load_recipe(file, ["stages.0.steps=3"])
    assert override_of("stages.1: wrong", ["stages.10.steps=3"]) is None
    assert override_of("data: wrong", ["data.images=a", "seed=1"]) == "data.images=a"


def test_a_model_without_its_kind() -> None:
    words = "the key `kind` is missing; it is one of: mask_rcnn, box_segmenter"
    assert fault(DOCUMENT | {"model": {"knd": "mask_rcnn"}}) == f"r.yaml: model: {words}"


def test_a_fault_of_the_whole_recipe_has_no_key() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["data"] |= {"validation": "v.json", "development": 0.2}
    assert fault(document) == (
        "r.yaml: data.validation names the images that are measured; set data.development=0"
    )


def test_a_stage_has_data_of_its_own() -> None:
    stage = DOCUMENT["stages"][0] | {"data": {"annotations": "a", "images": "b", "flipp": 0}}
    assert fault(DOCUMENT | {"stages": [stage]}) == (
        "r.yaml: stages.0.data.flipp: unknown key; the nearest is: flip"
    )
