"""Instance segmentation when only some of your classes have masks.

Every verb of the command line is a function here, with the verb's options as keywords.
Each is imported when it is first used, so `import halfmask` loads no torch.
"""

from __future__ import annotations

import gc
import importlib
import os
from typing import TYPE_CHECKING, Any

from halfmask._version import __version__
from halfmask.errors import InputError

if TYPE_CHECKING:
    from halfmask.coco.tightness import tighten
    from halfmask.data.synthetic.write import synth
    from halfmask.datasets.doctor import doctor
    from halfmask.datasets.index import index
    from halfmask.datasets.split import split
    from halfmask.evaluation.run import evaluate
    from halfmask.formats.convert import convert
    from halfmask.inference.export.export import export
    from halfmask.inference.predict import predict
    from halfmask.inference.predictor import load
    from halfmask.labelling.audit.audit import audit
    from halfmask.labelling.complete import complete
    from halfmask.models.imported.import_weights import import_weights
    from halfmask.training.add_class.add_class import add_class
    from halfmask.training.train import train
    from halfmask.web.review.serve import review
    from halfmask.web.tryout import serve

# Read when onnxruntime is imported: it would write a device id below the user's cache.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "add_class": "halfmask.training.add_class.add_class",
    "audit": "halfmask.labelling.audit.audit",
    "complete": "halfmask.labelling.complete",
    "convert": "halfmask.formats.convert",
    "doctor": "halfmask.datasets.doctor",
    "evaluate": "halfmask.evaluation.run",
    "export": "halfmask.inference.export.export",
    "import_weights": "halfmask.models.imported.import_weights",
    "index": "halfmask.datasets.index",
    "load": "halfmask.inference.predictor",
    "predict": "halfmask.inference.predict",
    "review": "halfmask.web.review.serve",
    "serve": "halfmask.web.tryout",
    "split": "halfmask.datasets.split",
    "synth": "halfmask.data.synthetic.write",
    "tighten": "halfmask.coco.tightness",
    "train": "halfmask.training.train",
}
"""Function → its module."""

__all__ = [
    "InputError",
    "__version__",
    "add_class",
    "audit",
    "complete",
    "convert",
    "doctor",
    "evaluate",
    "export",
    "import_weights",
    "index",
    "load",
    "predict",
    "review",
    "serve",
    "split",
    "synth",
    "tighten",
    "train",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'halfmask' has no attribute {name!r}")
    # Imports leave little garbage; collecting it on the way costs a tenth of the start.
    collects = gc.isenabled()
    gc.disable()
    try:
        module = importlib.import_module(home)
    finally:
        if collects:
            gc.enable()
    globals()[name] = function = getattr(module, name)
    return function


def __dir__() -> list[str]:
    return sorted(__all__)
