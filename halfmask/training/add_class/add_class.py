"""Adds classes to a trained model: from boxes alone, or from word vectors alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.files.atomic import write_json, write_text
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import NEW_FOLDER, report
from halfmask.formats.report import ConversionReport
from halfmask.formats.source import open_source
from halfmask.inference.checkpoints import find_checkpoint, open_checkpoint
from halfmask.models.checkpoint import Category, Checkpoint, file_digest, save_checkpoint
from halfmask.models.class_vectors import NAMED, read_vectors
from halfmask.models.class_weights import rescale
from halfmask.models.mask_rcnn.added_classes import AddedRows
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.progress import Progress
from halfmask.recipes.recipe import MaskRCNN, Recipe, Transfer
from halfmask.training.add_class.choose import added_boxes, count_boxes, new_classes
from halfmask.training.add_class.regions import sample_box_regions
from halfmask.training.add_class.rows import FittedRows, fit_rows
from halfmask.training.folder import MODEL

VECTORS = "class_weights.vectors"
"""End of the name of a checkpoint's class vectors."""


REPORT = report("add-class", "classes", "loss", "seconds", "model")


@dataclass(frozen=True, kw_only=True)
class AddedClasses:
    """What `add_class` did.

    Attributes:
        checkpoint: the new model.
        classes: id, name, and the boxes and regions that each added class learned from.
        images: photographs that were read.
        loss: of the new rows on the sampled regions; None without boxes.
        seconds: time it took.
        model: the model that was extended, with its digest.
        reading: what in the data could not be read, and notes.
    """

    checkpoint: Path
    classes: list[dict[str, Any]]
    images: int
    loss: float | None
    seconds: float
    model: str
    reading: ConversionReport = field(default_factory=ConversionReport)

    def to_json(self) -> dict[str, Any]:
        """Returns what RUN2/added.json holds."""
        found: dict[str, Any] = {
            name: getattr(self, name) for name in ("classes", "images", "loss", "seconds", "model")
        }
        return found | {"version": __version__}


def add_class(
    run: str | Path,
    data: str | Path | None = None,
    *,
    out: str | Path,
    images: str | Path | None = None,
    split: str | None = None,
    names: str | Sequence[str] | None = None,
    vectors: str | Path | None = None,
    json: str | Path | None = None,
    progress: Progress | None = None,
) -> AddedClasses:
    """Adds classes to a trained model, without masks and without training it again.

    Only rows of the box head for the new classes learn, from boxes. Everything else
    stays bit for bit as it was, and so do the boxes, scores and masks of the earlier
    classes. The transfer function T turns the new rows into mask filters at once.

    A model whose T reads vectors of the class names (`transfer.input: embedding`) needs
    the new names' vectors. Without `data` it then masks given boxes of the new classes,
    and does not find them.

    Args:
        run: a trained model: a run, a checkpoint, hf://OWNER/NAME.
        data: boxes of the new classes, in any format that `convert` reads. Objects of
            other classes need no boxes. Masks are not used.
        out: folder of the new model; gets model.safetensors, recipe.yaml, added.json.
        images: folder of the photographs; None: where the data say.
        split: only this part of the data; None: all.
        names: the classes to add, "a,b" or a list; None: all of the data that the model
            does not have.
        vectors: a .safetensors file, a vector under each new class's name.
        json: a file for the result.
        progress: called with a task's name, its steps done and its steps in all.
    Raises:
        InputError: the model cannot take classes, a class is known already or has no
            usable box, the data cannot be read, `out` is not empty, or an output is an
            input (see `guard`).
    """
    start, path, target = time.perf_counter(), find_checkpoint(run), Path(out)
    _check_out(target)
    outputs = [Output(out, "--out", NEW_FOLDER), Output(json, "--json", REPORT)]
    guard(outputs, inputs=[path, data, images, vectors], photographs=[images])
    network, checkpoint = open_checkpoint(path)
    _check_model(path, checkpoint.recipe, with_boxes=data is not None, vectors=vectors)
    if data is None and (images is not None or split is not None):
        raise InputError("add-class: --images and --split are for data; name them after RUN")
    source = data and open_source(data, images=images, split=split, progress=progress)
    if source:
        source.guard(outputs, path, vectors)
    file = source.read() if source else None
    wanted = [n.strip() for n in names.split(",")] if isinstance(names, str) else names
    new = new_classes(checkpoint.categories, file, wanted, where=str(path))
    grown, state = _with_classes(checkpoint, new), dict(checkpoint.state)
    if vectors is not None:
        state = _with_vectors(state, checkpoint.recipe, Path(vectors), new=new)
    learned = _Learned(classes=[{**c, "boxes": 0, "regions": 0} for c in new])
    rows = None
    if source and file is not None:
        assert isinstance(network, PartialMaskRCNN)
        examples = CocoInstances(added_boxes(file, new), source.photographs())
        rows, learned = _learned(network, checkpoint.recipe, examples, new=new, progress=progress)
    if isinstance(network, PartialMaskRCNN):
        state |= _rows_of(network, rows, len(new))
    result = AddedClasses(
        checkpoint=target / MODEL,
        **vars(learned),
        seconds=time.perf_counter() - start,
        model=f"{path.name}@{file_digest(path)}",
        reading=source.report if source else ConversionReport(),
    )
    _write(target, replace(grown, state=state), result)
    if json is not None:
        write_json(Path(json), result.to_json(), indent=1)
    return result


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """See `AddedClasses`."""

    classes: list[dict[str, Any]]
    images: int = 0
    loss: float | None = None


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the new model, found a file")
    if (out / MODEL).exists() or (out / "recipe.yaml").exists():
        raise InputError(f"{out} holds a run already: name another folder with --out")


