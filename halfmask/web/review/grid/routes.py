"""The routes of the grid page: the order of all its masks, some of them, and pictures."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from halfmask.errors import InputError
from halfmask.pictures.style import colour_of
from halfmask.web import schema
from halfmask.web.pages import STATIC, fault
from halfmask.web.review.grid.thumbs import shape_of, thumbnail, window_around
from halfmask.web.review.queue import Order
from halfmask.web.review.review import Review
from halfmask.web.review.routes.edits import Position, check_item
from halfmask.web.review.routes.steps import filter_of

MOST_ORDERED = 100_000
"""Masks of an order; as many as one step may change."""
MOST_ENTRIES = 200
SIDES = (80, 320)
"""Least and most pixels of a picture's longer side."""


class GridRequest(schema.FilterRequest):
    """Which masks the grid shows, and in which order."""

    sort: schema.Sort = "score"
    reverse: bool = False


class GridOrder(BaseModel):
    """All masks of the grid: positions and versions; `left_out` counts those beyond 100,000."""

    positions: list[int]
    versions: list[int]
    left_out: int


class GridEntries(BaseModel):
    """Some masks of the grid; those that are in the review no more are left out."""

    items: list[schema.QueueEntry]


class EntriesRequest(BaseModel):
    """The masks that the grid shows now, and the order whose values it shows."""

    position: Annotated[
        list[Annotated[int, Field(ge=0, le=schema.LARGEST_ID)]],
        Field(min_length=1, max_length=MOST_ENTRIES),
    ]
    sort: schema.Sort = "score"


def add_grid(app: FastAPI, review: Review) -> None:
    """Adds the page /grid and its routes."""

    @app.get("/grid", include_in_schema=False)
    def grid() -> FileResponse:
        return FileResponse(STATIC / "grid.html", media_type="text/html")

    @app.get("/api/grid/order")
    def order(asked: Annotated[GridRequest, Query()]) -> GridOrder:
        sorted_by = Order(sort=asked.sort, reverse=asked.reverse)
        positions = review.queue.ordered(filter_of(asked), sorted_by)
        shown = positions[:MOST_ORDERED]
        return GridOrder(
            positions=shown.tolist(),
            versions=review.table.versions[shown].tolist(),
            left_out=len(positions) - len(shown),
        )

    @app.get("/api/grid/entries")
    def entries(asked: Annotated[EntriesRequest, Query()]) -> GridEntries:
        sorted_by = Order(sort=asked.sort)
        rows = [
            review.views.row(position, sorted_by)
            for position in asked.position
            if review.table.is_item(position)
        ]
        return GridEntries(items=[schema.QueueEntry(**row) for row in rows])

    @app.get("/api/items/{position}/thumb", response_class=Response)
    def thumb(
        position: Position, side: Annotated[int, Query(ge=SIDES[0], le=SIDES[1])] = 160
    ) -> Response:
        check_item(review, position)
        try:
            data = picture_of_item(review, position, side)
        except InputError as error:
            return fault(404, str(error))
        kept = {"cache-control": "private, max-age=600"}
        return Response(data, media_type="image/jpeg", headers=kept)


def picture_of_item(review: Review, position: int, side: int) -> bytes:
    """Returns a JPEG of an object with its current mask.

    Only the part of the photograph that it shows comes into this process.

    Args:
        side: longer side of the picture, pixels.
    Raises:
        InputError: the photograph cannot be shown.
        BusyError: too many requests wait for memory.
    """
    file, table = review.file, review.table
    size = file.size_of(position)
    window = window_around(schema.xywh(*table.boxes[position].tolist()), size)
    photo = file.photo(int(table.images[position]))
    return thumbnail(
        photo.pixels(window, shape_of(window, side)),
        window,
        size=size,
        mask=file.mask(position, review.decisions.current(position))[0],
        colour=colour_of(int(table.classes[position]) + 1),
    )
