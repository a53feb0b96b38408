"""Sample masks for RUN/report.html, from the training file where nothing is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.evaluation.subject import Segment
from halfmask.pictures.mask_sheet import BLOCKS, best_median_worst, mask_cell
from halfmask.pictures.report import ReportSection, Strip
from halfmask.progress import Progress
from halfmask.structures import Detection
from halfmask.text import plural

PHOTOGRAPHS = 16
"""Samples come from at most so many photographs, spread evenly over the file."""
EACH = 6


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """The model's mask of one object, and whether the file has one too."""

    index: int
    place: int
    found: Detection
    has_mask: bool

    @property
    def score(self) -> float:
        return float(self.found.quality[0])


def training_samples(
    dataset: CocoInstances,
    segment: Segment,
    *,
    learned: bool = True,
    progress: Progress | None = None,
) -> ReportSection | None:
    """Returns the best, median and worst masks by score, on training photographs.

    They are of objects without a mask, which the model has not learned from; only where
    each object has one, of the objects with masks. A photograph that cannot be read is
    left out and counted.

    Args:
        dataset: The training images.
        segment: Draws the model's masks into the boxes.
        learned: Whether the model learned from this file.
        progress: Called after each photograph.
    Returns:
        None where there is no box to draw into.
    """
    indices = _spread(dataset)
    drawn, unread = _draw(dataset, segment, indices, progress=progress)
    if not drawn:
        return None
    without = [row for row in drawn if not row.has_mask]
    rows = without or drawn
    chosen = best_median_worst(range(len(rows)), [row.score for row in rows], EACH)
    strips = [
        _strip(name, [rows[k] for k in chosen[name]], dataset) for name in BLOCKS if chosen[name]
    ]
    kind = "without a mask"
    if not without:
        kind = "whose masks it learned from" if learned else "with a mask"
    where = f"{plural(len(rows), 'object')} {kind}, on "
    where += plural(len(indices) - unread, "photograph")
    begin = "No mask was held out, so these are from the file that the model learned from"
    text = [
        f"{begin if learned else 'These are from the file'}: {where}. The score is the model's "
        "own estimate of the IoU. Pink: the model's mask. Yellow: the box that was given."
        + ("" if without else " White line: the mask in the file.")
    ]
    if unread:
        text.append(f"{plural(unread, 'photograph')} could not be read and stayed out.")
    return ReportSection(title="Sample masks", text=text, strips=strips)


def _spread(dataset: CocoInstances) -> list[int]:
    """Indices of photographs with objects, the same number of images apart."""
    wanted = set(dataset.with_objects())
    found = [k for k, image_id in enumerate(dataset.image_ids) if image_id in wanted]
    if len(found) <= PHOTOGRAPHS:
        return found
    return [found[k * len(found) // PHOTOGRAPHS] for k in range(PHOTOGRAPHS)]


def _draw(
    dataset: CocoInstances, segment: Segment, indices: Sequence[int], *, progress: Progress | None
) -> tuple[list[_Drawn], int]:
    """The objects of the photographs with their scores, and how many could not be read."""
    rows: list[_Drawn] = []
    unread = 0
    for done, index in enumerate(indices, 1):
        try:
            image, target = dataset[index]
        except InputError:
            unread += 1
            continue
        found = segment([image], [target])[0]
        rows += [
            _Drawn(index=index, place=k, found=found.select(torch.tensor([k])), has_mask=has)
            for k, has in enumerate(target.has_mask.tolist())
        ]
        if progress is not None:
            progress("masks for the report", done, len(indices))
    return rows, unread


def _strip(name: str, rows: Sequence[_Drawn], dataset: CocoInstances) -> Strip:
    """Draws the objects. The photograph of each is read again, so none stays in memory."""
    pictures = []
    for row in rows:
        image, target = dataset[row.index]
        pixels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        truth = target.masks.select([int(target.mask_row[row.place])]) if row.has_mask else None
        cell = mask_cell(pixels, row.found.boxes[0], mask=row.found.crops(), truth=truth)
        label = dataset.file.categories[int(target.labels[row.place]) - 1]["name"]
        pictures.append((cell, f"{label} · score {row.score:.2f}"))
    low, high = (f"{end(row.score for row in rows):.2f}" for end in (min, max))
    scores = low if low == high else f"{low} to {high}"
    return Strip(pictures, f"{name.capitalize()} by score: {scores}")
