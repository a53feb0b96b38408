"""What the fuzzers of the mask decoders do with bytes: one function for each decoder,
which raises where the decoder is wrong.

A decoder may refuse (say what is wrong with a mask, or raise ValueError where that is
its contract). What it takes, it must read as pycocotools does, and what it writes it
must read back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from pycocotools import mask as reference

from halfmask.coco.supervision import MaskState, judge
from halfmask.formats.cvat.read import _mask, _points
from halfmask.formats.label_studio.brush import pack_brush, unpack_brush
from halfmask.formats.yolo.read import YoloRow, parse_line
from halfmask.masks.crops import decode
from halfmask.masks.rle import area_of, box_of, compressed, crop_of, fault_of_rle

Size = tuple[int, int]
MOST_SIDE = 64
PARTS = 3
"""Polygons of a mask."""
DIGITS = 48
"""COCO's compressed counts are bytes from here on, 64 of them."""


class Reader:
    """Numbers out of bytes; 0 where they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def rest(self) -> bytes:
        found, self.at = self.data[self.at :], len(self.data)
        return found

    def size(self) -> Size:
        return 1 + self.byte() % MOST_SIDE, 1 + self.byte() % MOST_SIDE


def coco_text(data: bytes) -> None:
    """COCO's compressed RLE: any text, and text of COCO's own characters alone."""
    read = Reader(data)
    size, rest = read.size(), read.rest()
    check_segmentation(
        {"size": list(size), "counts": rest.decode("utf-8", "surrogateescape")}, size
    )
    check_segmentation(
        {"size": list(size), "counts": "".join(chr(DIGITS + b % 64) for b in rest)}, size
    )


def coco_nearly(data: bytes) -> None:
    """A sound compressed RLE, and the same with one character changed, dropped or doubled."""
    read = Reader(data)
    size, kind, place, other = read.size(), read.byte(), read.byte(), read.byte()
    runs = _fitting(list(read.rest()), size)
    counts = reference.frPyObjects({"size": list(size), "counts": runs}, *size)["counts"].decode()
    check_segmentation({"size": list(size), "counts": counts}, size, sound=any(runs[1::2]))
    at = place % len(counts)
    piece = ["", counts[at] * 2, chr(DIGITS + other % 64), chr(other)][kind % 4]
    check_segmentation({"size": list(size), "counts": counts[:at] + piece + counts[at + 1 :]}, size)


def coco_plain(data: bytes) -> None:
    """COCO's uncompressed RLE: runs that fit, and runs of any numbers."""
    read = Reader(data)
    size, kind = read.size(), read.byte()
    rest = read.rest()
    if kind % 2:
        runs = _fitting(list(rest), size)
        check_segmentation({"size": list(size), "counts": runs}, size, sound=any(runs[1::2]))
        return
    count = len(rest) // 8
    numbers: list[Any] = list(struct.unpack(f"<{count}q", rest[: 8 * count]))
    check_segmentation(
        {"size": list(size), "counts": numbers + [b - 9 for b in rest[8 * count :]]}, size
    )


