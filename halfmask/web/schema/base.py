"""What both pages send and answer, and what the try-out page does.

Boxes are x, y, width, height in pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from halfmask.web.segmenting import Drawn

LONGEST_NAME = 80
MOST_RUNS = 1_000_000
LARGEST_ID = (1 << 63) - 1


def _name(text: str) -> str:
    text = " ".join(text.split())
    if not text or not text.isprintable():
        raise ValueError("expected a name that can be printed")
    return text


Coordinate = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Side = Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e6)]
Box = tuple[Coordinate, Coordinate, Side, Side]
Reviewer = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_name)]
Version = Annotated[int, Field(ge=0, le=1 << 30)]


def xywh(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
    """Returns x, y, width, height of a box x0, y0, x1, y1."""
    return x0, y0, x1 - x0, y1 - y0


class Strict(BaseModel):
    """A request without unknown keys."""

    model_config = ConfigDict(extra="forbid")


class Runs(Strict):
    """A drawn mask as COCO's uncompressed RLE: runs of 0 and 1 in turn, column by column."""

    size: tuple[Annotated[int, Field(gt=0, le=1 << 20)], Annotated[int, Field(gt=0, le=1 << 20)]]
    counts: Annotated[list[Annotated[int, Field(ge=0, le=1 << 32)]], Field(max_length=MOST_RUNS)]


class Rle(BaseModel):
    """COCO's compressed RLE."""

    size: tuple[int, int]
    counts: str


class CategoryItem(BaseModel):
    """A class; `label` 1 is the first one, `count` its masks in the review."""

    id: int
    name: str
    label: int
    count: int = 0


class Segmented(BaseModel):
    """A model's mask; `draft` names it in a decision, `confidence` is the detector's."""

    mask: Rle
    area: int
    score: float
    box: tuple[float, float, float, float]
    draft: str | None = None
    label: int = 0
    confidence: float = 1.0

    @classmethod
    def of(cls, drawn: Drawn, draft: str | None = None) -> Segmented:
        return cls(
            mask=Rle(**drawn.rle),
            area=drawn.area,
            score=drawn.score,
            box=xywh(*drawn.box),
            draft=draft,
            label=drawn.label,
            confidence=round(drawn.confidence, 4),
        )


class Fault(BaseModel):
    """Why a request was refused."""

    detail: str


class ModelBoxRequest(Strict):
    """Asks the try-out page's model for a mask; label 0 means no class."""

    box: Box
    label: Annotated[int, Field(ge=0, le=1 << 20)] = 0


class DetectRequest(Strict):
    """Asks for the objects of at least this confidence."""

    least: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5


class Found(BaseModel):
    """The objects that a model found."""

    items: list[Segmented]


class ModelView(BaseModel):
    """The try-out page's model; `upload_bytes` is the largest photograph that it takes."""

    name: str
    categories: list[CategoryItem]
    can_detect: bool
    version: str
    upload_bytes: int


class PhotoView(BaseModel):
    """An uploaded photograph, turned as its EXIF orientation says."""

    photo: str
    width: int
    height: int
