"""The requests and answers of both pages. Boxes are x, y, width, height in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
State = Literal["filled", "accepted", "redrawn", "rejected"]


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


class DecisionRequest(Strict):
    """A decision about a mask at `version`: redrawn has `mask`, accepted may have `draft`."""

    version: Version
    state: Literal["accepted", "rejected", "redrawn"]
    by: Reviewer
    mask: Runs | None = None
    draft: Annotated[str, Field(max_length=64)] | None = None


class UndoRequest(Strict):
    """Takes back the last decision about a mask."""

    version: Version
    by: Reviewer


class SegmentRequest(Strict):
    """Asks the model for the mask of another box."""

    box: Box


class ModelBoxRequest(Strict):
    """Asks the try-out page's model for a mask; label 0 means no class."""

    box: Box
    label: Annotated[int, Field(ge=0, le=1 << 20)] = 0


class DetectRequest(Strict):
    """Asks for the objects of at least this confidence."""

    least: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5


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


class ImageView(BaseModel):
    """A photograph's record; `row` is its index in the file's list."""

    row: int
    id: int
    file_name: str
    width: int
    height: int


class StateView(BaseModel):
    """The current state of a mask."""

    version: int
    state: str
    by: str | None = None
    when: str | None = None


class ItemView(StateView):
    """A mask with its photograph's `others`; `fault` says why there is no mask."""

    position: int
    rank: int
    id: int
    score: float
    mask_score: float
    category: CategoryItem
    image: ImageView
    box: tuple[float, float, float, float]
    mask: Rle | None
    fault: str | None = None
    others: list[tuple[float, float, float, float]] = []


class QueueEntry(BaseModel):
    """A mask in the list."""

    position: int
    rank: int
    id: int
    score: float
    category: str
    label: int
    state: str


class QueuePage(BaseModel):
    """A part of the queue; `selected` counts all masks that pass the filter."""

    items: list[QueueEntry]
    selected: int


class Progress(BaseModel):
    """Masks by state, filtered and in the whole file, and decisions by reviewer."""

    states: dict[str, int]
    all_states: dict[str, int]
    reviewers: dict[str, dict[str, int]]


class ReviewSession(BaseModel):
    """Facts that stay the same while the server runs."""

    file: str
    out: str
    model: str
    categories: list[CategoryItem]
    total: int
    version: str


class Decided(StateView):
    """The answer to a decision: the mask's new state, and the whole file's progress."""

    all_states: dict[str, int]


class ConflictView(BaseModel):
    """The answer to a decision that came too late."""

    detail: str
    current: ItemView


class Exported(BaseModel):
    """The reviewed file, and how many masks changed to each state."""

    out: str
    counts: dict[str, int]


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


class Found(BaseModel):
    """The objects that a model found."""

    items: list[Segmented]


class ModelView(BaseModel):
    """The try-out page's model."""

    name: str
    categories: list[CategoryItem]
    can_detect: bool
    version: str


class PhotoView(BaseModel):
    """An uploaded photograph, turned as its EXIF orientation says."""

    photo: str
    width: int
    height: int


class Fault(BaseModel):
    """Why a request was refused."""

    detail: str
