"""The shipped recipes: whole, in agreement with each other, and each one runs, on a
tiny COCO and on COCO-mini laid out as COCO is.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from halfmask.coco.categories import COCO_NAMES, resolve_masked
from halfmask.coco.edit import strip_masks
from halfmask.evaluation.run import evaluate
from halfmask.labelling.complete import complete
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import RECIPE_FOLDER, Recipe, load_recipe, shipped_recipes
from halfmask.training.dry_run import measure_recipe
from halfmask.training.train import train

NAMES = list(shipped_recipes())
PAPER = [name for name, path in shipped_recipes().items() if path.parent.name == "coco_paper"]
STAGE1 = "coco_stage1_r50_boxes"
SMALL_NETWORK = [
    "name=small_resnet",
    "weights=null",
    "widths=[6, 8, 8, 8]",
    "blocks=[1, 1, 1, 1]",
    "stride_in_1x1=false",
]
SMALL_DETECTOR = {
    "detector.fpn_channels": 8,
    "detector.box_width": 12,
    "detector.box_roi_size": 3,
    "detector.rpn_pre_nms": [40, 40],
    "detector.rpn_post_nms": [20, 20],
    "detector.rpn_batch": 32,
    "detector.box_batch": 32,
    "mask_head.width": 8,
    "mask_head.convs": 1,
    "mask_head.roi_size": 7,
}


# --- what the files say -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_whole_and_says_where_it_comes_from(name: str) -> None:
    assert load_recipe(name).name == name
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert text.startswith("#"), "a recipe's head comment says where it comes from"
    assert any(f"halfmask train {name}" in line for line in head), (
        "the head comment gives the command"
    )
    assert "/work/" not in text
    assert not re.search(r"^\s*(<<|base|extends):|: [&*]\w", text, re.MULTILINE), "no inheritance"
    document = yaml.safe_load(text)
    assert {"name", "seed", "model", "data", "stages"} <= set(document)
    if name in PAPER:
        assert {"backbone", "images", "detector", "mask_head"} <= set(document["model"])


def test_names_are_unique_over_the_folders() -> None:
    assert len(list(RECIPE_FOLDER.rglob("*.yaml"))) == len(NAMES)


def test_every_row_of_the_paper_is_there() -> None:
    count = {
        part: sum(name.startswith(f"coco_{part}") for name in PAPER)
        for part in ("t1a", "t1b", "t1c", "t1d", "t2", "fig3")
    }
    # Both directions of each row; an oracle is one run for both.
    assert count == {
        "t1a": 6 * 2 + 1,
        "t1b": 4 * 2,
        "t1c": 2 * 2,
        "t1d": 3 * 2,
        "t2": 2 * (3 * 2 + 1),
        "fig3": 2,
    }
    assert len(PAPER) == sum(count.values()) + 1, "and the detector of the stage-wise rows"


def test_numbers_that_could_not_be_checked_are_not_quoted() -> None:
    quoted = {}
    for name in PAPER:
        text = shipped_recipes()[name].read_text(encoding="utf-8")
        line = re.search(r"# Number to expect: (.*)", text)
        assert line, name
        found = re.findall(r"\d+\.\d", line[1])
        if found:
            quoted[name] = found
    assert quoted == {
        STAGE1: ["36.7"],
        "coco_t2_r101_voc2nonvoc_maskx": ["23.8"],
        "coco_t2_r101_nonvoc2voc_maskx": ["29.5"],
        "coco_t2_r101_oracle": ["34.4", "39.1"],
    }


# --- how they differ --------------------------------------------------------------------------------------------------------------------

HEAD, T = "model.mask_head.", "model.mask_head.transfer."
AGNOSTIC, PER_CLASS = {f"{HEAD}kind": "agnostic"}, {f"{HEAD}kind": "per_class"}
MLP = {f"{HEAD}mlp": "full"}
ALL_MASKS = {"data.masked": None}
END_TO_END = {
    "stages.0.name": "end_to_end",
    "stages.0.train.0": "all",
    "stages.0.loss": "all",
    "init": None,
    "data.skip_unannotated": True,
}
R101 = {
    "model.minibatch": 1,
    "model.backbone.name": "resnet101",
    "stages.0.batch_size": 8,
    "stages.0.steps": 180_000,
    "stages.0.optimiser.lr": 0.01,
    "stages.0.optimiser.steps.0": 120_000,
    "stages.0.optimiser.steps.1": 160_000,
}


def glove() -> dict[str, Any]:
    return {f"{T}input": "embedding", f"{T}embedding": "${GLOVE_FILE}", f"{T}embedding_size": 300}


def grabcut(direction: str) -> dict[str, Any]:
    file = f"${{COCO_ROOT}}/annotations/instances_train2017_{direction.split('2')[0]}_grabcut.json"
    return {**PER_CLASS, **ALL_MASKS, "data.annotations": file, "data.use": "filled"}


def expected_rows(direction: str) -> dict[str, dict[str, Any]]:
    """Row → how it differs from the direction's base row: cls+box, two layers,
    LeakyReLU, stage-wise, no MLP.
    """
    rows = {
        "t1a_{}_cls_box": {},
        "t1a_{}_randn": {f"{T}input": "random", f"{T}embedding_size": 300},
        "t1a_{}_glove": glove(),
        "t1a_{}_cls": {f"{T}input": "cls"},
        "t1a_{}_box": {f"{T}input": "box"},
        "t1a_{}_agnostic": AGNOSTIC,
        "t1a_oracle": {**PER_CLASS, **ALL_MASKS},
        "t1b_{}_1layer": {f"{T}layers": 1, f"{T}activation": "none"},
        "t1b_{}_2layer_relu": {f"{T}activation": "relu"},
        "t1b_{}_3layer_relu": {f"{T}layers": 3, f"{T}activation": "relu"},
        "t1b_{}_3layer_leaky": {f"{T}layers": 3},
        "t1c_{}_agnostic_mlp": AGNOSTIC | MLP,
        "t1c_{}_transfer_mlp": MLP,
        "t1d_{}_agnostic_e2e": AGNOSTIC | END_TO_END,
        "t1d_{}_transfer_e2e": {f"{T}stop_gradient": False, **END_TO_END},
        "t1d_{}_transfer_e2e_stopgrad": END_TO_END,
        "fig3_transfer": {"data.masked": "random:1:20"},
        "fig3_agnostic": {"data.masked": "random:1:20", **AGNOSTIC},
    }
    for backbone, change in (("r50", {}), ("r101", R101)):
        rows |= {
            f"t2_{backbone}_{{}}_maskx": MLP | END_TO_END | change,
            f"t2_{backbone}_{{}}_agnostic": AGNOSTIC | END_TO_END | change,
            f"t2_{backbone}_{{}}_grabcut": grabcut(direction) | END_TO_END | change,
            f"t2_{backbone}_oracle": PER_CLASS | ALL_MASKS | END_TO_END | change,
        }
    return {f"coco_{row.format(direction)}": difference for row, difference in rows.items()}


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return {k: v for key, child in items for k, v in flat(child, f"{prefix}.{key}").items()}
    return {prefix.lstrip("."): node}


def difference(name: str, base: str) -> dict[str, Any]:
    """What `name` says that `base` does not; None for what only `base` says."""
    one, other = (flat(load_recipe(n).model_dump(mode="json")) for n in (base, name))
    return {
        key: other.get(key)
        for key in one.keys() | other.keys()
        if one.get(key) != other.get(key) and key != "name"
    }


@pytest.mark.parametrize("direction", ["voc2nonvoc", "nonvoc2voc"])
def test_rows_differ_from_the_base_row_in_exactly_what_they_are_about(direction: str) -> None:
    base = f"coco_t1a_{direction}_cls_box"
    for name, expected in expected_rows(direction).items():
        assert difference(name, base) == expected, name


def test_directions_differ_in_the_masked_classes_alone() -> None:
    assert difference("coco_t1a_nonvoc2voc_cls_box", "coco_t1a_voc2nonvoc_cls_box") == {
        "data.masked": "nonvoc"
    }
    covered = set(expected_rows("voc2nonvoc")) | set(expected_rows("nonvoc2voc")) | {STAGE1}
    assert covered == set(PAPER), "no row is left unchecked"


def test_the_stages_fit_each_other() -> None:
    found = difference(STAGE1, "coco_t1a_voc2nonvoc_cls_box")
    parts = {
        f"stages.0.train.{i}": part for i, part in enumerate(["backbone", "fpn", "rpn", "box_head"])
    }
    expected = {
        "data.skip_unannotated": True,
        "stages.0.name": "boxes",
        "stages.0.loss": "boxes",
        "init": None,
        "data.masked": None,
        **AGNOSTIC,
        **parts,
    }
    assert found == expected
    assert load_recipe("coco_t1a_voc2nonvoc_cls_box").init == f"runs/{STAGE1}"


# --- that they run ----------------------------------------------------------------------------------------------------------------------

OBJECTS = ["person", "dog", "truck", "cup", "tie"]


def tiny_coco(root: Path) -> Path:
    """A COCO of four noisy pictures with diamonds of five classes, laid out as COCO 2017 is."""
    rng = np.random.default_rng(0)
    ids = {name: number for number, name in COCO_NAMES.items()}
    annotations: list[dict[str, Any]] = []
    (root / "annotations").mkdir(parents=True)
    (root / "train2017").mkdir()
    for image in range(1, 5):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(
            root / "train2017" / f"{image:012}.jpg"
        )
        for k, name in enumerate(OBJECTS):
            x, y, w, h = 4 + 13 * k, 6 + 4 * k, 22, 26
            diamond = [[x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]]
            row = {
                "id": len(annotations) + 1,
                "image_id": image,
                "category_id": ids[name],
                "iscrowd": 0,
            }
            annotations.append(
                {**row, "bbox": [x, y, w, h], "area": w * h / 2, "segmentation": diamond}
            )
    document = {
        "images": [
            {"id": i, "file_name": f"{i:012}.jpg", "height": 64, "width": 80} for i in range(1, 5)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in COCO_NAMES.items()],
    }
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(document))
    return root


def fill(root: Path, rule: str) -> None:
    """The files of the GrabCut rows: `halfmask split`, then `halfmask complete`."""
    source = root / "annotations" / "instances_train2017.json"
    document = json.loads(source.read_text())
    for masked in ("voc", "nonvoc"):
        half = source.with_name(f"instances_train2017_{masked}.json")
        half.write_text(
            json.dumps(strip_masks(document, resolve_masked(masked, document["categories"])))
        )
        complete(
            f"baseline:{rule}",
            half,
            images=root / "train2017",
            out=half.with_name(f"{half.stem}_grabcut.json"),
        )


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cv2")
    root = tiny_coco(tmp_path_factory.mktemp("coco"))
    fill(root, "grabcut")
    return root


def shrunk(name: str, root: Path, init: Path | None, side: int = 64) -> Recipe:
    """The recipe with everything that makes it large made small; what it is about stays."""
    recipe = load_recipe(name)
    network = "backbone" if recipe.model.kind == "mask_rcnn" else "encoder"
    changes = [f"model.{network}.{change}" for change in SMALL_NETWORK]
    if recipe.model.kind == "mask_rcnn":
        changes += [f"model.{key}={value}" for key, value in SMALL_DETECTOR.items()]
        changes += [f"model.images.min_size=[{side}]", f"model.images.max_size={side * 3 // 2}"]
        if recipe.model.mask_head.transfer.input == "embedding":
            vectors = root / "vectors.npy"
            np.save(vectors, np.random.default_rng(1).normal(size=(len(COCO_NAMES), 16)))
            changes += [f"{T}embedding={vectors}", f"{T}embedding_size=null"]
    else:
        changes += ["model.crop_size=64", "model.decoder_widths=[8, 8]"]
    sections = [
        "data",
        *(f"stages.{i}.data" for i, stage in enumerate(recipe.stages) if stage.data is not None),
    ]
    for section in sections:
        if (
            name not in PAPER
        ):  # the world's, COCO-mini's and Visual Genome's recipes learn the same few pictures
            changes += [
                f"{section}.annotations={root}/annotations/instances_train2017.json",
                f"{section}.masked=voc",
            ]
            changes += [f"{section}.images={root}/train2017"]
        changes += [f"{section}.workers=0", f"{section}.development=0", f"{section}.cache=true"]
    for i in range(len(recipe.stages)):
        changes += [f"stages.{i}.steps=2", f"stages.{i}.batch_size=2"]
    if recipe.init is not None:  # the shipped model does not fit a small network
        changes.append(f"init={init if recipe.model.kind == 'mask_rcnn' else 'null'}")
    return load_recipe(name, changes)


@pytest.fixture
def place(coco: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COCO_ROOT", str(coco))
    return coco


@pytest.fixture(scope="module")
def stage1(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector of the stage-wise rows, at the small size."""
    run = tmp_path_factory.mktemp("runs") / STAGE1
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COCO_ROOT", str(coco))
        assert train(shrunk(STAGE1, coco, None), out=run, report=False).finished
    return run


