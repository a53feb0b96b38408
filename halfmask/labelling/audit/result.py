"""The result of `halfmask.audit`: the masks of people, the most doubtful first."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from halfmask.formats.report import ConversionReport

WRONG = 0.5
"""Score from which on a mask counts as probably wrong."""


@dataclass(frozen=True, kw_only=True)
class DoubtfulMask:
    """A mask and why it may be wrong.

    Attributes:
        rank: 1 for the most doubtful mask.
        score: how likely it is wrong, in [0, 1]; 1 if it cannot be read.
        reasons: in plain words, the most striking first.
        annotation_id, image_id: its ids in the file.
        file_name: of its photograph.
        category: name of its class.
        box: x, y, width, height in pixels.
        iou, boundary_iou: with the model's mask; None if the mask cannot be read.
        expected: the IoU that the model expects of its own mask.
        twin: id of an annotation that seems to be the same object; None without.
    """

    rank: int
    score: float
    reasons: list[str]
    annotation_id: int
    image_id: int
    file_name: str
    category: str
    box: list[float]
    iou: float | None = None
    boundary_iou: float | None = None
    expected: float | None = None
    twin: int | None = None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What `halfmask.audit` found.

    Attributes:
        data: the data set as it was named.
        model: that the masks were compared with.
        masks: the listed masks, the most doubtful first.
        looked_at: number of masks that were compared.
        doubtful: how many of them have a score of at least 0.5; broken masks count.
        left_out: annotations that were not compared, by the reason.
        unread: a line for each photograph that cannot be read.
        unusable: names of annotations without a usable box, image or class.
        reading: what could not be read of a data set that is no COCO file.
    """

    data: str
    model: str
    masks: list[DoubtfulMask]
    looked_at: int
    doubtful: int
    left_out: dict[str, int]
    unread: list[str]
    unusable: list[str]
    reading: ConversionReport = field(default_factory=ConversionReport)

    @property
    def ok(self) -> bool:
        """Whether everything could be read and no mask is probably wrong."""
        whole = not self.unread and not self.unusable and not self.reading.faults
        return whole and not self.doubtful

    def by_class(self) -> Counter[str]:
        """Returns how many of the probably wrong masks are of each class."""
        return Counter(mask.category for mask in self.masks if mask.score >= WRONG)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"reading": self.reading.to_json(), "ok": self.ok}
