"""The typeface of all pictures: DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and signs such as ×."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=64)
def font(size: int) -> Font:
    """The typeface at a size in pixels; Pillow's own, which has fewer letters, where matplotlib came without."""
    found = find_spec("matplotlib")  # where it lies, without importing it
    for folder in found.submodule_search_locations or [] if found is not None else []:
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)
