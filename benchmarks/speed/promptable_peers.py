"""`python -m benchmarks peers`: the shipped segmenter beside small promptable models, from
one photograph and its boxes to run lengths, on the CPU.

The peers' weights are random, as their time does not depend on them. Each has its own
image size, 1024 × 1024. A promptable model reads the photograph once and then draws each
box cheaply; halfmask reads each box. So the number of boxes decides the ratio.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measuring import alternate
from benchmarks.result import Options, Result, Row, compared
from benchmarks.speed.inference_boxes import PHOTOS
from halfmask.errors import InputError
from halfmask.inference.images import as_tensor
from halfmask.inference.predictor import load
from halfmask.masks.crops import encode_rle
from halfmask.models.fixed.sam import SamSegmenter

COUNTS, ROUNDS = (1, 7, 50), 5
BARS = {1: None, 7: 25.0, 50: 5.0}
OURS = "halfmask, default"
OURS_QUICK = "halfmask, balanced, int8"
OURS_ONCE = "halfmask, one look"
SETTINGS: dict[str, dict[str, Any]] = {
    OURS: {},
    OURS_QUICK: {"effort": "balanced", "runtime": "auto", "precision": "int8"},
    OURS_ONCE: {"effort": "fast"},
}
"""Of `halfmask.load`."""
Draw = Callable[[Tensor], object]
"""Boxes float32 [n, 4] → RLEs of the photograph's masks."""


def run(options: Options) -> Result:
    """Measures each model at each number of boxes.

    Raises:
        InputError: transformers is absent.
    """
    image, boxes = _photograph()
    draws = {name: _drawn_anew(model, image) for name, model in _peers().items()}
    peers = list(draws)
    draws |= {name: _ours(image, setting) for name, setting in SETTINGS.items()}
    found: dict[int, dict[str, float]] = {}
    for count in COUNTS:
        given = _repeated(boxes, count)
        steps = {name: partial(draw, given) for name, draw in draws.items()}
        found[count] = {
            name: statistics.median(spent) for name, spent in alternate(steps, ROUNDS).items()
        }
        for name, seconds in found[count].items():
            options.say(f"{name}, {count} boxes: {seconds:.3f} s of CPU")
    return Result(
        _rows(found, peers),
        {"peers": _table(found, peers)},
        "python -m benchmarks peers --threads 1",
        {"seconds": {str(count): seconds for count, seconds in found.items()}},
    )


def _peers() -> dict[str, SamSegmenter]:
    try:
        import transformers as hf
    except ImportError as error:
        raise InputError(
            "peers needs transformers, which is not installed: pip install 'halfmask[sam]'"
        ) from error
    from transformers.models.timm_wrapper import TimmWrapperConfig

    torch.manual_seed(0)
    # EdgeTAM's own encoder; its configuration alone would take another of timm's.
    stages = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    encoder = TimmWrapperConfig(architecture="repvit_m1", model_args=stages)
    edge = hf.EdgeTamConfig(vision_config=hf.EdgeTamVisionConfig(backbone_config=encoder))
    processor = hf.Sam2Processor(hf.Sam2ImageProcessor())
    networks: dict[str, nn.Module] = {
        "SAM 2 tiny": hf.Sam2Model(hf.Sam2Config()),
        "EdgeTAM": hf.EdgeTamModel(edge),
    }
    return {name: SamSegmenter(one.eval(), processor) for name, one in networks.items()}


def _drawn_anew(model: SamSegmenter, image: Tensor) -> Draw:
    # The segmenter keeps the last photograph: another one each time, as in real work.
    turns = itertools.cycle([image, image.flip(-1)])

    def draw(boxes: Tensor) -> object:
        with torch.inference_mode():
            return encode_rle(model.segment([next(turns)], [boxes])[0].crops())

    return draw


def _ours(image: Tensor, setting: dict[str, Any]) -> Draw:
    predictor = load("box-segmenter", device="cpu", **setting)
    return lambda boxes: encode_rle(predictor.segment(image, boxes).crops())


def _photograph() -> tuple[Tensor, Tensor]:
    """The shipped photograph of the most objects, and its boxes [n, 4] xyxy."""
    document = json.loads((PHOTOS / "photos.json").read_text(encoding="utf-8"))
    of: dict[int, list[list[float]]] = {image["id"]: [] for image in document["images"]}
    for one in document["annotations"]:
        if not one.get("iscrowd"):
            x, y, width, height = one["bbox"]
            of[one["image_id"]].append([x, y, x + width, y + height])
    most = max(of, key=lambda image_id: len(of[image_id]))
    name = next(i["file_name"] for i in document["images"] if i["id"] == most)
    return as_tensor(PHOTOS / name), torch.tensor(of[most])


def _repeated(boxes: Tensor, count: int) -> Tensor:
    """The first `count` boxes; they begin again where there are fewer."""
    return boxes.repeat(-(-count // len(boxes)), 1)[:count]


def _rows(found: dict[int, dict[str, float]], peers: list[str]) -> list[Row]:
    """Ours beside the fastest peer."""
    rows: list[Row] = []
    for count, seconds in found.items():
        fastest = min(peers, key=seconds.__getitem__)
        for name in SETTINGS:
            title, bar = f"{name}, {count} boxes to RLE", BARS[count] if name == OURS else None
            rows.append(compared(title, fastest, seconds[fastest], seconds[name], "s", bar, True))
    return rows


def _table(found: dict[int, dict[str, float]], peers: list[str]) -> str:
    lines = [
        "| boxes | " + " | ".join(found[COUNTS[0]]) + " | fastest peer / default | / int8 |",
        "|---|" + "---|" * (len(found[COUNTS[0]]) + 2),
    ]
    for count, seconds in found.items():
        fastest = min(seconds[name] for name in peers)
        ratios = " | ".join(f"{fastest / seconds[name]:.1f}" for name in (OURS, OURS_QUICK))
        cells = " | ".join(f"{spent:.3f} s" for spent in seconds.values())
        lines.append(f"| {count} | {cells} | {ratios} |")
    note = (
        f"Processor time, medians of {ROUNDS} rounds in turns; the peers come from transformers. "
        "The settings: `halfmask.load(effort=…, runtime=…, precision=…)` with none, with "
        "`balanced`, `auto` and `int8`, and with effort `fast`."
    )
    return "\n".join([*lines, "", note])
