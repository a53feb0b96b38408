"""AP by LVIS's rules equals the `lvis` package's, and regions to ignore are ignored."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.coco.categories import names_regions_to_ignore
from halfmask.coco.edit import relabel
from halfmask.coco.file import CocoFile
from halfmask.coco.index.place import open_annotations
from halfmask.errors import InputError
from halfmask.evaluation.measures.average_precision import PrecisionStream, PrecisionTable
from halfmask.evaluation.measures.metrics import as_results, compute_metrics
from halfmask.evaluation.measures.protocol import rules_of
from halfmask.evaluation.tables import table
from tests.evaluation.lvis_worlds import lvis_precision, world

Make = Callable[..., Any]
RECORDED = json.loads(Path(__file__).with_name("lvis_recorded.json").read_text())
ONE, TWO, THREE = [10.0, 10.0, 90.0, 70.0], [100.0, 20.0, 150.0, 110.0], [20.0, 75.0, 60.0, 115.0]


def read(document: dict[str, Any]) -> CocoFile:
    return CocoFile.from_document(document, "truth")


def ours(document: dict[str, Any], results: list[dict[str, Any]], kind: Any) -> PrecisionTable:
    stream = PrecisionStream(document["categories"], kind, lvis=True)
    for image in document["images"]:
        number = image["id"]
        best = sorted((r for r in results if r["image_id"] == number), key=lambda r: -r["score"])[
            :300
        ]
        truth = [{**a, "iscrowd": 0} for a in document["annotations"] if a["image_id"] == number]
        stream.add(image, truth, best)
    return stream.table()


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['kind']}-{row['seed']}")
def test_equals_what_the_lvis_package_measured(row: dict[str, Any]) -> None:
    """Recorded by record_lvis.py with lvis 0.5.3."""
    document, results = world(row["seed"], row["kind"])
    found = ours(document, results, row["kind"])
    stats = dict(zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), found.stats(), strict=False))
    for letter in "rcf":
        members = [c["id"] for c in document["categories"] if c["frequency"] == letter]
        stats[f"AP{letter}"] = found.stats(members)[0]
    assert stats == pytest.approx(row["values"], abs=1e-9)
    np.testing.assert_allclose(found.precision[..., 2].mean((0, 1)), row["classes"], atol=1e-9)
    assert (found.precision[..., :2] == -1).all()  # LVIS has no limits of 1 and 10


@pytest.mark.parametrize("row", RECORDED[2:6], ids=lambda row: f"{row['kind']}-{row['seed']}")
def test_the_plain_reference_equals_the_lvis_package(row: dict[str, Any]) -> None:
    precision = lvis_precision(*world(row["seed"], row["kind"]), row["kind"])
    np.testing.assert_allclose(precision.mean((0, 1)), row["classes"], atol=1e-9)


@settings(max_examples=12, deadline=None)
@given(st.integers(100, 10**6), st.sampled_from(["bbox", "segm"]))
def test_equals_lvis_on_any_detections(seed: int, kind: str) -> None:
    document, results = world(3 * seed + 1, kind)  # without the image of 340 detections
    expected = lvis_precision(document, results, kind)
    np.testing.assert_allclose(ours(document, results, kind).precision[..., 2], expected, atol=1e-9)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(st.integers(100, 10**6), st.sampled_from(["bbox", "segm"]))
def test_equals_the_lvis_package_itself(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str
) -> None:
    """`pip install --no-deps lvis`: its own requirements bring a second OpenCV."""
    lvis = pytest.importorskip("lvis", reason="the lvis package is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float", float, raising=False)  # which NumPy 1.24 took away
        logging.getLogger("lvis").setLevel(logging.ERROR)
        document, results = world(seed, kind)
        path = tmp_path_factory.mktemp("lvis") / "truth.json"
        path.write_text(json.dumps(document))
        truth = lvis.LVIS(str(path))
        copy = json.loads(json.dumps(results))
        evaluation = lvis.LVISEval(truth, lvis.LVISResults(truth, copy), kind)
        evaluation.run()
    found = ours(document, results, kind).precision[..., 2]
    np.testing.assert_allclose(found, evaluation.eval["precision"], atol=1e-9)


# `evaluate` takes LVIS's rules by itself, or as told.
def lvis_document(document: Make, annotation: Make) -> dict[str, Any]:
    """Image 1: a cat, no dog for sure, cats not exhaustive. Image 2: a dog."""
    made = document([annotation(1, 1, 7, ONE), annotation(2, 2, 3, TWO)])
    made["images"][0] |= {"neg_category_ids": [3], "not_exhaustive_category_ids": [7]}
    made["images"][1] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category, letter in zip(made["categories"], "rcf", strict=True):
        category["frequency"] = letter
    return made


def test_the_lists_of_a_file_are_honoured(
    document: Make, annotation: Make, detection: Make
) -> None:
    file = read(lvis_document(document, annotation))
    found = [
        (1, detection([ONE, THREE, TWO, THREE], [7, 7, 3, 11], [0.5, 0.9, 0.6, 0.9])),
        (2, detection([TWO, ONE, THREE], [3, 7, 11], [0.5, 0.9, 0.9])),
    ]
    lvis = compute_metrics(file, found)
    coco = compute_metrics(file, found, rules=rules_of(file, "coco"))
    by_class = {row["name"]: row["box_AP"] for row in lvis["per_category"]}
    assert by_class["cat"] == pytest.approx(100)  # the others: not exhaustive; not looked for
    assert by_class["dog"] == pytest.approx(50)  # 0.6 on image 1, where there is no dog
    assert by_class["sofa"] is None
    assert coco["box"]["all"]["AP"] < lvis["box"]["all"]["AP"] == pytest.approx(75)
    assert "protocol" not in coco
    rules = lvis["protocol"]
    for kind in ("box", "mask", "boundary"):  # a dog is rare and a cat common in this file
        rare, common, frequent = rules.pop(kind).values()
        assert (rare, common, frequent) == (pytest.approx(100), pytest.approx(50), None)
    lists = {"images_without_lists": 0, "unreadable_lists": 0}
    assert rules == {"name": "lvis", "limit": 300, **lists}


def test_the_whole_way_equals_the_reference(
    document: Make, annotation: Make, detection: Make
) -> None:
    made = lvis_document(document, annotation)
    made["annotations"].append(annotation(3, 1, 7, THREE))
    for row in made["annotations"]:
        row["area"] = row["bbox"][2] * row["bbox"][3]
    rng = np.random.default_rng(0)
    found = []
    for image, count in ((1, 330), (2, 9)):
        boxes = np.resize([ONE, TWO, THREE], (count, 4)) + rng.normal(0, 4, (count, 4))
        labels = rng.choice([3, 7, 11], count).tolist()
        found.append((image, detection(boxes.tolist(), labels, rng.random(count).tolist())))
    file = read(made)
    results = [r for image, d in found for r in as_results(image, d, [3, 7, 11])]
    expected = lvis_precision(made, [{**r, "segmentation": None} for r in results], "bbox")
    value = compute_metrics(file, found)["box"]["all"]["AP"]
    assert value == pytest.approx(100 * expected[..., 0][expected[..., 0] > -1].mean(), abs=1e-9)


def test_rules(document: Make, annotation: Make, tmp_path: Path) -> None:
    plain = document([annotation(1, 1, 7, ONE)])
    assert rules_of(read(plain)).protocol == "coco"
    with pytest.raises(InputError, match=r"no image has neg_category_ids.*use --protocol coco"):
        rules_of(read(plain), "lvis")
    assert rules_of(read(plain), "coco").limit == 100  # the remedy
    plain["images"][0]["neg_category_ids"] = [3, "x", None]
    found = rules_of(read(plain))
    assert (found.protocol, found.limit, found.without, found.unreadable) == ("lvis", 300, 1, 1)
    assert found.lists == {1: ([3], [])}
    plain["images"][0]["neg_category_ids"] = "3"
    assert (rules_of(read(plain)).unreadable, rules_of(read(plain)).lists) == (1, {})
    path = tmp_path / "f.json"
    path.write_text(json.dumps(lvis_document(document, annotation)))
    assert rules_of(open_annotations(path)).lists == {1: ([3], [7])}


def test_the_lists_follow_other_class_ids(document: Make, annotation: Make) -> None:
    made = lvis_document(document, annotation)
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    moved = relabel(made, {7: 1, 3: 2}, categories)
    assert moved["images"][0]["neg_category_ids"] == [2]
    assert moved["images"][0]["not_exhaustive_category_ids"] == [1]
    assert made["images"][0]["neg_category_ids"] == [3]
    assert moved["images"][1] == made["images"][1]


def test_truth_without_a_mask_under_lvis_s_rules(
    document: Make, annotation: Make, detection: Make
) -> None:
    """It is neither a miss nor makes detections wrong, and its class still counts."""
    made = lvis_document(document, annotation)
    made["annotations"].append(annotation(3, 1, 3, TWO, segmentation=None))
    found = [(1, detection([ONE, TWO], [7, 3])), (2, detection([TWO], [3], [0.5]))]
    result = compute_metrics(read(made), found)
    assert result["mask"]["all"]["AP"] == pytest.approx(100)
    assert result["box"]["all"]["AP"] == pytest.approx(100)
    found = [(1, detection([ONE, THREE], [7, 3])), (2, detection([TWO], [3], [0.5]))]
    assert compute_metrics(read(made), found)["mask"]["all"]["AP"] == pytest.approx(75)


def test_the_table_says_so(document: Make, annotation: Make, detection: Make) -> None:
    made = lvis_document(document, annotation)
    del made["images"][1]["neg_category_ids"], made["images"][1]["not_exhaustive_category_ids"]
    made["categories"][2]["name"] = "DontCare"
    result = compute_metrics(read(made), [(1, detection([ONE], [7])), (2, detection([TWO], [3]))])
    text = " ".join(table(result).split())
    assert "AP by LVIS's rules" in text
    assert "the best 300 detections" in text
    assert "Box APr 100.0, APc 100.0, APf –." in text
    assert "1 images have neither list: only the classes of their own truth count" in text
    assert "Regions to ignore, where no detection is wrong: DontCare (--ignored none" in text


# Regions to ignore.
def kitti(document: Make, annotation: Make, name: str = "DontCare") -> dict[str, Any]:
    """A cat and a region to ignore in image 1, a dog in image 2."""
    region = annotation(2, 1, 11, TWO, segmentation=None)
    made = document([annotation(1, 1, 7, ONE), region, annotation(3, 2, 3, TWO)])
    made["categories"][2]["name"] = name
    return made


INSIDE = [105.0, 30.0, 145.0, 100.0]


def test_detections_of_any_class_in_a_region_to_ignore(
    document: Make, annotation: Make, detection: Make
) -> None:
    file = read(kitti(document, annotation))
    found = [
        (1, detection([ONE, INSIDE, TWO, INSIDE], [7, 7, 3, 11], [0.5, 0.9, 0.9, 0.9])),
        (2, detection([TWO], [3], [0.5])),
    ]
    result = compute_metrics(file, found)
    assert result["box"]["all"]["AP"] == result["mask"]["all"]["AP"] == pytest.approx(100)
    assert [row["name"] for row in result["per_category"]] == ["dog", "cat"]
    assert result["protocol"] == {"name": "coco", "limit": 100, "ignored": ["DontCare"]}
    counted = compute_metrics(file, found, rules=rules_of(file, ignored="none"))
    # INSIDE has IoU 0.62 with the region, so three of ten thresholds find it.
    assert counted["box"]["all"]["AP"] == pytest.approx((50 + 50 + 30) / 3)
    assert [row["name"] for row in counted["per_category"]] == ["dog", "cat", "DontCare"]
    assert "protocol" not in counted


def test_outside_the_region_a_detection_is_wrong(
    document: Make, annotation: Make, detection: Make
) -> None:
    """As KITTI does, the part of the detection in the region counts: half is needed."""
    file = read(kitti(document, annotation))
    half_out = [60.0, 20.0, 145.0, 110.0]  # 45 of 85 columns are in the region
    for box, expected in ((INSIDE, 100), (THREE, 50), (half_out, 55)):
        found = [(1, detection([ONE, box], [7, 7], [0.5, 0.9])), (2, detection([TWO], [3]))]
        by_class = {r["name"]: r["box_AP"] for r in compute_metrics(file, found)["per_category"]}
        assert by_class["cat"] == pytest.approx(expected)


def test_a_region_to_ignore_makes_no_class_one_of_an_lvis_image(
    document: Make, annotation: Make, detection: Make
) -> None:
    made = kitti(document, annotation)
    made["images"][0] |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    found = [
        (1, detection([ONE, THREE, INSIDE], [7, 3, 7], [0.5, 0.9, 0.9])),
        (2, detection([TWO], [3], [0.5])),
    ]
    assert compute_metrics(read(made), found)["box"]["all"]["AP"] == pytest.approx(100)


def test_masks_of_regions_to_ignore_are_not_measured(
    document: Make, annotation: Make, detection: Make
) -> None:
    import torch

    made = kitti(document, annotation)
    made["annotations"][1] = annotation(2, 1, 11, TWO)
    drawn = detection([ONE, TWO], [7, 11], shape="full")
    given_masks = [(1, torch.tensor([1, 2]), drawn)]
    assert compute_metrics(read(made), given=given_masks)["given_boxes"]["all"]["instances"] == 1


def test_the_classes_to_ignore_are_named(document: Make, annotation: Make) -> None:
    file = read(kitti(document, annotation, "far away"))
    assert not rules_of(file).ignored
    assert rules_of(file, ignored="far away, dog").ignored == {11, 3}
    with pytest.raises(InputError, match="no class 'fog'; it has dog, cat, far away"):
        rules_of(file, ignored="fog")
    assert rules_of(read(kitti(document, annotation))).ignored == {11}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((n, True) for n in ("DontCare", "dont_care", "Don't Care", "ignore", "Ignored Regions")),
        *((n, True) for n in ("ignored region", "IGNORE_AREA", "region-to-ignore")),
        *((n, False) for n in ("care", "ignorant", "person", "", "donut", "caretaker")),
    ],
)
def test_names_of_regions_to_ignore(name: str, expected: bool) -> None:
    assert names_regions_to_ignore(name) is expected
