"""`halfmask evaluate` end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

torch.set_num_threads(1)

Cli = Callable[..., Any]


def evaluated(cli: Cli, path: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    outcome = cli("evaluate", *arguments, "--json", path, "--device", "cpu")
    assert outcome.code == code, outcome.err
    return json.loads(path.read_text())


def test_a_detector_with_everything(
    halfmask_cli: Cli,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    result = evaluated(
        halfmask_cli,
        tmp_path / "r.json",
        tiny_detector,
        coco_file(),
        "--images",
        photos,
        "--given-boxes",
        "--per-category",
    )
    blocks = ["box", "mask", "boundary", "mask_over_box", "given_boxes", "quality", "ambiguous"]
    assert list(result) == [
        *blocks,
        "groups",
        "per_category",
        "images",
        "seconds",
        "model",
        "version",
        "detector_classes",
    ]
    assert result["detector_classes"] == {"left_out": {}, "not_found": ["owl"]}
    assert result["images"] == 3
    assert result["model"].startswith(f"{tiny_detector.name}@")
    assert result["box"]["all"]["AP"] is not None
    assert result["mask"]["A"]["AP"] is not None
    assert result["mask"]["B"]["AP"] is None, "no B class has a mask in the truth"
    assert [row["masked"] for row in result["per_category"]] == [True, True, False], (
        "cat and dog had masks in training"
    )
    assert result["given_boxes"]["A"]["instances"] == 6
    assert result["given_boxes"]["B"]["instances"] == 0
    assert 0 <= result["given_boxes"]["all"]["polygon"] <= 1


def test_a_segmenter_alone_gets_the_boxes_of_the_file(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    arguments = (tiny_segmenter, coco_file(), "--images", photos, "--masked", "dog")
    result = evaluated(halfmask_cli, tmp_path / "r.json", *arguments)
    assert set(result["box"]["all"].values()) == {None}
    assert result["given_boxes"]["B"]["instances"] == 6
    assert result["given_boxes"]["A"]["instances"] == 0
    one = evaluated(halfmask_cli, tmp_path / "s.json", *arguments, "--workers", "0")
    assert one["given_boxes"] == result["given_boxes"]


def test_the_models_own_score_beside_the_truth(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    arguments = (
        coco_file(),
        "--images",
        photos,
        "--masked",
        "dog",
        "--reliability",
        tmp_path / "a" / "r.png",
    )
    result = evaluated(halfmask_cli, tmp_path / "r.json", tiny_segmenter, *arguments)
    block = result["quality"]["B"]
    assert block["instances"] == 6
    assert block["miou"] == pytest.approx(result["given_boxes"]["B"]["miou"])
    assert 0 < block["mean_score"] < 1
    assert len(block["bins"]) == 6
    assert [row["share"] for row in block["coverage"]] == pytest.approx(
        [k / 10 for k in range(1, 11)]
    )
    assert result["quality"]["A"]["instances"] == 0
    assert (tmp_path / "a" / "r.png").stat().st_size > 10000
    refused = halfmask_cli("evaluate", tiny_detector, *arguments)
    assert refused.code == 2
    assert "add --given-boxes" in refused.line


def test_loose_boxes_cost_something_and_the_same_each_time(
    halfmask_cli: Cli,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    arguments = ("baseline:box", coco_file(), "--images", photos, "--masked", "cat")
    results = [
        evaluated(halfmask_cli, tmp_path / f"{k}.json", *arguments, "--loosen", share)
        for k, share in enumerate(("0", "0.2", "0.2"))
    ]
    tight, loose, again = (result["given_boxes"]["A"]["miou"] for result in results)
    assert [result.get("loosen") for result in results] == [None, 0.2, 0.2], (
        "such a figure says of itself what it is"
    )
    assert loose == again
    assert 0.5 * tight < loose < tight
    refused = halfmask_cli(
        "evaluate", tiny_detector, coco_file(), "--images", photos, "--loosen", "0.1"
    )
    assert refused.code == 2
    assert "add --given-boxes" in refused.line


@pytest.mark.parametrize(
    ("more", "loose"),
    [
        (("--loosen", "0"), {False}),
        (("--loosen", "0.3"), {True}),
        (("--loosen", "0.3", "--masked", "dog"), {False}),  # no mask of A to measure on
        (("--loosen", "0.3", "--boxes", "tight"), {False}),
        (("--boxes", "loose"), {True}),
    ],
)
def test_loose_boxes_are_seen_in_the_masks_of_a(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    loose: set[bool],
) -> None:
    from halfmask.inference.predictor import Predictor

    seen: set[bool] = set()
    before = Predictor.segment_batch

    def noted(
        self: Any, images: Any, boxes: Any, labels: Any = None, loose: bool = False, **more: Any
    ) -> Any:
        seen.add(loose)
        return before(self, images, boxes, labels, loose=loose, **more)

    monkeypatch.setattr(Predictor, "segment_batch", noted)
    monkeypatch.setattr(Predictor, "knows_loose_boxes", True)
    masked = () if "--masked" in more else ("--masked", "cat")
    outcome = halfmask_cli(
        "evaluate", tiny_segmenter, coco_file(), "--images", photos, "--given-boxes", *masked, *more
    )
    assert outcome.code == 0, outcome.err
    assert seen == loose


def test_a_detectors_boxes_and_a_segmenters_masks(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    both = (tiny_segmenter, coco_file(), "--images", photos, "--detector", tiny_detector)
    result = evaluated(halfmask_cli, tmp_path / "r.json", *both)
    alone = evaluated(
        halfmask_cli, tmp_path / "s.json", tiny_detector, coco_file(), "--images", photos
    )
    assert result["box"] == alone["box"]
    assert result["given_boxes"]["all"]["miou"] is None, "not asked for"
    assert " on boxes of " in result["model"]


def found_file(path: Path, truth: Path, **changes: Any) -> Path:
    """The truth's own boxes as any detector would write them."""
    rows = [
        {key: row[key] for key in ("image_id", "category_id", "bbox")}
        | {"score": 1 / row["id"]}
        | changes
        for row in json.loads(truth.read_text())["annotations"]
    ]
    path.write_text(json.dumps(rows))
    return path


