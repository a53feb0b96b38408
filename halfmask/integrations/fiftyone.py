"""FiftyOne data sets: from a COCO file, to a COCO file, and masks for detections that
have none.

FiftyOne keeps an instance's mask as an array over its bounding box. It knows no crowd
and no suspect or broken mask: such annotations come over as detections without a mask,
and what the file said of them as attributes (`coco_id`, `iscrowd`, `mask_state`,
`mask_score`).
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
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.images import photograph_path, read_photograph
from halfmask.coco.records import clip_box, file_name_of
from halfmask.coco.supervision import is_crowd, provenance
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.complete.filling import nonempty
from halfmask.inference.predictor import Predictor, load
from halfmask.masks.crops import MaskCrops, decode, encode_rle

FIELD = "ground_truth"
SCORE = "mask_score"
"""Attribute of a detection whose mask a model drew: the model's estimate of its IoU."""
MODEL = "mask_model"

Bitmap = NDArray[np.bool_]
Box = tuple[float, float, float, float]


def to_fiftyone(
    annotations: str | Path, images: str | Path, name: str | None = None, field: str = FIELD
) -> Any:
    """A `fiftyone.Dataset` of a COCO file's annotations, masks where they have usable
    ones.

    A detection with a mask is boxed by the whole pixels that hold its box and its mask,
    so that the mask's pixels stay what they are; the file's own box is its attribute
    `coco_bbox`.

    Args:
        annotations: a COCO instances file; what halfmask filled in counts as masks.
        images: the folder of its photographs.
        name: of the data set; None lets FiftyOne name it.
        field: of the samples, where the detections go.
    Raises:
        InputError: fiftyone is not installed (extra `fiftyone`), or no COCO file.
    """
    library = _fiftyone()
    file, folder = CocoFile.read(annotations), Path(images).resolve()
    out = library.Dataset(name)
    samples = []
    for image in file.images:
        size = file.size_of(image["id"])
        sample = library.Sample(
            filepath=str(photograph_path(folder, file_name_of(image), f"image id {image['id']}"))
        )
        sample.metadata = library.ImageMetadata(width=size[1], height=size[0])
        rows = [_detection(library, file, row, size) for row in file.annotations_of(image["id"])]
        sample[field] = library.Detections(detections=[row for row in rows if row is not None])
        samples.append(sample)
    out.add_samples(samples, progress=False)
    return out


def from_fiftyone(samples: Any, out: str | Path, field: str = FIELD) -> Path:
    """The COCO file of a data set's or view's detections: RLE where they have a mask,
    no segmentation where they have none.

    File names are relative to the samples' common folder, which is what `--images` has
    to name.

    Args:
        samples: a FiftyOne data set or view, of images.
        out: the file to write.
        field: of the samples, with Detections.
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
            x, y, w, h = found.bounding_box
            row: dict[str, Any] = {
                "id": len(rows) + 1,
                "image_id": number,
                "category_id": category,
                "iscrowd": 0,
            }
            row |= {
                "bbox": [x * width, y * height, w * width, h * height],
                "area": w * width * h * height,
            }
            mask = found.get_mask()
            if mask is not None:
                crops = _from_box(
                    np.asarray(mask) > 0, _corners(found, (height, width)), (height, width)
                )
                row |= {"segmentation": encode_rle(crops)[0], "area": int(crops.areas()[0])}
            rows.append(row)
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    write_json(Path(out), {"images": records, "annotations": rows, "categories": categories})
    return folder


@dataclass(frozen=True)
class FilledSamples:
    """What `fill` did: masks drawn, and detections left alone since their box lies
    outside the image.
    """

    masks: int
    left_alone: int


def fill(
    samples: Any, model: Predictor | str = "box-segmenter", field: str = FIELD
) -> FilledSamples:
    """Gives each detection without a mask the model's, in the data set itself. Boxes,
    labels and the masks that are there stay.

    New masks carry the attributes `mask_score` (the model's estimate of the IoU) and
    `mask_model`: sort by the first to review.

    Args:
        samples: a FiftyOne data set or view, of images.
        model: draws the masks.
        field: of the samples, with Detections.
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


def _detection(library: Any, file: CocoFile, row: dict[str, Any], size: tuple[int, int]) -> Any:
    """An annotation as a Detection; None where nothing of its box lies on the image."""
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
    relative = [
        box[0] / width,
        box[1] / height,
        (box[2] - box[0]) / width,
        (box[3] - box[1]) / height,
    ]
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
    """A mask [H, W] of the image as an array over a box: about a cell for each pixel,
    each the pixel at its centre.
    """
    height, width = mask.shape
    x0, y0, x1, y1 = box
    columns = _centres(x0, x1, max(1, round(x1 - x0)))
    rows = _centres(y0, y1, max(1, round(y1 - y0)))
    seen = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    out: Bitmap = mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)] & seen
    return out


def _from_box(mask: Bitmap, box: Box, size: tuple[int, int]) -> MaskCrops:
    """The pixels of the image whose centre lies in a cell of an array over a box."""
    x0, y0, x1, y1 = box
    left, right = _pixels(x0, x1, size[1])
    top, bottom = _pixels(y0, y1, size[0])
    columns = (
        ((np.arange(left, right) + 0.5 - x0) / (x1 - x0) * mask.shape[1])
        .astype(int)
        .clip(0, mask.shape[1] - 1)
    )
    rows = (
        ((np.arange(top, bottom) + 0.5 - y0) / (y1 - y0) * mask.shape[0])
        .astype(int)
        .clip(0, mask.shape[0] - 1)
    )
    return MaskCrops.from_bitmaps([torch.from_numpy(mask[rows][:, columns])], [(left, top)], size)


def _centres(low: float, high: float, cells: int) -> NDArray[np.int64]:
    """The pixel that holds the centre of each cell."""
    return np.floor(low + (np.arange(cells) + 0.5) * (high - low) / cells).astype(np.int64)


def _pixels(low: float, high: float, side: int) -> tuple[int, int]:
    """First and last + 1 of the pixels whose centre lies between the two. Rounded
    first: FiftyOne keeps shares of the image's side.
    """
    return max(0, math.ceil(round(low - 0.5, 6))), min(side, math.ceil(round(high - 0.5, 6)))


def _size(path: Path) -> tuple[int, int]:
    """(H, W), without decoding."""
    try:
        with Image.open(path) as image:
            return image.size[1], image.size[0]
    except OSError as error:
        raise InputError(f"{path}: no photograph to be read: {error}") from error


def _fiftyone() -> Any:
    try:
        import fiftyone
    except ImportError as error:
        raise InputError('this needs fiftyone: pip install "halfmask[fiftyone]"') from error
    return fiftyone
