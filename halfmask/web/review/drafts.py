"""The model's masks for a reviewer, kept until one is accepted."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from halfmask.errors import InputError
from halfmask.inference.refine import Look
from halfmask.masks.rle import crop_of, rle_of
from halfmask.web import schema
from halfmask.web.clicks import Area, Bits, Point, area_around, click_points, fitted
from halfmask.web.clicks import Box as Corners
from halfmask.web.decoding.photo import Photo
from halfmask.web.drawing import Mask, drawn_by_hand
from halfmask.web.review.source import ReviewedFile
from halfmask.web.segmenting import Drawn, Segmenter

MOST_DRAFTS = 512
"""The model's masks that are kept until a reviewer accepts them."""
Owner = tuple[str, int]
"""What a draft is for: ("item", position), or ("photo", row) for a new annotation."""


class Drafts:
    """Asks the model for masks and keeps its last answers.

    Args:
        file: the reviewed file.
        segmenter: the model.
    """

    def __init__(self, file: ReviewedFile, segmenter: Segmenter) -> None:
        self._file, self._segmenter = file, segmenter
        self._kept: OrderedDict[str, tuple[Owner, Drawn]] = OrderedDict()
        self._lock = threading.Lock()

    def segment(
        self, owner: Owner, row: int, box: schema.Box, *, category: int | None
    ) -> schema.Segmented:
        """Returns the model's mask for a box, and keeps it until it is accepted.

        Args:
            owner: what the mask is for.
            row: of the photograph.
            box: x, y, width, height.
            category: row of the class; None: no class.
        Raises:
            InputError: the photograph cannot be used, or the box lies outside it.
            BusyError: too many requests wait.
        """
        x, y, width, height = box
        corners = (x, y, x + width, y + height)
        photo = self._file.photo(row)
        drawn = self._segmenter.segment_in(photo, corners, self._label(category))
        return schema.Segmented.of(drawn, self._keep(owner, drawn))

    def refine(
        self, owner: Owner, row: int, asked: schema.RefineRequest, *, category: int | None
    ) -> schema.Refined:
        """Returns a mask that fits clicks, and keeps it until it is accepted.

        A model that was trained with clicks reads them and the drawn mask. Of another
        one, the look that fits most clicks is the start. Either mask is then corrected
        about each click that it does not fit.

        Its score is the model's for the box: nobody measured corrected masks.

        Args:
            owner: what the mask is for.
            row: of the photograph.
            asked: the box, the clicks, and the mask that is drawn already.
            category: row of the class; None: no class.
        Raises:
            InputError: the photograph, a click, the box or the mask cannot be used, or
                the negative clicks leave no pixel.
            BusyError: too many requests wait.
        """
        size = self._file.size_of_image(row)
        x, y, width, height = asked.box
        box = x, y, x + width, y + height
        points = click_points(asked.clicks, box, size)
        area = area_around(box, points, size)
        drawn = None if asked.mask is None else _pixels(asked.mask, area, size)
        photo = self._file.photo(row)
        method: Literal["model", "looks"] = "looks"
        if self._segmenter.takes_clicks():
            method = "model"
            found = [self._by_model(photo, box, points, area=area, drawn=drawn)]
            mask = fitted(found, points, area)
        else:
            found = self._segmenter.looks(photo, box, self._label(category))
            mask = fitted(found, points, area, drawn=drawn)
        if not mask.any():
            raise InputError("these clicks leave no pixel of the mask; take one back")
        rle = rle_of(mask.astype("uint8"), (area.x, area.y), size)
        score = round(min(max(found[0].quality, 0.0), 1.0), 4)
        made = Drawn(rle=rle, area=int(mask.sum()), score=score, box=box, clicks=len(points))
        answer = schema.Segmented.of(made, self._keep(owner, made))
        return schema.Refined(**answer.model_dump(), method=method)

    def _by_model(
        self, photo: Photo, box: Corners, points: Sequence[Point], *, area: Area, drawn: Bits | None
    ) -> Look:
        """Returns a clicked model's mask; it need not hold each click yet."""
        clicks = [(p.x + 0.5, p.y + 0.5, p.positive) for p in points]
        before = None if drawn is None or not drawn.any() else (drawn, (area.x, area.y))
        return self._segmenter.refined(photo, box, clicks, drawn=before)

    def mask(self, draft: str, owner: Owner) -> Mask:
        """Returns a kept mask as the journal keeps it.

        Raises:
            InputError: it is not kept any more, or was for something else.
        """
        with self._lock:
            kept, drawn = self._kept.get(draft, (None, None))
        if drawn is None or kept != owner:
            raise InputError("the server no longer has the model's mask; segment again")
        return {
            "segmentation": drawn.rle,
            "area": drawn.area,
            "model": self._segmenter.predictor().identity,
            "score": drawn.score,
            "box": [round(v, 2) for v in schema.xywh(*drawn.box)],
            **({"clicks": drawn.clicks} if drawn.clicks else {}),
        }

    def _label(self, category: int | None) -> int:
        if category is None:
            return 0
        name = self._file.index.categories[category].get("name")
        return self._segmenter.predictor().labels_of([{"id": 0, "name": name}])[0]

    def _keep(self, owner: Owner, drawn: Drawn) -> str:
        draft = secrets.token_hex(12)
        with self._lock:
            self._kept[draft] = (owner, drawn)
            while len(self._kept) > MOST_DRAFTS:
                self._kept.popitem(last=False)
        return draft


def _pixels(runs: schema.Runs, area: Area, size: tuple[int, int]) -> Bits:
    """Returns the pixels of a drawn mask in an area, bool [height, width]."""
    out = np.zeros((area.height, area.width), dtype=bool)
    crop = crop_of(drawn_by_hand(runs, size)["segmentation"], size)
    if crop is None:
        return out
    bitmap, (x, y) = crop
    left, top = max(x, area.x), max(y, area.y)
    right = min(x + bitmap.shape[1], area.x + area.width)
    bottom = min(y + bitmap.shape[0], area.y + area.height)
    if left < right and top < bottom:
        out[top - area.y : bottom - area.y, left - area.x : right - area.x] = (
            bitmap[top - y : bottom - y, left - x : right - x] > 0
        )
    return out
