"""`python -m benchmarks add-class`: classes added to a trained model, beside a model that
had their boxes from the start.

For each seed, 4 of the world's 32 classes are taken out. A model learns from pictures
without them: boxes and masks of the other 28. `halfmask add-class` then adds the 4 from
boxes alone. Its peer learns boxes of all 32 from the start, and the same 28 classes'
masks; the boxes of the 4 classes are the same in both.
"""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.paper.detectors import Say, trained_detector
from benchmarks.paper.region_heads import (
    PooledTest,
    measure_head,
    pool_test,
    pool_training,
    train_head,
)
from benchmarks.paper.sources import World
from benchmarks.result import Options, Result, held
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances
from halfmask.data.synthetic.classes import (
    DEFAULT_CLASSES,
    attribute_split,
    world_categories,
    world_classes,
)
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.checkpoints import open_checkpoint
from halfmask.models.checkpoint import Checkpoint, save_checkpoint
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN, Recipe, load_recipe
from halfmask.training.add_class.add_class import add_class

ADDED = 4
BAR = 3.0
"""Mask AP of the added classes may be this much below the peer's."""


@dataclass(frozen=True)
class Sizes:
    """Pictures and steps, `--set KEY=N`; the defaults are a shortened world recipe.

    Attributes:
        drawn: training pictures drawn for each seed.
        pictures: of them each detector learns from.
        test: pictures to measure on.
        steps: of the detectors.
        mask_pictures, mask_steps: of the mask heads.
    """

    drawn: int = 4200
    pictures: int = 2000
    test: int = 200
    steps: int = 300
    mask_pictures: int = 400
    mask_steps: int = 200

    @staticmethod
    def of(overrides: tuple[str, ...]) -> Sizes:
        """Reads `KEY=N` of the command line."""
        known = vars(Sizes())
        pairs = [override.partition("=") for override in overrides]
        odd = [k for k, _, v in pairs if k not in known or not v.isdigit() or int(v) < 1]
        if odd:
            raise InputError(f"--set {odd[0]}: expected KEY=N with one of {', '.join(known)}")
        return Sizes(**{k: int(v) for k, _, v in pairs})


def run(options: Options) -> Result:
    """Runs or resumes the benchmark; what is in the run folder is not done again."""
    sizes = Sizes.of(options.overrides)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    measures = [_seed(sizes, seed, options.out / f"seed-{seed}", options.say) for seed in seeds]
    changes = "".join(f" --set {text}" for text in options.overrides)
    command = (
        f"python -m benchmarks add-class --seeds {options.seeds} "
        f"--first-seed {options.first_seed}{changes}"
    )
    behind = [m["peer"]["mask_AP"] - m["added"]["mask_AP"] for m in measures]
    moved = sum(m["old_changed"] for m in measures)
    rows = [
        held("mask AP of the added classes behind the peer", statistics.fmean(behind), "AP", BAR),
        held("detections of earlier classes that changed", float(moved), "detections", 0.0),
    ]
    details = {"measures": measures, "sizes": vars(sizes)}
    return Result(rows, {"add-class": markdown(measures)}, command, details)


def _seed(sizes: Sizes, seed: int, folder: Path, say: Say) -> dict[str, Any]:
    """Returns the measures of one seed, from `folder` if they are there."""
    path = folder / "measure.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if kept["sizes"] != vars(sizes):
            raise InputError(f"{path}: measured with other sizes; name another folder with --out")
        return kept
    data = _Data(sizes, seed, folder)
    settings = [f"stages.0.steps={sizes.steps}", f"stages.1.steps={sizes.mask_steps}"]
    recipe = load_recipe("world_transfer", [*settings, f"seed={seed}"])
    base, known = _trained(recipe, data.base, sizes, folder / "base", say)
    peer, all_known = _trained(recipe, data.peer, sizes, folder / "peer", say)
    added = add_class(
        folder / "base", data.boxes, images=data.photographs, out=_cleared(folder / "added")
    )
    grown, more = _opened(added.checkpoint)
    after = pool_test(grown, data.test(more))
    measure = {
        "seed": seed,
        "sizes": vars(sizes),
        "names": sorted(data.names),
        "added": _blocks(grown, after, data.names),
        "peer": _blocks(peer, pool_test(peer, data.test(all_known)), data.names),
        "old_changed": _changed((base, pool_test(base, data.test(known))), (grown, after)),
        "boxes": sum(c["boxes"] for c in added.classes),
        "add_class_seconds": added.seconds,
    }
    write_json(path, measure, indent=1)
    say(json.dumps({k: v for k, v in measure.items() if k != "sizes"}))
    return measure