# Each paper's row trains alike; a third of them is enough for the default run.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in PAPER and k % 3 else [])
        for k, n in enumerate(NAMES)
    ],
)
def test_two_steps(name: str, place: Path, stage1: Path, tmp_path: Path) -> None:
    recipe = shrunk(name, place, stage1)
    path = train(recipe, out=tmp_path / "run", report=False).checkpoint
    assert path is not None
    trained = load_checkpoint(path)  # refuses weights that are not finite
    assert len(trained.categories) == 80
    if name in PAPER and "grabcut" not in name and recipe.data.masked is not None:
        assert set(trained.masked) == resolve_masked(recipe.data.masked, trained.categories)
    if "grabcut" in name:
        assert sum(trained.mask_counts.values()) == 4 * len(OBJECTS), "GrabCut gave B its masks"
    if recipe.init is not None:
        before = load_checkpoint(stage1 / "model.safetensors").state
        frozen = [key for key in before if not key.startswith("mask_branch.")]
        assert all(torch.equal(before[key], trained.state[key]) for key in frozen)


ROWS_FOR_A_DRY_RUN = [
    STAGE1,
    "coco_t1a_voc2nonvoc_glove",
    "coco_t1c_nonvoc2voc_agnostic_mlp",
    "coco_t2_r50_voc2nonvoc_grabcut",
    "coco_t2_r101_nonvoc2voc_maskx",
]


