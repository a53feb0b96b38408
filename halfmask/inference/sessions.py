"""Exported graphs in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

Array = np.ndarray[Any, Any]


def answer(session: Any, inputs: tuple[Tensor, ...]) -> list[Array]:
    """What an ONNX Runtime session gives for image (, boxes, labels). A graph that has no use for labels takes none."""
    named = dict(zip(("image", "boxes", "labels"), inputs, strict=False))
    found: list[Array] = session.run(None, {i.name: named[i.name].numpy() for i in session.get_inputs()})
    return found


def session_of(path: Path, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU. threads: 0, as many as it likes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns of empty levels of the pyramid
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
