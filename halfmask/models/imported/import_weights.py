"""`import_weights`: files of torchvision, Detectron and EfficientNet-Lite for this package."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfmask.coco.categories import COCO_NAMES, resolve_masked
from halfmask.errors import InputError
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import WEIGHTS
from halfmask.models.backbones.blobs import read_blobs
from halfmask.models.backbones.encoder import read_weights
from halfmask.models.checkpoint import Category, Checkpoint, save_checkpoint
from halfmask.models.imported.assemble import MASK_BRANCH, ImportedModel, checkpoint_of
from halfmask.models.imported.detectron import import_detectron
from halfmask.models.imported.efficientnet_lite import import_efficientnet_lite
from halfmask.models.imported.torchvision_models import import_torchvision
from halfmask.recipes.recipe import Backbone, Detector, Images

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """The file that `import_weights` wrote.

    Attributes:
        out: the file.
        network: its network, and the program that trained it.
        overrides: settings that make a recipe start from it.
        classes: number of classes; None for a backbone.
        masked: number of classes that had masks in training.
        mask_head: kind of its mask head, "none" without one.
        trained_masks: whether the mask head is trained.
        notes: facts that the user should know, a line each.
    """

    out: Path
    network: str
    overrides: list[str]
    classes: int | None = None
    masked: int = 0
    mask_head: str = "none"
    trained_masks: bool = False
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Returns the report for the user."""
        overrides = " ".join(self.overrides)
        if self.classes is None:
            return [f"{self.out}: {self.network}; in a recipe: {overrides}"]
        untrained = "" if self.trained_masks or self.mask_head == "none" else ", untrained"
        lines = [
            *self.notes,
            f"{self.out}: {self.network}, {self.classes} classes, {self.masked} of them with "
            f"masks; mask head: {self.mask_head}{untrained}",
        ]
        if self.trained_masks and self.masked == self.classes:
            lines.append(
                f"warning: these weights have seen the masks of all {self.classes} classes: no "
                "benchmark of partial supervision may start from them"
            )
        return [*lines, f"to start a recipe from it: {overrides}"]

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes."""
        return {**asdict(self), "out": str(self.out)}


def import_weights(
    kind: str,
    source: str | Path,
    out: str | Path,
    *,
    categories: str | Path | None = None,
    masked: str | None = None,
    mask_head: str = "transfer",
    norm_eps: float | None = None,
    activation: str = "leaky_relu",
    embedding: str | None = None,
) -> Imported:
    """Converts a model of another program to a checkpoint that computes the same.

    `efficientnet-lite` writes ImageNet weights for a recipe's `weights:`, under timm's
    names, and no checkpoint. Pickles are read as data: nothing in them runs.

    Args:
        kind: detectron, torchvision or efficientnet-lite.
        source: detectron: model_final.pkl; others: .pth or .safetensors.
        out: the .safetensors file to write.
        categories: COCO file, or list of categories, with the classes in the order of
            the rows; None: COCO's 80.
        masked: classes with masks in training: all, none, voc, nonvoc,
            random:TRIAL:COUNT or names a,b,c; None: as the file says, else the first
            80.
        mask_head: untrained mask head for a file without one: transfer, agnostic,
            per_class, or none for a detector that only `init:` uses.
        norm_eps: torchvision: epsilon of the backbone's BatchNorm; None: 0 or 1e-5,
            whichever fits the file.
        activation: detectron: activation of T: leaky_relu or relu.
        embedding: detectron: the blob with T's class vectors, if there are several.
    Raises:
        InputError: no such kind, a file that is not such a model, another number of
            classes, or an `out` that is an input, something else, or cannot be written
            (see `guard`).
    """
    source, out = Path(source), Path(out)
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: expected a name that ends in .safetensors")
    guard([Output(out, "OUT", WEIGHTS)], inputs=[source, categories])
    if kind == "efficientnet-lite":
        name = import_efficientnet_lite(source, out)
        overrides = [f"model.encoder.name=timm/{name}", f"model.encoder.weights={out}"]
        return Imported(out=out, network=name, overrides=overrides)
    head = "transfer" if mask_head == "none" else mask_head
    if kind == "detectron":
        imported = import_detectron(
            read_blobs(source), str(source), head, activation=activation, embedding=embedding
        )
    elif kind == "torchvision":
        imported = import_torchvision(read_weights(source), str(source), head, norm_eps=norm_eps)
    else:
        raise InputError(
            f"import-weights: no kind {kind}; there are: detectron, torchvision, efficientnet-lite"
        )
    classes = _categories(imported, None if categories is None else Path(categories))
    in_a = _masked(imported, masked, classes)
    name = f"{kind}_{source.stem}"
    checkpoint = checkpoint_of(imported, categories=classes, masked=sorted(in_a), name=name)
    return _saved(
        imported, checkpoint, out, with_head=imported.trained_masks or mask_head != "none"
    )


def _saved(
    imported: ImportedModel, checkpoint: Checkpoint, out: Path, *, with_head: bool
) -> Imported:
    """Writes the checkpoint, with or without its mask head."""
    if not with_head:
        for key in [key for key in checkpoint.state if key.startswith(MASK_BRANCH)]:
            del checkpoint.state[key]
    save_checkpoint(out, checkpoint)
    model = imported.model
    head = model.mask_head.kind + (" + MLP" if model.mask_head.mlp != "none" else "")
    return Imported(
        out=out,
        network=f"{model.backbone.name}-FPN of {imported.source}",
        overrides=_overrides(imported, out),
        classes=imported.classes - 1,
        masked=len(checkpoint.masked),
        mask_head=head if with_head else "none",
        trained_masks=imported.trained_masks,
        notes=imported.notes,
    )


def _categories(imported: ImportedModel, file: Path | None) -> list[Category]:
    """The classes in the order of the rows, which is the file's own order."""
    classes = imported.classes - 1
    if file is None:
        if classes == len(COCO_NAMES):
            return [{"id": i, "name": name} for i, name in COCO_NAMES.items()]
        _LOG.info("classes: %d without names; name them with --categories FILE", classes)
        return [{"id": i, "name": f"class {i}"} for i in range(1, imported.classes)]
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        rows = document["categories"] if isinstance(document, dict) else document
        return [{"id": int(row["id"]), "name": str(row["name"])} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: expected a COCO file, or a list of categories with id and name "
            f"({type(error).__name__})"
        ) from error


