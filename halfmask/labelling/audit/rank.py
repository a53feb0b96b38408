"""Ranks the masks of people in a file by how likely they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.doctor.checks import SAME_MASK
from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState, judge
from halfmask.errors import InputError
from halfmask.inference.complete.plan import Piece
from halfmask.labelling.audit.look import Looker
from halfmask.labelling.audit.measures import MEASURES
from halfmask.labelling.audit.placing import Neighbours, most_alike
from halfmask.labelling.audit.result import WRONG
from halfmask.labelling.audit.score import wrongness
from halfmask.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores of masks, the most doubtful first; a broken mask has the score 1.

    Attributes:
        positions: int64 [n], of the annotations in the file's list.
        scores: float32 [n].
        measures: float32 [n, F]; NaN for a broken mask.
        twins, fitting: int64 [n], see `look.LookedAt`; −1 without.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]
    measures: NDArray[np.float32]
    twins: NDArray[np.int64]
    fitting: NDArray[np.int64]


def rank_masks(looker: Looker, progress: Progress | None = None) -> Ranking:
    """Measures all masks of people in a file and ranks them.

    Raises:
        InputError: there is no such mask, or no photograph of one can be read.
    """
    batches = looker.batches()
    broken = [position for position, _ in broken_masks(looker.file)]
    _check(looker.file, batches, broken)
    rows = list(looker.look(batches, progress))
    if batches and not rows:
        raise InputError(f"{looker.file.name}: no photograph can be read: {looker.unread[0]}")
    measures = np.concatenate(
        [
            np.full((len(broken), len(MEASURES)), np.nan, dtype=np.float32),
            *(row.measures for row in rows),
        ]
    )
    columns = [
        np.array([-1] * len(broken) + [k for row in rows for k in getattr(row, name)])
        for name in ("twins", "fitting")
    ]
    positions = np.array(broken + [k for row in rows for k in row.positions], dtype=np.int64)
    scores = np.ones(len(positions), dtype=np.float32)
    scores[len(broken) :] = wrongness(measures[len(broken) :])
    order = np.lexsort((positions, -scores))
    return Ranking(
        positions=positions[order],
        scores=scores[order],
        measures=measures[order],
        twins=columns[0][order],
        fitting=columns[1][order],
    )


def _check(file: CocoFile, batches: list[list[Piece]], broken: list[int]) -> None:
    if not batches and not broken:
        raise InputError(
            f"{file.name}: no mask in it that a person drew, so there is nothing to audit; "
            "masks that halfmask filled are checked with halfmask review"
        )


def broken_masks(file: CocoFile) -> Iterator[tuple[int, str]]:
    """Yields position and fault of the masks that cannot be read."""
    for image_id in file.image_ids:
        size = file.size_of(image_id)
        rows = zip(file.annotations_of(image_id), file.states_of(image_id), strict=True)
        for annotation, state in rows:
            if state is MaskState.BROKEN:
                yield file.position_of(annotation), judge(annotation, size).reason


def plain_doubts(file: CocoFile, image_id: int) -> dict[int, float]:
    """Returns position → score of an image's masks that look wrong without a model.

    A mask that cannot be read has 1, as in `rank_masks`. A near-duplicate has WRONG,
    and so has a polygon that repeats its box.
    """
    known = {MaskState.BROKEN: 1.0, MaskState.SUSPECT: WRONG}
    rows = zip(file.annotations_of(image_id), file.states_of(image_id), strict=True)
    found = {file.position_of(a): known[state] for a, state in rows if state in known}
    around = Neighbours.of(file, image_id)
    twins = np.flatnonzero(most_alike(around) > SAME_MASK).tolist()
    return {around.positions[k]: WRONG for k in twins} | found
