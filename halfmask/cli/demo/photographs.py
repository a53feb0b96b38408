"""The demo's first part: the photographs that ship with the package lose their masks
and get them back from the shipped model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfmask.cli.demo.clock import Clock
    from halfmask.coco.file import CocoFile
    from halfmask.pictures.scene import Scene

PHOTOGRAPHS = Path(__file__).parents[2] / "assets" / "photos"
STEP = "completing photographs"


@dataclass(frozen=True)
class Photograph:
    """One photograph: its record, what it shows, the masks that the model drew, and how
    well they fit.

    Attributes:
        image: the COCO record.
        caption: its classes with their numbers.
        truth: with the masks that people drew.
        drawn: with the model's.
        ious: of the drawn masks with the true ones, one an object.
        box_ious: of the boxes themselves with the true masks.
    """

    image: dict[str, Any]
    caption: str
    truth: Scene
    drawn: Scene
    ious: list[float]
    box_ious: list[float]


@dataclass(frozen=True)
class Photographs:
    """All of them; `names`: label → name, `licenses`: the file's."""

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
    """Removes every mask, completes the file, and puts before and after side by side in
    the folder.
    """
    from halfmask.coco.edit import strip_masks
    from halfmask.coco.file import CocoFile
    from halfmask.files.atomic import write_json
    from halfmask.inference.complete.complete import complete
    from halfmask.inference.predictor import load
    from halfmask.pictures import names_by_label

    truth = CocoFile.read(PHOTOGRAPHS / "photos.json")
    boxes, completed = folder / "boxes.json", folder / "completed.json"
    with clock.step(STEP):
        predictor = load(model)
        write_json(boxes, strip_masks(truth.document, keep=set()))
        completed.unlink(missing_ok=True)
        done = complete(predictor, boxes, images=PHOTOGRAPHS, out=completed)
        drawn = CocoFile.read(completed)
        names = names_by_label(truth.categories)
        rows = [_compare(truth, drawn, image, names) for image in truth.images]
        licenses = list(truth.document["licenses"])
        result = Photographs(rows, names, licenses, predictor.identity, 0.0)
        _save_pictures(result, folder)
        print(f"{completed}: {done.filled} masks drawn into the boxes of {len(rows)} photographs")
        print(
            f"mean IoU with the masks that people drew: {_mean(result.ious):.2f} (the boxes: "
            f"{_mean(result.box_ious):.2f})"
        )
    return Photographs(rows, names, licenses, result.model, clock.seconds[STEP])


def _compare(
    truth: CocoFile, drawn: CocoFile, image: dict[str, Any], names: dict[int, str]
) -> Photograph:
    import torch

    from halfmask.masks.crops import iou
    from halfmask.masks.paste import paste
    from halfmask.pictures import read_scene

    before, after = read_scene(truth, image, PHOTOGRAPHS), read_scene(drawn, image, PHOTOGRAPHS)
    whole = paste(
        torch.ones(len(before.boxes), 1, 1), before.boxes, before.boxes, before.masks.image_size
    )
    counts = Counter(names[label] for label in before.labels.tolist())
    caption = ", ".join(name if n == 1 else f"{n} × {name}" for name, n in counts.most_common())
    ious, box_ious = iou(after.masks, before.masks).tolist(), iou(whole, before.masks).tolist()
    return Photograph(image, caption, before, after, ious, box_ious)


def _save_pictures(result: Photographs, folder: Path) -> None:
    from halfmask.pictures import attribution_of, before_after

    for row in result.rows:
        scene = row.drawn
        credit = attribution_of(row.image, result.licenses)
        nothing = ~scene.has_mask & False
        picture = before_after(
            scene.image, scene.boxes, scene.masks, scene.labels, result.names, nothing, credit
        )
        picture.save(folder / row.image["file_name"], quality=90)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
