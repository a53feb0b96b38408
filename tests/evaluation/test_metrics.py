"""The JSON contract: sets A and B, truth without masks, crowds, the limit of
detections, mask IoU on given boxes.
"""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from halfmask.coco.file import CocoFile
from halfmask.errors import InputError
from halfmask.evaluation.measures.metrics import as_results, compute_metrics
from halfmask.evaluation.measures.protocol import LIMITS
from halfmask.structures import Detection

Make = Callable[..., Any]

ONE, TWO, THREE = [10.0, 10.0, 90.0, 70.0], [100.0, 20.0, 150.0, 110.0], [20.0, 75.0, 60.0, 115.0]
AP_KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]


def concatenate(parts: list[Detection]) -> Detection:
    names = ("boxes", "labels", "scores", "mask_probs", "regions", "quality")
    return replace(
        parts[0], **{name: torch.cat([getattr(p, name) for p in parts]) for name in names}
    )


def read(document: dict[str, Any]) -> CocoFile:
    return CocoFile.from_document(document, "truth")


def test_perfect_detections_score_a_hundred(
    document: Make, annotation: Make, detection: Make
) -> None:
    file = read(
        document([annotation(1, 1, 7, ONE), annotation(2, 1, 3, TWO), annotation(3, 2, 7, THREE)])
    )
    found = [(1, detection([ONE, TWO], [7, 3], [0.9, 0.8])), (2, detection([THREE], [7]))]
    given = [(i, torch.tensor(ids), d) for (i, d), ids in zip(found, [[1, 2], [3]], strict=True)]
    result = compute_metrics(file, found, given, masked={7}, model="perfect")
    for kind in ("box", "mask"):
        for name in ("all", "A", "B"):
            assert list(result[kind][name]) == AP_KEYS
            assert result[kind][name]["AP"] == pytest.approx(100), (kind, name)
    assert result["mask_over_box"] == pytest.approx({"all": 1, "A": 1, "B": 1})
    given_boxes = result["given_boxes"]
    assert given_boxes["all"]["miou"] == 1
    assert given_boxes["all"]["instances"] == 3
    assert given_boxes["A"]["instances"] == 2
    assert given_boxes["B"]["instances"] == 1
    assert result["images"] == 2
    assert result["model"] == "perfect"
    assert result["seconds"] >= 0
    assert [(row["id"], row["name"], row["masked"]) for row in result["per_category"]] == [
        (3, "dog", False),
        (7, "cat", True),
        (11, "sofa", False),
    ]
    sofa = result["per_category"][2]
    assert sofa["box_AP"] is sofa["mask_AP"] is sofa["miou"] is None
    assert json.loads(json.dumps(result)) == result


def test_it_is_what_pycocotools_says_of_the_results(
    document: Make, annotation: Make, detection: Make
) -> None:
    boxes = {1: [ONE, TWO], 2: [THREE, ONE, TWO]}
    truth = [
        annotation(10 * i + k, i, c, b)
        for i, rows in boxes.items()
        for k, (b, c) in enumerate(zip(rows, [7, 3, 7], strict=False))
    ]
    truth.append(annotation(99, 1, 7, THREE, iscrowd=1))
    generator = torch.Generator().manual_seed(0)

    def shaken(rows: list[list[float]], categories: list[int], shape: str) -> Any:
        moved = torch.tensor(rows) + torch.randn(len(rows), 4, generator=generator) * 3
        return detection(
            moved.clamp(0, 119).tolist(),
            categories,
            torch.rand(len(rows), generator=generator).tolist(),
            shape,
        )

    found = [
        (
            1,
            concatenate(
                [
                    shaken([ONE, TWO, THREE], [7, 3, 7], "ellipse"),
                    shaken([ONE, ONE], [7, 11], "full"),
                ]
            ),
        ),
        (
            2,
            concatenate(
                [shaken([THREE, ONE, TWO], [7, 3, 7], "full"), shaken([TWO], [7], "empty")]
            ),
        ),
    ]
    file = read(document(truth))
    result = compute_metrics(file, found, masked={7})
    ids = [c["id"] for c in file.categories]
    records = [r for image_id, d in found for r in as_results(image_id, d, ids)]
    for kind, key, drop in (("box", "bbox", "segmentation"), ("mask", "segm", "bbox")):
        for name, categories in (("all", [3, 7, 11]), ("A", [7]), ("B", [3, 11])):
            with contextlib.redirect_stdout(io.StringIO()):
                coco = COCO()
                coco.dataset = json.loads(json.dumps(file.document))
                coco.createIndex()
                own = [{k: v for k, v in r.items() if k != drop} for r in records]
                reference = COCOeval(coco, coco.loadRes(own), key)
                reference.params.catIds = categories
                reference.evaluate(), reference.accumulate(), reference.summarize()
            expected = [None if v < 0 else 100 * v for v in reference.stats[:6]]
            assert list(result[kind][name].values()) == pytest.approx(expected, abs=1e-6), (
                kind,
                name,
            )


