"""Evaluates a model on a COCO file: the library behind `halfmask evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from halfmask.coco.categories import resolve_masked
from halfmask.coco.reading.read_as import ReadAs
from halfmask.coco.results import read_results
from halfmask.coco.supervision import Use
from halfmask.data.dataset import CocoInstances
from halfmask.datasets.opening import open_guarded
from halfmask.errors import InputError
from halfmask.evaluation.checks import (
    Boxes,
    check_choices,
    check_masks,
    open_truth,
    outputs_of,
    refuse_without_given_boxes,
)
from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.measures.metrics import Result, compute_metrics
from halfmask.evaluation.measures.protocol import ApProtocol, rules_of
from halfmask.evaluation.sheet import draw_reliability, draw_sheet, focus_of
from halfmask.evaluation.subject import BatchReader, Subject, are_loose, groups_by
from halfmask.evaluation.tables import table
from halfmask.files.atomic import write_json
from halfmask.formats.report import ConversionReport
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.models.detectors.base import BoxDetector
from halfmask.progress import Progress

MEASURED = (
    *("box", "mask", "boundary", "mask_over_box", "given_boxes", "quality", "ambiguous"),
    "groups",
    *("per_category", "images", "seconds", "model", "version"),
)
"""Keys of every result."""
PROVIDER = ("model", "given_boxes", "quality", "ambiguous", "groups", "seconds")
"""Keys of a provider's result."""

BySet = dict[str, dict[str, Any]]
"""Values for the sets `all`, `A` (`--masked`, or many masks in training) and `B`, the rest."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation. A value that cannot be computed is None.

    Attributes:
        box, mask: AP, AP50, AP75, APs, APm, APl in percent, by set.
        boundary: The same by the lesser of mask IoU and boundary IoU.
        mask_over_box: Mask AP divided by box AP, by set.
        given_boxes: Mask and boundary IoU in the file's own boxes, by set
            (`IouTable.block`).
        quality: How far the model's scores can be trusted, by set (`reliability`).
        ambiguous: Boxes shared with another class, by set (`AmbiguousTable.block`).
        groups: For `no_masks`, `few` and `many` masks in training: the number of
            `classes`, their least and most `masks`, and all the measures above. None:
            the model's masks are not recorded.
        per_category: A row for each class: id, name, masked (in A), masks_in_training,
            group, box_AP, mask_AP, boundary_AP, miou, boundary_iou.
        images: Images that were read.
        seconds: Time of the measurement, the model included.
        model: The model, and whose boxes it filled.
        version: The version of halfmask.
        protocol: The rules of AP where they are not COCO's alone: `name` (coco, lvis),
            `limit` (detections of an image), `images_without_lists` and
            `unreadable_lists` of LVIS, `box` and `mask` (APr, APc, APf), `ignored`
            (classes whose boxes are regions to ignore).
        provider: The provider's own model, given_boxes, quality, ambiguous, groups,
            seconds. Its groups are by the masks that the first model was given.
        masked: What was named as A; empty: the classes with many masks in training.
        loosen: The share of their side by which given boxes were moved.
        loose: Whether the model took the given boxes for loose ones.
        skipped: Image id → why its photograph could not be read.
        outside: Detections left out because their box lies outside the image.
        left_out: Class of the detector that the file lacks → its boxes, which do not
            count.
        not_found: Classes of the file that the detector does not know: it misses all
            their objects.
        pictures: The pictures written.
        not_drawn: Why pictures that were asked for are missing.
        reading: What could not be read of a data set that is no COCO file.
    """

    box: BySet
    mask: BySet
    boundary: BySet
    mask_over_box: dict[str, float | None]
    given_boxes: BySet
    quality: BySet
    ambiguous: BySet
    groups: BySet | None
    per_category: list[dict[str, Any]]
    images: int
    seconds: float
    model: str
    version: str
    protocol: dict[str, Any] | None = None
    provider: dict[str, Any] | None = None
    masked: str = ""
    loosen: float = 0.0
    loose: bool = False
    skipped: dict[int, str] = field(default_factory=dict)
    outside: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    not_found: list[str] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    not_drawn: list[str] = field(default_factory=list)
    reading: ConversionReport = field(default_factory=ConversionReport)

    def to_json(self) -> dict[str, Any]:
        """The JSON of `halfmask evaluate --json`."""
        result = {key: getattr(self, key) for key in MEASURED}
        if self.protocol is not None:
            result["protocol"] = self.protocol
        if self.provider is not None:
            result["provider"] = self.provider
        if self.masked:
            result["masked"] = self.masked
        if self.loosen:
            result["loosen"] = self.loosen
        if self.loose:
            result["boxes"] = "loose"
        if self.left_out or self.not_found:
            result["detector_classes"] = {"left_out": self.left_out, "not_found": self.not_found}
        if self.reading.first:
            result["reading"] = self.reading.to_json()
        return result

    def table(self, per_category: bool = False) -> str:
        """The result as tables of text; `per_category` adds a line for each class."""
        return table(self.to_json(), per_category)