class _Data:
    """The pictures of a seed.

    Attributes:
        names: of the classes that are taken out.
        base: pictures that do not show them, without these classes.
        peer: pictures of all classes.
        boxes: file with their boxes in the peer's pictures, without masks.
        photographs: folder of all pictures.
    """

    def __init__(self, sizes: Sizes, seed: int, folder: Path) -> None:
        world = World()
        drawn = world.pictures(folder / "train", sizes.drawn, seed, test=False)
        self._test = world.pictures(folder / "test", sizes.test, seed, test=True)
        self.photographs = folder / "train" / "images"
        document = CocoFile.read(folder / "train" / "instances.json").document
        records = document["categories"]
        kept = attribute_split(records, len(records) - ADDED, 1000 * seed)
        out = {c["id"] for c in records} - kept
        self.names = {c["name"] for c in records if c["id"] in out}
        shows = {a["image_id"] for a in document["annotations"] if a["category_id"] in out}
        without = [i for i in drawn.image_ids if i not in shows][: sizes.pictures]
        if len(without) < sizes.pictures:
            raise InputError(
                f"{len(without)} of {sizes.drawn} pictures lack the added classes, "
                f"{sizes.pictures} are wanted: draw more (--set drawn=N)"
            )
        self.base = self._part(document, without, kept)
        first = drawn.image_ids[: sizes.pictures]
        self.peer = self._part(document, first, kept | out)
        boxes = _only(document, [i for i in first if i in shows], out)
        for annotation in boxes["annotations"]:
            annotation.pop("segmentation", None)
        self.boxes = folder / "boxes.json"
        write_json(self.boxes, boxes)

    def test(self, checkpoint: Checkpoint) -> CocoInstances:
        """Returns the test pictures with the labels of a model; others' objects are dropped."""
        known: list[dict[str, Any]] = [dict(c) for c in checkpoint.categories]
        names = {c["name"]: c["id"] for c in known}
        moved = {
            c["id"]: names[c["name"]] for c in self._test.file.categories if c["name"] in names
        }
        file = self._test.file.part(self._test.image_ids, None, (moved, known))
        return CocoInstances(file, self._test.folder, cache=True)

    def _part(self, document: Any, images: list[int], classes: set[int]) -> CocoInstances:
        file = CocoFile.from_document(_only(document, images, classes), "a part of the world")
        return CocoInstances(file, self.photographs, cache=True)


def _only(document: Any, images: list[int], classes: set[int]) -> dict[str, Any]:
    wanted = set(images)
    return {
        **document,
        "images": [i for i in document["images"] if i["id"] in wanted],
        "categories": [c for c in document["categories"] if c["id"] in classes],
        "annotations": [
            dict(a)
            for a in document["annotations"]
            if a["image_id"] in wanted and a["category_id"] in classes
        ],
    }


