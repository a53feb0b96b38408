"""Pictures: overlays, before and after, contact sheets, curves, A/B bars, the report."""

from halfmask.visualize.curves import ab_bars, training_curves
from halfmask.visualize.overlay import attribution_of, footer, overlay
from halfmask.visualize.palette import colour_of, names_by_label
from halfmask.visualize.scene import Scene, read_scene
from halfmask.visualize.sheets import before_after, contact_sheet

__all__ = [
    "Scene",
    "ab_bars",
    "attribution_of",
    "before_after",
    "colour_of",
    "contact_sheet",
    "footer",
    "names_by_label",
    "overlay",
    "read_scene",
    "training_curves",
]
