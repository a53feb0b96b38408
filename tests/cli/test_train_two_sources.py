"""Boxes from one data set, masks from another, one model: `stages.N.data`."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.real.visual_genome_data import write_coco, write_tiny_recipe, write_visual_genome
from halfmask.coco.categories import COCO_NAMES
from halfmask.errors import InputError
from halfmask.formats.visual_genome.convert import convert_visual_genome
from halfmask.inference.predictor import load
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Data, Recipe, load_recipe, parse_recipe
from halfmask.training.data import read_training_data
from halfmask.training.dry_run import measure_recipe

from .runs import (
    BOX_STAGE,
    REGION_HEADS,
    data_of,
    interrupted,
    same_weights,
    small_world,
    tiny_recipe,
    trained,
    written,
)

MASKS = {**BOX_STAGE, "name": "masks", "train": ["mask_head"], "loss": "masks", "steps": 4}
A = {1, 2, 6}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """instances.json: masks of A, boxes of all six classes; boxes.json: the same
    without masks; masks.json: as instances.json, with other category ids in another
    order.
    """
    folder = tmp_path_factory.mktemp("world")
    document = small_world(folder, 8)
    for annotation in document["annotations"]:
        if annotation["category_id"] not in A:
            del annotation["segmentation"]
    written(folder / "instances.json", document)
    other = json.loads(json.dumps(document))
    for annotation in other["annotations"]:
        annotation["category_id"] = 90 - annotation["category_id"]
    other["categories"] = [{"id": 90 - c["id"], "name": c["name"]} for c in document["categories"]]
    written(folder / "masks.json", other)
    for annotation in document["annotations"]:
        annotation.pop("segmentation", None)
    written(folder / "boxes.json", document)
    return folder


def make(world: Path, own: dict[str, Any] | None, main: str = "boxes.json", **keys: Any) -> Recipe:
    masks = {**MASKS, "data": own, **keys.pop("masks", {})}
    return tiny_recipe(REGION_HEADS, data_of(world, main), BOX_STAGE, masks, **keys)


def test_two_files_train_as_the_one_they_were_made_of(
    world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The masks' file has other category ids in another order: only if its labels are
    the model's are the weights the same bits.
    """
    caplog.set_level(logging.INFO, "halfmask")
    one = trained(make(world, None, "instances.json"), tmp_path / "one")
    two = trained(make(world, data_of(world, "masks.json")), tmp_path / "two")
    assert one is not None
    assert two is not None
    first, second = load_checkpoint(one), load_checkpoint(two)
    assert all(torch.equal(first.state[k], second.state[k]) for k in first.state)
    assert first.masked == second.masked == sorted(A)
    assert first.mask_counts == second.mask_counts
    assert first.categories == second.categories
    logged = caplog.text
    assert "0 of them with a mask; masks given: 1 or more of 3 classes, none of 3" in logged
    assert "stage masks on data of its own: 8 images" in logged


def test_labels_are_those_of_the_model(world: Path) -> None:
    read = read_training_data(make(world, data_of(world, "masks.json")))
    names = {
        a["id"]: a["category_id"]
        for a in json.loads((world / "boxes.json").read_text())["annotations"]
    }
    own = read.own[1].training
    assert read.categories == own.file.categories
    for i in range(len(own)):
        target = own.target(i)
        assert target.labels.tolist() == [
            names[n] for n in target.annotation_ids.tolist()
        ]  # ids of the model's are 1…6: labels


def test_masks_are_counted_where_they_are_learnt(world: Path) -> None:
    counts = read_training_data(make(world, None, "instances.json")).mask_counts
    both = make(world, data_of(world, "masks.json"), "instances.json", masks={})
    assert read_training_data(both).mask_counts == counts, "the box stage's masks teach nothing"
    document = both.model_dump(mode="json")
    document["stages"][0]["loss"] = "all"
    twice = read_training_data(parse_recipe(document, "test"))
    assert twice.mask_counts == {i: 2 * n for i, n in counts.items()}
    assert twice.masked == A
    named = read_training_data(make(world, data_of(world, "masks.json", masked="c2,c6")))
    assert named.masked == {2, 6}
    assert {i for i, n in named.mask_counts.items() if n} == {2, 6}
    only_boxes = both.model_copy(update={"stages": both.stages[:1]})
    assert read_training_data(only_boxes).mask_counts == counts


def test_stopped_in_the_second_stage_and_resumed(world: Path, tmp_path: Path) -> None:
    recipe = make(world, data_of(world, "masks.json", flip=0.5), checkpoint_every=2)
    assert trained(recipe, tmp_path / "whole") is not None
    with interrupted(5):
        assert trained(recipe, tmp_path / "run") is None
    moved = tmp_path / "moved"
    shutil.copytree(world, moved)
    elsewhere = make(moved, data_of(moved, "masks.json", flip=0.5), checkpoint_every=2)
    other = make(world, data_of(world, "masks.json", flip=0.4), checkpoint_every=2)
    with pytest.raises(
        InputError, match=r"started with stages\.1\.data\.flip=0\.5, the recipe now says 0\.4"
    ):
        trained(other, tmp_path / "run", resume=True)
    assert trained(elsewhere, tmp_path / "run", resume=True) is not None
    assert same_weights(tmp_path / "whole", tmp_path / "run")


