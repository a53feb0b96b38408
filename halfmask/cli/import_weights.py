"""`halfmask import-weights`: weights of torchvision and of Detectron as a checkpoint,
of EfficientNet-Lite as a backbone's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from halfmask.models.checkpoint import Category
    from halfmask.models.imported.imported import Imported

Kind = Literal["detectron", "torchvision", "efficientnet-lite"]
Head = Literal["transfer", "agnostic", "per_class", "none"]
COCO_CLASSES = 80


def run(
    kind: Annotated[Kind, typer.Argument(help="Where the weights come from.")],
    source: Annotated[
        Path, typer.Argument(help="detectron: model_final.pkl; others: .pth or .safetensors.")
    ],
    out: Annotated[Path, typer.Argument(help="The checkpoint to write.")],
    categories: Annotated[
        Path | None,
        typer.Option(
            help="COCO file (or its list of categories) whose classes, in order, are the "
            "rows'. Default: COCO's 80."
        ),
    ] = None,
    masked: Annotated[
        str | None,
        typer.Option(
            help="Who had masks in training: all, none, voc, nonvoc, random:TRIAL:COUNT or "
            "names a,b,c."
        ),
    ] = None,
    mask_head: Annotated[
        Head,
        typer.Option(
            help="The untrained mask head of a file that has none; none: a detector for "
            "`init:` alone."
        ),
    ] = "transfer",
    norm_eps: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="torchvision: what the backbone's BatchNorm adds to variances, 0 or 1e-5."
        ),
    ] = None,
    activation: Annotated[
        Literal["leaky_relu", "relu"],
        typer.Option(help="detectron: T's, which the file does not tell."),
    ] = "leaky_relu",
    embedding: Annotated[
        str | None,
        typer.Option(help="detectron: the blob of T's class vectors, where the file has several."),
    ] = None,
) -> None:
    """Makes a checkpoint of a Faster R-CNN or Mask R-CNN from elsewhere, one that
    computes what the original computes.

    Pickles are read as data: one that names anything but arrays and plain containers is
    refused, and nothing in it runs.

    Examples: halfmask import-weights detectron model_final.pkl mask-x.safetensors
    --masked voc

    halfmask import-weights torchvision maskrcnn_resnet50_fpn.pth mask-rcnn.safetensors

    `efficientnet-lite` writes no checkpoint but ImageNet weights for a recipe's
    `weights:`, under timm's names.
    """
    from halfmask.errors import InputError
    from halfmask.models.checkpoint import save_checkpoint
    from halfmask.models.imported.imported import MASK_BRANCH, checkpoint_of

    if out.suffix != ".safetensors":
        raise InputError(f"{out}: expected a name that ends in .safetensors")
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(
            f"{out}: is the file to import, which would be written over; name another OUT"
        )
    if kind == "efficientnet-lite":
        _backbone(source, out)
        return
    untrained = "transfer" if mask_head == "none" else mask_head
    imported = _read(kind, source, untrained, norm_eps, (activation, embedding))
    classes = _categories(imported, categories)
    in_a = _masked(imported, masked, classes)
    checkpoint = checkpoint_of(imported, classes, sorted(in_a), f"{kind}_{source.stem}")
    if mask_head == "none" and not imported.trained_masks:
        for key in [key for key in checkpoint.state if key.startswith(MASK_BRANCH)]:
            del checkpoint.state[key]
    save_checkpoint(out, checkpoint)
    _report(imported, out, len(in_a), mask_head)


def _backbone(source: Path, out: Path) -> None:
    import safetensors.torch

    from halfmask.files.atomic import path_beside
    from halfmask.models.backbones.encoder import read_weights
    from halfmask.models.imported.efficientnet_lite import to_timm

    name, weights = to_timm(read_weights(source), str(source))
    with path_beside(out) as beside:
        safetensors.torch.save_file(weights, beside)
    print(f"{out}: {name}; in a recipe: model.encoder.name=timm/{name} model.encoder.weights={out}")


def _read(
    kind: Kind, source: Path, head: str, norm_eps: float | None, t: tuple[str, str | None]
) -> Imported:
    if kind == "detectron":
        from halfmask.models.imported.blobs import read_blobs
        from halfmask.models.imported.detectron import import_detectron

        return import_detectron(read_blobs(source), str(source), head, *t)
    from halfmask.models.backbones.encoder import read_weights
    from halfmask.models.imported.torchvision_models import import_torchvision

    return import_torchvision(read_weights(source), str(source), head, norm_eps)


def _categories(imported: Imported, file: Path | None) -> list[Category]:
    """The classes in the order of the rows, the file's own order, as Detectron numbers them."""
    import json

    from halfmask.errors import InputError
    from halfmask.models.imported.imported import coco_categories

    if file is None:
        if imported.classes - 1 == COCO_CLASSES:
            return coco_categories()
        print(f"classes: {imported.classes - 1} without names; name them with --categories FILE")
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


def _masked(imported: Imported, spec: str | None, categories: list[Category]) -> set[int]:
    from halfmask.coco.categories import resolve_masked

    every = [c["id"] for c in categories]
    if spec in ("all", "none"):
        return set(every) if spec == "all" else set()
    if spec is not None:
        return resolve_masked(spec, [{"id": c["id"], "name": c["name"]} for c in categories])
    if imported.masked_rows is not None:
        return set(every[: imported.masked_rows])
    # The paper trains the masks of its many-class models on COCO's classes, which come
    # first.
    print(
        "masks: the file does not say who had masks in training; taken: the first "
        f"{COCO_CLASSES}; --masked says otherwise"
    )
    return set(every[:COCO_CLASSES])


def _report(imported: Imported, out: Path, masked: int, head: Head) -> None:
    model, classes = imported.model, imported.classes - 1
    for note in imported.notes:
        print(note)
    kind = model.mask_head.kind + (" + MLP" if model.mask_head.mlp != "none" else "")
    brought = (
        kind if imported.trained_masks else ("none" if head == "none" else f"{kind}, untrained")
    )
    print(
        f"{out}: {model.backbone.name}-FPN of {imported.source}, {classes} classes, {masked} "
        f"of them with masks; mask head: {brought}"
    )
    if imported.trained_masks and masked == classes:
        print(
            f"warning: these weights have seen the masks of all {classes} classes: no "
            "benchmark of partial supervision may start from them"
        )
    print(f"to start a recipe from it: {' '.join(_overrides(imported, out))}")


def _overrides(imported: Imported, out: Path) -> list[str]:
    """What a recipe must say so that its model is the imported detector."""
    from halfmask.recipes.recipe import Backbone, Detector, Images

    said = [f"init={out}", "model.backbone.weights=null"]  # ImageNet's would only be overwritten
    plain = {
        "backbone": Backbone(name=imported.model.backbone.name),
        "images": Images(min_size=[800], max_size=1333),
        "detector": Detector(),
    }
    for part, default in plain.items():
        found, usual = (
            getattr(imported.model, part).model_dump(mode="json"),
            default.model_dump(mode="json"),
        )
        changed = [key for key in found if found[key] != usual[key] or key == "name"]
        said += [f"model.{part}.{key}={_yaml(found[key])}" for key in changed]
    return said


def _yaml(value: object) -> str:
    import json

    text = json.dumps(value)
    return f"'{text}'" if " " in text else text.strip('"')