@pytest.mark.parametrize(
    "name",
    [
        *ROWS_FOR_A_DRY_RUN,
        *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n not in ROWS_FOR_A_DRY_RUN),
    ],
)
def test_dry_run(name: str, place: Path, stage1: Path) -> None:
    recipe = shrunk(name, place, stage1)
    printed = "\n".join(measure_recipe(recipe).lines())
    for stage in recipe.stages:
        assert re.search(rf"stage {stage.name}: .* s a step, .* GiB; loss", printed)
    assert re.search(r"[\d,]+ parameters: (backbone|encoder) ", printed)
    assert "dry run: nothing was written" in printed


@pytest.fixture(scope="module")
def coco_mini(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO-mini in COCO's layout. Boxes stand in for GrabCut, which would take minutes;
    that it fits is `test_two_steps`'s to see.
    """
    root = tmp_path_factory.mktemp("coco_mini")
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train2017.json").symlink_to(
        shared_data / "coco-mini" / "instances_train.json"
    )
    (root / "train2017").symlink_to(shared_data / "coco-mini" / "train")
    fill(root, "box")
    return root


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", PAPER)
def test_two_steps_on_coco_mini(
    name: str, coco_mini: Path, stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCO_ROOT", str(coco_mini))
    recipe = shrunk(name, coco_mini, stage1, side=160)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"cache": False})})
    assert train(recipe, out=tmp_path / "run", report=False).finished
    assert (
        load_checkpoint(tmp_path / "run" / "model.safetensors").recipe.data.images
        == "${COCO_ROOT}/train2017"
    )


FEW = 6


@pytest.mark.slow
@pytest.mark.shared
def test_the_commands_of_the_guide_on_coco_mini(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 1, a row of Table 1 on its detector, and the evaluation, in COCO's layout and
    the authors' arithmetic; the networks are small and so are the photographs.
    """
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for part, year in (("train", "train2017"), ("val", "val2017")):
        document = json.loads((shared_data / "coco-mini" / f"instances_{part}.json").read_text())
        kept = {image["id"] for image in document["images"][:FEW]}
        document["images"] = document["images"][:FEW]
        rows = document["annotations"]
        document["annotations"] = [row for row in rows if row["image_id"] in kept]
        (root / "annotations" / f"instances_{year}.json").write_text(json.dumps(document))
        (root / year).symlink_to(shared_data / "coco-mini" / part)
    monkeypatch.setenv("COCO_ROOT", str(root))
    stage1 = tmp_path / "runs" / STAGE1
    for name, run in ((STAGE1, stage1), ("coco_t1a_voc2nonvoc_cls_box", tmp_path / "row")):
        recipe = shrunk(name, root, stage1, side=160)
        assert recipe.detectron == "exact"
        assert train(recipe, out=run, report=False).finished
    found = evaluate(
        tmp_path / "row",
        root / "annotations" / "instances_val2017.json",
        images=root / "val2017",
        masked="voc",
        given_boxes=True,
    ).to_json()
    assert found["images"] == FEW
    assert found["given_boxes"]["B"]["instances"] > 0
    assert found["mask"]["all"]["AP"] is not None


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", ["coco_t2_r50_voc2nonvoc_maskx", STAGE1])
def test_the_papers_model_at_full_size_on_coco_mini(
    name: str, coco_mini: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("COCO_ROOT", str(coco_mini))
    small = [
        "model.images.min_size=[240]",
        "model.images.max_size=400",
        "stages.0.batch_size=1",
        "model.minibatch=1",
        "data.workers=0",
    ]
    # Every weight of the paper's model; only the pictures are smaller.
    with caplog.at_level(logging.INFO, "halfmask"):
        printed = "\n".join(measure_recipe(load_recipe(name, small)).lines())
    assert "313 images to learn from" in caplog.text
    if name.endswith("maskx"):
        # 157,352,720 of the MLP, 1,376,768 of T, 4 convolutions and one transposed of
        # 256 channels.
        assert (
            "mask_head "
            f"{157_352_720 + 1_376_768 + 4 * (256 * 256 * 9 + 256) + 256 * 256 * 4 + 256:,}"
            in printed
        )