def polygon(data: bytes) -> None:
    """Polygons: any doubles, or numbers about the image in quarters of a pixel."""
    read = Reader(data)
    size, kind, parts = read.size(), read.byte(), 1 + read.byte() % PARTS
    rest = read.rest()
    if kind % 2:
        values: list[Any] = list(struct.unpack(f"<{len(rest) // 8}d", rest[: len(rest) // 8 * 8]))
    else:
        values = [b / 4 if kind % 4 else b - 64 for b in rest]
    length = max(1, len(values) // parts)
    check_segmentation([values[k : k + length] for k in range(0, len(values), length)], size)


def brush(data: bytes) -> None:
    """Label Studio's brush RLE: any bytes, bytes behind a right head, and what halfmask
    packs itself.
    """
    read = Reader(data)
    size = read.size()
    rest = read.rest()
    head = [*struct.pack(">I", 4 * size[0] * size[1]), 0b00111_001, 0b0_0011_011, 0b1_1111_000]
    for rle in (list(rest), head + list(rest)):
        try:
            mask = unpack_brush(rle, size)
        except ValueError:
            continue
        assert mask.shape == size
        assert np.array_equal(unpack_brush(pack_brush(mask), size), mask)
    drawn = np.resize(np.frombuffer(rest or b"\0", dtype=np.uint8) & 1, size)
    assert np.array_equal(unpack_brush(pack_brush(drawn), size), drawn)


def cvat(data: bytes) -> None:
    """CVAT's mask and points attributes."""
    read = Reader(data)
    size = read.size()
    left, top, height, width, kind = (read.byte() for _ in range(5))
    rest = read.rest()
    text = rest.decode("latin-1") if kind % 2 else ",".join(str(b % 16) for b in rest)
    names = {"left": left % 70, "top": top % 70, "height": height % 70, "width": width % 70}
    found = _mask(Element("mask", {"rle": text} | {k: str(v) for k, v in names.items()}), size)
    if found is not None:
        bitmap, (x, y) = found
        assert bitmap.shape == (names["height"], names["width"])
        assert x + bitmap.shape[1] <= size[1]
        assert y + bitmap.shape[0] <= size[0]
        assert bitmap.any()
    points = _points(Element("polygon", points=text.replace(",", ";", 1) if kind % 4 else text))
    assert points is None or all(len(p) == 2 and np.isfinite(p).all() for p in points)


def yolo(data: bytes) -> None:
    """A line of a YOLO label file."""
    read = Reader(data)
    keypoints = read.byte() % 8
    line = read.rest().decode("utf-8", "replace")
    if line.strip():
        found = parse_line(line, keypoints)
        assert isinstance(found, str | YoloRow)
        if isinstance(found, YoloRow):
            values = list(found.box or found.polygon or ())
            assert values
            assert np.isfinite(values).all()
            assert found.polygon is None or len(found.polygon) % 2 == 0


def check_segmentation(segmentation: Any, size: Size, sound: bool = False) -> None:
    """halfmask's judge, and its decoders where the judge finds a mask, beside pycocotools."""
    verdict = judge({"segmentation": segmentation}, size)
    if isinstance(segmentation, dict):
        assert (fault_of_rle(segmentation, size) is None) == (verdict.state == MaskState.MASK)
    if verdict.state != MaskState.MASK:
        assert not sound, (verdict, segmentation)
        assert verdict.state == MaskState.MISSING or verdict.reason.isprintable(), verdict
        return
    truth = _truth(segmentation, size)
    bitmap, (x, y) = decode(segmentation, size)
    ours = np.zeros(size, dtype=np.uint8)
    ours[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap.numpy()
    assert np.array_equal(ours, truth), segmentation
    assert area_of(segmentation, size) == truth.sum()
    crop, box = crop_of(segmentation, size), box_of(segmentation, size)
    assert crop is not None
    assert box is not None
    assert np.array_equal(crop[0], bitmap.numpy())
    assert (crop[1], box[:2]) == ((x, y), (x, y))
    assert np.array_equal(reference.decode(compressed(segmentation, size)), truth)
    assert compressed(segmentation, size)["size"] in (list(size), size)


def _truth(segmentation: Any, size: Size) -> np.ndarray[Any, Any]:
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        return np.asarray(reference.decode(segmentation))
    found = reference.frPyObjects(segmentation, *size)
    return np.asarray(
        reference.decode(reference.merge(found) if isinstance(found, list) else found)
    )


def _fitting(runs: list[int], size: Size) -> list[int]:
    """Runs cut off, or lengthened, so that they cover an image just so."""
    left, fitting = size[0] * size[1], []
    for run in runs:
        fitting.append(min(run, left))
        left -= fitting[-1]
    return [*fitting, left] if left or not fitting else fitting


TARGETS: dict[str, Callable[[bytes], None]] = {
    "coco-text": coco_text,
    "coco-nearly": coco_nearly,
    "coco-plain": coco_plain,
    "polygon": polygon,
    "brush": brush,
    "cvat": cvat,
    "yolo": yolo,
}
