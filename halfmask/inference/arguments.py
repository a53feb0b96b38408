"""Checks the boxes, class labels and devices that users pass to a model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.text import listed

SHOWN = 10


def checked_device(device: str | torch.device | None) -> torch.device:
    """Returns the device; None stands for a GPU if there is one, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"device {device!r}: expected cpu, cuda or cuda:1, and that it is there: {reason}"
        ) from error
    return chosen


def checked_boxes(boxes: Any, image_size: tuple[int, int]) -> Tensor:
    """Returns boxes as float32 [n, 4] xyxy on the CPU, clipped to the image.

    Args:
        boxes: numbers [n, 4] xyxy in pixels, or one box [4]: a list, an array or a
            tensor; n may be 0.
        image_size: (H, W).
    Raises:
        InputError: another shape or type, a value that is not finite, or a box without
            pixels in the image.
    """
    expected = "boxes are numbers [n, 4] xyxy in pixels"
    try:
        rows = boxes.detach() if isinstance(boxes, Tensor) else np.ascontiguousarray(boxes)
        found = torch.as_tensor(rows, dtype=torch.float32, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{expected}, found {_brief(boxes)}: {error}") from error
    if found.ndim == 1 and len(found) in (0, 4):
        found = found.reshape(-1, 4)
    if found.ndim != 2 or found.shape[1] != 4:
        raise InputError(f"{expected}, found shape {list(found.shape)}")
    height, width = image_size
    limits = torch.tensor([width, height, width, height], dtype=torch.float32)
    clipped = found.clamp_min(0).minimum(limits)
    fine = found.isfinite().all(1) & (clipped[:, 2:] > clipped[:, :2]).all(1)
    if not bool(fine.all()):
        row = int(torch.where(~fine)[0][0])
        raise InputError(
            f"box {row}: {found[row].tolist()} is not an xyxy box within the image of "
            f"{width} × {height} pixels"
        )
    return clipped


def checked_labels(labels: Any, count: int, label_of: Mapping[str, int], *, classes: int) -> Tensor:
    """Returns class labels as int64 [count].

    Args:
        labels: one for each box: the name of a class, or a number from 0 (unknown
            class) to `classes`.
        count: how many boxes there are.
        label_of: class name → label.
    Raises:
        InputError: not a list of names and whole numbers, another number of them, or a
            class that the model does not know.
    """
    if isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__iter__"):
        raise InputError(f"labels are a list with one label for each box, found {_brief(labels)}")
    if isinstance(labels, Tensor | np.ndarray):
        labels = labels.reshape(-1).tolist()
    rows = list(labels)
    if len(rows) != count:
        raise InputError(f"expected one label for each box, found {len(rows)} for {count} boxes")
    found = [_label(row, label, label_of) for row, label in enumerate(rows)]
    if found and not (min(found) >= 0 and max(found) <= classes):
        raise InputError(f"labels run from 0 to {classes}, found {min(found)} … {max(found)}")
    return torch.tensor(found, dtype=torch.int64)


def _label(row: int, label: Any, label_of: Mapping[str, int]) -> int:
    if isinstance(label, str):
        if label not in label_of:
            raise InputError(f"label {row}: {_unknown(label, label_of)}")
        return label_of[label]
    try:
        number = int(label)
        whole = number == label and not isinstance(label, bool | np.bool_)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        whole = False
    if not whole:
        raise InputError(f"label {row}: expected a class name or a number, found {_brief(label)}")
    return number


def _unknown(name: str, label_of: Mapping[str, int]) -> str:
    if not label_of:
        return f"{name!r}, but this model knows no classes; leave the labels out"
    close = difflib.get_close_matches(name, label_of, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it knows {listed([*label_of], SHOWN)}"
    return f"the model has no class {name!r}; {hint}"


def _brief(value: object) -> str:
    """The value in a few words, for a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}…"
