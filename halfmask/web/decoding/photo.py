"""A photograph of a page: measured, shown and read part by part by the decoders."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from halfmask.coco.images import Pixels
from halfmask.coco.photographs.orientation import Frame, Orientation, Size
from halfmask.web.decoding.pool import Decoders
from halfmask.web.photographs import MOST_PIXELS, Shown, Window

Opener = Callable[[], AbstractContextManager[bytes | bytearray | IO[bytes]]]
"""Gives a block a photograph's bytes, or its file."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A photograph in a frame. All methods raise the errors of `Decoders.ask`.

    Attributes:
        decoders: read it.
        source: opens it.
        where: its name, for errors.
        frame: of all pixels that go in and out.
        size: (H, W) in that frame.
    """

    decoders: Decoders
    source: Opener
    where: str
    frame: Frame
    size: Size

    def shown(self) -> Shown:
        """Returns the whole photograph for a browser."""
        with self.source() as source:
            header, data = self.decoders.ask("show", source, self.where, frame=self.frame)
        return Shown(memoryview(data), header["media_type"])

    def pixels(self, window: Window, size: Size) -> Pixels:
        """Returns a window at a size (H, W), uint8 [H, W, 3]."""
        wanted: dict[str, Any] = {"frame": self.frame, "window": window, "size": size}
        with self.source() as source:
            header, data = self.decoders.ask("pixels", source, self.where, **wanted)
        return np.frombuffer(data, np.uint8).reshape(header["shape"])

    def picture(self, window: Window, size: Size) -> Shown:
        """Returns a window at a size (H, W) as a JPEG."""
        wanted: dict[str, Any] = {"frame": self.frame, "window": window, "size": size}
        with self.source() as source:
            header, data = self.decoders.ask("picture", source, self.where, **wanted)
        return Shown(memoryview(data), header["media_type"])


def measured(
    decoders: Decoders, source: Opener, where: str, *, most_pixels: int = MOST_PIXELS
) -> Orientation:
    """Returns a photograph's orientation and its size in both frames.

    Raises:
        InputError: it cannot be read, or has more pixels than `most_pixels`.
        BusyError: too many requests wait.
    """
    with source() as opened:
        facts, _ = decoders.ask("size", opened, where, most_pixels=most_pixels)
    height, width = facts["stored"]
    return Orientation(facts["turn"], (height, width), facts["loads_turned"])
