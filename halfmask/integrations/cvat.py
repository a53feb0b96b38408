"""CVAT's auto-annotation functions, and masks for the rectangles of a task.

`cvat-cli task auto-annotate ID --function-module halfmask.integrations.cvat -p
model=str:…` calls `create`. The result depends on the arguments:

- a model that detects, or one with `detector`: a detection function with masks of every
  detected object;
- with `boxes`, a COCO file: a detection function with masks of the file's boxes in the
  frames of the same name;
- a box segmenter alone: an interaction function, which returns the mask of a box that a
  person draws. CVAT offers it to agents only (`cvat-cli function create-native` and
  `run-agent`).

A detection function does not know the shapes of a task. For rectangles drawn in CVAT
use `fill_task`, which goes through the SDK.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.records import clip_box, file_name_of
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.inference.complete.filling import nonempty
from halfmask.inference.images import as_tensor
from halfmask.inference.predictor import Predictor, load
from halfmask.integrations import optional_module
from halfmask.masks.outline import TOLERANCE, outlines
from halfmask.structures import Detection

CONFIDENCE = 0.5
"""Score below which a detection is left out if CVAT gives no threshold."""


def create(
    model: str = "box-segmenter",
    *,
    boxes: str | None = None,
    detector: str | None = None,
    device: str | None = None,
) -> Any:
    """Returns a function for CVAT, an object with `spec` and `detect`; see above.

    Args:
        model: a model for `halfmask.load`.
        boxes: a COCO file; its boxes without a mask get one. Frames are matched by file
            name.
        detector: a model that detects the boxes for `model`.
        device: device to run on.
    Raises:
        InputError: cvat-sdk is not installed (extra `cvat`), no such model or file, or
            both boxes and a detector.
    """
    _sdk()
    if boxes is not None and detector is not None:
        raise InputError("boxes and detector both select the boxes to fill: give only one of them")
    predictor = load(model, detector, device)
    if boxes is not None:
        return FilledBoxes(predictor, CocoFile.read(boxes))
    return FoundObjects(predictor) if predictor.can_detect else BoxPrompt(predictor)


class FoundObjects:
    """CVAT's DetectionFunction with the objects that a model detects."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.spec = _spec([c["name"] for c in predictor.categories])

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Returns masks of one frame, or polygons if the context asks; labels as in `spec`."""
        threshold = CONFIDENCE if context.conf_threshold is None else context.conf_threshold
        found = self.predictor.detect(image, least_score=threshold)
        found = found.select(found.labels > 0)
        labels, scores = found.labels.tolist(), found.scores.tolist()
        return list(_shapes(found, labels, context.conv_mask_to_poly, scores=scores))


class FilledBoxes:
    """CVAT's DetectionFunction with masks for the boxes of a COCO file that have none.

    The confidence is the model's score of its mask.
    """

    def __init__(self, predictor: Predictor, file: CocoFile) -> None:
        self.predictor, self.file = predictor, file
        self.spec = _spec([c["name"] for c in file.categories])
        self._images: dict[str, int] = {file_name_of(image): image["id"] for image in file.images}

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Returns the shapes of one frame; none for a frame that is not in the file.

        Raises:
            InputError: the frame and the file have different sizes.
        """
        image_id = self._image_of(context.frame_name)
        if image_id is None:
            return []
        size = self.file.size_of(image_id)
        if image.size != size[::-1]:
            found, said = "{} × {}".format(*image.size), f"{size[1]} × {size[0]}"
            raise InputError(
                f"frame {context.frame_name}: {found} pixels, {self.file.name} says {said}; "
                "correct the file"
            )
        unfilled = (MaskState.MISSING, MaskState.BROKEN)
        rows = [a for a in self.file.annotations_of(image_id) if self.file.state_of(a) in unfilled]
        labels = self.predictor.labels_of(self.file.categories)
        boxes = [clip_box(row["bbox"], size) for row in rows]
        drawn = self.predictor.segment(image, boxes, [labels[row["category_id"]] for row in rows])
        kept = torch.where(drawn.quality >= (context.conf_threshold or 0.0))[0]
        own = [self.file.label_of[rows[k]["category_id"]] for k in kept.tolist()]
        return list(_shapes(drawn.select(kept), own, context.conv_mask_to_poly))

    def _image_of(self, frame: str) -> int | None:
        """The image of a frame, whose name CVAT may give with or without its folders."""
        if frame in self._images:
            return self._images[frame]
        same = [i for name, i in self._images.items() if Path(name).name == Path(frame).name]
        return same[0] if len(same) == 1 else None


