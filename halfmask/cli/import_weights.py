"""`halfmask import-weights`: weights of torchvision, Detectron and EfficientNet-Lite."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

import halfmask
from halfmask.terminal import say

Kind = Literal["detectron", "torchvision", "efficientnet-lite"]
Head = Literal["transfer", "agnostic", "per_class", "none"]


def run(
    kind: Annotated[Kind, typer.Argument(help="Where the weights come from.")],
    source: Annotated[
        Path, typer.Argument(help="detectron: model_final.pkl; others: .pth or .safetensors.")
    ],
    out: Annotated[Path, typer.Argument(help="The checkpoint to write.")],
    categories: Annotated[
        Path | None,
        typer.Option(
            help="COCO file, or list of categories, in the order of the rows of the weights. "
            "Default: COCO's 80 classes."
        ),
    ] = None,
    masked: Annotated[
        str | None,
        typer.Option(
            help="Classes with masks in training: all, none, voc, nonvoc, random:TRIAL:COUNT or "
            "names a,b,c."
        ),
    ] = None,
    mask_head: Annotated[
        Head,
        typer.Option(
            help="Untrained head to add if the file has none. none: a detector, for `init:` only."
        ),
    ] = "transfer",
    norm_eps: Annotated[
        float | None,
        typer.Option(min=0.0, help="torchvision: epsilon of the backbone's BatchNorm, 0 or 1e-5."),
    ] = None,
    activation: Annotated[
        Literal["leaky_relu", "relu"],
        typer.Option(help="detectron: activation of T, which the file does not contain."),
    ] = "leaky_relu",
    embedding: Annotated[
        str | None,
        typer.Option(help="detectron: the blob with T's class vectors, if the file has several."),
    ] = None,
) -> None:
    """Converts another program's Faster or Mask R-CNN to a checkpoint.

    The checkpoint gives the same results.

    Pickles are read as data: nothing in them runs, and one that names anything but
    arrays and plain containers is refused.

    Examples: halfmask import-weights detectron model_final.pkl mask-x.safetensors
    --masked voc

    halfmask import-weights torchvision maskrcnn_resnet50_fpn.pth mask-rcnn.safetensors

    `efficientnet-lite` writes ImageNet weights for a recipe's `weights:`, under timm's
    names, and no checkpoint.
    """
    done = halfmask.import_weights(
        kind,
        source,
        out,
        categories=categories,
        masked=masked,
        mask_head=mask_head,
        norm_eps=norm_eps,
        activation=activation,
        embedding=embedding,
    )
    say("\n".join(done.lines()))
