"""The current facts of every annotation in a review, in arrays that grow.

An annotation of the file has its position in the file's list; those that reviewers add
come after them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from halfmask.errors import InputError
from halfmask.web.review.index import FILLED, NO_SCORE, STATES, ReviewIndex

LARGEST_ID = (1 << 63) - 1
ORIGINS = ("", "filled", "person", "missing", "added")
"""Where an annotation's mask came from before the review, by its code."""
SPARE = 1024
"""Rows by which the arrays grow at least."""


class AnnotationTable:
    """Columns of n annotations: those of the file, then added ones, then spare rows.

    A spare row has the state 0, as an annotation that cannot be reviewed.

    Attributes:
        file_count: number of annotations in the file.
        ids: int64 [n]; −1 where there is none.
        images: int32 [n], row of the image; −1 for an unknown one.
        classes: int32 [n], row in the file's categories; −1 for an unknown one.
        scores: float32 [n], as in `ReviewIndex`.
        boxes: float32 [n, 4] xyxy, clipped to the image.
        states: uint8 [n], codes of STATES.
        origins: uint8 [n], codes of ORIGINS.
        versions: int32 [n], changes so far.
        spans: int64 [n, 2], first byte and last + 1 of the annotation's last line in
            the journal; 0, 0 without one.
        people: int32 [n], code of the reviewer who made the current state; 0: nobody.
        edits: number that grows whenever a class or a box changes.
    """

    def __init__(self, index: ReviewIndex) -> None:
        count = len(index.ids)
        self.index, self.file_count, self._count = index, count, count
        self.ids, self.images, self.scores = index.ids, index.images, index.scores
        self.classes: NDArray[np.int32] = index.classes.copy()
        self.boxes: NDArray[np.float32] = index.boxes.copy()
        self.states: NDArray[np.uint8] = index.states.copy()
        self.origins: NDArray[np.uint8] = _origin_of_state()[index.states]
        self.versions: NDArray[np.int32] = np.zeros(count, dtype=np.int32)
        self.spans: NDArray[np.int64] = np.zeros((count, 2), dtype=np.int64)
        self.people: NDArray[np.int32] = np.zeros(count, dtype=np.int32)
        self.edits = 0
        self._first_id = int(index.ids.max(initial=0)) + 1
        self._class_rows = {int(c["id"]): row for row, c in enumerate(index.categories)}
        self._added: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self._count

    def id_of(self, position: int) -> int:
        """Returns an annotation's id; an added one's is beyond all ids of the file.

        Raises:
            InputError: the ids of the file leave no room for another.
        """
        if position < self.file_count:
            return int(self.ids[position])
        number = self._first_id + position - self.file_count
        if number > LARGEST_ID:
            raise InputError("the ids of the file leave no room for another annotation")
        return number

    def is_item(self, position: int) -> bool:
        """Whether a position names an annotation that can be reviewed."""
        return 0 <= position < self._count and bool(self.states[position])

    def class_row(self, category: int) -> int:
        """Returns the row of a category id.

        Raises:
            InputError: the file has no such category.
        """
        row = self._class_rows.get(category)
        if row is None:
            raise InputError(f"the file has no category {category}; choose one of its classes")
        return row

    def extend(self, image: int) -> int:
        """Adds an annotation of an image and returns its position."""
        position, self._count = self._count, self._count + 1
        if position == len(self.states):
            self._grow(max(SPARE, position // 8))
        self.ids[position] = self.id_of(position)
        self.images[position] = image
        self.origins[position] = ORIGINS.index("added")
        self._added.setdefault(image, []).append(position)
        return position

    def set_class(self, position: int, category: int | None) -> None:
        """Sets the class of an annotation; None: the class in the file."""
        row = int(self.index.classes[position]) if category is None else self.class_row(category)
        if row != self.classes[position]:
            self.classes[position] = row
            self.edits += 1

    def set_box(self, position: int, box: tuple[float, ...] | None) -> None:
        """Sets an annotation's box x, y, width, height; None: the box in the file."""
        if box is None:
            new = self.index.boxes[position]
        else:
            height, width = self.index.sizes[self.images[position]].tolist()
            corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
            new = corners.clip(0, [width, height, width, height]).astype(np.float32)
        if (new != self.boxes[position]).any():
            self.boxes[position] = new
            self.edits += 1

    def set_score(self, position: int, score: float | None) -> None:
        """Sets the score of an added annotation."""
        self.scores[position] = NO_SCORE if score is None else score

    def of_image(self, row: int) -> Iterator[int]:
        """Yields the positions of an image's annotations."""
        yield from self.index.of_image(row).tolist()
        yield from self._added.get(row, ())

    def _grow(self, rows: int) -> None:
        blank: dict[str, float] = {"ids": -1, "images": -1, "classes": -1, "scores": NO_SCORE}
        names = ("ids", "images", "classes", "scores", "boxes", "states", "origins", "versions")
        for name in (*names, "spans", "people"):
            old: NDArray[np.generic] = getattr(self, name)
            more = np.full((rows, *old.shape[1:]), blank.get(name, 0), dtype=old.dtype)
            setattr(self, name, np.concatenate([old, more]))


def _origin_of_state() -> NDArray[np.uint8]:
    """Returns the code of ORIGINS of each code of STATES in a file."""
    names = ["", *["filled"] * FILLED, *["person"] * (len(STATES) - 1 - FILLED)]
    names[STATES.index("missing")] = "missing"
    return np.array([ORIGINS.index(name) for name in names], dtype=np.uint8)