@pytest.mark.parametrize(
    "segmentation",
    [None, [], {"size": [120, 160], "counts": "corrupt"}, [[10, 10, 90, 10, 90, 70, 10, 70]]],
    ids=["missing", "empty", "broken", "suspect"],
)
def test_truth_without_a_usable_mask_is_no_miss_and_makes_no_detection_wrong(
    document: Make, annotation: Make, detection: Make, segmentation: Any
) -> None:
    file = read(
        document([annotation(1, 1, 7, ONE, segmentation=segmentation), annotation(2, 1, 7, TWO)])
    )
    only_masked = [(1, detection([TWO], [7], [0.5]))]
    both = [(1, detection([ONE, TWO], [7, 7], [0.9, 0.5]))]
    for found in (only_masked, both):
        assert compute_metrics(file, found, masked={7})["mask"]["A"]["AP"] == pytest.approx(100)
    assert compute_metrics(file, only_masked, masked={7})["box"]["A"]["AP"] < 60
    nowhere = [(1, detection([[60.0, 80.0, 120.0, 118.0], TWO], [7, 7], [0.9, 0.5]))]
    assert compute_metrics(file, nowhere, masked={7})["mask"]["A"]["AP"] == pytest.approx(50)


def test_a_class_without_any_mask_in_the_truth_is_null(
    document: Make, annotation: Make, detection: Make
) -> None:
    file = read(document([annotation(1, 1, 7, ONE), annotation(2, 1, 3, TWO, segmentation=None)]))
    result = compute_metrics(file, [(1, detection([ONE, TWO], [7, 3]))], masked={7})
    assert result["mask"]["B"] == dict.fromkeys(AP_KEYS)
    assert result["box"]["B"]["AP"] == pytest.approx(100)
    assert result["mask"]["all"]["AP"] == pytest.approx(100)
    assert {row["name"]: row["mask_AP"] for row in result["per_category"]}["dog"] is None


def test_mask_ap_over_box_ap(document: Make, annotation: Make, detection: Make) -> None:
    file = read(document([annotation(1, 1, 7, ONE), annotation(2, 1, 3, TWO, segmentation=None)]))
    boxes_as_masks = [(1, detection([ONE, TWO], [7, 3], shape="full"))]
    result = compute_metrics(file, boxes_as_masks, masked={7})
    # An ellipse fills 79 % of its box: right at the six thresholds up to 0.75.
    assert result["mask"]["A"]["AP"] == pytest.approx(60, abs=0.1)
    assert result["mask_over_box"]["A"] == pytest.approx(result["mask"]["A"]["AP"] / 100)
    assert result["mask_over_box"]["B"] is None, "no mask AP"
    nowhere = [(1, detection([THREE], [7]))]
    assert compute_metrics(file, nowhere, masked={7})["box"]["A"]["AP"] == 0
    assert compute_metrics(file, nowhere, masked={7})["mask_over_box"] == {
        "all": None,
        "A": None,
        "B": None,
    }
    assert compute_metrics(file)["mask_over_box"] == {"all": None, "A": None, "B": None}, (
        "nothing was detected"
    )


