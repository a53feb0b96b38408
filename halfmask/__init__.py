"""Instance segmentation when only some of your classes have masks.

`load` reads a trained model, `complete` fills in the missing masks of a COCO file. Both
import torch when first used, not before.
"""

from typing import TYPE_CHECKING, Any

from halfmask._version import __version__

if TYPE_CHECKING:
    from halfmask.inference.complete.complete import complete
    from halfmask.inference.predictor import load

__all__ = ["__version__", "complete", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from halfmask.inference.predictor import load

        return load
    if name == "complete":
        from halfmask.inference.complete.complete import complete

        return complete
    raise AttributeError(f"module 'halfmask' has no attribute {name!r}")
