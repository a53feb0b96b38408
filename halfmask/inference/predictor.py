"""A trained model, ready for images: load, detect, segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.inference.arguments import checked_boxes, checked_device, checked_labels
from halfmask.inference.checkpoints import open_model
from halfmask.inference.classes import KnownClasses
from halfmask.inference.effort import EffortChoice
from halfmask.inference.images import ImageLike, as_tensor, read_image
from halfmask.inference.prediction import Prediction
from halfmask.inference.runtime.names import IN_TORCH, Computing, Precision, Runtime
from halfmask.inference.runtime.use import limit_size, use_runtime
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.looks import Effort
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.checkpoint import Checkpoint
from halfmask.models.detectors.base import BoxDetector, ScoredBoxes
from halfmask.models.detectors.build import EXAMPLES, build_detector, is_box_detector
from halfmask.models.fixed.sam import SamSegmenter
from halfmask.models.mask_rcnn.detector import RegionDetector
from halfmask.structures import Detection

SHOWN_SCORE = 0.05  # least score of a `BoxDetector`'s boxes in `detect`


class Predictor(KnownClasses):
    """A model on its device, in evaluation mode, with its classes.

    With a detector, `categories` and all labels are the detector's; they are matched by
    name with the segmenter's. A rule (`baseline:box` …) or SAM knows no classes: beside
    a detector it takes the detector's classes, and a halfmask detector's masked ones.

    Attributes:
        model: draws the masks.
        name: the run's name, or the checkpoint's name without its ending.
        digest: of the checkpoint file; for SAM of its weights or its revision; empty
            for a rule.
        version: the halfmask that trained the model.
        runtime: computes the network: `torch`, or a runtime, its version and precision.
        max_size: most pixels of a photograph's longer side; None: as the recipe says.
        effort: how often the model looks at each box (`EffortChoice`).
    """

    def __init__(
        self,
        model: SegmentationModel,
        checkpoint: Checkpoint | None,
        name: str,
        *,
        digest: str,
        device: torch.device,
        detector: Predictor | BoxDetector | None = None,
    ) -> None:
        self.model = model.to(device).eval()
        self.name, self.digest, self.device = name, digest, device
        self.version = __version__ if checkpoint is None else checkpoint.version
        self.detector = detector
        super().__init__(checkpoint, detector)
        self.runtime = "torch"
        self.max_size: int | None = None
        self.effort = EffortChoice(self.model, name)

    @property
    def identity(self) -> str:
        """Name and digest, as filled masks and results carry them."""
        return f"{self.name}@{self.digest}" if self.digest else self.name

    @property
    def can_detect(self) -> bool:
        """Whether `detect` works: the model finds boxes, or has a detector beside it."""
        return self.detector is not None or self.model.has_detector

    @property
    def knows_loose_boxes(self) -> bool:
        """Whether the model learned on loose boxes (`box_jitter`), so that `loose` matters."""
        return isinstance(self.model, BoxSegmenter | SamSegmenter) and self.model.knows_loose_boxes

    def detect(self, image: ImageLike, *, least_score: float = 0.0) -> Prediction:
        """Finds objects and their masks.

        Args:
            image: a path, the bytes of an image file, a file object, a PIL image, an
                array uint8 [H, W, 3] or [H, W], or a tensor [3, H, W].
            least_score: objects below it are left out, and get no mask drawn.
        Raises:
            InputError: the image cannot be read, or the model has no detector.
        """
        if not self.can_detect:
            raise InputError(
                f"{self.name} draws masks into given boxes and finds none itself: name a "
                "detector's checkpoint (--detector), or give boxes"
            )
        pixels = read_image(image)
        least = max(least_score, SHOWN_SCORE * isinstance(self.detector, BoxDetector))
        return self._prediction(self.detect_batch([pixels], least)[0], pixels)

    def detect_batch(
        self, images: Sequence[ImageLike], least_score: float = 0.0
    ) -> list[Detection]:
        """Finds objects in several images in one call of a model that `can_detect`.

        Objects below the least score are left out.
        """
        pixels = [as_tensor(image).to(self.device) for image in images]
        if self.detector is None:
            with torch.inference_mode():
                return [d.on_cpu() for d in self.model.detect(pixels, least_score)]
        finder = self.detector
        find = finder.find_batch if isinstance(finder, Predictor) else finder.detect_batch
        found = [f.select(f.scores >= least_score) for f in find(pixels)]
        drawn = self.segment_batch(pixels, [f.boxes for f in found], [f.labels for f in found])
        return [
            replace(d, labels=f.labels, scores=f.scores) for d, f in zip(drawn, found, strict=True)
        ]

    def find_batch(self, images: Sequence[ImageLike]) -> list[ScoredBoxes]:
        """Returns the boxes of `detect_batch` of a Mask R-CNN, without drawing masks."""
        assert isinstance(self.model, RegionDetector)
        with torch.inference_mode():
            found = self.model.find([as_tensor(image).to(self.device) for image in images])
        return [ScoredBoxes(b.float().cpu(), k.cpu(), s.float().cpu()) for b, k, s in found]

    def segment(
        self,
        image: ImageLike,
        boxes: Any,
        labels: Any = None,
        *,
        loose: bool = False,
        effort: Effort | None = None,
    ) -> Prediction:
        """Draws masks for boxes that you have.

        Args:
            image: as in `detect`.
            boxes: [n, 4] xyxy in pixels: tensor, array or nested list.
            labels: [n], names or labels of `categories`; 0 for an object of unknown
                class. None if no class is known.
            loose: the boxes may be off; see `segment_batch`.
            effort: looks at each box: `fast` one, `balanced` two, `best` as the recipe
                says. None: as the predictor is set.
        Returns:
            Rows in the order of the boxes, on the CPU; scores are 1.
        Raises:
            InputError: the image cannot be read, a box is not finite or has no pixel in
                the image, a class is unknown, or the model has no looks to choose.
        """
        pixels = read_image(image)
        tensor = as_tensor(pixels)
        rows = checked_boxes(boxes, (tensor.shape[1], tensor.shape[2]))
        classes = None
        if labels is not None:
            known = len(self.categories)
            classes = [checked_labels(labels, len(rows), self.label_of, classes=known)]
        found = self.segment_batch([tensor], [rows], classes, loose=loose, effort=effort)[0]
        return self._prediction(found, pixels, given=True)

    def segment_batch(
        self,
        images: Sequence[ImageLike],
        boxes: Sequence[Tensor],
        labels: Sequence[Tensor] | None = None,
        *,
        loose: bool = False,
        effort: Effort | None = None,
    ) -> list[Detection]:
        """Draws masks for several images in one call of the model.

        The model chooses a class, if it needs one, where the label is 0 or the
        segmenter does not know the class. Loose boxes may be off by a tenth of their
        side: the masks of a model that learned on loose boxes may then end before the
        box or reach beyond it.

        Args:
            images: as in `detect`.
            boxes: float32 [n, 4] for each image; not checked.
            labels: int64 [n] for each image; not checked.
            loose: the boxes may be off.
            effort: as in `segment`.
        """
        self.effort.expect(effort)
        if isinstance(self.model, BoxSegmenter | SamSegmenter):
            self.model.expect_loose_boxes(loose)  # each call sets it
        pixels = [as_tensor(image).to(self.device) for image in images]
        on_device = [b.to(self.device, torch.float32) for b in boxes]
        own = None if labels is None else [self.to_own(r).to(self.device) for r in labels]
        with torch.inference_mode():
            drawn = [d.on_cpu() for d in self.model.segment(pixels, on_device, own)]
        known = self.of_predictor([d.labels for d in drawn], labels)
        return [replace(d, labels=row) for d, row in zip(drawn, known, strict=True)]

    def _prediction(self, found: Detection, pixels: Any, given: bool = False) -> Prediction:
        more: dict[str, Any] = {"categories": tuple(self.categories), "given": given}
        more |= {"masks_given": self.masks_given, "masked_names": frozenset(self.masked_names)}
        return Prediction(**vars(found), image=pixels, **more)


def load(
    model: str | Path,
    detector: str | Path | BoxDetector | None = None,
    device: str | torch.device | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    runtime: Runtime = "torch",
    precision: Precision | None = None,
    effort: Effort | None = None,
    max_size: int | None = None,
) -> Predictor:
    """Loads a trained model.

    Args:
        model: a checkpoint file, a run directory, the name of a shipped model
            (`box-segmenter`), a checkpoint on the Hugging Face Hub (`hf://OWNER/NAME`),
            a rule (`baseline:box`, `baseline:ellipse`, `baseline:grabcut`), or SAM
            (`models.fixed.sam`).
        detector: what finds the boxes that `model` fills: another checkpoint,
            `torchvision:NAME`, `hf:NAME` (transformers), an ONNX file of the YOLOX
            family (`models.detectors.build`), or a `BoxDetector`.
        device: where to run; None takes a GPU if there is one.
        classes: names for a detector of open vocabulary, or one whose file names none.
        runtime: what computes the network on the CPU: `torch`, `onnx` (ONNX Runtime),
            `openvino`, or `auto`, the fastest installed one that answers alike.
        precision: `int8` computes in 8 bits what loses little by it. None: float32;
            with `auto`, int8 for a Mask R-CNN that is calibrated (`export`).
        effort: see `Predictor.segment`.
        max_size: most pixels of the longer side of the photographs that a Mask R-CNN
            sees, if its recipe allows more.
    Raises:
        InputError: there is no such model or device, the file is no checkpoint or of
            another version, the detector finds no boxes, or the runtime is not
            installed or does not fit the model.
    """
    Computing(runtime, precision, max_size).check()
    chosen = checked_device(device)
    finder = None if detector is None else load_detector(detector, chosen, classes)
    if detector is None and classes is not None:
        raise InputError("--classes names the classes of a --detector: add one")
    network, checkpoint, name, digest = open_model(model)
    found = Predictor(network, checkpoint, name, digest=digest, device=chosen, detector=finder)
    found.effort.set(effort)
    found.max_size = limit_size([found, finder], max_size)
    known = {"name": name, "digest": digest, "path": str(model)}
    found.runtime = use_runtime(found.model, runtime, precision, **known)
    return found


def load_detector(
    detector: str | Path | BoxDetector,
    device: torch.device,
    classes: str | Sequence[str] | None = None,
) -> Predictor | BoxDetector:
    """Loads a detector alone; arguments as for `load`.

    Raises:
        InputError: there is no such detector, or it finds no boxes.
    """
    if isinstance(detector, BoxDetector):
        return detector
    if is_box_detector(str(detector)):
        return build_detector(str(detector), classes, device)
    if classes is not None:
        raise InputError(f"{detector}: a halfmask model has its own classes; leave out --classes")
    found = load(detector, device=device)
    if not found.can_detect:
        raise InputError(
            f"{detector}: as a detector it has to find boxes, but it only draws masks into "
            f"given ones; detectors: a trained Mask R-CNN, {EXAMPLES}"
        )
    return found


def as_predictor(
    model: Predictor | str | Path,
    detector: str | Path | BoxDetector | None = None,
    device: str | torch.device | None = None,
    *,
    classes: str | Sequence[str] | None = None,
    computing: Computing = IN_TORCH,
) -> Predictor:
    """Returns a loaded model unchanged, and loads any other; arguments as for `load`.

    Raises:
        InputError: as `load`, or a loaded model comes with a detector or a runtime.
    """
    if not isinstance(model, Predictor):
        return load(model, detector, device, classes=classes, **vars(computing))
    if detector is not None or classes is not None:
        raise InputError("the model is loaded already: name the detector when you load it")
    computing.refuse_for_loaded()
    return model
