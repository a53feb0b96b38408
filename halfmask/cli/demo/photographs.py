"""The demo's first part: photographs of the package lose their masks and get new ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import halfmask
from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.files.atomic import write_json
from halfmask.masks.crops import iou
from halfmask.masks.paste import paste
from halfmask.pictures import attribution_of, before_after, names_by_label, read_scene
from halfmask.terminal import say

if TYPE_CHECKING:
    from halfmask.cli.demo.clock import Clock
    from halfmask.pictures.scene import Scene

PHOTOGRAPHS = Path(__file__).parents[2] / "assets" / "photos"
STEP = "completing photographs"


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph with its true and its drawn masks.

    Attributes:
        image: the COCO record.
        caption: its classes with their numbers.
        truth: the scene with the masks that people drew.
        drawn: the scene with the model's masks.
        ious: IoU of each drawn mask with the true one.
        box_ious: IoU of each box with the true mask.
    """

    image: dict[str, Any]
    caption: str
    truth: Scene
    drawn: Scene
    ious: list[float]
    box_ious: list[float]


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """The completed photographs.

    Attributes:
        rows: the photographs.
        names: label → name.
        licenses: of the COCO file.
        model: which model drew the masks.
        seconds: time of the step.
    """

    rows: list[Photograph]
    names: dict[int, str]
    licenses: list[dict[str, Any]]
    model: str
    seconds: float

    @property
    def ious(self) -> list[float]:
        return [v for row in self.rows for v in row.ious]

    @property
    def box_ious(self) -> list[float]:
        return [v for row in self.rows for v in row.box_ious]


def complete_photographs(folder: Path, model: str, clock: Clock) -> Photographs:
    """Removes every mask, completes the file, and saves pictures of before and after."""
    truth = CocoFile.read(PHOTOGRAPHS / "photos.json")
    boxes, completed = folder / "boxes.json", folder / "completed.json"
    with clock.step(STEP):
        predictor = halfmask.load(model)
        write_json(boxes, strip_masks(truth.document, keep=set()))
        completed.unlink(missing_ok=True)
        done = halfmask.complete(predictor, boxes, images=PHOTOGRAPHS, out=completed)
        drawn = CocoFile.read(completed)
        names = names_by_label(truth.categories)
        result = Photographs(
            rows=[_compare(truth, drawn, image, names) for image in truth.images],
            names=names,
            licenses=list(truth.document["licenses"]),
            model=predictor.identity,
            seconds=0.0,
        )
        _save_pictures(result, folder)
        count = len(result.rows)
        say(f"{completed}: {done.filled} masks drawn into the boxes of {count} photographs")
        say(
            f"mean IoU with the masks that people drew: {mean(result.ious):.2f} (the boxes: "
            f"{mean(result.box_ious):.2f})"
        )
    return replace(result, seconds=clock.seconds[STEP])


def _compare(
    truth: CocoFile, drawn: CocoFile, image: dict[str, Any], names: dict[int, str]
) -> Photograph:
    before, after = read_scene(truth, image, PHOTOGRAPHS), read_scene(drawn, image, PHOTOGRAPHS)
    whole = paste(
        torch.ones(len(before.boxes), 1, 1),
        before.boxes,
        before.boxes,
        image_size=before.masks.image_size,
    )
    counts = Counter(names[label] for label in before.labels.tolist())
    return Photograph(
        image=image,
        caption=", ".join(name if n == 1 else f"{n} × {name}" for name, n in counts.most_common()),
        truth=before,
        drawn=after,
        ious=iou(after.masks, before.masks).tolist(),
        box_ious=iou(whole, before.masks).tolist(),
    )


def _save_pictures(result: Photographs, folder: Path) -> None:
    for row in result.rows:
        scene = row.drawn
        credit = attribution_of(row.image, result.licenses)
        nothing = ~scene.has_mask & False
        picture = before_after(
            scene.image,
            scene.boxes,
            scene.masks,
            labels=scene.labels,
            names=result.names,
            had_mask=nothing,
            attribution=credit,
        )
        picture.save(folder / row.image["file_name"], quality=90)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
