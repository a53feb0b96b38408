"""Converts COCO files to and from FiftyOne data sets, and gives masks to detections.

FiftyOne stores an instance's mask as an array over its bounding box. It has no crowds
and no suspect or broken masks: these annotations become detections without a mask, with
the attributes `coco_id`, `iscrowd`, `mask_state` and `mask_score`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from halfmask.coco.file import CocoFile
from halfmask.coco.images import opened, photograph_path, read_photograph
from halfmask.coco.records import clip_box, file_name_of
from halfmask.coco.supervision import is_crowd, provenance
from halfmask.files.atomic import write_json
from halfmask.inference.complete.filling import nonempty
from halfmask.inference.predictor import Predictor, load
from halfmask.integrations import optional_module
from halfmask.masks.crops import MaskCrops, decode, encode_rle

FIELD = "ground_truth"
SCORE = "mask_score"
"""Attribute of a detection with a model's mask: the model's estimate of its IoU."""
MODEL = "mask_model"

Bitmap = NDArray[np.bool_]
Box = tuple[float, float, float, float]


def to_fiftyone(
    annotations: str | Path, images: str | Path, *, name: str | None = None, field: str = FIELD
) -> Any:
    """Returns a `fiftyone.Dataset` of a COCO file's annotations and usable masks.

    The box of a detection with a mask is extended to whole pixels around its box and
    its mask, so that the mask's pixels do not change. The file's own box is the
    attribute `coco_bbox`.

    Args:
        annotations: a COCO instances file; masks that halfmask filled in count.
        images: the folder of its photographs.
        name: name of the data set; None lets FiftyOne choose.
        field: field of the samples for the detections.
    Raises:
        InputError: fiftyone is not installed (extra `fiftyone`), or not a COCO file.
    """
    library = optional_module("fiftyone", "fiftyone", "fiftyone")
    file, folder = CocoFile.read(annotations), Path(images).resolve()
    out = library.Dataset(name)
    samples = []
    for image in file.images:
        size = file.size_of(image["id"])
        path = photograph_path(folder, file_name_of(image), f"image id {image['id']}")
        sample = library.Sample(filepath=str(path))
        sample.metadata = library.ImageMetadata(width=size[1], height=size[0])
        rows = [
            _detection(library, file, row, size=size) for row in file.annotations_of(image["id"])
        ]
        sample[field] = library.Detections(detections=[row for row in rows if row is not None])
        samples.append(sample)
    out.add_samples(samples, progress=False)
    return out


def from_fiftyone(samples: Any, out: str | Path, field: str = FIELD) -> Path:
    """Writes a COCO file of a data set's or view's detections; masks become RLE.

    File names are relative to the samples' common folder, which `--images` needs.

    Args:
        samples: a FiftyOne data set or view of images.
        out: the file to write.
        field: field of the samples with Detections.
    Returns:
        The common folder.
    Raises:
        InputError: a photograph that cannot be read.
    """
    paths = [Path(path) for path in samples.values("filepath")]
    folder = paths[0].parent if paths else Path()
    while not all(path.is_relative_to(folder) for path in paths):
        folder = folder.parent
    numbers: dict[str, int] = {}
    records: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for number, sample in enumerate(samples.iter_samples(), start=1):
        path = Path(sample.filepath)
        height, width = _size(path)
        name = path.relative_to(folder).as_posix()
        records.append({"id": number, "file_name": name, "width": width, "height": height})
        for found in _found(sample, field):
            category = numbers.setdefault(str(found.label), len(numbers) + 1)
            ids = {"id": len(rows) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
            rows.append({**ids, **_geometry(found, (height, width))})
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    write_json(Path(out), {"images": records, "annotations": rows, "categories": categories})
    return folder


def _geometry(found: Any, size: tuple[int, int]) -> dict[str, Any]:
    """COCO's bbox, area and, for a detection with a mask, segmentation."""
    x, y, w, h = found.bounding_box
    height, width = size
    box = [x * width, y * height, w * width, h * height]
    mask = found.get_mask()
    if mask is None:
        return {"bbox": box, "area": w * width * h * height}
    crops = _from_box(np.asarray(mask) > 0, _corners(found, size), size)
    return {"bbox": box, "area": int(crops.areas()[0]), "segmentation": encode_rle(crops)[0]}


@dataclass(frozen=True)
class FilledSamples:
    """The result of `fill_samples`.

    Attributes:
        masks: number of new masks.
        left_alone: number of detections whose box lies outside the image.
    """

    masks: int
    left_alone: int


