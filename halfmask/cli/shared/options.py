"""Options that several verbs share, and what the shell offers when a user presses Tab.

Nothing here loads torch or NumPy. Where nothing fits, the shell offers files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from halfmask.formats import FORMATS
from halfmask.recipes import shipped_recipes

DetectorOption = Annotated[
    str | None,
    typer.Option(
        help="What finds the boxes: a checkpoint or run, torchvision:NAME, "
        "hf:NAME (transformers), or an ONNX file of the YOLOX family."
    ),
]
CrowdMasksOption = Annotated[
    bool,
    typer.Option(
        "--crowd-masks",
        help="Masks with iscrowd 1 are masks of single objects, as CVAT writes brush masks.",
    ),
]
AcceptChangesOption = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Go on with an interrupted run although the data, the model, the options or the "
        "versions have changed since it began; what depends on them is done again.",
    ),
]
ReadAsOption = Annotated[
    str | None,
    typer.Option(
        help="How a COCO file writes its boxes (xyxy, cxcywh, unit-xywh, unit-xyxy, "
        "unit-cxcywh; unit: from 0 to 1) or polygons (unit-polygons, percent-polygons), or both "
        "with a comma. Default: as COCO."
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        help='Class names "a, b, c": what an open-vocabulary detector looks for, or the classes '
        "of a detector's file that names none."
    ),
]
EffortOption = Annotated[
    Literal["fast", "balanced", "best"] | None,
    typer.Option(
        help="How often a box segmenter looks at each box: fast once, balanced twice, best as "
        "its recipe says (box-segmenter: six times). Default: best."
    ),
]
RuntimeOption = Annotated[
    Literal["auto", "torch", "onnx", "openvino"],
    typer.Option(
        help="What computes the model on the CPU. auto: the fastest that is installed and "
        "answers alike."
    ),
]
PrecisionOption = Annotated[
    Literal["float32", "int8"] | None,
    typer.Option(
        help="int8: 8-bit weights and values where masks change little. Not with --runtime torch. "
        "Default: float32; with --runtime auto, int8 for a Mask R-CNN that `export "
        "--precision int8` has calibrated."
    ),
]
MaxSizeOption = Annotated[
    int | None,
    typer.Option(
        help="Longest side of the photographs that a Mask R-CNN sees: fewer pixels take less "
        "time, and small objects are lost. Default, and most: as its recipe says."
    ),
]


def complete_recipe(incomplete: str) -> list[str]:
    """Offers the names of the shipped recipes."""
    return _begins(incomplete, shipped_recipes())


def complete_format(incomplete: str) -> list[str]:
    """Offers the formats of `convert`."""
    return _begins(incomplete, FORMATS)


def _begins(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
