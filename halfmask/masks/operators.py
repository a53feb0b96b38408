"""torchvision's operators, loaded without PyTorch's compiler.

`torchvision.ops.roi_align` imports `torch._dynamo` for one question that only some GPU
calls ask. That import takes a third of the start of a command. So it is put off until
the question is asked. Import this module before other parts of torchvision; whoever
comes first decides whether the compiler is loaded.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

PACKAGE, MODULE, QUESTION = "torch._dynamo", "torch._dynamo.utils", "is_compile_supported"
KNOWN = "0.29."
"""The torchvision on which this was tried; any other is imported as usual."""


def _ask_later(device_type: str) -> bool:
    """Asks the compiler's own function, which loads it."""
    found: bool = getattr(importlib.import_module(MODULE), QUESTION)(device_type)
    return found


@contextmanager
def without_compiler() -> Iterator[None]:
    """Inside, the compiler's question can be imported without the compiler.

    Does nothing where the compiler is loaded.
    """
    if PACKAGE in sys.modules:
        yield
        return
    package, module = ModuleType(PACKAGE), ModuleType(MODULE)
    package.__path__ = []
    setattr(module, QUESTION, _ask_later)
    sys.modules |= {PACKAGE: package, MODULE: module}
    try:
        yield
    finally:
        for name, stand_in in ((PACKAGE, package), (MODULE, module)):
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


def _is_known() -> bool:
    """Whether this torchvision asks nothing else of the compiler while it is imported."""
    try:
        return version("torchvision").startswith(KNOWN)
    except PackageNotFoundError:
        return False


import torch  # noqa: E402, F401  first, so that it meets no stand-in

with without_compiler() if _is_known() else nullcontext():
    from torchvision.ops import FrozenBatchNorm2d, box_iou, roi_align

__all__ = ["FrozenBatchNorm2d", "box_iou", "roi_align", "without_compiler"]
