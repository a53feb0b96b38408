"""Clicks on a mask: its IoU after each of them, and how many an IoU of 90 % takes.

A click lies in the middle of the widest error of the mask so far, in pixels of the
photograph; the model sees all clicks so far and the mask before. That is the protocol
of interactive segmentation (Sofiiuk et al., 2021), with the object's box as its start.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.result import Options, Result, Row, compared
from halfmask.coco.categories import resolve_masked
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances, development_split
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.predictor import load
from halfmask.inference.refine import takes_clicks
from halfmask.masks.crops import MaskCrops, iou
from halfmask.models.box_segmenter.clicks import next_click
from halfmask.recipes.recipe import expand

DATA = "${HALFMASK_SHARED}/data/coco-mini"
CLICKS = 10
"""Clicks on an object at most; one that needs more counts as this many."""
GOOD = 0.9
SHOWN = (0, 1, 2, 3, 5, 10)
SHARE = 0.333
KEYS = ("model", "masked", "fold")


@dataclass(frozen=True, kw_only=True)
class Clicked:
    """One object: its class, and the IoU after 0, 1, … CLICKS clicks."""

    category: int
    ious: list[float]

    @property
    def needed(self) -> int:
        """Clicks until the IoU is GOOD, CLICKS if it never is."""
        return next((k for k, value in enumerate(self.ious) if value >= GOOD), CLICKS)


def run(options: Options) -> Result:
    """Clicks on the objects of val. `--set model=RUN` names the model (needed),
    `--set masked=voc` its classes with masks, `--set fold=0` takes the held-out fold of
    `data.development=0.333` of train instead of val.

    Raises:
        InputError: another --set, no model, or one that takes no clicks.
    """
    chosen = _chosen(options.overrides)
    store = options.out / "clicks.json"
    if not store.is_file():
        options.out.mkdir(parents=True, exist_ok=True)
        found = [asdict(one) for one in _measured(chosen, options)]
        write_json(store, {**chosen, "objects": found}, indent=1)
    details = json.loads(store.read_text(encoding="utf-8"))
    if any(details.get(key) != chosen.get(key) for key in KEYS):
        raise InputError(f"{store}: measured with other settings; name another folder with --out")
    objects = [Clicked(**one) for one in details["objects"]]
    groups = _groups(objects, chosen)
    command = "python -m benchmarks clicks" + "".join(f" --set {o}" for o in options.overrides)
    return Result(_rows(groups["all"]), {"real:clicks": _table(groups)}, command, details)


def _chosen(overrides: tuple[str, ...]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in KEYS or not value:
            raise InputError(f"bench clicks: --set {override}: expected one of {', '.join(KEYS)}")
        chosen[key] = value
    if "model" not in chosen:
        raise InputError("bench clicks: name a model that was trained with model.clicks: --set "
                         "model=RUN")  # fmt: skip
    return chosen


def _measured(chosen: dict[str, str], options: Options) -> list[Clicked]:
    predictor = load(chosen["model"], device="cpu")
    if not takes_clicks(predictor):
        raise InputError(f"bench clicks: {chosen['model']} takes no clicks: train with "
                         "model.clicks=true")  # fmt: skip
    pictures, out = _pictures(chosen.get("fold")), []
    ids = [c["id"] for c in pictures.file.categories]
    for k in range(len(pictures)):
        image, target = pictures[k]
        rows = torch.where(target.has_mask)[0]
        if len(rows):
            truth = target.masks.select(target.mask_row[rows])
            found = click_on(predictor.model, image, target.boxes[rows], truth)
            for label, values in zip(target.labels[rows].tolist(), found.T.tolist(), strict=True):
                out.append(Clicked(category=ids[label - 1], ious=values))
        options.say(f"{k + 1} of {len(pictures)} photographs, {len(out)} objects")
    return out


def _pictures(fold: str | None) -> CocoInstances:
    folder = Path(expand(DATA))
    part = "val" if fold is None else "train"
    file = CocoFile.read(folder / f"instances_{part}.json")
    if fold is None:
        return CocoInstances(file, folder / part)
    held = development_split([i["id"] for i in file.images], SHARE, int(fold))[1]
    return CocoInstances(file, folder / part, held)


def click_on(model: Any, image: Tensor, boxes: Tensor, truth: MaskCrops) -> Tensor:
    """Returns the IoUs after 0, 1, … CLICKS clicks, float32 [CLICKS + 1, n]."""
    clicks = torch.zeros((0, 4))
    found: MaskCrops | None = None
    out = []
    for _ in range(CLICKS + 1):
        given = None if found is None else [clicks]
        drawn = model.segment(
            [image], [boxes], clicks=given, mask=None if found is None else [found]
        )
        found = drawn[0].crops()
        out.append(iou(found, truth))
        clicks = torch.cat([clicks, *_next(found, truth, boxes)])
    return torch.stack(out)


def _next(found: MaskCrops, truth: MaskCrops, boxes: Tensor) -> list[Tensor]:
    """Returns the next click on each object that has an error left, float32 [1, 4]."""
    clicks = []
    for row, box in enumerate(boxes.tolist()):
        x0, y0 = (int(np.floor(v)) - 1 for v in box[:2])
        x1, y1 = (int(np.ceil(v)) + 1 for v in box[2:])
        place = (x0, y0, x1, y1)
        spot, wanted, wrong = next_click(_window(found, row, place), _window(truth, row, place))
        if bool(wrong[0]):
            x, y = (spot[0] + 0.5).tolist()
            clicks.append(torch.tensor([[row, x0 + x, y0 + y, float(wanted[0])]]))
    return clicks


def _window(crops: MaskCrops, row: int, place: tuple[int, int, int, int]) -> Tensor:
    """Returns a mask within a rectangle xyxy, bool [1, h, w]."""
    x0, y0, x1, y1 = place
    out = torch.zeros((1, y1 - y0, x1 - x0), dtype=torch.bool)
    bitmap, (x, y) = crops.bitmaps()[row], crops.offsets[row].tolist()
    height, width = bitmap.shape
    left, top, right, bottom = max(x0, x), max(y0, y), min(x1, x + width), min(y1, y + height)
    if right > left and bottom > top:
        own = bitmap[top - y : bottom - y, left - x : right - x]
        out[0, top - y0 : bottom - y0, left - x0 : right - x0] = own.bool()
    return out


def _groups(objects: list[Clicked], chosen: dict[str, str]) -> dict[str, list[Clicked]]:
    groups = {"all": objects}
    if "masked" in chosen:
        file = CocoFile.read(Path(expand(DATA)) / "instances_train.json")
        masked = resolve_masked(chosen["masked"], file.categories, file.name)
        groups["A"] = [one for one in objects if one.category in masked]
        groups["B"] = [one for one in objects if one.category not in masked]
    return groups


def _table(groups: dict[str, list[Clicked]]) -> str:
    heads = ["", "objects", *(f"{k} clicks" if k != 1 else "1 click" for k in SHOWN), "NoC@90",
             "never 90 %"]  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, some in groups.items():
        ious = np.array([one.ious for one in some])
        never = np.mean([max(one.ious) < GOOD for one in some])
        cells = [f"{100 * ious[:, k].mean():.1f}" for k in SHOWN]
        needed = np.mean([one.needed for one in some])
        row = [name, str(len(some)), *cells, f"{needed:.1f}", f"{100 * never:.0f} %"]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _rows(objects: list[Clicked]) -> list[Row]:
    ious = 100 * np.array([one.ious for one in objects]).mean(0)
    rows = [
        compared(f"mask IoU after {k} clicks", "the box alone", ious[0], ious[k], "%", None)
        for k in (1, 3)
    ]
    needed = float(np.mean([one.needed for one in objects]))
    name = f"clicks to an IoU of 90 %, at most {CLICKS}"
    return [*rows, compared(name, None, None, needed, "clicks", None)]
