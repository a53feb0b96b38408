"""Pictures: overlays, before and after, curves, A/B bars, sheets of masks, the report."""

from halfmask.pictures.curves import ab_bars, training_curves
from halfmask.pictures.legend import attribution_of
from halfmask.pictures.overlay import footer, overlay
from halfmask.pictures.scene import Scene, before_after, read_scene
from halfmask.pictures.style import colour_of, names_by_label

__all__ = [
    "Scene",
    "ab_bars",
    "attribution_of",
    "before_after",
    "colour_of",
    "footer",
    "names_by_label",
    "overlay",
    "read_scene",
    "training_curves",
]
