"""Recipes: what they accept, what they refuse and with which words."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfmask.errors import InputError
from halfmask.recipes.recipe import BoxSegmenterConfig, MaskRCNN, expand, load_recipe, parse_recipe

DOCUMENT: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "kind": "mask_rcnn",
        "backbone": {"name": "small_resnet"},
        "images": {"min_size": [64, 96], "max_size": 128},
    },
    "data": {"annotations": "a.json", "images": "photos"},
    "stages": [
        {"name": "one", "train": ["all"], "steps": 10, "batch_size": 2, "optimiser": {"lr": 0.1}},
        {
            "name": "two",
            "train": ["mask_head"],
            "steps": 5,
            "batch_size": 2,
            "optimiser": {"lr": 0.1, "steps": [3]},
        },
    ],
}


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT), encoding="utf-8")
    return path


def test_what_is_written_is_what_was_read(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file)
    again = tmp_path / "again.yaml"
    again.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(again) == recipe
    assert isinstance(recipe.model, MaskRCNN)
    assert recipe.model.images.min_size == [64, 96]


def test_the_kind_chooses_the_model() -> None:
    document = {**DOCUMENT, "model": {"kind": "box_segmenter", "encoder": {"name": "mobilenet_v2"}}}
    assert isinstance(parse_recipe(document, "r").model, BoxSegmenterConfig)


@pytest.mark.parametrize(
    ("override", "value_of", "expected"),
    [
        ("seed=11", lambda r: r.seed, 11),
        ("stages.1.steps=70", lambda r: r.stages[1].steps, 70),
        (
            "stages.0.optimiser.lr=1e-3",
            lambda r: r.stages[0].optimiser.lr,
            0.001,
        ),  # YAML 1.1 reads 1e-3 as text
        ("stages.1.optimiser.steps=[1, 2]", lambda r: r.stages[1].optimiser.steps, [1, 2]),
        ("stages.1.optimiser.steps.0=4", lambda r: r.stages[1].optimiser.steps, [4]),
        (
            "model.mask_head.kind=agnostic",
            lambda r: r.model.mask_head.kind,
            "agnostic",
        ),  # a section left to its defaults
        ("model.mask_head.transfer.input=box", lambda r: r.model.mask_head.transfer.input, "box"),
        ("data.masked=a,b", lambda r: r.data.masked, "a,b"),
        ("data.masked=null", lambda r: r.data.masked, None),
        ("init=runs/a=b.safetensors", lambda r: r.init, "runs/a=b.safetensors"),
        ("channels_last=true", lambda r: r.channels_last, True),
    ],
)
def test_overrides(
    recipe_file: Path, override: str, value_of: Callable[[Any], Any], expected: Any
) -> None:
    assert value_of(load_recipe(recipe_file, [override])) == expected


def test_the_last_override_wins(recipe_file: Path) -> None:
    assert load_recipe(recipe_file, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "expected key=value"),
        ("=3", "expected key=value"),
        ("sead=3", "sead: unknown key"),
        ("modle.kind=mask_rcnn", "modle: unknown key"),
        ("model.mask_head.widht=3", "model.mask_head.widht: unknown key"),
        ("stages.2.steps=3", "the list has 2 items, found index 2"),
        ("stages.last.steps=3", "the list has 2 items, found index last"),
        ("stages.-1.steps=3", "the list has 2 items, found index -1"),
        ("name.first=3", "name has no keys"),
        ("name.first.second=3", "first has no keys"),
        ("seed=[1", "expected YAML"),
        ("seed=three", "seed: "),
        ("stages.0.steps=0", "greater than or equal to 1"),
        ("stages.0.batch_size=0", "stages.0.batch_size"),
        ("stages.0.ema=1.0", "stages.0.ema"),
        ("stages.0.optimiser.lr=-1", "stages.0.optimiser.lr"),
        ("stages.0.optimiser.lr=.inf", "stages.0.optimiser.lr"),
        ("stages.0.optimiser.clip_norm=0", "clip_norm"),
        ("stages=[]", "stages"),
        ("checkpoint_every=0", "checkpoint_every"),
        ("evaluate_every=-1", "evaluate_every"),
        ("data.flip=1.5", "data.flip"),
        ("data.development=1.0", "data.development"),
        ("data.workers=-1", "data.workers"),
        ("model.kind=yolo", "'mask_rcnn', 'box_segmenter'"),
        ("model.mask_head.transfer.input=embedding", "names a file when and only when"),
        ("model.mask_head.transfer.embedding=x.npy", "names a file when and only when"),
    ],
)
def test_what_does_not_fit_is_named(recipe_file: Path, override: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(recipe_file, [override])
    message = str(caught.value)
    assert words in message
    assert "\n" not in message


def test_an_unknown_key_is_named_as_it_stands_in_the_file() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["model"]["backbone"]["wieghts"] = "x"
    with pytest.raises(
        InputError,
        match=r"^r\.yaml: model\.backbone\.wieghts: unknown key; the nearest is: weights$",
    ):
        parse_recipe(document, "r.yaml")


def test_all_errors_are_counted() -> None:
    with pytest.raises(InputError, match=r"unknown key; .* \(1 more\)"):
        parse_recipe({**DOCUMENT, "a": 1, "b": 2}, "r")


@pytest.mark.parametrize("text", ["a: [1", "- a\n- b\n", "just words", "", "\x00"])
def test_files_that_are_no_recipe(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.yaml") as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_binary_file_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="expected YAML"):
        load_recipe(path)


def test_a_name_that_is_nothing_lists_the_shipped_recipes() -> None:
    with pytest.raises(InputError, match=r"they are: .*coco_fig3_agnostic.*world_transfer_mlp"):
        load_recipe("xyz")
    with pytest.raises(InputError, match=r"nearest are: coco_t2_r50_voc2nonvoc_maskx, ") as caught:
        load_recipe("coco_t2_r50_voc2nonvoc_maskrcnn")
    assert "world" not in str(caught.value)


def test_recipes_cannot_be_changed(recipe_file: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe(recipe_file).seed = 4  # type: ignore[misc]


def test_expand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HALFMASK_SHARED", raising=False)
    assert expand("${HALFMASK_SHARED}/data") == Path("../shared/data")
    monkeypatch.setenv("HALFMASK_SHARED", "/elsewhere")
    assert expand("$HALFMASK_SHARED/data") == Path("/elsewhere/data")
    monkeypatch.setenv("PASSWORD", "hunter2")
    for written in ("$PASSWORD", "${PASSWORD}/model.safetensors", "a/$PASSWORD"):
        with pytest.raises(InputError) as refused:
            expand(written)
        assert str(refused.value).startswith(f"{written}: there is no such file")
        assert "hunter2" not in str(refused.value)
    assert expand("~/x") == Path.home() / "x"
    assert expand("plain/x") == Path("plain/x")
    monkeypatch.delenv("COCO_ROOT", raising=False)
    with pytest.raises(InputError, match="COCO_ROOT is not set"):
        expand("${COCO_ROOT}/annotations.json")
