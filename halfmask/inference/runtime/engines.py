"""A network's graph in ONNX Runtime or OpenVINO: crops in, probabilities out.

Shape letters: R crops, C channels, S side of a crop, M side of a mask.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.inference.runtime.names import Precision, Runtime

BATCH = 8
"""Crops in one call. Measured: 16 and more leave a core's cache, and a graph of fixed
shape is a third faster in OpenVINO than one of free shape.
"""
Array = NDArray[Any]
Run = Callable[[Array, Array], Array]
"""BATCH crops and labels → probabilities, which may be overwritten by the next call."""


class Engine:
    """Computes the probabilities of crops in batches of one size.

    The last batch is filled up with zeros, so that every crop meets the same shapes: a
    crop's mask then does not depend on how many others come with it.

    A copy for another process carries the graph, and prepares it there.

    Args:
        runtime: `onnx` or `openvino`.
        graph: ONNX.
        precision: of the graph. What an 8-bit one leaves in float32, OpenVINO computes
            in bfloat16 where the processor has it.
        threads: of the processor.
        size, side: S and M.
    """

    def __init__(
        self,
        runtime: Runtime,
        graph: bytes,
        *,
        precision: Precision,
        threads: int,
        size: int,
        side: int,
    ) -> None:
        self._made = runtime, graph, precision, threads, size, side
        self._run, self._side = _RUNS[runtime](graph, precision, threads=threads, size=size), side

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self._made

    def __call__(self, crops: Tensor, labels: Tensor) -> Tensor:
        """Returns float32 [R, M, M] of crops float32 [R, C, S, S] and labels int64 [R]."""
        pixels, classes = np.ascontiguousarray(crops.numpy()), labels.numpy()
        out = np.empty((len(pixels), self._side, self._side), np.float32)
        for start in range(0, len(pixels), BATCH):
            rows = slice(start, start + BATCH)
            some = _filled(pixels[rows]), _filled(classes[rows])
            out[rows] = self._run(*some)[: len(pixels) - start]
        return torch.from_numpy(out)


def _rebuilt(*made: Any) -> Engine:
    runtime, graph, precision, threads, size, side = made
    return Engine(runtime, graph, precision=precision, threads=threads, size=size, side=side)


def _filled(rows: Array) -> Array:
    missing = BATCH - len(rows)
    return np.concatenate([rows, np.zeros_like(rows, shape=(missing, *rows.shape[1:]))])


def _onnx(graph: bytes, _: Precision, *, threads: int, **_sizes: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(crops: Array, labels: Array) -> Array:
        given = {"crops": crops, "labels": labels}
        out: Array = session.run(None, {name: given[name] for name in names})[0]
        return out

    return run


def _openvino(graph: bytes, precision: Precision, *, threads: int, size: int) -> Run:
    import openvino

    hints: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if precision == "float32":
        # Left to itself, OpenVINO computes in bfloat16 where the processor has it.
        hints["INFERENCE_PRECISION_HINT"] = "f32"
    with kept_signal_stack():
        core = openvino.Core()
        model = core.read_model(graph, b"")
        names = [one.get_any_name() for one in model.inputs]
        crops_of = model.input("crops").partial_shape
        crops_of[0], crops_of[2], crops_of[3] = BATCH, size, size
        shapes = {"crops": crops_of, "labels": openvino.PartialShape([BATCH])}
        model.reshape({name: shapes[name] for name in names})
        request = core.compile_model(model, "CPU", hints).create_infer_request()

    def run(crops: Array, labels: Array) -> Array:
        given = {"crops": crops, "labels": labels}
        found = request.infer({name: given[name] for name in names}, share_inputs=True)
        out: Array = found[0]
        return out

    return run


_RUNS: dict[Runtime, Callable[..., Run]] = {"onnx": _onnx, "openvino": _openvino}


class _Stack(ctypes.Structure):
    """stack_t of Linux."""

    _fields_ = (("place", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Restores this thread's `sigaltstack` after the block; does nothing outside Linux.

    OpenVINO's CPU plugin leaves one of 11.5 KiB, on which Python's handlers do not fit
    beside the processor's registers: the next signal, the end of a worker or Ctrl-C,
    would end the process by SIGSEGV.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