def fill_samples(
    samples: Any, model: Predictor | str = "box-segmenter", field: str = FIELD
) -> FilledSamples:
    """Gives each detection without a mask the model's mask, in the data set itself.

    Boxes, labels and existing masks stay. New masks have the attributes `mask_score`
    (the model's estimate of the IoU) and `mask_model`: sort by the first to review.

    Args:
        samples: a FiftyOne data set or view of images.
        model: draws the masks.
        field: field of the samples with Detections.
    Raises:
        InputError: a photograph that cannot be read.
    """
    predictor = model if isinstance(model, Predictor) else load(model)
    label_of = {c["name"]: i + 1 for i, c in enumerate(predictor.categories)}
    done = left_alone = 0
    for sample in samples.iter_samples():
        waiting = [found for found in _found(sample, field) if not found.has_mask]
        if not waiting:
            continue
        pixels = read_photograph(sample.filepath)
        size = (pixels.shape[0], pixels.shape[1])
        corners = [_corners(found, size) for found in waiting]
        boxes = [clip_box([x0, y0, x1 - x0, y1 - y0], size) for x0, y0, x1, y1 in corners]
        rows = [k for k, box in enumerate(boxes) if box is not None]
        left_alone += len(waiting) - len(rows)
        labels = [label_of.get(str(waiting[k].label), 0) for k in rows]
        crops, scores = nonempty(predictor.segment(pixels, [boxes[k] for k in rows], labels))
        for row, score, mask in zip(rows, scores, crops.dense().numpy(), strict=True):
            waiting[row].mask = _into_box(mask, corners[row])
            waiting[row][SCORE], waiting[row][MODEL] = score, predictor.identity
        sample.save()
        done += len(rows)
    return FilledSamples(done, left_alone)


def _detection(library: Any, file: CocoFile, row: dict[str, Any], *, size: tuple[int, int]) -> Any:
    """An annotation as a Detection; None if its box lies outside the image."""
    box = clip_box(row["bbox"], size)
    if box is None:
        return None
    note = row["halfmask"] if isinstance(row.get("halfmask"), dict) else {}
    more = {"coco_id": row["id"], "coco_bbox": row["bbox"], "iscrowd": is_crowd(row)}
    more |= {"mask_state": provenance(row) or str(file.state_of(row))}
    more |= {SCORE: note["score"]} if "score" in note else {}
    mask = None
    if str(file.state_of(row, "filled")) == "mask":
        bitmap, (x, y) = decode(row["segmentation"], size)
        whole = (math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3]))
        x0, y0 = min(whole[0], x), min(whole[1], y)
        x1, y1 = max(whole[2], x + bitmap.shape[1]), max(whole[3], y + bitmap.shape[0])
        mask, box = np.zeros((y1 - y0, x1 - x0), dtype=bool), (x0, y0, x1, y1)
        mask[y - y0 : y - y0 + bitmap.shape[0], x - x0 : x - x0 + bitmap.shape[1]] = (
            bitmap.numpy() > 0
        )
    height, width = size
    relative = [box[0] / width, box[1] / height]
    relative += [(box[2] - box[0]) / width, (box[3] - box[1]) / height]
    return library.Detection(
        label=file.name_of(row["category_id"]), bounding_box=relative, mask=mask, **more
    )


def _found(sample: Any, field: str) -> Iterator[Any]:
    detections = sample[field]
    yield from detections.detections if detections is not None else ()


def _corners(found: Any, size: tuple[int, int]) -> Box:
    """xyxy in pixels."""
    x, y, w, h = found.bounding_box
    height, width = size
    return (x * width, y * height, (x + w) * width, (y + h) * height)


def _into_box(mask: Bitmap, box: Box) -> Bitmap:
    """Samples a mask [H, W] of the image over a box, about one cell for each pixel.

    The value of a cell is that of the pixel at its centre.
    """
    height, width = mask.shape
    x0, y0, x1, y1 = box
    columns = _centres(x0, x1, max(1, round(x1 - x0)))
    rows = _centres(y0, y1, max(1, round(y1 - y0)))
    seen = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    out: Bitmap = mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)] & seen
    return out


def _from_box(mask: Bitmap, box: Box, size: tuple[int, int]) -> MaskCrops:
    """Returns the pixels of the image whose centre lies in a true cell of an array over a box."""
    x0, y0, x1, y1 = box
    left, right = _pixels(x0, x1, size[1])
    top, bottom = _pixels(y0, y1, size[0])
    height, width = mask.shape
    columns = ((np.arange(left, right) + 0.5 - x0) / (x1 - x0) * width).astype(int)
    rows = ((np.arange(top, bottom) + 0.5 - y0) / (y1 - y0) * height).astype(int)
    columns, rows = columns.clip(0, width - 1), rows.clip(0, height - 1)
    return MaskCrops.from_bitmaps([torch.from_numpy(mask[rows][:, columns])], [(left, top)], size)


def _centres(low: float, high: float, cells: int) -> NDArray[np.int64]:
    """Returns the pixel that holds the centre of each cell."""
    return np.floor(low + (np.arange(cells) + 0.5) * (high - low) / cells).astype(np.int64)


def _pixels(low: float, high: float, side: int) -> tuple[int, int]:
    """Returns first and last + 1 of the pixels with centres between two coordinates.

    The coordinates are rounded first: FiftyOne stores fractions of the image's side.
    """
    return max(0, math.ceil(round(low - 0.5, 6))), min(side, math.ceil(round(high - 0.5, 6)))


def _size(path: Path) -> tuple[int, int]:
    """(H, W), from the header of the file."""
    with opened(path) as image:
        return image.size[1], image.size[0]
