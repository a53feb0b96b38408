"""LVIS files and detections from a seed, and LVIS's AP written out plainly."""

import random
from typing import Any

import numpy as np
from pycocotools import mask as reference_mask

Json = dict[str, Any]
SIDE, CLASSES = 250, 6
AREAS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))


def world(seed: int, kind: str) -> tuple[Json, list[Json]]:
    """A file with both lists, and detections: near, of a wrong class, and made up.

    Every third seed has an image with more than 300 detections.
    """
    r = random.Random(seed)
    categories = [
        {"id": i, "name": f"class {i}", "frequency": r.choice("rcf")} for i in range(1, CLASSES + 1)
    ]
    images: list[Json] = []
    rows: list[Json] = []
    results: list[Json] = []
    for image in range(1, 9):
        present = set()
        for _ in range(r.randint(0, 6)):
            box = _box(r)
            category = r.randint(1, CLASSES)
            present.add(category)
            row = {"id": len(rows) + 1, "image_id": image, "category_id": category, "bbox": box}
            rows.append({**row, "segmentation": [_corners(box)], "area": box[2] * box[3]})
            for _ in range(r.randint(0, 3)):
                near = [v + r.gauss(0, 1) * r.choice([0.5, 4, 15]) for v in box]
                near = [round(v, 2) for v in (near[0], near[1], max(2, near[2]), max(2, near[3]))]
                said = category if r.random() < 0.7 else r.randint(1, CLASSES)
                results.append(_result(image, said, near, r, kind))
        many = 340 if image == 3 and seed % 3 == 0 else r.randint(0, 4)
        results += [
            _result(image, r.randint(1, CLASSES), _box(r), r, kind, most=0.4) for _ in range(many)
        ]
        rest = [c for c in range(1, CLASSES + 1) if c not in present]
        images.append(
            {
                "id": image,
                "height": SIDE,
                "width": SIDE,
                "neg_category_ids": [c for c in rest if r.random() < 0.4],
                "not_exhaustive_category_ids": [
                    c for c in range(1, CLASSES + 1) if r.random() < 0.3
                ],
            }
        )
    return {"images": images, "annotations": rows, "categories": categories}, results


def _box(r: random.Random) -> list[float]:
    return [
        round(v, 2) for v in (*(r.uniform(0, 90) for _ in "xy"), *(r.uniform(5, 150) for _ in "wh"))
    ]


def _corners(box: list[float]) -> list[float]:
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def _result(
    image: int, category: int, box: list[float], r: random.Random, kind: str, most: float = 1.0
) -> Json:
    shape: Json = {"bbox": box}
    if kind == "segm":
        [rle] = reference_mask.frPyObjects([_corners(box)], SIDE, SIDE)
        shape = {"segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}
    score = round(r.random() * most, 2)  # ties
    return {"image_id": image, "category_id": category, "score": score, **shape}


def lvis_precision(document: Json, results: list[Json], kind: str) -> np.ndarray:
    """Precision [T, R, K, A] by LVIS's rules; −1 where a class has no truth."""
    ids = sorted(c["id"] for c in document["categories"])
    out = np.full((10, 101, len(ids), 4), -1.0)
    for k, category in enumerate(ids):
        for a, area in enumerate(AREAS):
            cells = [
                _cell(document, results, image, category, area, kind)
                for image in document["images"]
            ]
            cells = [cell for cell in cells if cell is not None]
            truth = sum(cell[3] for cell in cells)
            if not truth:
                continue
            scores = np.concatenate([cell[0] for cell in cells])
            order = np.argsort(-scores, kind="stable")
            hit, out_of_account = (
                np.concatenate([cell[i] for cell in cells], axis=1)[:, order] for i in (1, 2)
            )
            for t in range(10):
                right = np.cumsum(hit[t] & ~out_of_account[t])
                wrong = np.cumsum(~hit[t] & ~out_of_account[t])
                share = right / np.maximum(right + wrong, 1)
                best = np.maximum.accumulate(share[::-1])[::-1]
                at = np.searchsorted(right / truth, np.linspace(0, 1, 101), side="left")
                out[t, :, k, a] = [best[i] if i < len(best) else 0.0 for i in at]
    return out


def _cell(
    document: Json, results: list[Json], image: Json, category: int, area: tuple, kind: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None:
    """Scores, hits and ignored detections [T, n], and the number of true objects."""
    mine = sorted((r for r in results if r["image_id"] == image["id"]), key=lambda r: -r["score"])
    found = [r for r in mine[:300] if r["category_id"] == category and _area(r) > 0]
    truth = [
        a
        for a in document["annotations"]
        if (a["image_id"], a["category_id"]) == (image["id"], category)
    ]
    if not truth and category not in image["neg_category_ids"]:
        return None
    low, high = area
    truth.sort(key=lambda a: not low <= a["area"] <= high)
    counts = [low <= a["area"] <= high for a in truth]
    shapes = [[_shape(record, kind) for record in records] for records in (found, truth)]
    ious = np.zeros((len(found), len(truth)))
    if found and truth:
        ious = np.asarray(reference_mask.iou(*shapes, [0] * len(truth)))
    hit, ignored = np.zeros((2, 10, len(found)), dtype=bool)
    for t, threshold in enumerate(np.linspace(0.5, 0.95, 10)):
        taken: set[int] = set()
        for d, record in enumerate(found):
            best, match = min(threshold, 1 - 1e-10), None
            for g in range(len(truth)):
                if g in taken or (match is not None and counts[match] and not counts[g]):
                    continue
                if ious[d, g] >= best:
                    best, match = ious[d, g], g
            if match is not None:
                taken.add(match)
                hit[t, d], ignored[t, d] = True, not counts[match]
            else:
                open_ = category in image["not_exhaustive_category_ids"]
                ignored[t, d] = open_ or not low <= _area(record) <= high
    return np.array([r["score"] for r in found]), hit, ignored, sum(counts)


def _shape(record: Json, kind: str) -> Any:
    if kind == "bbox":
        return record["bbox"]
    drawn = record["segmentation"]
    return reference_mask.frPyObjects(drawn, SIDE, SIDE)[0] if isinstance(drawn, list) else drawn


def _area(record: Json) -> float:
    if "bbox" in record:
        return record["bbox"][2] * record["bbox"][3]
    return float(reference_mask.area(record["segmentation"]))
