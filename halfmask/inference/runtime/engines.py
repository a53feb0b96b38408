"""A network's graph, or a part's, in ONNX Runtime or OpenVINO.

Shape letters: R crops or regions, C channels, S side of a crop, M side of a mask.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
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
Run = Callable[[dict[str, Array]], Sequence[Array]]
"""Inputs by name → outputs, which may be overwritten by the next call."""
Fixed = dict[str, dict[int, int]]
"""Input → its axes of a fixed length; OpenVINO computes those faster."""


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
        fixed: Fixed = {"crops": {0: BATCH, 2: size, 3: size}, "labels": {0: BATCH}}
        exact = precision == "float32"
        self._run = opened_graph(runtime, graph, threads=threads, fixed=fixed, exact=exact)
        self._side = side

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, self._made

    def __call__(self, crops: Tensor, labels: Tensor) -> Tensor:
        """Returns float32 [R, M, M] of crops float32 [R, C, S, S] and labels int64 [R]."""
        pixels, classes = np.ascontiguousarray(crops.numpy()), labels.numpy()
        out = np.empty((len(pixels), self._side, self._side), np.float32)
        for start in range(0, len(pixels), BATCH):
            rows = slice(start, start + BATCH)
            some = {"crops": _filled(pixels[rows], BATCH), "labels": _filled(classes[rows], BATCH)}
            out[rows] = self._run(some)[0][: len(pixels) - start]
        return torch.from_numpy(out)


def _rebuilt(*made: Any) -> Engine:
    runtime, graph, precision, threads, size, side = made
    return Engine(runtime, graph, precision=precision, threads=threads, size=size, side=side)


def _filled(rows: Array, count: int) -> Array:
    missing = count - len(rows)
    if not missing:
        return rows
    return np.concatenate([rows, np.zeros_like(rows, shape=(missing, *rows.shape[1:]))])


class PartEngine:
    """Computes a part of a network: tensors in, tensors out.

    Args:
        runtime, graph, threads: as `Engine`'s.
        rows: regions in one call; the last call is filled up with zeros, so that a
            region's answer does not depend on the others. None: the input is whole.
    """

    def __init__(self, runtime: Runtime, graph: bytes, *, threads: int, rows: int | None) -> None:
        self._made = runtime, graph, threads, rows
        self._rows = rows
        fixed: Fixed = {} if rows is None else {"in0": {0: rows}}
        self._run = opened_graph(runtime, graph, threads=threads, fixed=fixed, exact=True)

    def __reduce__(self) -> tuple[Any, ...]:
        return _part, self._made

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        """Returns float32 outputs of float32 inputs, in the order of the graph."""
        given = [np.ascontiguousarray(tensor.numpy()) for tensor in tensors]
        if self._rows is None:
            found = self._run({f"in{i}": array for i, array in enumerate(given)})
            return [torch.from_numpy(array.copy()) for array in found]
        return [torch.from_numpy(self._in_rows(given[0], self._rows))]

    def _in_rows(self, regions: Array, count: int) -> Array:
        """Returns a row for each region, of at least one."""
        out: Array | None = None
        for start in range(0, len(regions), count):
            some = regions[start : start + count]
            found = self._run({"in0": _filled(some, count)})[0][: len(some)]
            if out is None:
                out = np.empty((len(regions), *found.shape[1:]), np.float32)
            out[start : start + count] = found
        assert out is not None
        return out


def _part(runtime: Runtime, graph: bytes, threads: int, *rows: int | None) -> PartEngine:
    return PartEngine(runtime, graph, threads=threads, rows=rows[0])


def opened_graph(runtime: Runtime, graph: bytes, *, threads: int, fixed: Fixed, exact: bool) -> Run:
    """Prepares a graph for a runtime.

    Args:
        fixed: lengths of axes that never change.
        exact: whether OpenVINO keeps to float32 outside of 8 bits. Left to itself, it
            computes in bfloat16 where the processor has it.
    """
    if runtime == "onnx":
        return _onnx(graph, threads)
    hints: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if exact:
        hints["INFERENCE_PRECISION_HINT"] = "f32"
    return _openvino(graph, hints, fixed)


def _onnx(graph: bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(given: dict[str, Array]) -> Sequence[Array]:
        out: Sequence[Array] = session.run(None, {name: given[name] for name in names})
        return out

    return run


def _openvino(graph: bytes, hints: dict[str, Any], fixed: Fixed) -> Run:
    import openvino

    with kept_signal_stack():
        core = openvino.Core()
        model = core.read_model(graph, b"")
        names = [one.get_any_name() for one in model.inputs]
        shapes = {name: model.input(name).partial_shape for name in names}
        for name, shape in shapes.items():
            for axis, length in fixed.get(name, {}).items():
                shape[axis] = length
        model.reshape(shapes)
        request = core.compile_model(model, "CPU", hints).create_infer_request()

    def run(given: dict[str, Array]) -> Sequence[Array]:
        found = request.infer({name: given[name] for name in names}, share_inputs=True)
        out: Sequence[Array] = list(found.to_tuple())
        return out

    return run


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
