"""`halfmask.review`: serves a page on which people review and edit annotations."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import COCO, REVIEW
from halfmask.formats.detect import completed_file
from halfmask.formats.report import ConversionReport
from halfmask.formats.source import open_source
from halfmask.inference.runtime.names import Computing, Precision, Runtime
from halfmask.models.box_segmenter.looks import Effort
from halfmask.web.review.log.statistics import PeopleMasks, people_masks
from halfmask.web.review.review import Review
from halfmask.web.segmenting import Segmenter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """The end of a review.

    Attributes:
        out: the reviewed file.
        journal: the file with the decisions.
        masks: number of annotations in the review.
        written: state → annotations that changed to it in `out`; None if `review` did
            not write the file.
        edits: classes, boxes and masks changed, annotations deleted and added in
            `out`, and open comments; None as `written`.
        people: how many of people's masks were looked at, and found wrong.
        reading: what could not be read of a data set that is no COCO file.
    """

    out: Path
    journal: Path
    masks: int
    written: dict[str, int] | None = None
    edits: dict[str, int] | None = None
    people: PeopleMasks = field(default_factory=PeopleMasks)
    reading: ConversionReport = field(default_factory=ConversionReport)

    def to_json(self) -> dict[str, Any]:
        paths = {"out": str(self.out), "journal": str(self.journal)}
        return asdict(self) | paths | {"reading": self.reading.to_json()}


def review(
    data: str | Path,
    model: str | Path = "box-segmenter",
    *,
    images: str | Path | None = None,
    out: str | Path | None = None,
    journal: str | Path | None = None,
    export: bool = False,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: bool = False,
    device: str | None = None,
    effort: Effort | None = None,
    runtime: Runtime = "torch",
    precision: Precision | None = None,
    max_size: int | None = None,
) -> Reviewed:
    """Serves the review page of a file until Ctrl-C; logs its address.

    People accept, reject and edit the masks that halfmask filled; in a file without
    any, those that people drew, the ones that the model doubts first. Every action is
    in the journal before the page shows it. The same call resumes a review that was
    stopped or killed.

    Args:
        data: what `complete` wrote, or any other data set; never written to.
        model: draws the mask of a box that a reviewer drags; as in `halfmask.load`.
        images: folder of the photographs; None: where the data set says.
        out: the reviewed COCO file; default: `data` with the suffix .reviewed.json; in
            a folder that `complete` wrote, halfmask.reviewed.json.
        journal: file of the decisions; default: the name of `data` and .review.jsonl.
        export: only writes the reviewed file from the decisions in the journal.
        host: the address to bind; one that other machines reach requires a token.
        port: the port, 0 for any free one; None takes the first free one from 8000 on.
        token: whether this machine needs the token, too.
        device: as in `halfmask.load`.
        effort: as in `halfmask.load`.
        runtime: as in `halfmask.load`.
        precision: as in `halfmask.load`.
        max_size: as in `halfmask.load`.
    Raises:
        InputError: a file or folder is missing or not usable, or the address cannot be
            used.
    """
    named, computing = _outputs(out, journal), Computing(runtime, precision, max_size)
    computing.check()
    guard(named, inputs=[data, model, images], photographs=[images])
    source = open_source(completed_file(Path(data)), images=images)
    # Another format is read through a copy; what is written lies beside the original.
    beside = source.annotations if source.format == "coco" else source.original
    out = Path(out) if out else beside.with_name(f"{beside.stem}.reviewed.json")
    journal = Path(journal) if journal else beside.with_name(f"{beside.name}.review.jsonl")
    source.guard(_outputs(out, journal), data, beside, model)
    folder = beside.parent if export else source.photographs()
    if export and not journal.is_file():
        raise InputError(
            f"{journal}: no such journal, so nothing was reviewed yet; leave out --export"
        )
    opened = Review(
        source.annotations,
        Segmenter(str(model), device=device, computing=computing, effort=effort),
        images=folder,
        journal=journal,
        out=out,
    )
    masks, written, edits = len(opened.queue), None, None
    try:
        if export:
            done = opened.export().model_dump(exclude={"out"})
            written, edits = done.pop("counts"), done
        else:
            logger.info("%s: %d masks to review; decisions go to %s", data, masks, journal)
            _serve(opened, host, port, token=token)
        people = people_masks(opened.decisions)
    finally:
        opened.close()
    # fmt: off
    return Reviewed(
        out=out, journal=journal, masks=masks, written=written, edits=edits, people=people,
        reading=source.report,
    )
    # fmt: on


def _outputs(out: str | Path | None, journal: str | Path | None) -> list[Output]:
    return [Output(out, "--out", COCO), Output(journal, "--journal", REVIEW)]


def _serve(opened: Review, host: str, port: int | None, *, token: bool) -> None:
    from halfmask.web.review.app import review_server  # loads FastAPI, unlike --export

    server = review_server(opened, host=host, port=port, token=token)
    opened.segmenter.warm_up()
    opened.doubts.start()
    server.run()
