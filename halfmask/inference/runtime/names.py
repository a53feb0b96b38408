"""What can compute a network: runtimes, precisions, and whether they are installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from halfmask.errors import InputError

Runtime = Literal["auto", "torch", "onnx", "openvino"]
Precision = Literal["float32", "int8"]
RUNTIMES: tuple[Runtime, ...] = ("auto", "torch", "onnx", "openvino")
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")

PACKAGES: dict[Runtime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Runtime → the package that it needs."""
TITLES: dict[Runtime, str] = {"torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
NEEDED: dict[Runtime, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
}
"""Runtime → what has to be installed; `onnx` writes the graph."""
WRITERS: dict[Precision, tuple[str, ...]] = {"float32": (), "int8": ("onnxruntime",)}
"""Precision → what has to be installed as well: ONNX Runtime's tool makes 8-bit graphs."""


LEAST_SIZE = 64
"""Pixels. Below, the coarsest map of a pyramid has a single cell."""


@dataclass(frozen=True)
class Computing:
    """What computes a network, and on what size of photographs; see `halfmask.load`."""

    runtime: Runtime = "torch"
    precision: Precision | None = None
    max_size: int | None = None

    def check(self) -> None:
        """Raises InputError for a value that cannot be used, or 8 bits in PyTorch."""
        if self.runtime not in RUNTIMES:
            raise InputError(
                f"runtime: expected {', '.join(RUNTIMES)}, found {str(self.runtime)!r}"
            )
        if self.precision not in (None, *PRECISIONS):
            raise InputError(
                f"precision: expected {' or '.join(PRECISIONS)}, found {str(self.precision)!r}"
            )
        if self.runtime == "torch" and self.precision == "int8":
            raise InputError(
                "--precision int8: PyTorch computes in float32; add --runtime auto, onnx or "
                "openvino"
            )
        self._check_size()

    def _check_size(self) -> None:
        size = self.max_size
        if size is not None and not (type(size) is int and size >= LEAST_SIZE):
            raise InputError(
                f"--max-size: expected a whole number of pixels from {LEAST_SIZE} on, found {size}"
            )

    def refuse_for_loaded(self) -> None:
        """Raises InputError if a loaded model shall change its runtime or size."""
        if self.max_size is not None:
            raise InputError("the model is loaded already: name max_size when you load it")
        if self != IN_TORCH:
            raise InputError("the model is loaded already: name the runtime when you load it")


IN_TORCH = Computing()


def missing(runtime: Runtime, precision: Precision) -> list[str]:
    """Returns the packages that a runtime lacks."""
    names = (*NEEDED.get(runtime, ()), *WRITERS[precision])
    return [name for name in dict.fromkeys(names) if find_spec(name) is None]


def candidates(runtime: Runtime, precision: Precision) -> list[Runtime]:
    """Returns the runtimes to try; with `auto`, those that are installed.

    Raises:
        InputError: a runtime was named, or only others than PyTorch can, and a package
            is missing.
    """
    if runtime != "auto":
        require_runtime(runtime, precision)
        return [runtime]
    found = [one for one in PACKAGES if not missing(one, precision)]
    if not found and precision == "int8":
        require_runtime("onnx", precision)
    return found


def require_runtime(runtime: Runtime, precision: Precision) -> None:
    """Makes sure that a runtime is installed.

    Raises:
        InputError: a package is missing.
    """
    absent = missing(runtime, precision)
    if absent:
        raise InputError(
            f"--runtime {runtime}: {' and '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not installed: pip install "
            f"{' '.join(absent)}"
        )


def version_of(package: str) -> str:
    """Returns the version of an installed package; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