def _masked(imported: ImportedModel, spec: str | None, categories: list[Category]) -> set[int]:
    every = [c["id"] for c in categories]
    if spec in ("all", "none"):
        return set(every) if spec == "all" else set()
    if spec is not None:
        return resolve_masked(spec, [{"id": c["id"], "name": c["name"]} for c in categories])
    if imported.masked_rows is not None:
        return set(every[: imported.masked_rows])
    # The paper trains the masks of its many-class models on COCO's classes, which come
    # first.
    _LOG.info(
        "masks: the file does not say which classes had masks in training; assumed: the first %d; "
        "change it with --masked",
        len(COCO_NAMES),
    )
    return set(every[: len(COCO_NAMES)])


def _overrides(imported: ImportedModel, out: Path) -> list[str]:
    """The settings with which a recipe's model equals the imported detector."""
    # ImageNet's weights would only be overwritten.
    overrides = [f"init={out}", "model.backbone.weights=null"]
    defaults = {
        "backbone": Backbone(name=imported.model.backbone.name),
        "images": Images(min_size=[800], max_size=1333),
        "detector": Detector(),
    }
    for part, default in defaults.items():
        found = getattr(imported.model, part).model_dump(mode="json")
        usual = default.model_dump(mode="json")
        changed = [key for key in found if found[key] != usual[key] or key == "name"]
        overrides += [f"model.{part}.{key}={_yaml(found[key])}" for key in changed]
    return overrides


def _yaml(value: object) -> str:
    text = json.dumps(value)
    return f"'{text}'" if " " in text else text.strip('"')