def test_anybodys_boxes_and_a_segmenters_masks(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data = coco_file()
    found = found_file(tmp_path / "found.json", data, segmentation=None)
    arguments = (data, "--images", photos, "--masked", "cat", "--detections", found)
    result = evaluated(halfmask_cli, tmp_path / "r.json", tiny_segmenter, *arguments)
    assert [result["box"][name]["AP"] for name in ("all", "A", "B")] == pytest.approx([100] * 3), (
        "the truth's own"
    )
    assert result["model"].endswith(" on boxes of found.json")
    assert result["model"].startswith("tiny@")
    assert result["mask"]["A"]["AP"] is not None
    assert result["mask_over_box"]["A"] == pytest.approx(result["mask"]["A"]["AP"] / 100)
    assert result["mask_over_box"]["B"] is None
    assert result["given_boxes"]["all"]["instances"] == 0, "not asked for"
    both = evaluated(halfmask_cli, tmp_path / "s.json", tiny_segmenter, *arguments, "--given-boxes")
    assert both["mask"] == result["mask"]
    assert both["given_boxes"]["A"]["instances"] == 6
    rule = evaluated(halfmask_cli, tmp_path / "t.json", "baseline:ellipse", *arguments)
    assert rule["box"] == result["box"]
    assert rule["model"] == "baseline:ellipse on boxes of found.json"


def test_a_model_with_a_detector_of_its_own_fills_the_given_detections(
    halfmask_cli: Cli,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    found = found_file(tmp_path / "found.json", coco_file())
    arguments = (tiny_detector, coco_file(), "--images", photos, "--detections", found)
    assert evaluated(halfmask_cli, tmp_path / "r.json", *arguments)["box"]["all"][
        "AP"
    ] == pytest.approx(100)


def test_images_without_detections_are_misses(
    halfmask_cli: Cli, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    data, path = coco_file(), tmp_path / "found.json"
    rows = json.loads(found_file(path, data).read_text())
    path.write_text(json.dumps([row for row in rows if row["image_id"] == 1]))
    arguments = ("baseline:box", data, "--images", photos, "--masked", "cat", "--detections", path)
    result = evaluated(halfmask_cli, tmp_path / "r.json", *arguments)
    assert result["images"] == 3
    assert 30 < result["box"]["all"]["AP"] < 35
    path.write_text("[]")
    nothing = evaluated(halfmask_cli, tmp_path / "s.json", *arguments)
    assert (nothing["images"], nothing["box"]["all"]["AP"], nothing["mask_over_box"]["all"]) == (
        3,
        0,
        None,
    )


def test_detections_outside_the_image_are_counted_and_bad_ones_refused(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data, path = coco_file(), tmp_path / "found.json"
    rows = json.loads(found_file(path, data).read_text())
    arguments = ("evaluate", tiny_segmenter, data, "--images", photos, "--detections", path)
    path.write_text(json.dumps([*rows, rows[0] | {"bbox": [70, 5, 9, 9]}]))
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 0
    assert "found.json: boxes left out, outside their image: 1" in outcome.line
    assert "of box AP" in outcome.out
    path.write_text(json.dumps([*rows, rows[0] | {"image_id": 4}]))
    refused = halfmask_cli(*arguments)
    assert refused.code == 2
    assert "found.json: entry 12: image_id 4 is not a usable image" in refused.line
    both = halfmask_cli(*arguments, "--detector", tiny_detector)
    assert both.code == 2
    assert "give only one" in both.line
    for option in ("--sheet", "--reliability"):
        alone = halfmask_cli(*arguments[:-1], found_file(path, data), option, tmp_path / "x.png")
        assert alone.code == 2
        assert "add --given-boxes" in alone.line


@pytest.mark.parametrize(("masked", "loosen"), [("dog", "0"), ("dog", "0.2"), ("cat", "0")])
def test_a_sheet_of_best_median_and_worst(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
    masked: str,
    loosen: str,
) -> None:
    """Of B (the cats), and of all classes where none of B has a mask."""
    arguments = (coco_file(), "--images", photos, "--masked", masked, "--loosen", loosen)
    plain = evaluated(halfmask_cli, tmp_path / "r.json", tiny_segmenter, *arguments)
    sheet = tmp_path / "new" / "sheet.png"
    outcome = halfmask_cli(
        "evaluate", tiny_segmenter, *arguments, "--sheet", sheet, "--json", tmp_path / "s.json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip().endswith("sheet.png")
    drawn = json.loads((tmp_path / "s.json").read_text())
    assert {**drawn, "seconds": 0} == {**plain, "seconds": 0}, "the picture changes no number"
    with Image.open(sheet) as picture:
        assert picture.height > 3 * 232, "six instances: two in each of three blocks"


def test_a_sheet_of_one_instance_and_of_none(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    box = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [3, 3, 20, 20]}
    one = coco_file(annotations=[box | {"segmentation": [[3, 3, 23, 3, 12, 23]], "area": 200}])
    sheet = tmp_path / "sheet.png"
    assert (
        halfmask_cli("evaluate", tiny_segmenter, one, "--images", photos, "--sheet", sheet).code
        == 0
    )
    with Image.open(sheet) as picture:
        assert 232 < picture.height < 2 * 232
    sheet.unlink()
    none = coco_file(annotations=[box])
    refused = halfmask_cli(
        "evaluate", tiny_detector, none, "--images", photos, "--given-boxes", "--sheet", sheet
    )
    assert refused.code == 2
    assert "the detector does not know, so it misses their objects: owl" in refused.err
    assert [line.partition("png: ")[2] for line in refused.errors] == [
        "no sheet, since no mask has a known truth"
    ]
    assert not sheet.exists()


def test_a_sheet_that_cannot_be_drawn_is_refused_before_the_work(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
) -> None:
    arguments = (coco_file(), "--images", photos, "--sheet")
    text = halfmask_cli("evaluate", tiny_segmenter, *arguments, "sheet.txt")
    assert (text.code, text.out) == (2, "")
    assert "--sheet: sheet.txt does not end like a picture; expected .png" in text.line
    alone = halfmask_cli("evaluate", tiny_detector, *arguments, "sheet.png")
    assert alone.code == 2
    assert (
        "--sheet shows masks in the file's own boxes beside the truth: add --given-boxes"
        in alone.line
    )


@pytest.mark.parametrize(
    ("name", "low", "high"), [("box", 0.42, 0.45), ("ellipse", 0.42, 0.6), ("grabcut", 0.0, 1.0)]
)
def test_baselines(
    halfmask_cli: Cli,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
    name: str,
    low: float,
    high: float,
) -> None:
    if name == "grabcut":
        pytest.importorskip("cv2")
    result = evaluated(
        halfmask_cli,
        tmp_path / "r.json",
        f"baseline:{name}",
        coco_file(),
        "--images",
        photos,
        "--masked",
        "cat",
    )
    assert low <= result["given_boxes"]["A"]["miou"] <= high, "the triangle fills 43 % of its box"
    assert result["model"] == f"baseline:{name}"


def test_photographs_that_cannot_be_read_are_counted(
    halfmask_cli: Cli,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    (photos / "2.jpg").write_bytes((photos / "2.jpg").read_bytes()[:400])
    arguments = (
        "evaluate",
        tiny_detector,
        coco_file(),
        "--images",
        photos,
        "--given-boxes",
        "--json",
        tmp_path / "r.json",
    )
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 1
    assert "1 photograph skipped" in outcome.err
    assert "2.jpg" in outcome.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["images"] == 2
    assert result["given_boxes"]["all"]["instances"] == 4


def test_input_that_cannot_be_used(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text.json"
    text.write_text("[1, 2]")
    absent = tmp_path / "absent"
    good = coco_file()

    def line(*arguments: object) -> str:
        outcome = halfmask_cli("evaluate", *arguments)
        assert outcome.code == 2
        return str(outcome.line)

    assert "none of the 3 photographs" in line(tiny_segmenter, good, "--images", empty)
    assert "no such folder" in line(tiny_segmenter, good, "--images", absent)
    assert "expected a COCO file" in line(tiny_segmenter, text, "--images", photos)
    assert "cannot read it" in line(tiny_segmenter, absent, "--images", photos)
    assert "no such checkpoint" in line(absent, good, "--images", photos)
    assert "no such baseline" in line("baseline:magic", good, "--images", photos)
    assert "'zebra' is not a class" in line(
        tiny_segmenter, good, "--images", photos, "--masked", "zebra"
    )
    assert "has to find boxes" in line(
        tiny_segmenter, good, "--images", photos, "--detector", tiny_segmenter
    )
    assert "no usable annotation" in line(
        tiny_segmenter, coco_file(annotations=[]), "--images", photos
    )
    lies = [{"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 65} for i in (1, 2, 3)]
    assert "none of the photographs can be read" in line(
        tiny_segmenter, coco_file(images=lies), "--images", photos
    )


def test_no_masks_at_all(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data = coco_file(
        annotations=[{"id": 1, "image_id": 1, "category_id": 2, "bbox": [3, 3, 20, 20]}]
    )
    outcome = halfmask_cli("evaluate", tiny_segmenter, data, "--images", photos)
    assert outcome.code == 2
    assert "no annotation has a usable mask" in outcome.line
    result = evaluated(halfmask_cli, tmp_path / "r.json", tiny_detector, data, "--images", photos)
    assert result["box"]["A"]["AP"] is not None
    assert result["mask"]["all"]["AP"] is None
