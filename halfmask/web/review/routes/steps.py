"""The routes of the review page that change many annotations: undo, redo, batch."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse

from halfmask.errors import InputError
from halfmask.web import schema
from halfmask.web.review.batch import THRESHOLD
from halfmask.web.review.filters import Filter
from halfmask.web.review.log.decision import Refusal
from halfmask.web.review.log.steps import REDO, UNDO
from halfmask.web.review.log.undo import ChangedSinceError, next_action, take_back
from halfmask.web.review.review import Review
from halfmask.web.review.routes.edits import MOST_SHOWN

STALE: dict[int | str, dict[str, object]] = {409: {"model": schema.StepConflict}}


def add_steps(app: FastAPI, review: Review) -> None:
    """Adds the routes of undo, redo and batch."""
    _add_undo(app, review)
    _add_batch(app, review)

    @app.exception_handler(ChangedSinceError)
    def stale(_: Request, error: ChangedSinceError) -> JSONResponse:
        first = error.refused[0]
        who = first.current.by or "Another reviewer"
        text = (
            f"{who} changed annotation {review.table.id_of(first.position)} since "
            f"({first.current.what or first.current.state}); skip it, or leave it"
        )
        view = schema.StepConflict(
            detail=text, conflicts=_conflicts(review, error.refused), count=len(error.refused)
        )
        return JSONResponse(view.model_dump(mode="json"), 409)


def _add_undo(app: FastAPI, review: Review) -> None:
    def step(what: str, asked: schema.StepRequest) -> schema.StepDone:
        review.file.source.confirm()
        log = review.decisions
        outcome = take_back(log, asked.by, what=what, skip=asked.skip)
        return schema.StepDone(
            what=outcome.what,
            positions=[p for p, _ in outcome.done[:MOST_SHOWN]],
            count=outcome.count,
            left_out=len(outcome.refused) + outcome.unchanged,
            seq=log.journal.end,
            all_states=review.all_states(),
            can_undo=next_action(log, asked.by, UNDO) is not None,
            can_redo=next_action(log, asked.by, REDO) is not None,
        )

    @app.post("/api/undo", responses=STALE)
    def undo(asked: schema.StepRequest) -> schema.StepDone:
        return step(UNDO, asked)

    @app.post("/api/redo", responses=STALE)
    def redo(asked: schema.StepRequest) -> schema.StepDone:
        return step(REDO, asked)

    @app.get("/api/undo")
    def steps(by: Annotated[str, Query(max_length=schema.LONGEST_NAME)]) -> schema.StepsView:
        first, second = (next_action(review.decisions, by, what) for what in (UNDO, REDO))
        return schema.StepsView(
            can_undo=first is not None, can_redo=second is not None, undo=first, redo=second
        )


def _add_batch(app: FastAPI, review: Review) -> None:
    @app.get("/api/batch/preview")
    def preview(asked: Annotated[schema.FilterRequest, Query()]) -> schema.BatchPreview:
        found = review.batch.preview(filter_of(asked))
        return schema.BatchPreview(
            count=found.count,
            expected_bad=found.expected_bad,
            threshold=THRESHOLD,
            ground=found.ground,
            without_score=found.without_score,
        )

    @app.post("/api/batch")
    def batch(asked: schema.BatchRequest) -> schema.BatchDone:
        if (asked.positions is None) == (asked.filter is None):
            raise InputError("a batch needs positions or a filter, and not both")
        review.file.source.confirm()
        positions = asked.positions
        if positions is None:
            assert asked.filter is not None
            positions = review.batch.selected(filter_of(asked.filter))
        outcome = review.batch.run(
            asked.action, asked.by, positions, versions=asked.versions, category=asked.category
        )
        return schema.BatchDone(
            changed=len(outcome.done),
            unchanged=outcome.unchanged,
            conflicts=_conflicts(review, outcome.refused),
            conflict_count=len(outcome.refused),
            seq=review.decisions.journal.end,
            all_states=review.all_states(),
        )


def filter_of(asked: schema.FilterRequest) -> Filter:
    """Returns the filter of a request."""
    return Filter(
        states=frozenset(asked.state),
        categories=frozenset(asked.category),
        low=asked.low,
        high=asked.high,
        origins=frozenset(asked.origin),
        least_area=asked.least_area,
        most_area=asked.most_area,
        text=asked.text,
        by=asked.by_reviewer,
        image=asked.image,
        commented=asked.commented,
    )


def _conflicts(review: Review, refused: list[Refusal]) -> list[schema.Conflict]:
    return [
        schema.Conflict(
            position=one.position,
            id=review.table.id_of(one.position),
            by=one.current.by,
            when=one.current.when,
            what=one.current.what,
            detail=one.why,
        )
        for one in refused[:MOST_SHOWN]
    ]