def test_halfmasks_own_masks_are_no_truth_unless_asked_for(
    document: Make, annotation: Make, detection: Make
) -> None:
    note = {"model": "m", "score": 0.9, "state": "accepted"}
    file = read(document([annotation(1, 1, 7, ONE, halfmask=note)]))
    given = [(1, torch.tensor([1]), detection([ONE], [7]))]
    assert compute_metrics(file, given=given)["given_boxes"]["all"]["instances"] == 0
    assert (
        compute_metrics(file, given=given, use="accepted")["given_boxes"]["all"]["instances"] == 1
    )
    found = [(1, detection([ONE], [7]))]
    assert compute_metrics(file, found)["mask"]["all"]["AP"] is None
    assert compute_metrics(file, found, use="accepted")["mask"]["all"]["AP"] == pytest.approx(100)


def test_the_limit_is_over_all_classes_and_not_for_each(
    document: Make, annotation: Make, detection: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = read(document([annotation(1, 1, 7, ONE), annotation(2, 1, 3, TWO)]))
    crowd_out = detection([[5.0, 5.0, 9.0, 9.0]] * 99, [3] * 99, [0.9] * 99)
    right = detection([TWO, ONE], [3, 7], [0.95, 0.3])
    found = [(1, concatenate([crowd_out, right]))]
    limited = compute_metrics(file, found, masked={7})
    assert limited["box"]["A"]["AP"] == 0
    assert limited["box"]["B"]["AP"] == pytest.approx(100)
    monkeypatch.setitem(LIMITS, "coco", 101)
    wider = compute_metrics(file, found, masked={7})
    assert wider["box"]["A"]["AP"] == pytest.approx(100)


def test_only_the_images_that_were_looked_at_count(
    document: Make, annotation: Make, detection: Make
) -> None:
    file = read(document([annotation(1, 1, 7, ONE), annotation(2, 2, 7, TWO)]))
    result = compute_metrics(file, [(1, detection([ONE], [7]))])
    assert result["images"] == 1
    assert result["box"]["all"]["AP"] == pytest.approx(100)
    with pytest.raises(InputError, match="image id 5"):
        compute_metrics(file, [(5, detection([ONE], [7]))])


def test_without_detections_ap_is_null_and_without_given_boxes_iou_is(
    document: Make, annotation: Make, detection: Make
) -> None:
    file = read(document([annotation(1, 1, 7, ONE)]))
    given = compute_metrics(file, given=[(1, torch.tensor([1]), detection([ONE], [7]))])
    assert given["box"]["all"] == given["mask"]["A"] == dict.fromkeys(AP_KEYS)
    found = compute_metrics(file, [(1, detection([ONE], [7]))])["given_boxes"]["all"]
    assert found.pop("instances") == 0
    assert set(found.pop("boundary").values()) == {None}
    assert set(found.values()) == {None}


def test_the_score_of_each_mask_is_held_against_its_iou(
    document: Make, annotation: Make, detection: Make
) -> None:
    rows = [
        annotation(1, 1, 7, ONE),
        annotation(2, 1, 3, TWO),
        annotation(3, 1, 7, THREE, segmentation=None),
    ]
    drawn = detection([THREE, TWO, ONE], [7, 3, 7])
    drawn.mask_probs[2] = 0
    drawn.quality[:] = torch.tensor([0.1, 0.6, 0.4])
    given = [(1, torch.tensor([3, 2, 1]), drawn)]
    quality = compute_metrics(read(document(rows)), given=given, masked={7})["quality"]
    assert quality["all"]["instances"] == 2, "what has no truth does not count"
    assert quality["all"]["mean_score"] == pytest.approx(0.5)
    assert quality["all"]["spearman"] == pytest.approx(1)
    assert (quality["A"]["mean_score"], quality["A"]["miou"]) == pytest.approx((0.4, 0))
    assert quality["A"]["bad"] == 1
    assert (quality["B"]["calibration_error"], quality["B"]["bad_found"]) == (
        pytest.approx(0.4),
        None,
    )
    assert compute_metrics(read(document(rows)))["quality"]["all"]["miou"] is None


def test_labels_without_a_class_are_left_out(
    document: Make, annotation: Make, detection: Make
) -> None:
    found = detection([ONE, TWO], [7, 3])
    found.labels[0] = 0
    assert [r["category_id"] for r in as_results(1, found, [3, 7, 11])] == [3]


def test_no_image_at_all(document: Make, annotation: Make) -> None:
    result = compute_metrics(read(document([annotation(1, 1, 7, ONE)])), [], [])
    assert result["images"] == 0
    assert result["box"]["all"]["AP"] is None
