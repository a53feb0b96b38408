"""Table 1 on COCO: which recipes run, in which order, with what; a real run on
COCO-mini laid out as COCO.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.paper import table1_coco
from benchmarks.paper.table1_coco import DIRECTIONS, PARTS, recipe_name, run_coco
from benchmarks.result import Options
from halfmask.errors import InputError
from halfmask.recipes.recipe import load_recipe, shipped_recipes


def options(out: Path, root: Path | None, *overrides: str) -> Options:
    return Options(out, 1, 3, 1, "coco", root, overrides, None, lambda line: None)


@pytest.fixture(autouse=True)
def glove(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOVE_FILE", "coco_glove.npy")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    for folder in ("annotations", "train2017", "val2017"):
        (root / folder).mkdir(parents=True)
    for part in ("train", "val"):
        (root / "annotations" / f"instances_{part}2017.json").write_text("{}")
    return root


def test_every_row_is_a_shipped_recipe() -> None:
    heads = [head for _, rows, _ in PARTS.values() for _, head in rows]
    names = {recipe_name(head, direction) for head in heads for direction in DIRECTIONS}
    assert names <= set(shipped_recipes())
    assert len(names) == 2 * (len(set(heads)) - 1) + 1, "the oracle is one recipe"
    for name in names:
        recipe = load_recipe(name, ["seed=5"])
        direction = next((spec for part, (spec, _) in DIRECTIONS.items() if part in name), None)
        assert recipe.data.masked == direction
        assert (recipe.init is None) == ("t1d" in name), (
            "stage-wise rows start from stage 1, and only they"
        )


def test_what_is_missing_is_trained_once_and_measured_by_direction(
    coco: Path, tmp_path: Path
) -> None:
    ran: list[list[str]] = []

    def fake(arguments: list[str], root: Path) -> None:
        assert root == coco
        ran.append(arguments)
        if arguments[0] == "train":
            run = Path(arguments[arguments.index("--out") + 1])
            run.mkdir(parents=True)
            (run / "model.safetensors").touch()
            return
        ap = {"A": {"AP": 30.0}, "B": {"AP": 14.0 + len(arguments[1]) % 7}, "all": {"AP": 20.0}}
        iou = {name: {"miou": 0.5} for name in ap}
        Path(arguments[-1]).write_text(json.dumps({"mask": ap, "box": ap, "given_boxes": iou}))

    result = run_coco(options(tmp_path / "runs", coco, "stages.0.steps=2"), fake)
    trained = [a[1] for a in ran if a[0] == "train"]
    assert trained[0] == "coco_stage1_r50_boxes"
    assert len(trained) == len(set(trained)), "rows that parts share are trained once"
    oracle = [
        a[a.index("--masked") + 1] for a in ran if a[0] == "evaluate" and a[1].endswith("oracle")
    ]
    assert oracle == ["voc", "nonvoc"]
    base = next(a for a in ran if a[:2] == ["train", "coco_t1a_voc2nonvoc_cls_box"])
    assert {"seed=3", "stages.0.steps=2"} < set(base)
    assert any(one.startswith("init=") and one.endswith("coco_stage1_r50_boxes") for one in base)
    assert "### nonvoc2voc" in result.tables["table1:coco"]
    assert "not run" not in result.tables["table1:coco"]
    ran.clear()
    again = run_coco(options(tmp_path / "runs", coco, "stages.0.steps=2"), fake)
    assert ran == [], "what is there is not done again"
    assert again.tables == result.tables
    with pytest.raises(InputError, match=r"made with --set \['stages.0.steps=2'\]"):
        run_coco(options(tmp_path / "runs", coco), fake)


def test_a_folder_that_is_no_coco(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--root"):
        run_coco(options(tmp_path / "runs", None))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GLOVE_FILE")
        with pytest.raises(InputError, match="GLOVE_FILE"):
            run_coco(options(tmp_path / "runs", coco))
    (coco / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(InputError, match=r"instances_val2017\.json: not there"):
        run_coco(options(tmp_path / "runs", coco))


@pytest.mark.slow
def test_a_verb_that_fails_stops_the_table(
    coco: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="exit code 2"):
        run_coco(options(tmp_path / "runs", coco))  # the files are no COCO files
    assert "instances_train2017.json" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.shared
def test_two_rows_on_coco_mini(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, mini = tmp_path / "coco", shared_data / "coco-mini"
    (root / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        (root / f"{part}2017").symlink_to(mini / part)
        (root / "annotations" / f"instances_{part}2017.json").symlink_to(
            mini / f"instances_{part}.json"
        )
    rows: Any = {
        "a": (
            "two rows",
            [("class-agnostic", "t1a_agnostic"), ("transfer", "t1a_cls_box")],
            "t1a_agnostic",
        )
    }
    monkeypatch.setattr(table1_coco, "PARTS", rows)
    monkeypatch.setattr(table1_coco, "DIRECTIONS", {"voc2nonvoc": ("voc", 20)})
    small = [
        "model.backbone.name=resnet18",
        "model.backbone.weights=null",
        "model.images.min_size=[96]",
    ]
    small += [
        "model.images.max_size=128",
        "model.detector.box_width=32",
        "model.detector.fpn_channels=32",
    ]
    small += [
        "model.mask_head.width=16",
        "stages.0.steps=2",
        "stages.0.batch_size=2",
        "data.workers=0",
    ]
    small += ["stages.0.optimiser.steps=[1]", "stages.0.optimiser.warmup=0"]
    result = run_coco(options(tmp_path / "runs", root, *small))
    assert "| transfer |" in result.tables["table1:coco"]
    assert [m["head"] for m in result.details["measures"]] == ["t1a_agnostic", "t1a_cls_box"]
