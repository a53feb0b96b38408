"""SAM and SAM 2 through transformers: masks for given boxes, to compare or to teach.

Names: `sam:facebook/sam-vit-base`, `sam2:facebook/sam2.1-hiera-tiny`, either with
`@REVISION`, or a folder that `save_pretrained` wrote (`sam2:FOLDER`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.models.base import FixedSegmenter
from halfmask.models.pretrained import load_pretrained

FAMILIES = {
    "sam": ("SamModel", "SamProcessor", {"sam"}),
    "sam2": ("Sam2Model", "Sam2Processor", {"sam2", "sam2_video"}),
}
"""Text before the colon → transformers' classes, and the model types whose weights they
take.

SAM 2's weights come as video models.
"""
PREFIXES = tuple(f"{family}:" for family in FAMILIES)
EXAMPLES = "sam:facebook/sam-vit-base, sam2:facebook/sam2.1-hiera-tiny"

CELLS = 256
"""M. SAM's own logits have this many cells a side for the whole image, so one box loses
nothing.
"""
BOXES = 64
"""Boxes in one call of the mask decoder."""
REACH = 0.1
"""How far a mask may go beyond a loose box, share of its side.

SAM learned from boxes that were moved by about this much.
"""


class _Encoded(NamedTuple):
    """The image encoder's answer for `image`.

    `scale` [2] turns its x and y into pixels of the network's square, `side` long.
    """

    image: Tensor
    embeddings: Any
    scale: Tensor
    side: int


class SamSegmenter(FixedSegmenter):
    """SAM's masks for given boxes.

    Of SAM's three masks it takes the one with the best expected IoU, which becomes the
    mask's quality. Masks are clipped to their boxes like other models'; with loose
    boxes (`expect_loose_boxes`) they may go a tenth beyond. The last image's embedding
    is kept: more boxes of the same image cost the decoder alone.

    Args:
        network: transformers' SamModel or Sam2Model.
        processor: its processor.
    """

    cells = CELLS

    def __init__(self, network: nn.Module, processor: Any) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)
        self.processor = processor
        self._last: _Encoded | None = None

    def parts(self) -> dict[str, nn.Module]:
        return {"sam": self.network}

    @property
    def knows_loose_boxes(self) -> bool:
        return True

    def expect_loose_boxes(self, loose: bool) -> None:
        """From now on, takes boxes for loose or for tight ones."""
        self.reach = REACH if loose else 0.0

    def draw(self, image: Tensor, boxes: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns float32 [n, CELLS, CELLS] over the regions, and expected IoUs [n]."""
        encoded = self._encode(image)
        scale = encoded.scale.repeat(2)
        probs, quality = [], []
        for given, shown in zip(
            torch.split(boxes * scale, BOXES), torch.split(regions * scale, BOXES), strict=True
        ):
            found = self.network(
                image_embeddings=encoded.embeddings, input_boxes=given[None], multimask_output=True
            )
            best = found.iou_scores[0].argmax(1, keepdim=True)
            logits = found.pred_masks[0].take_along_dim(best[:, :, None, None], 1)
            probs.append(_sampled(logits.float(), shown / encoded.side).sigmoid())
            quality.append(found.iou_scores[0].take_along_dim(best, 1)[:, 0].float().clamp(0, 1))
        return torch.cat(probs), torch.cat(quality)

    def _encode(self, image: Tensor) -> _Encoded:
        last = self._last
        if (
            last is not None
            and last.image.device == image.device
            and torch.equal(last.image, image)
        ):
            return last
        height, width = image.shape[-2:]
        pixels = (image.permute(1, 2, 0).cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        # The processor scales in its own way (SAM keeps the aspect and pads, SAM 2
        # stretches); a box of the whole image shows how.
        inputs = self.processor(
            images=pixels,
            input_boxes=[[[0.0, 0.0, float(width), float(height)]]],
            return_tensors="pt",
        )
        corner = inputs["input_boxes"].reshape(-1)[2:].to(image)
        values = inputs["pixel_values"].to(image)
        embeddings = self.network.get_image_embeddings(values)  # type: ignore[operator]
        self._last = _Encoded(
            image, embeddings, corner / corner.new_tensor([width, height]), int(values.shape[-1])
        )
        return self._last


def build_sam(name: str) -> tuple[SamSegmenter, str, str]:
    """Builds the model of a name such as `sam2:facebook/sam2.1-hiera-tiny`.

    Returns:
        The model; its name, without folders of this machine; and its version: of a
            folder the digest of its weights, else the revision on the Hub.
    Raises:
        InputError: transformers is not installed (extra `sam`), the model is neither a
            folder nor on the Hub, or it is of another family.
    """
    family, _, where = name.partition(":")
    if not where:
        raise InputError(f"{name}: names no model after the colon; for example {EXAMPLES}")
    model, processor, kinds = FAMILIES[family]

    def classes_of(kind: str | None) -> tuple[str, str]:
        if kind not in kinds:
            raise InputError(
                f"{name}: expected a model of type {' or '.join(sorted(kinds))}, found "
                f"{kind or 'no model'}; as in {EXAMPLES}"
            )
        return model, processor

    found = load_pretrained(name, classes_of)
    return SamSegmenter(found.network, found.processor), found.name, found.digest


def _sampled(logits: Tensor, regions: Tensor) -> Tensor:
    """Samples logits [n, 1, h, w] of the square at the cells of regions."""
    steps = (torch.arange(CELLS, dtype=regions.dtype, device=regions.device) + 0.5) / CELLS
    at = regions[:, :2, None] + steps * (regions[:, 2:] - regions[:, :2])[:, :, None]
    x, y = (2 * at - 1).unbind(1)
    grid = torch.stack(
        [x[:, None, :].expand(-1, CELLS, -1), y[:, :, None].expand(-1, -1, CELLS)], -1
    )
    return F.grid_sample(logits, grid, mode="bilinear", padding_mode="border", align_corners=False)[
        :, 0
    ]
