"""Reproducing the paper on COCO: the data check, which commands run, the verdicts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.paper import reproduce
from benchmarks.paper.reproduce import PARTS_OF_COCO, PUBLISHED, check_coco, run
from benchmarks.paper.table1_coco import DIRECTIONS, PARTS, STAGE_1, recipe_name
from benchmarks.result import Options
from halfmask.coco.doctor.published import PUBLISHED_COUNTS
from halfmask.errors import InputError
from tests.imported.conftest import Python2Pickle, backbone_shapes, fill, head_shapes


def options(out: Path, root: Path | None, stage: str, *overrides: str, said: Any = None) -> Options:
    say = (lambda line: None) if said is None else said.append
    return Options(out, 1, 3, 1, "world", root, overrides, None, say, False, stage)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two images of COCO's layout in each part, one of them empty."""
    root = tmp_path / "coco"
    for part in PARTS_OF_COCO:
        (root / f"{part}2017").mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
        for image in images:
            (root / f"{part}2017" / str(image["file_name"])).touch()
        document = {
            "images": images,
            "annotations": [{"image_id": 1}, {"image_id": 1}],
            "categories": [{"id": i} for i in range(80)],
        }
        (root / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(document))
    return root


class Fake:
    """Stands for the command line; evaluations give the next AP of the list."""

    def __init__(self, *aps: float) -> None:
        self.aps = list(aps)
        self.ran: list[list[str]] = []

    def __call__(self, arguments: list[str], root: Path) -> None:
        self.ran.append(arguments)
        if arguments[0] == "train":
            run = Path(arguments[arguments.index("--out") + 1])
            (run / "logs").mkdir(parents=True)
            (run / "model.safetensors").touch()
            (run / "logs" / "metrics.csv").write_text("step,loss_mask\n20,0.69\n500,0.9\n")
            return
        ap = self.aps.pop(0)
        block = {name: {"AP": ap} for name in ("all", "A", "B")}
        found = {"box": block, "mask": block}
        Path(arguments[arguments.index("--json") + 1]).write_text(json.dumps(found))


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def fake(program: str, file: Path, out: Path) -> Any:
        assert program in ("detectron", "torchvision")
        out.touch()
        return type("Done", (), {"overrides": [f"init={out}", "model.images.std='[1.0, 1.0]'"]})

    monkeypatch.setattr(reproduce, "import_weights", fake)
    return tmp_path / "model_final.pkl"


