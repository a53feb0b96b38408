"""A pretended GPU: finds tensors of two devices in one operation, on a machine without one.

Every tensor lies on the CPU and has its true values. What counts as being on the GPU is a
mark on its storage, which views share. An operation that mixes marked and unmarked tensors
fails where CUDA would fail.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")

_DEVICE = torch.Tensor.device.__get__  # type: ignore[attr-defined]
_IS_CUDA = torch.Tensor.is_cuda.__get__  # type: ignore[attr-defined]
_IS_CPU = torch.Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_TO_NUMPY = (torch.Tensor.numpy, torch.Tensor.__array__)
_FROM_NUMPY = (torch.from_numpy, torch.frombuffer)


class MixedDevicesError(RuntimeError):
    """An operation was given tensors of the GPU and of the CPU."""


class PretendedGPU:
    """Within it, `tensor.to("cuda")` works and every operation checks its devices.

    Attributes:
        operations: number of operations on the GPU so far. A test of code that never
            reached the GPU would pass for nothing.
    """

    def __init__(self) -> None:
        self._marked: set[int] = set()
        self.operations = 0
        self._modes = (_Operations(self), _Calls(self))

    def __enter__(self) -> PretendedGPU:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)

    def has(self, tensor: Tensor) -> bool:
        """Returns whether a tensor counts as being on the GPU."""
        return _storage(tensor) in self._marked

    def mark(self, tensor: Tensor, on_gpu: bool) -> None:
        """Says where a tensor counts as being; an address is used again after its end."""
        (self._marked.add if on_gpu else self._marked.discard)(_storage(tensor))


class _Operations(TorchDispatchMode):
    """Sees every operation of the forward and the backward pass, below autograd."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        on_gpu = any(self._gpu.has(t) for t in given)
        if on_gpu:
            self._gpu.operations += 1
            self._check(func.name(), given, args)
        before = {_storage(t) for t in given}
        out = func(*args, **kwargs)
        # torch.tensor makes a tensor without an operation, then calls lift_fresh on it.
        fresh = func.name() == "aten::lift_fresh"
        for tensor in _tensors(out):
            if fresh or _storage(tensor) not in before:
                self._gpu.mark(tensor, on_gpu and not fresh)
        return out

    def _check(self, name: str, given: list[Tensor], args: Any) -> None:
        # CUDA takes numbers (tensors without dimensions) and indices from the CPU, and
        # copies between the devices.
        indexes = name.startswith(("aten::index.Tensor", "aten::index_put", "aten::_index_put"))
        if name.startswith("aten::copy_") or (indexes and self._gpu.has(args[0])):
            return
        others = [tuple(t.shape) for t in given if t.dim() > 0 and not self._gpu.has(t)]
        if others:
            raise MixedDevicesError(f"{name}: tensors on {GPU}, and on cpu of shapes {others}")


class _Calls(TorchFunctionMode):
    """Answers what Python code asks: where a tensor is, and to move it."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func == _DEVICE:
            return GPU if self._gpu.has(args[0]) else CPU
        if func in (_IS_CUDA, _IS_CPU):
            return self._gpu.has(args[0]) == (func == _IS_CUDA)
        if func in _TO_NUMPY and self._gpu.has(args[0]):
            raise TypeError(f"can't convert {GPU} device type tensor to numpy")
        if func in (torch.Tensor.cpu, torch.Tensor.cuda):
            kwargs["device"] = CPU if func == torch.Tensor.cpu else GPU
            func, args = torch.Tensor.to, args[:1]
        if func == torch.Tensor.to:
            return self._to(*args, **kwargs)
        device = kwargs.get("device")
        if device is not None:
            kwargs["device"] = CPU
        elif func == torch.Tensor.new_tensor:
            device = GPU if self._gpu.has(args[0]) else CPU
        out = func(*args, **kwargs)
        if device is not None or func in _FROM_NUMPY:
            for tensor in _tensors(out):
                self._gpu.mark(tensor, device is not None and _is_gpu(device))
        return out

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Tensor.to in each of its forms: device, dtype, other, device and dtype."""
        device, more = kwargs.pop("device", None), dict(kwargs)
        for value in args:
            if isinstance(value, str | torch.device):
                device = value
            elif isinstance(value, torch.dtype):
                more["dtype"] = value
            elif isinstance(value, Tensor):
                device, more["dtype"] = (GPU if self._gpu.has(value) else CPU), value.dtype
            # Left are None, non_blocking and copy.
        on_gpu = self._gpu.has(tensor)
        to_gpu = on_gpu if device is None else _is_gpu(device)
        more["copy"] = more.get("copy", False) or to_gpu != on_gpu
        moved = tensor.to(CPU, **more)
        self._gpu.mark(moved, to_gpu)
        return moved


def _is_gpu(device: Any) -> bool:
    return torch.device(device).type == GPU.type


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor)]
