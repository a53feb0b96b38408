"""`halfmask export`: a model as ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    model: Annotated[str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")],
    out: Annotated[Path, typer.Option(help="Folder for segment.onnx, detect.onnx and model.json.")],
    detector: Annotated[str | None, typer.Option(help="A model that finds the boxes which MODEL fills.")] = None,
) -> None:
    """Writes ONNX graphs, runs them in ONNX Runtime, and says how far their answers are from the model's.

    segment.onnx takes an image and boxes; detect.onnx, where there is a detector, an image. Image size and number of boxes are free.
    `examples/deploy_onnx.py` runs them without PyTorch.

    Example: halfmask export box-segmenter --out deployed
    """
    from halfmask.inference.export import export
    from halfmask.inference.predictor import load

    report = export(load(model, detector, "cpu"), out)
    for graph in report["graphs"].values():
        far = ", ".join(f"{key} {value:.1g}" for key, value in graph["largest_difference"].items())
        print(
            f"{out / graph['file']}: {graph['bytes'] / 2**20:.1f} MiB; largest difference from the model on {graph['images']} images, "
            f"{graph['boxes']} boxes: {far}"
        )
    print(f"{out / 'model.json'}: classes, inputs and outputs")
