"""A trained model, ready for pictures: load, detect, segment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.inference.hub import fetch_checkpoint, is_on_hub
from halfmask.inference.images import ImageLike, as_tensor
from halfmask.models.backbones.norm import fold_for_inference
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.build import build_model
from halfmask.models.checkpoint import (
    Category,
    Checkpoint,
    file_digest,
    load_checkpoint,
    load_weights,
)
from halfmask.models.fixed.baselines import PREFIX, build_baseline
from halfmask.models.fixed.sam import EXAMPLES, SamSegmenter, build_sam
from halfmask.models.fixed.sam import PREFIXES as SAM_PREFIXES
from halfmask.structures import Detection

ASSETS = Path(__file__).parents[1] / "assets"
RUN_FILE = "model.safetensors"
SHIPPED_NAMES = ("box-segmenter",)


class Predictor:
    """A model on its device, in evaluation mode, with its classes.

    With a detector, `categories` and every label are the detector's; they are matched
    by name with the segmenter's. A rule (`baseline:box` …) or SAM has no checkpoint and
    knows no classes: beside a detector it takes the detector's, and its masked ones.

    Attributes:
        model: draws the masks.
        name: what to call it: the run, or the checkpoint's stem.
        digest: of the checkpoint file, for SAM of its weights or its revision; empty
            for a rule.
        version: the halfmask that trained it.
        categories: label i + 1 is categories[i]; empty where it knows no classes.
        masked: ids (of the segmenter's own classes) of those that had masks in
            training.
        masked_names: their names, by which other files' classes are matched.
    """

    def __init__(
        self,
        model: SegmentationModel,
        checkpoint: Checkpoint | None,
        name: str,
        digest: str,
        device: torch.device,
        detector: Predictor | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.name, self.digest, self.device = name, digest, device
        self.version = __version__ if checkpoint is None else checkpoint.version
        self.detector = detector
        trained = [] if checkpoint is None else checkpoint.categories
        self.categories: list[Category] = list(trained if detector is None else detector.categories)
        if checkpoint is not None:
            self.masked = list(checkpoint.masked)
            self.masked_names = {c["name"] for c in trained if c["id"] in set(checkpoint.masked)}
        else:
            self.masked = [] if detector is None else list(detector.masked)
            self.masked_names = set() if detector is None else set(detector.masked_names)
        own = {c["name"]: i + 1 for i, c in enumerate(trained)}
        # From the labels that callers use to those of the segmenter; 0 for a class that
        # it does not know.
        self._to_own = torch.tensor([0, *(own.get(c["name"], 0) for c in self.categories)])
        known = {c["name"]: i + 1 for i, c in enumerate(self.categories)}
        self._from_own = torch.tensor([0, *(known.get(c["name"], 0) for c in trained)])

    @property
    def identity(self) -> str:
        """The name with what pins it down, as filled masks and results carry it."""
        return f"{self.name}@{self.digest}" if self.digest else self.name

    @property
    def can_detect(self) -> bool:
        """Whether `detect` works: the model finds boxes itself, or has a detector beside it."""
        return self.detector is not None or self.model.has_detector

    @property
    def knows_loose_boxes(self) -> bool:
        """Whether the model learnt on boxes that are off (`box_jitter`), so that it
        makes a difference to say that boxes are loose.
        """
        return isinstance(self.model, BoxSegmenter | SamSegmenter) and self.model.knows_loose_boxes

    def detect(self, image: ImageLike) -> Detection:
        """Finds objects and their masks.

        Args:
            image: a file, a PIL image, uint8 [H, W, 3] or float [3, H, W].
        Raises:
            InputError: the image cannot be read, or the model has no detector.
        """
        if not self.can_detect:
            raise InputError(
                f"{self.name} draws masks into given boxes and finds none itself: name a "
                "detector's checkpoint (--detector), or give boxes"
            )
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[ImageLike]) -> list[Detection]:
        """`detect` for several images in one call of the model, which must be able to
        (`can_detect`).
        """
        pixels = [as_tensor(image).to(self.device) for image in images]
        if self.detector is None:
            with torch.inference_mode():
                return [on_cpu(d) for d in self.model.detect(pixels)]
        found = self.detector.detect_batch(pixels)
        drawn = self.segment_batch(pixels, [f.boxes for f in found], [f.labels for f in found])
        return [
            replace(d, labels=f.labels, scores=f.scores) for d, f in zip(drawn, found, strict=True)
        ]

    def segment(
        self, image: ImageLike, boxes: Any, labels: Any = None, loose: bool = False
    ) -> Detection:
        """Masks for boxes that you have.

        Args:
            image: as in `detect`.
            boxes: [n, 4] xyxy in pixels: tensor, array or nested list.
            labels: [n], labels of `categories`; 0 for an object of unknown class, None
                for no classes at all.
            loose: the boxes may be off; see `segment_batch`.
        Returns:
            Rows in the order of the boxes, on the CPU; scores are 1.
        Raises:
            InputError: the image cannot be read; boxes are not finite, turned inside
                out or outside the image; unknown labels.
        """
        pixels = as_tensor(image)
        found = _checked_boxes(boxes, (pixels.shape[1], pixels.shape[2]))
        classes = (
            None if labels is None else _checked_labels(labels, len(found), len(self.categories))
        )
        return self.segment_batch([pixels], [found], None if classes is None else [classes], loose)[
            0
        ]

    def segment_batch(
        self,
        images: Sequence[ImageLike],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
        loose: bool = False,
    ) -> list[Detection]:
        """`segment` for several images in one call of the model; boxes float32 [n, 4]
        and labels int64 [n] are trusted.

        A label of 0, or one whose class the segmenter does not know, leaves the class
        to the model where it needs one. Loose boxes may be off by a tenth of their
        side: a model that learnt on such boxes then lets masks end before them, or go
        beyond them.
        """
        if isinstance(self.model, BoxSegmenter | SamSegmenter):
            self.model.expect_loose_boxes(loose)  # set anew by every call
        pixels = [as_tensor(image).to(self.device) for image in images]
        on_device = [b.to(self.device, torch.float32) for b in boxes]
        own = (
            None if labels is None else [self._to_own[row.cpu()].to(self.device) for row in labels]
        )
        with torch.inference_mode():
            drawn = [on_cpu(d) for d in self.model.segment(pixels, on_device, own)]
        drawn = [replace(d, labels=self._from_own[d.labels]) for d in drawn]
        if labels is None:
            return drawn
        given = [row.to("cpu", torch.int64) for row in labels]
        return [
            replace(d, labels=torch.where(row > 0, row, d.labels))
            for d, row in zip(drawn, given, strict=True)
        ]

    def labels_of(self, categories: Iterable[Mapping[str, Any]]) -> dict[int, int]:
        """Category id of a data file → label of this model, matched by name; 0 where
        the model has no such class.
        """
        own = {c["name"]: i + 1 for i, c in enumerate(self.categories)}
        return {int(c["id"]): own.get(c["name"], 0) for c in categories}

    def masked_of(self, categories: Iterable[Mapping[str, Any]]) -> set[int]:
        """The ids of a data file's classes that had masks when this model was trained
        (set A), matched by name.
        """
        return {int(c["id"]) for c in categories if c["name"] in self.masked_names}


def load(
    model: str | Path, detector: str | Path | None = None, device: str | torch.device | None = None
) -> Predictor:
    """Loads a trained model.

    Args:
        model: a checkpoint file, a run directory, the name of a shipped model
            (`box-segmenter`), a checkpoint on the Hugging Face Hub (`hf://OWNER/NAME`),
            a rule (`baseline:box`, `baseline:ellipse`, `baseline:grabcut`), or SAM
            (`models.fixed.sam`).
        detector: another checkpoint, whose boxes `model` fills with masks.
        device: where to run; None takes a GPU where there is one.
    Raises:
        InputError: nothing there, no checkpoint, one of another version, or a detector
            that finds no boxes.
    """
    place = (
        torch.device(device)
        if device is not None
        else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
    finder = None
    if detector is not None:
        finder = load(detector, device=place)
        if not finder.can_detect:
            raise InputError(
                f"{detector}: as a detector it has to find boxes, but it only draws masks into "
                "given ones"
            )
    if str(model).startswith(PREFIX):
        return Predictor(build_baseline(str(model)), None, str(model), "", place, finder)
    if str(model).startswith(SAM_PREFIXES):
        sam, name, digest = build_sam(str(model))
        return Predictor(sam, None, name, digest, place, finder)
    path = find_checkpoint(model)
    checkpoint = load_checkpoint(path)
    network = build_model(checkpoint.recipe.model, len(checkpoint.categories) + 1, pretrained=False)
    load_weights(network, checkpoint.state, path)
    fold_for_inference(network.eval())
    name = str(model) if is_on_hub(model) else _name_of(path)
    return Predictor(network, checkpoint, name, file_digest(path), place, finder)


def find_checkpoint(model: str | Path) -> Path:
    """The checkpoint file that MODEL means.

    Raises:
        InputError: there is none.
    """
    if is_on_hub(model):
        return fetch_checkpoint(str(model))
    path = Path(model)
    if path.is_dir():
        if (path / RUN_FILE).is_file():
            return path / RUN_FILE
        raise InputError(
            f"{path}: a folder without {RUN_FILE}; a run has one when its training is done"
        )
    if path.is_file():
        return path
    if str(model) in SHIPPED_NAMES:
        shipped = ASSETS / f"{model}.safetensors"
        if shipped.is_file():
            return shipped
        raise InputError(
            f"{model}: this installation lacks the shipped model {shipped.name}; install the "
            "package again"
        )
    names = ", ".join(SHIPPED_NAMES)
    raise InputError(
        f"{model}: no such checkpoint or run directory; shipped models: {names}; rules: "
        f"{PREFIX}box, {PREFIX}ellipse, "
        f"{PREFIX}grabcut; others' models: {EXAMPLES}"
    )


def on_cpu(found: Detection) -> Detection:
    """The same detections in the CPU's memory, as float32."""
    tensors = ("boxes", "scores", "mask_probs", "regions", "quality")
    moved = {name: getattr(found, name).to("cpu", torch.float32) for name in tensors}
    return replace(found, labels=found.labels.to("cpu"), **moved)


def _name_of(path: Path) -> str:
    return path.resolve().parent.name if path.name == RUN_FILE else path.stem


def _checked_boxes(boxes: Any, image_size: tuple[int, int]) -> Tensor:
    try:
        found = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"boxes are numbers [n, 4] xyxy: {error}") from error
    height, width = image_size
    limits = torch.tensor([width, height, width, height], dtype=torch.float32)
    clipped = found.clamp_min(0).minimum(limits)
    fine = (
        found.isfinite().all(1) & (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    )
    if not bool(fine.all()):
        row = int(torch.where(~fine)[0][0])
        raise InputError(
            f"box {row}: {found[row].tolist()} is no xyxy box within the image of {width} × "
            f"{height} pixels"
        )
    return clipped


def _checked_labels(labels: Any, count: int, classes: int) -> Tensor:
    found = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
    if len(found) != count:
        raise InputError(f"{count} boxes and {len(found)} labels: expected one label a box")
    if len(found) and not (int(found.min()) >= 0 and int(found.max()) <= classes):
        raise InputError(
            f"labels run from 0 to {classes}, found {int(found.min())} … {int(found.max())}"
        )
    return found
