"""`halfmask index`, and that training and evaluation through an index are those in
memory, bit for bit.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.coco.file import CocoFile
from halfmask.coco.index import place as index_place
from halfmask.coco.index.file import CocoIndex
from halfmask.coco.index.place import open_index
from halfmask.data.dataset import CocoInstances
from halfmask.data.synthetic.write import synth
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.training.data import read_training_data
from halfmask.training.train import train

torch.set_num_threads(1)

ENCODER = {"name": "small_resnet", "widths": [4, 6, 8, 8], "blocks": [1, 1, 1, 1]}
MODEL = {"kind": "box_segmenter", "encoder": ENCODER, "crop_size": 64, "decoder_widths": [8, 6]}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    path = synth(folder, image_count=10, seed=3, class_count=6, size=64).path
    document = json.loads(path.read_text())
    document["categories"] = [
        {"id": c["id"], "name": f"c{c['id']}"} for c in document["categories"]
    ]
    path.write_text(json.dumps(document))
    return folder


def recipe_of(world: Path, **data: Any) -> Recipe:
    stage = {
        "name": "all",
        "train": ["all"],
        "loss": "masks",
        "steps": 3,
        "batch_size": 2,
        "optimiser": {"lr": 0.01},
    }
    section = {
        "annotations": str(world / "instances.json"),
        "images": str(world / "images"),
        "workers": 2,
        **data,
    }
    return parse_recipe(
        {"name": "tiny", "model": MODEL, "data": section, "stages": [stage], "evaluate_every": 3},
        "tiny",
    )


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """From here on every file is large; indexes lie in a folder of their own."""
    folder = tmp_path / "indexes"
    folder.mkdir()
    monkeypatch.setattr(index_place, "INDEX_ABOVE", 0)
    monkeypatch.setenv(index_place.FOLDER_VARIABLE, str(folder))
    return folder


def test_training_is_the_same_bit_for_bit(
    world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe = recipe_of(
        world, masked="c1,c2,c6", development=0.3, flip=True, paste=0.5, masked_threshold=1
    )
    train(recipe, out=tmp_path / "memory", report=False)
    assert isinstance(read_training_data(recipe).training.file, CocoFile)
    folder = request.getfixturevalue("indexed")
    train(recipe, out=tmp_path / "index", report=False)
    data = read_training_data(recipe)
    assert data.development is not None
    assert isinstance(data.training.file, CocoIndex)
    assert isinstance(data.development.file, CocoIndex)
    assert len(list(folder.iterdir())) == 1
    models = [
        load_checkpoint(tmp_path / name / "model.safetensors") for name in ("memory", "index")
    ]
    assert models[0].masked == models[1].masked
    assert models[0].mask_counts == models[1].mask_counts
    assert models[0].state.keys() == models[1].state.keys()
    assert all(torch.equal(value, models[1].state[key]) for key, value in models[0].state.items())
    logs = [
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("memory", "index")
    ]
    for log in logs:
        for entry in log:
            del entry["seconds"]
    assert logs[0] == logs[1]
    assert logs[0]


def test_self_training_reads_the_file_in_memory(world: Path, tmp_path: Path, indexed: Path) -> None:
    recipe = recipe_of(world, masked="c1,c2,c6", masked_threshold=1)
    train(recipe.model_copy(update={"rounds": 2}), out=tmp_path / "run", report=False)
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert len(list(indexed.iterdir())) == 1  # the first round's


def test_evaluation_is_the_same(
    world: Path,
    tmp_path: Path,
    tiny_detector: Path,
    halfmask_cli: Any,
    request: pytest.FixtureRequest,
) -> None:
    def evaluated(name: str) -> Any:
        done = halfmask_cli(
            "evaluate", tiny_detector, world / "instances.json", "--images", world / "images", "--given-boxes", "--masked", "c1,c2",
            "--json", tmp_path / name, "--device", "cpu",
        )  # fmt: skip
        assert done.code == 0, done.err
        return json.loads((tmp_path / name).read_text()) | {"seconds": 0}

    expected = evaluated("memory.json")
    folder = request.getfixturevalue("indexed")
    assert evaluated("index.json") == expected
    assert expected["box"]["all"]["AP"] is not None
    assert len(list(folder.iterdir())) == 1


def test_the_verb(world: Path, tmp_path: Path, halfmask_cli: Any) -> None:
    data = tmp_path / "a.json"
    shutil.copy(world / "instances.json", data)
    before = data.read_bytes()
    file = CocoFile.read(data)
    done = halfmask_cli("index", data)
    assert done.code == 0
    assert f"10 images, {file.objects} boxes, {sum(file.mask_counts().values())} masks" in done.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.json.index.arrow"]
    made = (tmp_path / "a.json.index.arrow").stat().st_ino
    assert halfmask_cli("index", data).code == 0
    assert (tmp_path / "a.json.index.arrow").stat().st_ino == made
    assert halfmask_cli("index", data, "--anew").code == 0
    assert (tmp_path / "a.json.index.arrow").stat().st_ino != made
    assert halfmask_cli("index", data, "--folder", tmp_path / "f").code == 0
    assert len(list((tmp_path / "f").iterdir())) == 1
    made_now = halfmask.index(data, folder=tmp_path / "f").to_json()
    assert made_now["images"] == 10
    assert made_now["boxes"] == file.objects
    assert made_now["bytes"] == Path(made_now["path"]).stat().st_size
    assert data.read_bytes() == before
    data.write_bytes(before[:-40])
    done = halfmask_cli("index", data)
    assert done.code == 2
    assert (
        "a.json: expected a COCO JSON file, found something else: the file ends early" in done.line
    )


@pytest.mark.shared
@pytest.mark.parametrize("part", ["train", "val"])
def test_targets_of_coco_mini_are_the_same_bit_for_bit(
    shared_data: Path, tmp_path: Path, part: str
) -> None:
    data = tmp_path / f"{part}.json"
    shutil.copy(shared_data / "coco-mini" / f"instances_{part}.json", data)
    folder = shared_data / "coco-mini" / part
    memory, index = (
        CocoInstances(CocoFile.read(data), folder),
        CocoInstances(open_index(data), folder),
    )
    assert memory.image_ids == index.image_ids
    assert memory.with_masks() == index.with_masks()
    for k in range(len(memory)):
        expected, ours = memory.target(k), index.target(k)
        assert ours.image_id == expected.image_id
        assert ours.mask_weight is expected.mask_weight is None
        pairs = [
            (getattr(ours, n), getattr(expected, n))
            for n in ("boxes", "labels", "has_mask", "annotation_ids")
        ]
        pairs += [
            (getattr(ours.masks, n), getattr(expected.masks, n))
            for n in ("pixels", "sizes", "offsets")
        ]
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
