"""AP equals pycocotools', on the shared files and on a run made here."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as reference_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from halfmask.evaluation.measures.average_precision import empty_block

Records = list[dict[str, Any]]


def reference(
    document: dict[str, Any], results: Records, kind: str, category_ids: list[int] | None = None
) -> COCOeval:
    """pycocotools' evaluation: `stats` are its twelve numbers."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = json.loads(json.dumps(document))
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(results))), kind)
        if category_ids is not None:
            evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def compare(average_precision: Any, document: dict[str, Any], results: Records, kind: str) -> None:
    ours = average_precision(
        document["images"], document["categories"], document["annotations"], results, kind
    )
    expected = reference(document, results, kind)
    assert ours.stats() == pytest.approx(list(expected.stats), abs=1e-6)
    # Every category at every threshold, recall, area and limit.
    np.testing.assert_allclose(ours.precision, expected.eval["precision"], atol=1e-6)
    np.testing.assert_allclose(ours.recall, expected.eval["recall"], atol=1e-6)
    ids = sorted(category["id"] for category in document["categories"])
    for subset in (ids[::2], *([one] for one in ids[:6])):
        assert ours.stats(subset) == pytest.approx(
            list(reference(document, results, kind, subset).stats), abs=1e-6
        )
    percent = [None if value < 0 else 100 * value for value in ours.stats()[:6]]
    assert list(ours.block().values()) == percent


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_equals_pycocotools_on_the_shared_evaluator_files(
    average_precision: Any, shared_data: Path, kind: str
) -> None:
    folder = shared_data / "evaluator"
    document = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / f"instances_val2014_fake{kind}100_results.json").read_text())
    found = {r["image_id"] for r in results}
    document["images"] = [image for image in document["images"] if image["id"] in found]
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in found]
    if kind == "segm":
        results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    compare(average_precision, document, results, kind)


def blob(rng: np.random.Generator, height: int, width: int, box: np.ndarray) -> np.ndarray:
    yy, xx = np.mgrid[:height, :width] + 0.5
    x, y, w, h = box
    ragged = 1 + 0.2 * rng.normal()
    return (((xx - x - w / 2) / (w / 2)) ** 2 + ((yy - y - h / 2) / (h / 2)) ** 2 <= ragged).astype(
        np.uint8
    )


def rle(mask: np.ndarray) -> dict[str, Any]:
    encoded = reference_mask.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def made_up(seed: int, kind: str) -> tuple[dict[str, Any], Records]:
    """Images with objects of every size, crowds, misses, doubles, false alarms, and a
    class without truth.
    """
    rng = np.random.default_rng(seed)
    images, annotations, results = [], [], []
    for image_id in range(1, 13):
        height, width = (int(v) for v in rng.integers(120, 300, 2))
        images.append({"id": image_id, "height": height, "width": width})
        for _ in range(int(rng.integers(0, 9))):
            w, h = rng.uniform(6, width * 0.7), rng.uniform(6, height * 0.7)
            box = np.array([rng.uniform(0, width - w), rng.uniform(0, height - h), w, h])
            category, crowd = int(rng.integers(1, 5)), int(rng.random() < 0.15)
            mask = blob(rng, height, width, box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "bbox": box.tolist(),
                    "area": float(max(mask.sum(), 1)),
                    "iscrowd": crowd,
                    "segmentation": rle(mask),
                }
            )
            for _ in range(int(rng.integers(0, 4))):
                near = np.maximum(box + rng.normal(size=4) * rng.choice([0.5, 4, 15]), 2)
                said = category if rng.random() < 0.8 else int(rng.integers(1, 6))
                one: dict[str, Any] = {
                    "image_id": image_id,
                    "category_id": said,
                    "score": float(np.round(rng.random(), 2)),  # ties
                }
                shape = (
                    {"bbox": near.tolist()}
                    if kind == "bbox"
                    else {"segmentation": rle(blob(rng, height, width, near))}
                )
                results.append(one | shape)
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, 7)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_pycocotools_on_a_made_up_run(average_precision: Any, kind: str, seed: int) -> None:
    document, results = made_up(seed, kind)
    assert any(a["iscrowd"] for a in document["annotations"])
    compare(average_precision, document, results, kind)


def test_nothing_found_is_zero_and_nothing_there_is_null(average_precision: Any) -> None:
    document, _ = made_up(0, "bbox")
    table = average_precision(
        document["images"], document["categories"], document["annotations"], [], "bbox"
    )
    assert table.block()["AP"] == 0
    assert table.block([6]) == empty_block()
    assert average_precision([], document["categories"], [], [], "bbox").block() == empty_block()
    assert average_precision(document["images"], [], [], [], "segm").block() == empty_block()
