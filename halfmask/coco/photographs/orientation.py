"""The EXIF orientation: a photograph has a stored frame and a turned one.

The stored frame is that of the pixels in the file. The turned frame is what a viewer
shows. Whether sizes, boxes and masks of a file are in one or the other is decided here,
by the size in the record: `Ruling.frame`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TAG = 0x0112
"""EXIF's number of the orientation; its value 1 is upright."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange width and height."""
_BACK = {6: 8, 8: 6}

Size = tuple[int, int]
"""(H, W)."""
Point = tuple[float, float]
"""(x, y)."""

T = TypeVar("T", bound=np.generic)


class Frame(StrEnum):
    """In which pixels a photograph's size, boxes and masks are."""

    STORED = "stored"
    TURNED = "turned"


@dataclass(frozen=True)
class Orientation:
    """A photograph's EXIF orientation, and its size in both frames.

    Attributes:
        turn: 1 … 8 as EXIF counts; 1 where the photograph has none, or an unknown one.
        stored: (H, W) of the pixels in the file.
        loads_turned: whether Pillow turns the pixels itself, as it does with TIFF.
    """

    turn: int
    stored: Size
    loads_turned: bool = False

    @classmethod
    def of(cls, image: Image.Image) -> Orientation:
        """Returns the orientation of an opened image, of which no pixel is read yet."""
        # Pillow decodes a whole PNG to look for EXIF data behind its pixels.
        exif = Image.Image.getexif(image) if image.format == "PNG" else image.getexif()
        found: object = exif.get(TAG, 1)
        turn = found if isinstance(found, int) and found in range(1, 9) else 1
        size = (image.height, image.width)
        tiff = image.format == "TIFF"
        return cls(turn, size[::-1] if tiff and turn in SIDEWAYS else size, tiff)

    @property
    def turned(self) -> Size:
        """(H, W) of the picture that a viewer shows."""
        return self.stored[::-1] if self.turn in SIDEWAYS else self.stored

    def size_in(self, frame: Frame) -> Size:
        """Returns (H, W) in a frame."""
        return self.turned if frame == Frame.TURNED else self.stored

    def pixels_in(self, frame: Frame, pixels: NDArray[T]) -> NDArray[T]:
        """Returns the loaded pixels [H, W, …] in a frame."""
        if frame == Frame.TURNED:
            return pixels if self.loads_turned else turned(pixels, self.turn)
        return turned(pixels, _BACK.get(self.turn, self.turn)) if self.loads_turned else pixels

    def point_turned(self, point: Point) -> Point:
        """Returns where a point (x, y) of the stored frame is in the turned one."""
        (x, y), (height, width) = point, self.stored
        return {
            1: (x, y),
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }[self.turn]


@dataclass(frozen=True)
class Ruling:
    """In which frame the photographs of a data set are read.

    Attributes:
        otherwise: the frame of photographs whose size is the same both ways: square
            ones, mirrored ones, and those on their head.
        exchanged: frames that sizes fit but boxes do not: the file has width and height
            exchanged. No photograph is read in them.
        decided: whether other photographs decide `otherwise`.
    """

    otherwise: Frame = Frame.TURNED
    exchanged: frozenset[Frame] = frozenset()
    decided: bool = False

    @property
    def identity(self) -> str:
        """The same text for the same ruling."""
        return " ".join([self.otherwise, *(f"not {frame}" for frame in sorted(self.exchanged))])

    def frame(self, found: Orientation, size: Size) -> Frame | None:
        """Returns the frame in which a photograph has the size (H, W) of its record.

        None: in neither, or the boxes contradict it.
        """
        fits = [frame for frame in Frame if found.size_in(frame) == size]
        if len(fits) == len(Frame):
            return self.otherwise
        return fits[0] if fits and fits[0] not in self.exchanged else None


def turned(pixels: NDArray[T], turn: int) -> NDArray[T]:
    """Returns stored pixels [H, W, …] as a viewer shows them.

    Args:
        pixels: in the stored frame.
        turn: 1 … 8, EXIF's orientation.
    """
    swapped = pixels.swapaxes(0, 1) if turn in SIDEWAYS else pixels
    rows, columns = turn in (3, 4, 7, 8), turn in (2, 3, 6, 7)
    swapped = swapped[::-1] if rows else swapped
    swapped = swapped[:, ::-1] if columns else swapped
    return pixels if turn == 1 else np.ascontiguousarray(swapped)


def fault_of_frame(found: Orientation, size: Size, file: str = "the file") -> str:
    """Says why a photograph is read in no frame, and what to do.

    Args:
        found: its orientation.
        size: (H, W) in its record.
        file: what has the record.
    """
    shown = _sides(found.turned)
    if found.turned != found.stored:
        shown += f" (stored as {_sides(found.stored)}, EXIF orientation {found.turn})"
    text = f"the photograph is {shown} pixels, {file} says {_sides(size)}"
    if size in (found.turned, found.stored):
        text += ", and its boxes fit only the other way round"
    if size[::-1] in (found.turned, found.stored):
        return f"{text}; exchange width and height in its record"
    return f"{text}; correct the record, or take the photograph that it was made for"


def _sides(size: Size) -> str:
    return f"{size[1]} × {size[0]}"
