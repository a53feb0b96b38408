"""A graph beside its model: what is exported, and how far the two answers are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.inference.export.int8 import Array, answer, session_of

CASES = ((300, 400, 3), (517, 233, 1), (640, 800, 40), (64, 48, 0))
"""Height, width and boxes of the made-up images that a graph is compared on."""


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Attributes:
        name: `segment` or `detect`.
        module: is traced to make the graph.
        names: of its outputs.
        reference: the model's own answer to the same inputs.
    """

    name: str
    module: nn.Module
    names: tuple[str, ...]
    reference: Callable[..., tuple[Tensor, ...]]

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("image",) if self.name == "detect" else ("image", "boxes", "labels")


def parity(graph: Graph, path: Path, seed: int = 0) -> dict[str, Any]:
    """Compares a graph in ONNX Runtime with its model, on noise of several sizes.

    Returns:
        largest_difference: output → largest absolute difference; images: how many were
            compared; boxes: how many answers.
    """
    session = session_of(path)
    largest = dict.fromkeys(graph.names, 0.0)
    answers = 0
    for case in cases(seed):
        inputs = case[: len(graph.inputs)]
        with torch.no_grad():
            wanted = graph.reference(*inputs)
        got = answer(session, inputs)
        answers += len(wanted[0])
        for name, mine, theirs in zip(graph.names, wanted, got, strict=True):
            if tuple(theirs.shape) != tuple(mine.shape):
                raise InputError(
                    f"{path}: gives {name} {tuple(theirs.shape)} where the model gives "
                    f"{tuple(mine.shape)}: not exported faithfully; "
                    "please report this"
                )
        if len(got[0]) and graph.name == "detect":
            order = _same_rows(wanted[0].numpy(), wanted[1].numpy(), got[0], other_labels=got[1])
            got = [rows[order] for rows in got]
        for name, mine, theirs in zip(graph.names, wanted, got, strict=True):
            if theirs.size:
                difference = float(np.abs(theirs.astype(np.float64) - mine.numpy()).max())
                largest[name] = max(largest[name], difference)
    return {"largest_difference": largest, "images": len(CASES), "boxes": answers}


def _same_rows(boxes: Array, labels: Array, other_boxes: Array, *, other_labels: Array) -> Array:
    """For each row the other's with its label and the nearest box.

    Detections of almost equal scores may come in another order.
    """
    far = np.abs(boxes[:, None] - other_boxes[None]).max(2) + 1e6 * (
        labels[:, None] != other_labels[None]
    )
    order: Array = far.argmin(1)
    return order


def cases(seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yields an image, boxes and labels (0) for each of `CASES`."""
    generator = torch.Generator().manual_seed(seed)
    for height, width, count in CASES:
        image = torch.rand((3, height, width), generator=generator)
        yield (
            image,
            _some_boxes(height, width, count, generator=generator),
            torch.zeros(count, dtype=torch.int64),
        )


def _some_boxes(height: int, width: int, count: int, *, generator: torch.Generator) -> Tensor:
    corners = torch.rand((count, 2, 2), generator=generator)
    low, high = corners.amin(1), corners.amax(1).clamp_min(0.02) + 0.02
    return torch.cat([low, high], 1).clamp_max(1) * torch.tensor([width, height, width, height])
