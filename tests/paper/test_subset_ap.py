"""Section 4: AP on A or on B is the mean over its classes, out of one evaluation with
100 detections over all classes.
"""

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IN_A, IN_B = {1, 4}, {2, 3, 5}
KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
Record = dict[str, Any]


@pytest.fixture(scope="module")
def run() -> tuple[Record, list[Record]]:
    """Boxes of five classes, one of them without truth, and detections that are off by
    a little, of another class, or of nothing.
    """
    rng = np.random.default_rng(7)
    annotations, results = [], []
    for image in range(1, 9):
        for _ in range(6):
            box = [*rng.uniform(0, 150, 2), *rng.uniform(8, 120, 1).repeat(2)]
            category = int(rng.integers(1, 5))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "iscrowd": 0,
                    "area": box[2] * box[3],
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                said = category if rng.random() < 0.8 else int(rng.integers(1, 6))
                near = (np.array(box) + rng.normal(size=4) * rng.choice([1, 6])).clip(2).tolist()
                results.append(
                    {
                        "image_id": image,
                        "category_id": said,
                        "bbox": near,
                        "score": round(float(rng.random()), 3),
                    }
                )
    images = [{"id": i, "height": 300, "width": 300} for i in range(1, 9)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in range(1, 6)],
    }, results


def by_pycocotools(
    document: Record, results: list[Record], category_ids: list[int] | None = None
) -> list[float | None]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(document))
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results))), "bbox")
        if category_ids is not None:
            evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value < 0 else 100 * value for value in evaluation.stats[:6]]


@pytest.mark.parametrize("members", [IN_A, IN_B])
def test_three_ways_to_the_same_number(
    average_precision: Any, run: tuple[Record, list[Record]], members: set[int]
) -> None:
    document, results = run
    table = average_precision(
        document["images"], document["categories"], document["annotations"], results, "bbox"
    )
    ours = table.block(members)
    # The authors' way: a file that keeps all images and classes, and the annotations of
    # the set's classes alone.
    split = {
        **document,
        "annotations": [a for a in document["annotations"] if a["category_id"] in members],
    }
    assert list(ours.values()) == pytest.approx(by_pycocotools(split, results), abs=1e-6)
    # Others' way: the whole file, evaluated for the set's classes.
    assert list(ours.values()) == pytest.approx(
        by_pycocotools(document, results, sorted(members)), abs=1e-6
    )
    # And the definition.
    for key in KEYS:
        each = [table.block({member})[key] for member in members]
        known = [value for value in each if value is not None]
        assert ours[key] == (pytest.approx(np.mean(known), abs=1e-9) if known else None), key
    assert table.block({5})["AP"] is None, "no truth: it drops out of the mean"
    assert 0 < ours["AP"] < 100  # type: ignore[operator]
