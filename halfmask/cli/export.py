"""`halfmask export`: a model as ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import halfmask
from halfmask.cli.shared.options import MaxSizeOption
from halfmask.cli.shared.reading import fail_if_unread
from halfmask.terminal import say


def run(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for segment.onnx, detect.onnx and model.json.")],
    detector: Annotated[
        str | None,
        typer.Option(help="What finds the boxes that MODEL fills: a halfmask checkpoint or run."),
    ] = None,
    precision: Annotated[
        Literal["float32", "int8"],
        typer.Option(
            help="int8: also write segment.int8.onnx and detect.int8.onnx, which are smaller and "
            "faster. Needs --calibrate."
        ),
    ] = "float32",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="int8: folder of photographs like those you will segment; about 30 are used.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="int8: data set with boxes of these photographs; crowds do not count. Default: "
            "made-up boxes of many sizes."
        ),
    ] = None,
    max_size: MaxSizeOption = None,
) -> None:
    """Writes ONNX graphs and compares them with the model in ONNX Runtime.

    segment.onnx takes an image and boxes; detect.onnx, if there is a detector, an
    image. Image size and number of boxes are free. `examples/deploy_onnx.py` runs them
    without PyTorch. With int8 the 8-bit masks are also compared with the float32 masks.

    Example: halfmask export box-segmenter --out deployed

    Example: halfmask export box-segmenter --out deployed --precision int8 --calibrate
    photos
    """
    # fmt: off
    done = halfmask.export(
        model, out=out, detector=detector, precision=precision, calibrate=calibrate, data=data,
        max_size=max_size,
    )
    # fmt: on
    _print_graphs(out, done.graphs)
    say(f"{out / 'model.json'}: classes, inputs and outputs")
    for name, compared in done.calibrated:
        say(f"{name}, 8 bits for --runtime: {compared}")
    if done.left_out:
        say(f"left out: {done.left_out}")
    fail_if_unread(done.reading)


def _print_graphs(out: Path, graphs: list[dict[str, Any]]) -> None:
    for graph in graphs:
        far = ", ".join(f"{key} {value:.1g}" for key, value in graph["largest_difference"].items())
        say(
            f"{out / graph['file']}: {graph['bytes'] / 2**20:.1f} MiB; largest difference from "
            f"the model on {graph['images']} images, {graph['boxes']} boxes: {far}"
        )
        if "int8" in graph:
            say(_int8_line(out, graph["int8"]))


def _int8_line(out: Path, int8: dict[str, Any]) -> str:
    line = (
        f"{out / int8['file']}: {int8['bytes'] / 2**20:.1f} MiB; "
        f"{int8['layers']} of {int8['of']} layers in 8 bits"
    )
    if int8["mean_iou"] is None:
        return f"{line}; nothing was found on {int8['photographs']} photographs to compare"
    found = (
        "" if int8["found"] == 1 else f"; {100 * int8['found']:.1f} % of the detections found again"
    )
    others = [one for one in int8["tried"] if one["layers"] != int8["layers"]]
    instead = "".join(
        f"; with {one['layers']} layers it would be {one['mean_iou'] or 0:.3f}" for one in others
    )
    return (
        f"{line}; IoU with the float32 masks on {int8['photographs']} photographs, "
        f"{int8['masks']} masks: mean {int8['mean_iou']:.3f}, "
        f"a twentieth below {int8['p5_iou']:.3f}{found}{instead}"
    )
