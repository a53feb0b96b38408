"""Boundary AP equals the authors' evaluation, written on top of pycocotools."""

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from halfmask.coco.file import CocoFile
from halfmask.evaluation.measures.average_precision import PrecisionStream, PrecisionTable
from halfmask.evaluation.measures.boundary_precision import BoundaryStream
from halfmask.evaluation.measures.metrics import compute_metrics
from tests.evaluation.lvis_worlds import lvis_precision, world
from tests.evaluation.test_average_precision import made_up
from tests.masks.test_boundary import authors_band

Records = list[dict[str, Any]]


class AuthorsEvaluation(COCOeval):
    """Their `computeBoundaryIoU`: the lesser of both IoUs, a crowd's mask IoU alone."""

    def computeIoU(self, imgId: int, catId: int) -> Any:  # noqa: N802, N803
        ious = super().computeIoU(imgId, catId)
        truth, found = self._gts[imgId, catId], self._dts[imgId, catId]
        if not (len(truth) and len(found)):
            return ious
        order = np.argsort([-d["score"] for d in found], kind="mergesort")
        bands = [[band_rle(r["segmentation"]) for r in rows] for rows in (found, truth)]
        crowd = [int(g["iscrowd"]) for g in truth]
        borders = reference_mask.iou([bands[0][i] for i in order], bands[1], crowd)
        single = np.array(crowd) == 0
        ious[:, single] = np.minimum(ious[:, single], borders[:, single])
        return ious


def band_rle(segmentation: dict[str, Any]) -> dict[str, Any]:
    return reference_mask.encode(
        np.asfortranarray(authors_band(reference_mask.decode(segmentation)))
    )


def authors(document: dict[str, Any], results: Records) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(document))
        truth.createIndex()
        evaluation = AuthorsEvaluation(
            truth, truth.loadRes(json.loads(json.dumps(results))), "segm"
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def ours(stream: Any, document: dict[str, Any], results: Records) -> PrecisionTable:
    for image in reversed(document["images"]):
        own = [
            [r for r in records if r["image_id"] == image["id"]]
            for records in (document["annotations"], results)
        ]
        own[1].sort(key=lambda r: -r["score"])
        stream.add(image, own[0], own[1][:300])
    return stream.table()


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_authors_evaluation(seed: int) -> None:
    document, results = made_up(seed, "segm")
    found = ours(BoundaryStream(document["categories"]), document, results)
    expected = authors(document, results)
    assert found.stats()[:6] == pytest.approx(list(expected.stats[:6]), abs=1e-9)
    np.testing.assert_allclose(
        found.precision[..., 2], expected.eval["precision"][..., 2], atol=1e-9
    )
    np.testing.assert_allclose(found.recall[..., 2], expected.eval["recall"][..., 2], atol=1e-9)
    mask = ours(PrecisionStream(document["categories"], "segm"), document, results)
    assert 0 < found.stats()[0] < mask.stats()[0]


@pytest.mark.parametrize("seed", [2, 3])
def test_with_a_band_as_wide_as_any_object_it_is_mask_ap(seed: int) -> None:
    """The same matching as hotcoco's, to the last bit."""
    document, results = made_up(seed, "segm")
    found = ours(BoundaryStream(document["categories"], share=1.0), document, results)
    expected = ours(PrecisionStream(document["categories"], "segm"), document, results)
    np.testing.assert_allclose(found.precision[..., 2], expected.precision[..., 2], atol=1e-12)
    np.testing.assert_allclose(found.recall[..., 2], expected.recall[..., 2], atol=1e-12)


@settings(max_examples=6, deadline=None)
@given(st.integers(100, 10**6))
def test_lvis_rules_hold(seed: int) -> None:
    document, results = world(3 * seed + 1, "segm")
    stream = BoundaryStream(document["categories"], lvis=True, share=1.0)
    document["annotations"] = [{**a, "iscrowd": 0} for a in document["annotations"]]
    expected = lvis_precision(document, results, "segm")
    np.testing.assert_allclose(
        ours(stream, document, results).precision[..., 2], expected, atol=1e-9
    )


def test_nothing_found_is_zero_and_nothing_there_is_null() -> None:
    document, _ = made_up(0, "segm")
    table = ours(BoundaryStream(document["categories"]), document, [])
    assert table.block()["AP"] == 0
    assert table.block([6])["AP"] is None
    assert BoundaryStream(document["categories"]).table().block()["AP"] is None
    assert BoundaryStream([]).table().block()["AP"] is None


def test_evaluate_has_it_beside_mask_ap(document: Any, annotation: Any, detection: Any) -> None:
    """Boxes of other sizes than the truth's: good masks whose borders are off."""
    whole, smaller = [10.0, 10.0, 110.0, 110.0], [13.0, 13.0, 107.0, 107.0]
    file = CocoFile.from_document(document([annotation(1, 1, 7, whole)]), "truth")
    result = compute_metrics(file, [(1, detection([smaller], [7]))], masked={7})
    assert result["mask"]["A"]["AP"] == pytest.approx(80, abs=5)
    assert result["boundary"]["A"]["AP"] < 20
    assert result["boundary"]["B"]["AP"] is None
    by_class = {row["name"]: row["boundary_AP"] for row in result["per_category"]}
    assert by_class == {"cat": result["boundary"]["A"]["AP"], "dog": None, "sofa": None}
    exact = compute_metrics(file, [(1, detection([whole], [7]))])
    assert exact["boundary"]["all"]["AP"] == pytest.approx(100)
