"""Masks in the boxes of a real detector, and how far its boxes are off.

YOLOX-nano on COCO-mini. On `val`, the shipped box segmenter draws the same objects in
their true boxes and in the detected ones. On `train`, the errors of the boxes' sides
are a distribution that a training can draw its own box errors from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from benchmarks.result import Options, Result, Row, compared
from halfmask.coco.categories import labels_by_name
from halfmask.coco.doctor.sizes import LARGE, SMALL
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.predictor import load
from halfmask.masks.boundary import boundary_iou
from halfmask.masks.crops import iou
from halfmask.models.detectors.base import BoxDetector, ScoredBoxes
from halfmask.models.detectors.build import build_detector
from halfmask.recipes.recipe import expand
from halfmask.structures import Target

DETECTOR = "${HALFMASK_SHARED}/data/weights/yolox_nano.onnx"
DATA = "${HALFMASK_SHARED}/data/coco-mini"
MODEL = "box-segmenter"
LEAST_SCORE = 0.05
"""Of the boxes that count, as `halfmask predict` draws them."""
NEAR = 0.5
"""Least IoU of a detected box with its object's."""
SIDES = ("left", "top", "right", "bottom")
QUANTILES = (1, 2.5, 5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 97.5, 99)
SHOWN = (50, 75, 90, 95, 99)

Floats = NDArray[np.float64]


class Drawn(NamedTuple):
    """One object of val, drawn in its true box and in the detected one."""

    area: int
    box_iou: float
    tight: float
    found: float
    tight_boundary: float
    found_boundary: float


def run(options: Options) -> Result:
    """Measures both. `--set model=MODEL` measures another segmenter.

    Raises:
        InputError: another --set, or the shared data or weights are absent.
    """
    model = MODEL
    for override in options.overrides:
        key, _, model = override.partition("=")
        if key != "model" or not model:
            raise InputError(f"bench boxes: --set {override}: expected model=MODEL")
    store = options.out / "detector_boxes.json"
    if not store.is_file():
        options.out.mkdir(parents=True, exist_ok=True)
        write_json(store, _measured(model, options), indent=1)
    details = json.loads(store.read_text(encoding="utf-8"))
    command = "python -m benchmarks boxes" + "".join(f" --set {o}" for o in options.overrides)
    drawn = [Drawn(**one) for one in details["val"].pop("drawn")]
    tables = {"real:boxes": _boxes_table(drawn), "real:corners": _corner_table(details["corners"])}
    return Result(_rows(drawn), tables, command, details)


def _measured(model: str, options: Options) -> dict[str, Any]:
    """The numbers of both parts; `drawn` has every object of val."""
    detector = build_detector(str(expand(DETECTOR)), None, torch.device("cpu"))
    errors, sides, truths = corner_errors(_dataset("train"), detector, options)
    drawn, count = _drawn(_dataset("val"), detector, model, options)
    return {
        "model": model,
        "val": {"objects": count, "found": len(drawn), "drawn": [one._asdict() for one in drawn]},
        "train": {"objects": truths, "found": len(errors)},
        "corners": distribution(errors, sides),
    }


def _dataset(part: str) -> CocoInstances:
    folder = Path(expand(DATA))
    return CocoInstances(CocoFile.read(folder / f"instances_{part}.json"), folder / part)


def matches(boxes: Tensor, labels: Tensor, found: ScoredBoxes) -> list[tuple[int, int]]:
    """Pairs objects with detections of their class, one to one, as COCO does.

    The detection with the highest score chooses first, and takes the nearest object
    that is left.

    Args:
        boxes: float32 [n, 4] xyxy, the objects'.
        labels: int64 [n].
        found: Detections, best first, with the same labels.
    Returns:
        Rows of the object and of the detection.
    """
    ious = box_iou(found.boxes, boxes) * (found.labels[:, None] == labels[None])
    pairs = []
    for d in torch.where(found.scores >= LEAST_SCORE)[0].tolist():
        if not ious.numel() or ious[d].max() < NEAR:
            continue
        row = int(ious[d].argmax())
        pairs.append((row, d))
        ious[:, row] = 0
    return pairs


def outward(true: Tensor, found: Tensor) -> Tensor:
    """How far each side of a found box lies outside the true box.

    Args:
        true, found: float32 [n, 4] xyxy.
    Returns:
        float32 [n, 4]: left, top, right, bottom, as shares of the true box's width or
        height. Negative: the found box cuts the object there.
    """
    sides = (true[:, 2:] - true[:, :2]).repeat(1, 2)
    return (found - true) / sides * torch.tensor([-1.0, -1.0, 1.0, 1.0])


def _found(
    dataset: CocoInstances, detector: BoxDetector, options: Options
) -> Iterator[tuple[Tensor, Target, ScoredBoxes]]:
    """Photograph, truth and detections of each image, with the file's labels."""
    names = {c["name"]: dataset.file.label_of[c["id"]] for c in dataset.file.categories}
    to_file = torch.tensor([0, *labels_by_name([c["name"] for c in detector.categories], names)])
    for k in range(len(dataset)):
        image, target = dataset[k]
        found = detector.detect(image)
        yield image, target, ScoredBoxes(found.boxes, to_file[found.labels], found.scores)
        if (k + 1) % 50 == 0:
            options.say(f"{dataset.folder}: {k + 1} of {len(dataset)} photographs")


