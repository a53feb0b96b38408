"""Detectors of transformers: `hf:OWNER/NAME[@REVISION]`, or `hf:FOLDER`.

Of a closed vocabulary (DETR, RT-DETR, YOLOS, …), or of an open one, for classes that
you name: OWL-ViT, OWLv2, Grounding DINO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from halfmask.errors import InputError
from halfmask.models.detectors.base import LEAST_SCORE, BoxDetector, ScoredBoxes
from halfmask.models.pretrained import load_pretrained

PREFIX = "hf:"
PATCHES = frozenset({"owlvit", "owlv2"})
"""Model types that compare each patch of the photograph with each class."""
PHRASES = frozenset({"grounding-dino", "mm-grounding-dino"})
"""Model types that compare boxes with each word of a text."""
OPEN = "AutoModelForZeroShotObjectDetection", "AutoProcessor"
CLOSED = "AutoModelForObjectDetection", "AutoImageProcessor"
OVERLAP = 0.5
"""Of two boxes of a class with a greater IoU the better one stays, in open vocabulary."""


class ClosedDetector(BoxDetector):
    """A detector of the classes that it learned."""

    def __init__(self, network: Any, processor: Any, *, name: str, digest: str) -> None:
        names = network.config.id2label
        super().__init__(name, digest, [str(names[row]) for row in sorted(names)])
        self.network, self.processor = network, processor
        self.device = next(network.parameters()).device

    def find(self, image: Tensor) -> ScoredBoxes:
        inputs = self.processor(images=_pixels(image), return_tensors="pt").to(image.device)
        found = self.processor.post_process_object_detection(
            self.network(**inputs), threshold=LEAST_SCORE, target_sizes=[tuple(image.shape[-2:])]
        )[0]
        return ScoredBoxes(found["boxes"], found["labels"], found["scores"])


class PatchDetector(BoxDetector):
    """OWL-ViT or OWLv2: a box for each patch, of the class that its text fits best."""

    def __init__(
        self, network: Any, processor: Any, *, name: str, digest: str, rows: Sequence[str]
    ) -> None:
        super().__init__(name, digest, rows)
        self.network, self.processor = network, processor
        self.device = next(network.parameters()).device
        self._texts = [[f"a photo of a {row}" for row in rows]]
        for text, row in zip(self._texts[0], rows, strict=True):
            _check_length(processor.tokenizer(text)["input_ids"], processor.tokenizer, row)

    def find(self, image: Tensor) -> ScoredBoxes:
        inputs = self.processor(text=self._texts, images=_pixels(image), return_tensors="pt")
        found = self.processor.post_process_grounded_object_detection(
            self.network(**inputs.to(image.device)),
            threshold=LEAST_SCORE,
            target_sizes=[tuple(image.shape[-2:])],
        )[0]
        kept = batched_nms(found["boxes"], found["scores"], found["labels"], OVERLAP)
        return ScoredBoxes(found["boxes"], found["labels"], found["scores"]).select(kept)


class PhraseDetector(BoxDetector):
    """Grounding DINO: a class's score is the mean over the words of its name.

    transformers' own post-processing returns phrases, which need not be names of
    classes; here each box gets the best of the classes that were asked for.
    """

    def __init__(
        self, network: Any, processor: Any, *, name: str, digest: str, rows: Sequence[str]
    ) -> None:
        super().__init__(name, digest, rows)
        self.network, self.processor = network, processor
        self.device = next(network.parameters()).device
        self._text = " ".join(f"{row.lower()}." for row in rows)
        spans = processor.tokenizer(self._text, return_offsets_mapping=True)["offset_mapping"]
        _check_length(spans, processor.tokenizer, self._text)
        self._words = _word_weights(spans, rows)

    def find(self, image: Tensor) -> ScoredBoxes:
        inputs = self.processor(images=_pixels(image), text=self._text, return_tensors="pt")
        out = self.network(**inputs.to(image.device))
        words = out.logits[0].float().sigmoid()[:, : self._words.shape[1]]
        per_class = words @ self._words.to(words).T
        scores, labels = per_class.max(1)
        height, width = image.shape[-2:]
        unit = box_convert(out.pred_boxes[0].float(), "cxcywh", "xyxy")
        boxes = unit * unit.new_tensor([width, height, width, height])
        kept = batched_nms(boxes, scores, labels, OVERLAP)
        return ScoredBoxes(boxes, labels, scores).select(kept)


def build_hub(name: str, classes: Sequence[str], device: torch.device) -> BoxDetector:
    """Builds the detector of `hf:OWNER/NAME[@REVISION]` or `hf:FOLDER`.

    Args:
        name: see above.
        classes: names of the classes to look for, if the vocabulary is open.
        device: where to run.
    Raises:
        InputError: transformers is not installed (extra `sam`), there is no such model,
            it finds no boxes, or it needs classes and got none (or the reverse).
    """
    if not name.removeprefix(PREFIX):
        raise InputError(f"{name}: names no model; for example {PREFIX}PekingU/rtdetr_v2_r18vd")

    def classes_of(kind: str | None) -> tuple[str, str]:
        is_open = kind in PATCHES | PHRASES
        if is_open and not classes:
            raise InputError(
                f"{name}: looks for the classes that you name: add --classes 'fire hydrant, bear'"
            )
        if classes and not is_open:
            raise InputError(
                f"{name}: a {kind or 'model without a type'} has its own classes; --classes is "
                f"for models of type {', '.join(sorted(PATCHES | PHRASES))}"
            )
        return OPEN if is_open else CLOSED

    found = load_pretrained(name, classes_of)
    network = found.network.requires_grad_(False).to(device).eval()
    if found.kind not in PATCHES | PHRASES:
        return ClosedDetector(network, found.processor, name=found.name, digest=found.digest)
    kind = PatchDetector if found.kind in PATCHES else PhraseDetector
    return kind(network, found.processor, name=found.name, digest=found.digest, rows=classes)


def _pixels(image: Tensor) -> Any:
    """uint8 [H, W, 3], as processors take photographs."""
    values = (image.permute(1, 2, 0).cpu().clamp(0, 1) * 255).round()
    return values.to(torch.uint8).numpy()


def _check_length(tokens: Sequence[object], tokenizer: Any, text: str) -> None:
    if len(tokens) > tokenizer.model_max_length:
        raise InputError(
            f"classes: {text[:60]!r} has {len(tokens)} tokens, the model reads at most "
            f"{tokenizer.model_max_length}; name fewer classes, or shorter ones"
        )


def _word_weights(spans: Sequence[tuple[int, int]], rows: Sequence[str]) -> Tensor:
    """Weights [classes, tokens] that average the tokens of each class's name.

    Args:
        spans: first and last character of each token in the text "cat. dog.".
        rows: the classes in that text.
    """
    weights, start = torch.zeros(len(rows), len(spans)), 0
    for row, class_name in enumerate(rows):
        end = start + len(class_name)
        for token, (first, last) in enumerate(spans):
            weights[row, token] = float(first >= start and last <= end and last > first)
        start = end + 2  # the full stop and the space
    return weights / weights.sum(1, keepdim=True).clamp_min(1)