def _check_model(path: Path, recipe: Recipe, *, with_boxes: bool, vectors: object) -> None:
    """Refuses models whose masks, or whose detector, cannot take a class."""
    config = recipe.model
    is_detector = isinstance(config, MaskRCNN)
    transfer = _transfer_of(recipe)
    reads = None if transfer is None else transfer.input
    if isinstance(config, MaskRCNN) and config.mask_head.kind == "per_class":
        raise InputError(
            f"{path}: its mask head has a filter for each class, learned from masks; a new class "
            "needs `mask_head.kind: transfer`, whose filters come from the box head, or agnostic"
        )
    if not is_detector and reads != "embedding":
        raise InputError(
            f"{path}: a box segmenter without class vectors by name: it masks given boxes of any "
            "class as it is, and finds none; add classes to the detector beside it"
        )
    if reads == "random":
        raise InputError(
            f"{path}: its transfer function reads random vectors (transfer.input: random), which "
            "say nothing of a new class; train with cls, box, cls+box or embedding"
        )
    if reads == "embedding" and vectors is None:
        raise InputError(
            f"{path}: its transfer function reads vectors of the class names: give those of the "
            "new classes with --vectors FILE.safetensors"
        )
    if reads != "embedding" and vectors is not None:
        raise InputError(f"{path}: reads no vectors of class names; leave out --vectors")
    if not is_detector and with_boxes:
        raise InputError(f"{path}: finds no boxes, so boxes teach it nothing; leave out the data")
    if reads != "embedding" and not with_boxes:
        raise InputError(f"{path}: name data with boxes of the new classes after it")


def _transfer_of(recipe: Recipe) -> Transfer | None:
    config = recipe.model
    if isinstance(config, MaskRCNN):
        return config.mask_head.transfer if config.mask_head.kind == "transfer" else None
    return config.condition


def _with_classes(checkpoint: Checkpoint, new: list[Category]) -> Checkpoint:
    """Returns the checkpoint with the classes in its recipe and its list, weights unchanged."""
    recipe, config = checkpoint.recipe, checkpoint.recipe.model
    if isinstance(config, MaskRCNN):
        added = [*config.detector.added_classes, len(new)]
        detector = config.detector.model_copy(update={"added_classes": added})
        recipe = recipe.model_copy(
            update={"model": config.model_copy(update={"detector": detector})}
        )
    return replace(
        checkpoint,
        recipe=recipe,
        categories=[*checkpoint.categories, *new],
        mask_counts=checkpoint.mask_counts | {c["id"]: 0 for c in new},
        version=__version__,
    )


def _with_vectors(
    state: dict[str, Tensor], recipe: Recipe, path: Path, *, new: list[Category]
) -> dict[str, Tensor]:
    """Returns the state with the new names' vectors after those of the model."""
    transfer = _transfer_of(recipe)
    assert transfer is not None
    key = next(name for name in state if name.endswith(VECTORS))
    if path.suffix != NAMED:
        raise InputError(
            f"{path}: expected a .safetensors file, a vector under each new class's name"
        )
    names, size = [c["name"] for c in new], state[key].shape[1]
    rows = read_vectors(path, len(new) + 1, names, size=size)
    rows = rows if transfer.input_norm is None else rescale(rows, transfer.input_norm)
    return state | {key: torch.cat([state[key], rows.to(state[key])])}


def _learned(
    network: PartialMaskRCNN,
    recipe: Recipe,
    examples: CocoInstances,
    *,
    new: list[Category],
    progress: Progress | None,
) -> tuple[FittedRows, _Learned]:
    regions = sample_box_regions(
        network, examples, unreadable=recipe.data.unreadable, seed=recipe.seed, progress=progress
    )
    cls_weight, box_weight = (weight.detach() for weight in network.box_heads.rows())
    rows = fit_rows(regions, len(new), cls_weight=cls_weight, box_weight=box_weight)
    assert isinstance(examples.file, CocoFile)
    boxes, counts = count_boxes(examples.file, new), regions.counts(len(new))
    classes = [
        {**category, "boxes": b, "regions": r}
        for category, b, r in zip(new, boxes, counts, strict=True)
    ]
    return rows, _Learned(classes=classes, images=len(examples), loss=rows.loss)


def _rows_of(network: PartialMaskRCNN, rows: FittedRows | None, classes: int) -> dict[str, Tensor]:
    """Returns the state of the new rows; without fitted ones, of classes never found."""
    layer = AddedRows(network.box_heads.box_predictor.cls_score.in_features, classes)
    if rows is not None:
        with torch.no_grad():
            layer.cls_score.weight.copy_(rows.cls_weight)
            layer.cls_score.bias.copy_(rows.cls_bias)
            layer.bbox_pred.weight.copy_(rows.box_weight)
            layer.bbox_pred.bias.copy_(rows.box_bias)
            layer.read_cls.copy_(rows.read_cls)
            layer.read_box.copy_(rows.read_box)
    group = len(network.box_heads.added)
    prefix = f"box_heads.box_predictor.added.{group}."
    return {prefix + name: value for name, value in layer.state_dict().items()}


def _write(out: Path, checkpoint: Checkpoint, result: AddedClasses) -> None:
    """Writes the folder; the model last, so that a folder with a model is complete."""
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "recipe.yaml", checkpoint.recipe.to_yaml())
        write_json(out / "added.json", result.to_json(), indent=1)
        save_checkpoint(out / MODEL, checkpoint)
    except BaseException:
        for name in ("recipe.yaml", "added.json"):
            (out / name).unlink(missing_ok=True)
        if new:
            shutil.rmtree(out, ignore_errors=True)
        raise
