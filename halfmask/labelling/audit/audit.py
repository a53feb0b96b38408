"""`halfmask.audit`: lists the masks of people, the most doubtful first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfmask.coco.file import CocoFile
from halfmask.coco.photographs.reader import reader_of
from halfmask.coco.reading.read_as import ReadAs
from halfmask.coco.records import Record
from halfmask.coco.supervision import MaskState, judge
from halfmask.datasets.opening import open_guarded
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.files.guard import Output
from halfmask.files.kinds import PAGE, report
from halfmask.inference.complete.plan import annotation_name
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.labelling.audit.look import Looker
from halfmask.labelling.audit.measures import MEASURES
from halfmask.labelling.audit.page import write_audit_page
from halfmask.labelling.audit.rank import Ranking, rank_masks
from halfmask.labelling.audit.reasons import Around, reasons_of
from halfmask.labelling.audit.result import WRONG, Audit, DoubtfulMask
from halfmask.models.box_segmenter.looks import Effort
from halfmask.progress import Progress

REPORT = report("audit", "masks", "looked_at", "doubtful")
SAME_OBJECT = 0.6
"""IoU of two masks above which one is called the other's twin."""


def audit(
    data: str | Path,
    *,
    images: str | Path | None = None,
    model: Predictor | str | Path = "box-segmenter",
    json: str | Path | None = None,
    html: str | Path | None = None,
    limit: int | None = None,
    effort: Effort | None = None,
    crowd_masks: bool = False,
    read_as: str | None = None,
    workers: int = 2,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Lists the masks of a data set that people drew, the most doubtful first.

    A mask is doubtful where a model that is sure of its own mask disagrees with it;
    where the mask does not fit its box, fits another box better, has holes or loose
    parts, nearly repeats another mask, or fits the photograph's edges better after a
    move. What halfmask filled in and nobody redrew is left out. Changes nothing.

    Args:
        data: a data set in any format that `convert` reads.
        images: folder of the photographs; None: where the data set says.
        model: draws the masks to compare with, as in `halfmask.load`. One that learned
            from these masks agrees with their errors.
        json: writes the list to this JSON file.
        html: writes a page with the first masks to this file.
        limit: how many masks are listed; None: all.
        effort: how often a box segmenter looks at each box, as in `complete`; None:
            once, as `fast` does.
        crowd_masks: of a COCO file: masks with iscrowd 1 are masks of single objects.
        read_as: how a COCO file writes boxes or polygons; see `ReadAs.of`.
        workers: threads that decode photographs.
        device: where to run a model that is not loaded yet.
        progress: called after each batch of photographs.
    Raises:
        InputError: no data set, no mask in it that a person drew, no such folder or
            model, no photograph can be read, or an output cannot be written, is an
            input or something else (see `guard`).
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit: expected at least 1, found {limit}")
    outputs = [Output(json, "--json", REPORT), Output(html, "--html", PAGE)]
    as_ = ReadAs.of(crowd_masks, read_as)
    opened = open_guarded(data, outputs, [model], images=images, read_as=as_, progress=progress)
    folder, file = opened.photographs(), opened.read()
    predictor = as_predictor(model, device=device)
    reader = reader_of(file, folder)
    looker = Looker(predictor=predictor, file=file, reader=reader, workers=workers, effort=effort)
    found = ranked(looker, limit, progress)
    done = replace(found, data=str(data), reading=opened.report)
    if html is not None:
        write_audit_page(done, looker, html)
    if json is not None:
        write_json(json, done.to_json(), indent=1)
    return done


def ranked(looker: Looker, limit: int | None, progress: Progress | None = None) -> Audit:
    """Returns the audit of a file, without the names of what was opened."""
    file, ranking = looker.file, rank_masks(looker, progress)
    count = len(ranking.positions) if limit is None else min(limit, len(ranking.positions))
    records = {file.position_of(a): a for i in file.image_ids for a in file.annotations_of(i)}
    everything = enumerate(file.document["annotations"])
    return Audit(
        data=file.name,
        model=looker.predictor.identity,
        masks=[
            _doubtful(file, ranking, row, annotation=records[int(ranking.positions[row])])
            for row in range(count)
        ],
        looked_at=looker.counts["looked_at"],
        doubtful=int((ranking.scores >= WRONG).sum()),
        left_out={key: n for key, n in looker.counts.items() if key != "looked_at"},
        unread=looker.unread,
        unusable=[annotation_name(a, k) for k, a in everything if k not in records],
    )


def _doubtful(file: CocoFile, ranking: Ranking, row: int, *, annotation: Record) -> DoubtfulMask:
    image_id = annotation["image_id"]
    plain: dict[str, Any] = {
        "rank": row + 1,
        "score": round(float(ranking.scores[row]), 4),
        "annotation_id": annotation["id"],
        "image_id": image_id,
        "file_name": file.file_name_of(image_id),
        "category": file.name_of(annotation["category_id"]),
        "box": [float(v) for v in annotation["bbox"]],
    }
    measures = ranking.measures[row]
    if np.isnan(measures[0]):
        fault = judge(annotation, file.size_of(image_id)).reason
        return DoubtfulMask(**plain, reasons=[f"its mask cannot be read: {fault}"])
    value = dict(zip(MEASURES, measures.tolist(), strict=True))
    twin, fitting = (_id_at(file, int(ranking.twins[row])), _id_at(file, int(ranking.fitting[row])))
    around = Around(
        side=(annotation["bbox"][2] + annotation["bbox"][3]) / 2,
        twin=twin,
        fitting=fitting,
        suspect=file.state_of(annotation) is MaskState.SUSPECT,
    )
    return DoubtfulMask(
        **plain,
        reasons=reasons_of(measures, around),
        iou=round(value["iou"], 4),
        boundary_iou=round(value["boundary"], 4),
        expected=round(value["expected"], 4),
        twin=twin if value["twin"] > SAME_OBJECT else None,
    )


def _id_at(file: CocoFile, position: int) -> int | None:
    return None if position < 0 else int(file.document["annotations"][position]["id"])