def _trained(
    recipe: Recipe, pictures: CocoInstances, sizes: Sizes, folder: Path, say: Say
) -> tuple[PartialMaskRCNN, Checkpoint]:
    """Returns a model trained on the pictures, whose masks of 28 classes it learns from."""
    path = folder / "model.safetensors"
    if path.is_file():
        return _opened(path)
    assert isinstance(recipe.model, MaskRCNN)
    head, stage, seed = recipe.model.mask_head, recipe.stages[1], recipe.seed
    model = trained_detector(recipe, seed, pictures, folder, say)
    file = pictures.file
    taught = attribute_split(world_records(), len(world_records()) - ADDED, 1000 * seed)
    labels = {file.label_of[c["id"]] for c in file.categories if c["id"] in taught}
    regions = pool_training(model, pictures, sizes.mask_pictures, seed).split(labels)
    train_head(model, head, stage, regions, labels, seed)
    categories: Any = [{"id": c["id"], "name": c["name"]} for c in file.categories]
    made = Checkpoint(
        state=model.state_dict(), recipe=recipe, categories=categories, masked=sorted(taught)
    )
    save_checkpoint(path, made)
    return _opened(path)


def world_records() -> list[dict[str, Any]]:
    """Returns the records of the world's classes."""
    return world_categories(world_classes(DEFAULT_CLASSES))


def _opened(path: Path) -> tuple[PartialMaskRCNN, Checkpoint]:
    model, checkpoint = open_checkpoint(path)
    assert isinstance(model, PartialMaskRCNN)
    return model, checkpoint


def _cleared(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted measurement
    return folder


def _blocks(model: PartialMaskRCNN, pooled: PooledTest, names: set[str]) -> dict[str, float]:
    """Returns AP and IoU of the added classes, and the mask AP of the others."""
    added = [c["id"] for c in pooled.test.file.categories if c["name"] in names]
    found = measure_head(model, pooled, added)
    return {
        "box_AP": found["box"]["A"]["AP"],
        "mask_AP": found["mask"]["A"]["AP"],
        "iou": found["given_boxes"]["A"]["miou"],
        "old_mask_AP": found["mask"]["B"]["AP"],
        "old_iou": found["given_boxes"]["B"]["miou"],
    }


Found = tuple[PartialMaskRCNN, PooledTest]


def _changed(before: Found, after: Found) -> int:
    """Counts detections of earlier classes that differ in any bit of box, score or mask."""
    known = len(before[1].test.file.categories)
    changed = 0
    for one, two in zip(before[1].found, after[1].found, strict=True):
        old = two.labels <= known
        if int(old.sum()) != len(one.labels):
            changed += abs(int(old.sum()) - len(one.labels)) or 1
            continue
        masks = (
            before[0].mask_probs(one.features.float(), one.labels),
            after[0].mask_probs(two.features.float(), two.labels)[old],
        )
        same = (masks[0] == masks[1]).flatten(1).all(1) & (one.scores == two.scores[old])
        same &= (one.boxes == two.boxes[old]).all(1) & (one.labels == two.labels[old])
        changed += int((~same).sum())
    return changed


def markdown(measures: list[dict[str, Any]]) -> str:
    """Returns the table for docs/guides/add_a_class.md."""
    lines = [
        "| seed | boxes | added: box AP | mask AP | mask IoU | from the start: box AP | mask AP "
        "| mask IoU | earlier classes, mask AP | their detections that changed | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for m in measures:
        added, peer = m["added"], m["peer"]
        cells = [
            *(str(m["seed"]), str(m["boxes"])),
            *(f"{added['box_AP']:.1f}", f"{added['mask_AP']:.1f}", f"{added['iou']:.3f}"),
            *(f"{peer['box_AP']:.1f}", f"{peer['mask_AP']:.1f}", f"{peer['iou']:.3f}"),
            f"{added['old_mask_AP']:.1f}",
            str(m["old_changed"]),
            f"{m['add_class_seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    means = {
        who: [statistics.fmean(m[who][key] for m in measures) for key in ("mask_AP", "iou")]
        for who in ("added", "peer")
    }
    note = (
        f"Mean: mask AP {means['added'][0]:.1f} added and {means['peer'][0]:.1f} from the start, "
        f"mask IoU {means['added'][1]:.3f} and {means['peer'][1]:.3f}."
    )
    return "\n".join([*lines, "", note])