def evaluate(
    model: str | Path | Predictor,
    data: str | Path,
    *,
    images: str | Path | None = None,
    split: str | None = None,
    masked: str | None = None,
    given_boxes: bool = False,
    loosen: float = 0.0,
    detector: str | Path | BoxDetector | None = None,
    classes: str | Sequence[str] | None = None,
    detections: str | Path | None = None,
    provider: str | Path | Predictor | None = None,
    json: str | Path | None = None,
    reliability: str | Path | None = None,
    sheet: str | Path | None = None,
    boxes: Boxes = "auto",
    use: Use = "annotated",
    protocol: ApProtocol = "auto",
    ignored: str | None = None,
    device: str | None = None,
    workers: int = 2,
    crowd_masks: bool = False,
    read_as: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures box and mask AP, and mask IoU in given boxes.

    Both also by boundary IoU (`boundary_iou`; for AP the lesser of both IoUs).
    AP counts the best 100 detections of an image over all classes, by LVIS's rules 300.
    A model that finds no boxes itself gets the file's own. Truth without a mask is
    neither a miss nor makes detections wrong. Photographs that cannot be read are
    skipped, with their truth.

    Args:
        model: A loaded model, or anything that `load` takes.
        data: The truth: a data set in any format that `convert` reads.
        images: The folder of its photographs. None: where the data set says.
        split: Only this part of a data set that is no COCO file: train, val, ….
        masked: Set A: voc, nonvoc, random:TRIAL:COUNT or names a,b,c, and tables and
            pictures are about A and B. None: the classes with many masks in training
            (10 or more), and tables and pictures are about classes with no masks, few
            and many.
        given_boxes: Whether to measure mask IoU in the file's own boxes too.
        loosen: Share of their side by which the given boxes' corners move, in [0, 0.5).
        detector: What finds the boxes that `model` fills; see `load`. Its classes are
            matched with the file's by name.
        classes: Names for a detector of open vocabulary; see `load`.
        detections: A COCO results file with boxes of any detector, which `model` fills.
        provider: A second model to measure in the same given boxes.
        json: A file to write the result to.
        reliability: A picture to draw of how far the model's score can be trusted.
        sheet: A picture to draw of the best, median and worst masks.
        boxes: Whether given boxes end where their objects do: tight, loose, or auto,
            which measures it on masks of A.
        use: Which masks of halfmask's own in the file count as truth.
        protocol: The rules of AP: coco, lvis, or auto: LVIS's where images have
            `neg_category_ids` or `not_exhaustive_category_ids`.
        ignored: Names `a,b` of classes whose boxes are regions to ignore: there,
            detections of every class are neither right nor wrong. `none`: no class.
            None: classes with a name such as DontCare or ignored regions.
        device: Where to run. None: a GPU where there is one.
        workers: Threads that decode photographs.
        crowd_masks: Of a COCO file: masks with iscrowd 1 are masks of single objects.
        read_as: How a COCO file writes boxes or polygons; see `ReadAs.of`.
        progress: Called after each batch of images.
    Raises:
        InputError: An argument or a file cannot be used, there is nothing to measure,
            or an output is refused (see `guard`).
    """
    check_choices(loosen, boxes, use, sheet=sheet, protocol=protocol, fills=(detector, detections))
    outputs, read = outputs_of(json, sheet, reliability), (model, detector, detections, provider)
    options = {"read_as": ReadAs.of(crowd_masks, read_as), "split": split, "progress": progress}
    opened = open_guarded(data, outputs, read, images=images, **options)
    file = open_truth(opened, progress)
    dataset = CocoInstances(file, opened.photographs(), use=use)
    rules = rules_of(file, protocol, ignored)
    results = None if detections is None else read_results(detections, file, rules.limit)
    predictor = as_predictor(model, detector, device, classes=classes)
    known = predictor.masked_of(file.categories)
    in_a = resolve_masked(masked, file.categories, file.name) if masked else known
    is_auto = boxes == "auto" and predictor.knows_loose_boxes
    loose = are_loose(dataset, in_a, loosen) if is_auto else boxes == "loose"
    subject = Subject(predictor, file, loosen=loosen, loose=loose, results=results)
    if not subject.finds_boxes:
        check_masks(dataset, predictor)
    elif not given_boxes:
        refuse_without_given_boxes(loosen, reliability, sheet, provider=provider)
    rivals = [] if provider is None else [as_predictor(provider, device=device)]
    subjects = [subject, *(Subject(p, file, loosen=loosen, loose=loose) for p in rivals)]
    reader, ious = BatchReader(dataset=dataset, workers=workers, progress=progress), IouTable()
    groups = groups_by(predictor, rules.counted(file.categories))
    count = partial(compute_metrics, file, masked=in_a, groups=groups, use=use, rules=rules)
    numbers = _measured(reader, subjects, given_boxes, measured=count, ious=ious)
    focus = focus_of(ious, groups, in_a, masked=masked)
    draw = partial(draw_sheet, ious=ious, focus=focus, progress=progress)
    plot = partial(draw_reliability, ious, focus, data=file.name)
    return _saved(
        json,
        **numbers,
        masked=masked or "",
        loosen=loosen,
        loose=loose and predictor.knows_loose_boxes,
        skipped=reader.skipped,
        outside=0 if results is None else results.outside,
        left_out=dict(subject.left_out),
        not_found=rules.counted_names(file, subject.not_found),
        **_drawn((reliability, plot), (sheet, lambda out: draw(out, dataset, subject))),
        reading=opened.report,
    )


def _saved(json: str | Path | None, **fields: Any) -> Evaluation:
    """Returns an evaluation, and writes it to a file if one is named."""
    done = Evaluation(**fields)
    if json is not None:
        write_json(json, done.to_json(), indent=2)
    return done


def _measured(
    reader: BatchReader,
    subjects: list[Subject],
    given_boxes: bool,
    *,
    measured: Callable[..., Result],
    ious: IouTable,
) -> Result:
    """The numbers of the model, and of the provider if there are two subjects."""
    subject, *providers = subjects
    detects, segments = subject.finds_boxes, given_boxes or not subject.finds_boxes
    reader.passes = detects + segments + len(providers)
    found = reader.detected(subject) if detects else None
    given = reader.given(subject) if segments else None
    numbers = measured(found, given, model=subject.name, ious=ious)
    for other in providers:
        result = measured(given=reader.given(other), model=other.name)
        numbers["provider"] = {key: result[key] for key in PROVIDER}
    if not numbers["images"]:
        raise InputError(
            f"{reader.dataset.folder}: none of the photographs can be read; first: "
            f"{next(iter(reader.skipped.values()))}"
        )
    return numbers


def _drawn(*pictures: tuple[str | Path | None, Callable[[str | Path], Path]]) -> dict[str, Any]:
    """Draws the pictures that have a path; returns `pictures` and `not_drawn`.

    A failure must not lose the measurement, which may have taken hours.
    """
    written, failures = [], []
    for out, draw in pictures:
        try:
            if out is not None:
                written.append(draw(out))
        except InputError as error:
            failures.append(str(error))
    return {"pictures": written, "not_drawn": failures}
