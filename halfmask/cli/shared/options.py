"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

DetectorOption = Annotated[
    str | None,
    typer.Option(
        help="What finds the boxes: a checkpoint or run, torchvision:NAME, "
        "hf:NAME (transformers), or an ONNX file of the YOLOX family."
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        help='Class names "a, b, c": what an open-vocabulary detector looks for, or the classes '
        "of a detector's file that names none."
    ),
]