def corner_errors(
    dataset: CocoInstances, detector: BoxDetector, options: Options
) -> tuple[Floats, Floats, int]:
    """Measures the sides of the detector's boxes.

    Returns:
        `outward` of the m objects that were found, [m, 4]; the square root of their
        boxes' areas, pixels, [m]; and the number of objects.
    """
    errors, sides, count = [torch.zeros(0, 4)], [torch.zeros(0)], 0
    for _, target, found in _found(dataset, detector, options):
        count += len(target)
        pairs = torch.tensor(matches(target.boxes, target.labels, found)).reshape(-1, 2).long()
        true = target.boxes[pairs[:, 0]]
        errors.append(outward(true, found.boxes[pairs[:, 1]]))
        sides.append((true[:, 2:] - true[:, :2]).prod(1).sqrt())
    return torch.cat(errors).double().numpy(), torch.cat(sides).double().numpy(), count


def _drawn(
    dataset: CocoInstances, detector: BoxDetector, model: str, options: Options
) -> tuple[list[Drawn], int]:
    """The objects that were found and have a mask, and the number of objects with one."""
    predictor, drawn, count = load(model), [], 0
    labels_of = predictor.labels_of(dataset.file.categories)
    to_model = torch.tensor([0, *(labels_of[c["id"]] for c in dataset.file.categories)])
    for image, target, found in _found(dataset, detector, options):
        count += int(target.has_mask.sum())
        pairs = matches(target.boxes, target.labels, found)
        pairs = [(row, d) for row, d in pairs if target.has_mask[row]]
        if not pairs:
            continue
        rows, picked = torch.tensor(pairs).T
        labels = to_model[target.labels[rows]]
        both = target.boxes[rows], found.boxes[picked]
        tight, loose = (
            predictor.segment_batch([image], [boxes], [labels])[0].crops() for boxes in both
        )
        truth = target.masks.select(target.mask_row[rows])
        columns = [
            truth.areas(),
            box_iou(*both).diagonal(),
            *(iou(truth, masks) for masks in (tight, loose)),
            *(boundary_iou(truth, masks) for masks in (tight, loose)),
        ]
        drawn += [Drawn(*row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    return drawn, count


def by_size(sizes: Sequence[float] | Floats) -> dict[str, NDArray[np.bool_]]:
    """Which of n areas, pixels, are of each of COCO's sizes, and all."""
    areas = np.asarray(sizes, dtype=np.float64)
    return {
        "all": np.ones(len(areas), dtype=bool),
        "S": areas < SMALL,
        "M": (areas >= SMALL) & (areas < LARGE),
        "L": areas >= LARGE,
    }


def distribution(errors: Floats, sides: Floats) -> dict[str, Any]:
    """The errors as a table for each size of the true box.

    Args:
        errors: [m, 4], see `outward`.
        sides: [m], the square root of the boxes' areas, pixels.
    Returns:
        For each size: boxes; `outward`, the quantiles of all four sides together and of
        each; `absolute`, the quantiles of the errors without sign; and the correlation
        of opposite sides (positive: the box is too large or too small, negative: it is
        shifted) and of neighbouring ones.
    """
    found = {}
    for size, rows in by_size(sides**2).items():
        some = errors[rows]
        if len(some) < 2:
            continue
        links: Floats = np.atleast_2d(np.corrcoef(some.T))
        found[size] = {
            "boxes": len(some),
            "outward": {"any side": _quantiles(some)}
            | {side: _quantiles(some[:, k]) for k, side in enumerate(SIDES)},
            "absolute": _quantiles(abs(some)),
            "correlation": {
                "left and right": float(links[0, 2]),
                "top and bottom": float(links[1, 3]),
                "neighbours": float(np.mean([links[0, 1], links[1, 2], links[2, 3], links[3, 0]])),
            },
        }
    return found


def _quantiles(values: Floats) -> dict[str, float]:
    return {
        f"{q:g}": float(v) for q, v in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)
    }


def _boxes_table(drawn: list[Drawn]) -> str:
    lines = [
        "| IoU in % | objects | box IoU | mask IoU, true boxes | detected boxes | lost | boundary "
        "IoU, true boxes | detected boxes | lost |",
        "|" + "---|" * 9,
    ]
    for size, rows in by_size([one.area for one in drawn]).items():
        kept = np.asarray(drawn, dtype=np.float64)[rows]
        if not len(kept):
            continue
        _, box, tight, found, tight_border, found_border = 100 * kept.mean(0)
        numbers = [box, tight, found, tight - found]
        numbers += [tight_border, found_border, tight_border - found_border]
        lines.append(f"| {size} | {len(kept)} | {' | '.join(f'{v:.1f}' for v in numbers)} |")
    return "\n".join(lines)


def _corner_table(corners: dict[str, Any]) -> str:
    heads = " | ".join(f"{q} %" for q in SHOWN)
    lines = [
        f"| error of a side, % of the box's side | boxes | median, signed | {heads} |",
        "|" + "---|" * (3 + len(SHOWN)),
    ]
    for size, block in corners.items():
        values = [block["outward"]["any side"]["50"]]
        values += [block["absolute"][f"{q:g}"] for q in SHOWN]
        # Adding 0 makes -0.0 a plain zero.
        cells = " | ".join(f"{round(100 * v, 1) + 0:.1f}" for v in values)
        lines.append(f"| {size} | {block['boxes']} | {cells} |")
    return "\n".join(lines)


def _rows(drawn: list[Drawn]) -> list[Row]:
    means = 100 * np.asarray(drawn, dtype=np.float64).mean(0)
    _, _, tight, found, tight_border, found_border = means.tolist()
    return [
        compared("mask IoU in detected boxes", "in true boxes", tight, found, "%", None),
        compared(
            "boundary IoU in detected boxes", "in true boxes", tight_border, found_border, "%", None
        ),
    ]