class BoxPrompt:
    """CVAT's InteractionFunction: returns the mask of a drawn box, and ignores points."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.spec = _sdk().InteractionFunctionSpec(min_pos_points=0, min_bounding_boxes=1)

    def preprocess_image(self, context: Any, image: Image.Image) -> torch.Tensor:
        """Returns float32 [3, H, W], which the agent keeps for the next boxes of the frame."""
        return as_tensor(image)

    def detect(self, context: Any, pp_image: torch.Tensor, prompts: Any) -> list[Any]:
        """Returns one mask, with the model's estimate of its IoU as confidence.

        Raises:
            InputError: no box was drawn, or it lies outside the frame.
        """
        if prompts.bounding_box is None:
            raise InputError("halfmask segments a box, but no box was drawn")
        drawn = self.predictor.segment(
            pp_image, [[v for corner in prompts.bounding_box for v in corner]]
        )
        points, score = next(_masks(drawn))
        kit = _sdk()
        confidence = _module("models").AttributeValRequest(
            spec_id=int(kit.InteractionResultAttributes.CONFIDENCE), value=str(score)
        )
        return [kit.InteractionResultShape(type="mask", points=points, attributes=[confidence])]


@dataclass(frozen=True)
class FilledTask:
    """The result of `fill_task`.

    Attributes:
        masks: number of uploaded masks.
        left_alone: number of rectangles that are rotated or outside their frame.
    """

    masks: int
    left_alone: int


def fill_task(client: Any, task_id: int, model: Predictor | str = "box-segmenter") -> FilledTask:
    """Adds a mask with the same label for each rectangle of a task.

    The rectangles stay.

    Args:
        client: a client of `cvat_sdk.make_client`, logged in.
        task_id: the task's number. Its labels must allow masks (type any or mask).
        model: draws the masks.
    Raises:
        InputError: cvat-sdk is not installed, or a rectangle's label allows no mask.
    """
    dataset = _module("datasets").TaskDataset(client, task_id)
    predictor = model if isinstance(model, Predictor) else load(model)
    label_of = {label.id: label for label in dataset.labels}
    classes = predictor.labels_of({"id": i, "name": label.name} for i, label in label_of.items())
    shapes, left_alone = [], 0
    for sample in dataset.samples:
        rectangles = [s for s in sample.annotations.shapes if s.type.value == "rectangle"]
        if not rectangles:
            continue
        image = sample.media.load_image()
        found = [(shape, _upright(shape, image.size[::-1])) for shape in rectangles]
        chosen = [(shape, box) for shape, box in found if box is not None]
        left_alone += len(rectangles) - len(chosen)
        for shape, _ in chosen:
            _check_label(label_of[shape.label_id], task_id)
        labels = [classes[shape.label_id] for shape, _ in chosen]
        drawn = predictor.segment(image, [box for _, box in chosen], labels)
        for (shape, _), (points, score) in zip(chosen, _masks(drawn), strict=True):
            new = _sdk().mask(shape.label_id, points, score=score, source="auto")
            new.frame = sample.frame_index
            shapes.append(new)
    if shapes:
        request = _module("models").PatchedLabeledDataRequest(shapes=shapes)
        client.tasks.api.partial_update_annotations(
            "create", task_id, patched_labeled_data_request=request
        )
    return FilledTask(len(shapes), left_alone)


def _check_label(label: Any, task_id: int) -> None:
    if str(getattr(label, "type", "any")) not in ("any", "mask"):
        raise InputError(
            f"task {task_id}: label {label.name!r} allows no masks; set its type to any in CVAT"
        )


def _upright(shape: Any, size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """A rectangle's box xyxy on its frame; None if it is rotated or lies outside."""
    if getattr(shape, "rotation", 0.0):
        return None
    x0, y0, x1, y1 = (float(v) for v in shape.points)
    return clip_box([x0, y0, x1 - x0, y1 - y0], size)


def _shapes(
    drawn: Detection, labels: list[int], polygons: bool, *, scores: list[float] | None = None
) -> Iterator[Any]:
    kit = _sdk()
    if not polygons:
        for k, (label, (points, score)) in enumerate(zip(labels, _masks(drawn), strict=True)):
            yield kit.mask(label, points, score=score if scores is None else scores[k])
        return
    crops, estimates = nonempty(drawn)
    rows = zip(labels, crops.bitmaps(), crops.offsets.tolist(), scores or estimates, strict=True)
    for number, (label, bitmap, (x, y), score) in enumerate(rows):
        parts = outlines(bitmap.numpy(), (x, y), TOLERANCE)
        # CVAT's polygons have one outline and no hole: the parts of an object share a
        # group.
        group = {"group": number + 1} if len(parts) > 1 else {}
        yield from (
            kit.polygon(label, [float(v) for v in part], score=score, **group) for part in parts
        )


def _masks(drawn: Detection) -> Iterator[tuple[list[float], float]]:
    """Yields CVAT's run lengths of each mask, which has a pixel, and its score."""
    encode_mask = _module("masks").encode_mask
    crops, scores = nonempty(drawn)
    for row, score in enumerate(scores):
        yield encode_mask(np.asarray(crops.select([row]).dense()[0])), score


def _spec(names: Sequence[str]) -> Any:
    kit = _sdk()
    labels = [kit.label_spec(name, number, type="mask") for number, name in enumerate(names, 1)]
    return kit.DetectionFunctionSpec(labels=labels)


def _sdk() -> Any:
    return _module("auto_annotation")


def _module(name: str) -> Any:
    return optional_module(f"cvat_sdk.{name}", "cvat-sdk", "cvat")
