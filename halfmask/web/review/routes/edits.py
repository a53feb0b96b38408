"""The routes of the review page that change single annotations."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, HTTPException, Path

from halfmask.web import schema
from halfmask.web.review.editing import Edited
from halfmask.web.review.log.decision import ActionResult, Decision
from halfmask.web.review.log.history import mark_comment, write_comment
from halfmask.web.review.review import Review

MOST_SHOWN = 100
"""Positions and conflicts in an answer."""
Position = Annotated[
    int, Path(ge=0, le=schema.LARGEST_ID, description="Index of the annotation in the file's list.")
]
Row = Annotated[
    int, Path(ge=0, le=schema.LARGEST_ID, description="Index of the image in the file's list.")
]
LATE: dict[int | str, dict[str, object]] = {409: {"model": schema.ConflictView}}


def add_edits(app: FastAPI, review: Review) -> None:
    """Adds the routes that change an annotation, and those that ask the model."""
    _add_masks(app, review)
    _add_geometry(app, review)
    _add_new(app, review)
    _add_model(app, review)
    _add_comments(app, review)


def _add_masks(app: FastAPI, review: Review) -> None:
    @app.post("/api/items/{position}/decision", responses=LATE)
    def decide(position: Position, asked: schema.DecisionRequest) -> schema.Decided:
        check_item(review, position)
        return _answer(review, review.decide(position, asked))

    @app.post("/api/items/{position}/class", responses=LATE)
    def set_class(position: Position, asked: schema.ClassRequest) -> schema.Decided:
        check_item(review, position)
        return _answer(review, review.set_class(position, asked))

    @app.post("/api/items/{position}/undo", responses=LATE)
    def undo(position: Position, asked: schema.UndoRequest) -> schema.Decided:
        check_item(review, position)
        now = review.decisions.undo(position, asked.version, asked.by)
        return _answer(review, Edited(ActionResult(what="revert", done=[(position, now)])))


def _add_geometry(app: FastAPI, review: Review) -> None:
    @app.post("/api/items/{position}/box", responses=LATE)
    def set_box(position: Position, asked: schema.BoxRequest) -> schema.Decided:
        check_item(review, position)
        return _answer(review, review.set_box(position, asked))

    @app.post("/api/items/{position}/split", responses=LATE)
    def split(position: Position, asked: schema.SplitRequest) -> schema.Decided:
        check_item(review, position)
        return _answer(review, review.split(position, asked))

    @app.post("/api/merge", responses=LATE)
    def merge(asked: schema.MergeRequest) -> schema.Decided:
        for position in asked.positions:
            check_item(review, position)
        return _answer(review, review.merge(asked))


def _add_new(app: FastAPI, review: Review) -> None:
    @app.post("/api/photos/{row}/add")
    def add(row: Row, asked: schema.AddRequest) -> schema.Decided:
        _check_row(review, row)
        return _answer(review, review.add(row, asked))

    @app.post("/api/items/{position}/delete", responses=LATE)
    def delete(position: Position, asked: schema.EditRequest) -> schema.Decided:
        check_item(review, position)
        return _answer(review, review.delete(position, asked))


def _add_model(app: FastAPI, review: Review) -> None:
    @app.post("/api/items/{position}/segment")
    def segment(position: Position, asked: schema.SegmentRequest) -> schema.Segmented:
        check_item(review, position)
        return review.segment(position, asked.box)

    @app.post("/api/photos/{row}/segment")
    def segment_new(row: Row, asked: schema.NewSegmentRequest) -> schema.Segmented:
        _check_row(review, row)
        return review.segment_new(row, asked)

    @app.post("/api/items/{position}/refine")
    def refine(position: Position, asked: schema.RefineRequest) -> schema.Refined:
        check_item(review, position)
        return review.refine(position, asked)

    @app.post("/api/photos/{row}/refine")
    def refine_new(row: Row, asked: schema.NewRefineRequest) -> schema.Refined:
        _check_row(review, row)
        return review.refine_new(row, asked)


def _add_comments(app: FastAPI, review: Review) -> None:
    def answer(position: int) -> schema.CommentsView:
        return schema.CommentsView(
            comments=review.views.comments(position), seq=review.decisions.journal.end
        )

    @app.post("/api/items/{position}/comments")
    def comment(position: Position, asked: schema.CommentRequest) -> schema.CommentsView:
        check_item(review, position)
        write_comment(review.decisions, position, asked.by, text=asked.text)
        return answer(position)

    @app.post("/api/items/{position}/comments/{number}")
    def change_comment(
        position: Position,
        number: Annotated[int, Path(ge=1, le=1 << 20)],
        asked: schema.CommentState,
    ) -> schema.CommentsView:
        check_item(review, position)
        if review.decisions.comments.span(position, number) is None:
            raise HTTPException(404, f"there is no comment {number} about this annotation")
        mark_comment(review.decisions, position, number, by=asked.by, is_open=asked.open)
        return answer(position)


def check_item(review: Review, position: int) -> None:
    """Raises HTTPException unless a position names an annotation of the review."""
    if not review.table.is_item(position):
        raise HTTPException(404, f"annotation {position} of the list is not in the review")


def _check_row(review: Review, row: int) -> None:
    if row >= len(review.index.image_spans):
        raise HTTPException(404, f"there is no image {row}")


def _answer(review: Review, edited: Edited) -> schema.Decided:
    done = edited.outcome.done
    position, now = done[0]
    return schema.Decided(
        version=now.version,
        state=now.state,
        by=now.by,
        when=now.when,
        position=position,
        category=_category(review, position, now),
        box=schema.xywh(*review.table.boxes[position].tolist()),
        area=review.editor.area(position, now),
        moved=edited.moved,
        all_states=review.all_states(),
        seq=review.decisions.journal.end,
        positions=[p for p, _ in done[:MOST_SHOWN]],
    )


def _category(review: Review, position: int, now: Decision) -> int:
    if now.category is not None:
        return now.category
    row = int(review.table.classes[position])
    return int(review.index.categories[row]["id"])
