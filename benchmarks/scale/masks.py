"""`python -m benchmarks masks`: probabilities and boxes to COCO RLE without a canvas:
the bytes of the dense way, and how much sooner.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.measuring import alternate
from benchmarks.result import Options, Result, Row, compared, held
from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.data.synthetic.write import synth
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.labelling.complete import complete
from halfmask.masks.crops import decode, encode_rle
from halfmask.masks.paste import grown, paste

FASTER_BAR = 5.0
KINDS = ("ordinary", "empty", "one pixel", "outside", "the image", "thin", "beyond its box")


@dataclass(frozen=True)
class Setting:
    """Random cases, masks on an image of the timing, its size (H, W), rounds, and
    pictures that `complete` fills.
    """

    cases: int = 10_000
    masks: int = 100
    image: tuple[int, int] = (800, 1333)
    rounds: int = 7
    pictures: int = 60


@dataclass(frozen=True)
class Case:
    """Probabilities [1, M, M], region and box [1, 4], image size."""

    probs: Tensor
    region: Tensor
    box: Tensor
    size: tuple[int, int]


def run(options: Options, setting: Setting = Setting()) -> Result:
    """Compares and measures.

    Raises:
        InputError: pycocotools is not installed.
    """
    _reference()
    differing = differences(setting.cases)
    options.say(f"{setting.cases} cases, {sum(differing.values())} differ")
    seconds = _seconds(setting)
    bulk = bulk_fill(options.out / "generated", setting.pictures)
    options.say(f"complete: {bulk['masks']} masks, {bulk['differ']} differ")
    rows = _rows(setting, differing, seconds, bulk)
    return Result(
        rows,
        {"masks": _table(setting, differing, seconds, bulk)},
        "python -m benchmarks masks --threads 1",
    )


def differences(count: int, seed: int = 0) -> Counter[str]:
    """Kind → how many of its cases give other bytes than a dense paste and pycocotools'
    encoding.
    """
    found: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    for kind, case in _cases(count, seed):
        ours = encode_rle(paste(case.probs, case.region, case.box, image_size=case.size))[0]
        found[kind] += ours["counts"] != dense_rle(case)
    return found


def dense_rle(case: Case) -> str:
    """The mask drawn on a canvas of the whole image, every pixel of it asked for its
    probability, then encoded by pycocotools.
    """
    return str(_reference().encode(np.asfortranarray(dense_paste(case)))["counts"].decode("ascii"))


def dense_paste(case: Case, threshold: float = 0.5) -> NDArray[np.uint8]:
    """uint8 [H, W]. Written apart from `masks.paste`: a pixel's probability is
    interpolated between the cells' centres (averaged, where it holds several cells;
    constant beyond the outermost), and it must lie in the box by its centre.
    """
    inside, weights = [], []
    for axis, side in ((1, case.size[0]), (0, case.size[1])):
        low, high = case.region[0, axis].item(), case.region[0, axis + 2].item()
        inside.append(_inside(case.box[0, axis].item(), case.box[0, axis + 2].item(), side))
        weights.append(_weights(low, high, side, case.probs.shape[-1]))
    values = (weights[0] @ case.probs[0] @ weights[1].T).numpy()
    return ((values >= threshold) & inside[0][:, None] & inside[1][None]).astype(np.uint8)


def _weights(low: float, high: float, side: int, cells: int) -> Tensor:
    """float32 [side, cells]; zeros everywhere where the region has no extent."""
    out = np.zeros((side, cells))
    if high <= low:
        return torch.from_numpy(out.astype(np.float32))
    cell = (high - low) / cells
    reach = max(1.0, 1.0 / cell)
    for pixel in range(side):
        centre = (pixel + 0.5 - low) / cell - 0.5
        if not -0.5 - 0.5 / cell < centre < cells - 0.5 + 0.5 / cell:
            continue
        share = np.maximum(0.0, 1.0 - np.abs(centre - np.arange(cells)) / reach)
        out[pixel] = share / max(share.sum(), 1e-12)
    return torch.from_numpy(out.astype(np.float32))


def _inside(low: float, high: float, side: int) -> NDArray[np.bool_]:
    """bool [side]: pixels whose centre lies in [low, high); the middle one where that is none."""
    pixels = np.arange(side)
    if np.ceil(high - 0.5) <= np.ceil(low - 0.5):
        return np.asarray(pixels == np.floor((low + high) / 2))
    return np.asarray((pixels + 0.5 >= low) & (pixels + 0.5 < high))


def _cases(count: int, seed: int) -> Iterator[tuple[str, Case]]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        size = (int(rng.integers(1, 120)), int(rng.integers(1, 120)))
        yield kind, _case(kind, size, rng)


def _case(kind: str, size: tuple[int, int], rng: np.random.Generator) -> Case:
    height, width = size
    cells = int(rng.integers(1, 29))
    coarse = torch.from_numpy(rng.normal(size=(1, 1, 5, 5)).astype(np.float32))
    field = F.interpolate(coarse, size=(cells, cells), mode="bilinear")[:, 0]
    noise = torch.from_numpy(rng.normal(size=(1, cells, cells)).astype(np.float32))
    probs = (3 * field + rng.choice([0.0, 2.0]) * noise).sigmoid()
    low = rng.uniform(-20, 1, 2) + rng.uniform(0, 1, 2) * [width, height]
    extent = rng.uniform(0.2, 1.2, 2) * [width, height]
    if kind == "empty":
        probs = probs * 0.49
    elif kind == "one pixel":
        low, extent = np.floor(rng.uniform(0, 1, 2) * [width, height]), np.ones(2)
    elif kind == "outside":
        low = np.array([width + rng.uniform(0, 9), -extent[1] - rng.uniform(0, 9)])
    elif kind == "the image":
        low, extent = np.zeros(2), np.array([width, height])
    elif kind == "thin":
        extent = np.array([rng.uniform(0.01, 0.9), extent[1]])[:: rng.choice([1, -1])]
    box = torch.tensor([[*low, *(low + extent)]], dtype=torch.float32)
    return Case(probs, grown(box, 0.1) if kind == "beyond its box" else box, box, size)


def _seconds(setting: Setting) -> dict[str, float]:
    """Median seconds for all masks of one image: ours, the same masks through dense
    canvases, and torchvision's own.
    """
    probs, boxes = _objects(setting.masks, setting.image)
    encode = _reference().encode

    def dense() -> list[Any]:
        canvases = paste(probs, boxes, boxes, image_size=setting.image).dense()
        return [encode(np.asfortranarray(canvas.numpy())) for canvas in canvases]

    def torchvision() -> list[Any]:
        canvases = paste_masks_in_image(probs[:, None], boxes, setting.image) > 0.5
        return [
            encode(np.asfortranarray(canvas[0].numpy().astype(np.uint8))) for canvas in canvases
        ]

    steps = {
        "halfmask": lambda: encode_rle(paste(probs, boxes, boxes, image_size=setting.image)),
        "dense": dense,
        "torchvision": torchvision,
    }
    return {name: statistics.median(s) for name, s in alternate(steps, setting.rounds).items()}


def _objects(count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Blobs of 28 × 28 and boxes with sides from 16 to 400 pixels, evenly on a
    logarithmic scale.
    """
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(count, 1, 7, 7, generator=generator)
    probs = F.interpolate(field, size=(28, 28), mode="bicubic")[:, 0].mul(2).sigmoid()
    limits = torch.tensor([size[1], size[0]])
    side = torch.minimum(16 * 25 ** torch.rand(count, 2, generator=generator), limits)
    low = torch.rand(count, 2, generator=generator) * (limits - side)
    return probs, torch.cat([low, low + side], 1)


