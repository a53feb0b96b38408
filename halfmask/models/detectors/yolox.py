"""ONNX files of the YOLOX family, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms

from halfmask.coco.categories import COCO_NAMES
from halfmask.errors import InputError
from halfmask.models.checkpoint import file_digest
from halfmask.models.detectors.base import LEAST_SCORE, BoxDetector, ScoredBoxes

SUFFIX = ".onnx"
STRIDES = (8, 16, 32)
GREY = 114.0
"""Value of the pixels beside a photograph that does not fill the input."""
OVERLAP = 0.65
"""Of two boxes of a class with a greater IoU the better one stays: YOLOX's own value."""


class YoloxDetector(BoxDetector):
    """A YOLOX network: a square grid of cells at three strides, one box for each cell.

    Args:
        session: of ONNX Runtime.
        size: (H, W) of its input.
        name: of the file.
        digest: of the file.
        rows: the classes.
    """

    def __init__(
        self, session: Any, size: tuple[int, int], *, name: str, digest: str, rows: Sequence[str]
    ) -> None:
        super().__init__(name, digest, rows)
        self._session, self.size = session, size
        self._input = session.get_inputs()[0].name

    def find(self, image: Tensor) -> ScoredBoxes:
        pixels, scale = letterboxed(image, self.size)
        raw = self._session.run(None, {self._input: pixels[None].numpy()})[0][0]
        boxes, scores = decoded_cells(torch.from_numpy(raw), self.size)
        # A cell may name several classes, as YOLOX counts them in AP.
        row, label = torch.where(scores >= LEAST_SCORE)
        found = ScoredBoxes(boxes[row] / scale, label, scores[row, label])
        return found.select(batched_nms(found.boxes, found.scores, found.labels, OVERLAP))


def letterboxed(image: Tensor, size: tuple[int, int]) -> tuple[Tensor, float]:
    """Scales a photograph into the upper left of the network's input.

    Args:
        image: float32 [3, H, W], RGB in [0, 1].
        size: (H, W) of the input.
    Returns:
        float32 [3, *size] on the CPU, BGR in 0–255, grey beside the photograph; and the
        scale: pixels of the input for each pixel of the photograph.
    """
    height, width = image.shape[-2:]
    scale = min(size[0] / height, size[1] / width)
    inner = max(1, int(height * scale)), max(1, int(width * scale))
    bgr = (image.cpu().flip(0) * 255).round()
    small = F.interpolate(bgr[None], inner, mode="bilinear", align_corners=False)[0].round()
    out = torch.full((3, *size), GREY)
    out[:, : inner[0], : inner[1]] = small
    return out, scale


def decoded_cells(raw: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns boxes [n, 4] xyxy in pixels of the input, and class scores [n, K].

    Args:
        raw: [n, 5 + K]: offset of the centre in cells, logarithm of the sides in cells,
            probability of an object, and of each class.
        size: (H, W) of the input.
    """
    grids, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(
            torch.arange(size[0] // stride), torch.arange(size[1] // stride), indexing="ij"
        )
        grids.append(torch.stack([x, y], -1).reshape(-1, 2))
        strides.append(torch.full((len(grids[-1]), 1), float(stride)))
    stride_of = torch.cat(strides)
    centres = (raw[:, :2] + torch.cat(grids)) * stride_of
    half = raw[:, 2:4].exp() * stride_of / 2
    return torch.cat([centres - half, centres + half], 1), raw[:, 4:5] * raw[:, 5:]


def build_yolox(path: Path, classes: Sequence[str]) -> YoloxDetector:
    """Opens an ONNX file.

    Args:
        path: the file.
        classes: names of its classes; none for COCO's 80.
    Raises:
        InputError: ONNX Runtime is not installed (extra `export`), or the file is
            missing, damaged, of another family or of another number of classes.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f'{path} needs ONNX Runtime: pip install "halfmask[export]"') from error
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an ONNX file of the YOLOX family")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no class of their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: ONNX Runtime cannot open it: {reason}") from error
    size, count = _layout(session, path)
    rows = list(classes) or list(COCO_NAMES.values())
    if len(rows) != count:
        given = f"--classes names {len(rows)}" if classes else "--classes has to name them"
        raise InputError(f"{path}: the graph has {count} classes; {given}")
    return YoloxDetector(session, size, name=path.stem, digest=file_digest(path), rows=rows)


def _layout(session: Any, path: Path) -> tuple[tuple[int, int], int]:
    """(H, W) of the input, and the number of classes."""
    given = [list(one.shape) for one in session.get_inputs()]
    out = [list(one.shape) for one in session.get_outputs()]
    fits = len(given) == len(out) == 1 and len(given[0]) == 4 and len(out[0]) == 3
    numbers = (*given[0][1:], *out[0][1:]) if fits else ()
    if fits and all(isinstance(number, int) for number in numbers):
        channels, height, width, cells, columns = numbers
        expected = sum((height // s) * (width // s) for s in STRIDES)
        if channels == 3 and cells == expected and columns > 5:
            return (height, width), columns - 5
    raise InputError(
        f"{path}: not of the YOLOX family: expected an input [1, 3, H, W] of fixed size and one "
        f"output [1, cells at strides 8, 16, 32, 5 + classes] not decoded yet, found {given} and "
        f"{out}"
    )
