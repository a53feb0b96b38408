"""What the command line may say about a conversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[int, int], None]
"""Told (steps just made, steps in all)."""


def no_progress(step: int, total: int) -> None:
    """Nobody looks."""


LOCAL_STORAGE = "/data/local-files/?d="
"""How Label Studio addresses files of a local storage."""


@dataclass(frozen=True)
class Options:
    """Each format uses some.

    Attributes:
        images: folder of the photographs.
        masks: folder of the mask PNGs.
        split: which part of the source.
        zero_based: VOC boxes count pixels from 0 and leave the last one out.
        image_url: what Label Studio puts before a file name.
        progress: told how far it is.
    """

    images: Path | None = None
    masks: Path | None = None
    split: str | None = None
    zero_based: bool = False
    image_url: str = LOCAL_STORAGE
    progress: Progress = no_progress