def test_regions_are_cached_from_the_stage_s_pictures(world: Path, tmp_path: Path) -> None:
    """Of the second file only two pictures are left; the main file's are not pooled."""
    document = json.loads((world / "masks.json").read_text())
    keep = {image["id"] for image in document["images"][:2]}
    document["images"] = document["images"][:2]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in keep]
    few = written(tmp_path / "few.json", document)
    own = data_of(world, "masks.json") | {"annotations": str(few)}
    path = trained(make(world, own, masks={"cache_features": True}), tmp_path / "run")
    assert path is not None
    assert sum(load_checkpoint(path).mask_counts.values()) == sum(
        "segmentation" in a for a in document["annotations"]
    )


def test_dry_run(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "halfmask")
    printed = "\n".join(measure_recipe(make(world, data_of(world, "masks.json"))).lines())
    assert "stage masks on data of its own" in caplog.text
    assert "stage boxes: backbone, fpn, rpn, box_head learn" in printed
    assert "loss_mask" in printed.split("stage masks: mask_head learn")[1]


def test_mismatched_files_are_refused(world: Path, tmp_path: Path) -> None:
    document = json.loads((world / "masks.json").read_text())
    document["categories"][0]["name"] = "c11"
    other = written(tmp_path / "other.json", document)
    with pytest.raises(
        InputError, match=r"its class 'c11' is not among the model's 6 classes.*near: c1"
    ):
        read_training_data(make(world, data_of(world, "masks.json") | {"annotations": str(other)}))
    with pytest.raises(
        InputError, match=r"stage masks learns masks.*it has none.*stages\.1\.data\.masked"
    ):
        read_training_data(make(world, data_of(world, "boxes.json")))
    empty = written(tmp_path / "empty.json", document | {"categories": []})
    with pytest.raises(InputError, match="categories is empty"):
        read_training_data(make(world, data_of(world, "masks.json") | {"annotations": str(empty)}))
    fewer = json.loads((world / "masks.json").read_text())
    gone = fewer["categories"].pop()["id"]
    fewer["annotations"] = [a for a in fewer["annotations"] if a["category_id"] != gone]
    some = data_of(world, "masks.json") | {
        "annotations": str(written(tmp_path / "fewer.json", fewer))
    }
    read_training_data(make(world, some))
    with pytest.raises(
        InputError,
        match=r"stage masks: its own data have 5 of the model's 6 classes, and loss=all would",
    ):
        read_training_data(make(world, some, masks={"train": ["all"], "loss": "all"}))
    held = data_of(world, "instances.json", development=0.3)
    with pytest.raises(
        InputError, match=r"stages\.1\.data: names the recipe's own file, whose held-out images"
    ):
        read_training_data(
            make(world, data_of(world, "instances.json", flip=0.0)).model_copy(
                update={"data": Data(**held)}
            )
        )
    with pytest.raises(InputError, match="hold nothing out here"):
        make(world, data_of(world, "masks.json", development=0.2))


def test_3001_classes_without_surgery(tmp_path: Path) -> None:
    """Visual Genome's format to masks of every class: convert, boxes of 3001 classes,
    masks of COCO's 80, predict.
    """
    genome, coco = tmp_path / "vg", tmp_path / "coco"
    write_visual_genome(genome)
    write_coco(coco)
    convert_visual_genome(
        genome, genome / "vg3k.json", coco / "annotations" / "instances_val2017.json", test=5
    )
    write_tiny_recipe(tmp_path / "tiny.yaml", genome, coco)
    path = trained(load_recipe(tmp_path / "tiny.yaml"), tmp_path / "run")
    assert path is not None
    checkpoint = load_checkpoint(path)
    assert len(checkpoint.categories) == 3001
    assert checkpoint.state["box_heads.box_predictor.cls_score.weight"].shape[0] == 3002
    assert checkpoint.state["box_heads.box_predictor.bbox_pred.weight"].shape[0] == 4 * 3002
    names = {c["id"]: c["name"] for c in checkpoint.categories}
    assert [names[i] for i in checkpoint.masked] == list(COCO_NAMES.values())
    assert {names[i]: n for i, n in checkpoint.mask_counts.items() if n} == dict.fromkeys(
        COCO_NAMES.values(), 2
    )
    model = load(path)
    picture = genome / "VG_100K" / "1.jpg"
    found = model.detect(picture)
    assert len(found) == 20
    assert int(found.labels.max()) > 80, "classes that never had a mask"
    boxes, labels = torch.tensor([[10.0, 10, 60, 50]]).repeat(3, 1), torch.tensor([1, 80, 3001])
    drawn = model.segment(picture, boxes, labels)
    assert drawn.mask_probs.shape == (3, 14, 14)
    assert np.isfinite(drawn.mask_probs.numpy()).all()
    assert not torch.equal(drawn.mask_probs[0], drawn.mask_probs[2]), (
        "each class has a filter of its own"
    )


@pytest.mark.parametrize("name", ["vg3k_r50_transfer_mlp", "vg3k_r101_transfer_mlp"])
def test_shipped_recipes(name: str) -> None:
    recipe = load_recipe(name)
    boxes, masks = recipe.stages
    assert (boxes.data, boxes.steps, boxes.batch_size, boxes.optimiser.lr) == (
        None,
        180_000,
        8,
        0.01,
    )
    assert boxes.optimiser.steps == [120_000, 160_000]
    assert masks.data is not None
    assert "COCO_ROOT" in masks.data.annotations
    assert masks.train == ["mask_head"]
    larger = (masks.steps, masks.batch_size, masks.optimiser.lr, masks.optimiser.steps)
    expected = {
        "vg3k_r50_transfer_mlp": (90_000, 16, 0.02, [60_000, 80_000]),
        "vg3k_r101_transfer_mlp": (180_000, 8, 0.01, [120_000, 160_000]),
    }
    assert larger == expected[name]