def test_all_differences_from_coco_are_named(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with pytest.raises(
        InputError,
        match=r"train: images 2, expected 118287.*val: images without annotations 1, expected 48",
    ):
        check_coco(coco, "coco2017", said.append)
    assert said[0].startswith("train: 2 images, 2 annotations, 1 images without annotations, 80 c")
    assert said[0].endswith("0 photographs missing")
    assert "coco2017 train: annotations of VOC classes 0, not checked: unpublished" in said
    with pytest.raises(InputError, match="expect=coco2014: expected coco2017 or none"):
        check_coco(coco, "coco2014", said.append)
    check_coco(coco, "none", said.append)
    classes = {name: 0 if name == "VOC classes" else 80 for name in ("VOC classes", "classes")}
    small = {"images": 2, "annotations": 2, "images without annotations": 1, **classes}
    monkeypatch.setitem(PUBLISHED_COUNTS, "coco2017", dict.fromkeys(PARTS_OF_COCO, small))
    check_coco(coco, "coco2017", said.append)
    (coco / "val2017" / "2.jpg").unlink()
    with pytest.raises(InputError, match="val: 1 photographs are not in"):
        check_coco(coco, "none", said.append)
    (coco / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(InputError, match=r"train2017\.json is not there"):
        check_coco(coco, "none", said.append)


def test_imported_weights_are_held_against_what_was_published(
    coco: Path, tmp_path: Path, weights: Path
) -> None:
    fake = Fake(37.6, 36.0)
    names = [f"weights.{key}={weights}" for key in ("mask_r50", "faster_r50")]
    given = options(tmp_path / "out", coco, "import", *names, "expect=none")
    result = run(given, fake)
    assert [(r["peer_value"], r["value"], r["ok"]) for r in result.rows] == [
        (37.7, 37.6, True),
        (33.9, 37.6, False),
        (36.7, 36.0, False),
    ]
    assert "| box AP of mask_r50 | 37.7 | 37.6 | the same |" in result.tables["reproduce:import"]
    again = Fake()
    assert run(given, again).rows == result.rows
    assert again.ran == [], "measured once"
    assert "--set weights.mask_r50=model_final.pkl" in result.command


def test_a_tenth_of_the_schedule_on_the_imported_detector(
    coco: Path, tmp_path: Path, weights: Path
) -> None:
    said: list[str] = []
    fake = Fake(14.0, 20.0, 30.0, 20.0, 18.0, 30.0)
    given = options(
        tmp_path / "out", coco, "short", f"weights.faster_r50={weights}", "expect=none",
        "stages.0.batch_size=8", said=said,
    )  # fmt: skip
    result = run(given, fake)
    trained = [words for words in fake.ran if words[0] == "train"]
    assert len(trained) == 5, "the oracle is one run"
    for words in trained:
        assert {"stages.0.steps=9000", "stages.0.optimiser.steps=[6000, 8000]"} <= {*words}
        assert words.index(f"init={tmp_path / 'out' / 'faster_r50.safetensors'}") == 2
        assert "model.images.std=[1.0, 1.0]" in words  # as a shell would pass it on
        assert words[-4] == "stages.0.batch_size=8"
    assert [row["ok"] for row in result.rows] == [True, False]
    table = result.tables["reproduce:short"]
    assert "| voc | 14.0 | 20.0 | 30.0 | yes | OUTSIDE |" in table
    assert "| nonvoc | 20.0 | 18.0 | 30.0 | NO | OUTSIDE |" in table
    assert any("step 0: mask loss 0.69…0.69" in line for line in said)
    assert any("step 500: 0.900, NOT HEALTHY" in line for line in said)


@pytest.mark.parametrize(
    ("stage", "overrides", "message"),
    [
        ("import", (), "name published weights"),
        ("import", ("weights.r50=a.pkl",), "expected one of faster_r50"),
        ("short", (), r"needs a detector: --set weights\.faster_r50"),
        ("long", (), "no stage long; there are: import, short, full"),
    ],
)
def test_what_is_missing_is_said(
    coco: Path, tmp_path: Path, stage: str, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(options(tmp_path / "out", coco, stage, "expect=none", *overrides), Fake())
    with pytest.raises(InputError, match="by --coco"):
        run(options(tmp_path / "out", None, stage), Fake())


def test_published_numbers_are_those_of_the_model_zoo() -> None:
    assert (PUBLISHED["mask_r50"].box, PUBLISHED["mask_r50"].mask) == (37.7, 33.9)
    assert (PUBLISHED["mask_r101"].box, PUBLISHED["mask_r101"].mask) == (40.0, 35.9)


def in_process(arguments: list[str], root: Path) -> None:
    """Runs a verb here: torch is loaded once."""
    import os

    from halfmask.cli.main import app

    os.environ["COCO_ROOT"] = str(root)
    app(arguments, standalone_mode=False)


@pytest.fixture
def mini(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few photographs of COCO-mini with persons, in COCO's layout."""
    monkeypatch.setenv("COCO_ROOT", "")
    root, source = tmp_path / "coco", shared_data / "coco-mini"
    (root / "annotations").mkdir(parents=True)
    for part, count in (("train", 6), ("val", 3)):
        (root / f"{part}2017").symlink_to(source / part)
        document = json.loads((source / f"instances_{part}.json").read_text())
        shown = {a["image_id"] for a in document["annotations"] if a["category_id"] == 1}
        images = [i for i in document["images"] if i["id"] in shown][:count]
        kept = {i["id"] for i in images}
        rows = [a for a in document["annotations"] if a["image_id"] in kept]
        small = {**document, "images": images, "annotations": rows}
        (root / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(small))
    return root


TINY = [
    "model.images.min_size=[64]", "model.images.max_size=96", "model.mask_head.width=12",
    "model.mask_head.convs=1", "stages.0.steps=2", "stages.0.optimiser.steps=[1]",
    "stages.0.batch_size=2", "stages.0.optimiser.warmup=0", "data.workers=0",
    "model.detector.rpn_post_nms=[20,20]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.shared
def test_import_and_short_on_coco_mini(tmp_path: Path, mini: Path) -> None:
    """Generated weights of a Faster R-CNN R-50-FPN, in Detectron's file; two steps a row."""
    shapes = backbone_shapes() | head_shapes(81, 16, 24, 7)
    file = tmp_path / "model_final.pkl"
    file.write_bytes(Python2Pickle().dumps({"blobs": fill(shapes)}))
    names = [f"weights.faster_r50={file}", "expect=none"]
    first = run(options(tmp_path / "out", mini, "import", *names), in_process)
    assert [row["name"] for row in first.rows] == ["box AP of faster_r50"]
    assert first.rows[0]["ok"] is False
    said: list[str] = []
    second = run(options(tmp_path / "out", mini, "short", *names, *TINY, said=said), in_process)
    assert len(second.tables["reproduce:short"].splitlines()) == 4
    assert len(list((tmp_path / "out" / "short").iterdir())) == 5


SMALL_DETECTOR = [
    "model.backbone.name=small_resnet", "model.backbone.weights=null",
    "model.backbone.widths=[6,8,8,8]", "model.backbone.blocks=[1,1,1,1]",
    "model.backbone.stride_in_1x1=false", "model.detector.fpn_channels=8",
    "model.detector.box_width=12", "model.detector.box_roi_size=3",
    "model.detector.rpn_pre_nms=[40,40]", "model.mask_head.roi_size=7",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.shared
def test_every_row_of_table_1_on_coco_mini(
    tmp_path: Path, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`full` trains and measures each recipe: a small network of generated weights,
    generated class vectors, two steps a row.
    """
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.random.default_rng(1).normal(size=(80, 300)))
    monkeypatch.setenv("GLOVE_FILE", str(vectors))
    given = options(tmp_path / "out", mini, "full", "expect=none", *TINY, *SMALL_DETECTOR)
    result = run(given, in_process)
    assert "--stage full" in result.command
    table = result.tables["table1:coco"]
    heads = {head for _, rows, _ in PARTS.values() for _, head in rows}
    runs = {recipe_name(head, direction) for head in heads for direction in DIRECTIONS}
    found = {path.name for path in (tmp_path / "out" / "seed-3").iterdir()}
    assert found == {*runs, STAGE_1}
    assert len(result.details["measures"]) == len(heads) * len(DIRECTIONS)
    for _, rows, _ in PARTS.values():
        assert all(f"| {label} |" in table for label, _ in rows)
    again = Fake()
    assert run(given, again).tables == result.tables
    assert again.ran == [], "what is there is not done again"
