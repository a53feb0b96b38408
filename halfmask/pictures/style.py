"""One colour for each class, distinct for colour-blind readers too, and the typeface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Colour = tuple[int, int, int]

# The first seven hues are distinct with protan, deutan and tritan vision (Okabe and Ito
# 2008, more vivid, to show as a translucent fill on a photograph). The others are
# lighter or darker variants for files with more classes.
PALETTE: tuple[Colour, ...] = (
    (255, 159, 28),
    (56, 190, 255),
    (0, 168, 107),
    (250, 230, 50),
    (38, 90, 235),
    (232, 65, 24),
    (226, 98, 196),
    (120, 235, 190),
    (255, 196, 140),
    (150, 120, 255),
    (176, 160, 0),
    (255, 170, 215),
)


def colour_of(label: int) -> Colour:
    """The colour of a label, RGB 0…255; label 0 (no class) gets the second."""
    return PALETTE[(label * 5 + label // len(PALETTE)) % len(PALETTE) if label else 1]


def ink_on(colour: Colour) -> Colour:
    """Black or white, by the relative luminance of `colour` (as WCAG 2 defines it)."""
    channels = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (16, 16, 16) if luminance > 0.2 else (255, 255, 255)


def names_by_label(categories: Iterable[Mapping[str, object]]) -> dict[int, str]:
    """Maps labels to the names of categories in label order, the first with label 1."""
    return {i + 1: str(c["name"]) for i, c in enumerate(categories)}


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=64)
def font(size: int) -> Font:
    """The typeface that matplotlib ships, at a size in pixels.

    Without it, Pillow's own, which has fewer letters.
    """
    found = find_spec("matplotlib")  # finds the folder without the import
    for folder in found.submodule_search_locations or [] if found is not None else []:
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
