"""`halfmask.review`: serves a page on which people review filled masks, worst first."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from halfmask.errors import InputError
from halfmask.web.review.review import Review
from halfmask.web.segmenting import Segmenter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reviewed:
    """The end of a review.

    Attributes:
        out: the reviewed file.
        journal: the file with the decisions.
        masks: number of masks in the review.
        written: state → annotations that changed to it in `out`; None if `review` did
            not write the file.
    """

    out: Path
    journal: Path
    masks: int
    written: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"out": str(self.out), "journal": str(self.journal)}


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
) -> Reviewed:
    """Serves the review page of a completed file until Ctrl-C; logs its address.

    Every decision is in the journal before the page shows the next mask. The same call
    resumes a review that was stopped or killed.

    Args:
        data: the completed COCO file; never written to.
        model: draws the mask of a box that a reviewer drags; as in `halfmask.load`.
        images: folder of the photographs; needed unless `export` is set.
        out: the reviewed file; default: `data` with the suffix .reviewed.json.
        journal: file of the decisions; default: the name of `data` and .review.jsonl.
        export: only writes the reviewed file from the decisions in the journal.
        host: the address to bind; one that other machines reach requires a token.
        port: the port, 0 for any free one; None takes the first free one from 8000 on.
        token: whether this machine needs the token, too.
        device: as in `halfmask.load`.
    Raises:
        InputError: a file or folder is missing or not usable, or the address cannot be
            used.
    """
    data = Path(data)
    out = Path(out) if out else data.with_name(f"{data.stem}.reviewed.json")
    journal = Path(journal) if journal else data.with_name(f"{data.name}.review.jsonl")
    if images is None and not export:
        raise InputError("--images: name the folder of the photographs")
    images = data.parent if images is None else Path(images)
    if not export and not images.is_dir():
        raise InputError(f"{images}: no such folder of images")
    if export and not journal.is_file():
        raise InputError(
            f"{journal}: no such journal, so nothing was reviewed yet; leave out --export"
        )
    opened = Review(
        data, Segmenter(str(model), device=device), images=images, journal=journal, out=out
    )
    masks, written = len(opened.index.queue), None
    try:
        if export:
            written = opened.export().counts
        else:
            logger.info("%s: %d masks to review; decisions go to %s", data, masks, journal)
            _serve(opened, host, port, token=token)
    finally:
        opened.close()
    return Reviewed(out=out, journal=journal, masks=masks, written=written)


def _serve(opened: Review, host: str, port: int | None, *, token: bool) -> None:
    from halfmask.web.review.app import review_server  # loads FastAPI, unlike --export

    server = review_server(opened, host=host, port=port, token=token)
    opened.segmenter.warm_up()
    server.run()