def bulk_fill(folder: Path, pictures: int) -> dict[str, float]:
    """`complete` with the rule of the ellipse on pictures of the procedural world:
    masks, masks per second of the clock, and how many have other bytes than
    pycocotools' encoding of their dense mask.
    """
    world = folder / "world"
    if not (world / "instances.json").is_file():
        synth(world, image_count=pictures, seed=7)
    boxes, out = folder / "boxes.json", folder / "filled.json"
    write_json(boxes, strip_masks(CocoFile.read(world / "instances.json").document, set()))
    begin = time.perf_counter()
    filled = complete("baseline:ellipse", boxes, images=world / "images", out=out).filled
    spent = time.perf_counter() - begin
    file, differ = CocoFile.read(out), 0
    for image in file.images:
        size = file.size_of(image["id"])
        for annotation in file.annotations_of(image["id"]):
            bitmap, (x, y) = decode(annotation["segmentation"], size)
            canvas = np.zeros(size, dtype=np.uint8, order="F")
            canvas[y : y + bitmap.shape[0], x : x + bitmap.shape[1]] = bitmap.numpy()
            differ += annotation["segmentation"]["counts"] != _reference().encode(canvas)[
                "counts"
            ].decode("ascii")
    return {"masks": filled, "rate": filled / spent, "differ": differ}


def _rows(
    setting: Setting, differing: Counter[str], seconds: dict[str, float], bulk: dict[str, float]
) -> list[Row]:
    name = f"masks out, {setting.masks} masks on {setting.image[0]} × {setting.image[1]}"
    ms = {who: 1000 * value for who, value in seconds.items()}
    peers = {
        "dense": "dense paste + pycocotools",
        "torchvision": "torchvision's paste + pycocotools",
    }
    return [
        held(
            f"masks out, of {setting.cases} random cases other bytes",
            sum(differing.values()),
            "",
            0,
        ),
        *(
            compared(name, peer, ms[who], ms["halfmask"], "ms", FASTER_BAR, at_least=True)
            for who, peer in peers.items()
        ),
        held(f"masks out, of {bulk['masks']} masks of complete other bytes", bulk["differ"], "", 0),
        compared("masks out, complete", None, None, bulk["rate"], "masks/s", None),
    ]


def _table(
    setting: Setting, differing: Counter[str], seconds: dict[str, float], bulk: dict[str, float]
) -> str:
    lines = ["| from 28 × 28 probabilities to RLE | ms | times halfmask's |", "|---|---|---|"]
    names = {
        "halfmask": "halfmask, from the crops",
        "dense": "the same masks on canvases, pycocotools",
        "torchvision": "torchvision's `paste_masks_in_image`, pycocotools",
    }
    for who, name in names.items():
        lines.append(
            f"| {name} | {1000 * seconds[who]:.1f} | {seconds[who] / seconds['halfmask']:.1f} |"
        )
    kinds = ", ".join(f"{kind} {count}" for kind, count in differing.items())
    size = f"{setting.masks} masks on {setting.image[0]} × {setting.image[1]}, boxes of 16 to 400 pixels."
    same = f"Of {setting.cases:,} random cases other bytes than a dense paste and pycocotools: {kinds}."
    filled = f"`complete` (baseline:ellipse): {bulk['masks']} masks, {bulk['differ']} with other bytes, {bulk['rate']:.0f} masks/s in all."
    note = f"{size} {same} {filled}"
    return "\n".join([*lines, "", note])


def _reference() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(
            "bench masks: compares with pycocotools: pip install 'halfmask[dev]'"
        ) from error
    return mask
