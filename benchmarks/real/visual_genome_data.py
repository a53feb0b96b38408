"""Small data in the formats of Visual Genome and COCO, with the paper's number of
classes: what proves the 3000-class path without them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from halfmask.coco.categories import COCO_NAMES
from halfmask.files.atomic import write_json, write_text
from halfmask.formats.visual_genome.classes import MANUAL_SYNSETS
from halfmask.recipes.recipe import load_recipe

SIDE = 96
RARE_CLASS = "hair drier"
"""The COCO class whose synset is mentioned once, so that it lies outside of the most
frequent ones and is added to them.
"""
MICE = "mouse.n.04", "mouse.n.01"
"""Two synsets of one word: COCO's mouse is the more frequent one, the other stays a
class of its own.
"""
FREQUENT = 3000
TINY = {
    "name": "vg3k_tiny",
    "model.backbone.name": "small_resnet",
    "model.backbone.weights": "null",
    "model.backbone.widths": "[8, 8, 12, 12]",
    "model.backbone.blocks": "[1, 1, 1, 1]",
    "model.backbone.trainable_stages": "5",
    "model.images.min_size": f"[{SIDE}]",
    "model.images.max_size": str(SIDE),
    "model.detector.fpn_channels": "8",
    "model.detector.anchor_sizes": "[8, 16, 32, 48, 64]",
    "model.detector.box_width": "16",
    "model.detector.box_roi_size": "3",
    "model.detector.rpn_pre_nms": "[40, 40]",
    "model.detector.rpn_post_nms": "[30, 30]",
    "model.detector.box_batch": "48",
    "model.detector.score_threshold": "0.0",
    "model.detector.detections": "20",
    "model.mask_head.width": "8",
    "model.mask_head.convs": "1",
    "model.mask_head.roi_size": "7",
    "data.workers": "0",
    "stages.0.steps": "6",
    "stages.0.batch_size": "4",
    "stages.0.optimiser.warmup": "2",
    "stages.0.optimiser.steps": "[]",
    "stages.1.data.workers": "0",
    "stages.1.data.masked_threshold": "1",
    "stages.1.steps": "6",
    "stages.1.batch_size": "4",
    "stages.1.optimiser.warmup": "2",
    "stages.1.optimiser.steps": "[]",
    "checkpoint_every": "3",
}
"""What a few steps on a CPU change in the paper's recipe. Random weights score no class
above chance, hence a threshold of 0.
"""


def synset_counts() -> dict[str, int]:
    """Synset → mentions: 3000 are mentioned more than once, 79 of them COCO's; the 80th
    and some others once.
    """
    counts = {MANUAL_SYNSETS.get(n, f"{n.replace(' ', '_')}.n.01"): 3 for n in COCO_NAMES.values()}
    counts[MANUAL_SYNSETS[RARE_CLASS]] = 1
    counts |= {MICE[0]: 4, MICE[1]: 2}
    frequent = sum(count > 1 for count in counts.values())
    counts |= {f"thing_{i:04d}.n.01": 2 for i in range(FREQUENT - frequent)}
    return counts | {f"rarity_{i:02d}.n.01": 1 for i in range(40)}


def write_visual_genome(folder: Path, images: int = 60, seed: int = 0) -> None:
    """objects.json, image_data.json and pictures below VG_100K/ and VG_100K_2/, as
    Visual Genome 1.4 has them.

    Every third picture is COCO's (coco_id 1000 + image_id). Besides the objects of
    `synset_counts` there are some without a synset, with two, with a box of no width,
    outside of the picture, and over its edge.
    """
    rng = np.random.default_rng(seed)
    mentions = [synset for synset, count in synset_counts().items() for _ in range(count)]
    order = rng.permutation(len(mentions))
    records: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        part = "VG_100K" if number % 2 else "VG_100K_2"
        url = f"https://example.org/rak248/{part}/{number}.jpg"
        coco_id = 1000 + number if number % 3 == 0 else None
        records.append(
            {
                "image_id": number,
                "url": url,
                "width": SIDE,
                "height": SIDE,
                "coco_id": coco_id,
                "flickr_id": None,
            }
        )
        objects = [_object(rng, [mentions[i]]) for i in order[number - 1 :: images]]
        entries.append({"image_id": number, "objects": objects, "image_url": url})
        _picture(folder / part / f"{number}.jpg", rng)
    odd = [_object(rng, []), _object(rng, ["thing_0000.n.01", "thing_0001.n.01"])]
    for box in ({"w": 0}, {"x": SIDE + 5}, {"x": SIDE - 4, "w": 30}):
        odd.append(_object(rng, ["thing_0002.n.01"]) | box)
    for i, thing in enumerate(odd):
        entries[i % images]["objects"].append(thing)
    for i, thing in enumerate(t for entry in entries for t in entry["objects"]):
        thing["object_id"] = 1_000_000 + i
    write_json(folder / "image_data.json", records)
    write_json(folder / "objects.json", entries)


def write_coco(folder: Path, images: int = 20, seed: int = 0) -> None:
    """annotations/instances_train2017.json with masks of COCO's 80 classes, train2017/,
    and an instances_val2017.json that names some of the pictures of
    `write_visual_genome` (those with coco_id up to 1030).
    """
    rng = np.random.default_rng([seed, 1])
    categories = [{"id": i, "name": name} for i, name in COCO_NAMES.items()]
    ids, each = list(COCO_NAMES), -(-2 * len(COCO_NAMES) // images)
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": categories}
    for number in range(1, images + 1):
        name = f"{number:012d}.jpg"
        document["images"].append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        _picture(folder / "train2017" / name, rng)
        for _ in range(each):
            annotations = document["annotations"]
            category = ids[len(annotations) % len(ids)]
            annotations.append(_masked(rng, len(annotations) + 1, number, category))
    write_json(folder / "annotations" / "instances_train2017.json", document)
    val = [
        {"id": i, "file_name": f"{i:012d}.jpg", "width": SIDE, "height": SIDE}
        for i in range(1001, 1031)
    ]
    write_json(
        folder / "annotations" / "instances_val2017.json",
        {"images": val, "annotations": [], "categories": categories},
    )


def write_tiny_recipe(path: Path, visual_genome: Path, coco: Path) -> None:
    """The paper's recipe, made small, on data of these two folders (after `halfmask
    convert` to VISUAL_GENOME/vg3k.json).
    """
    places = {
        "data.annotations": visual_genome / "vg3k_train.json",
        "data.images": visual_genome,
        "stages.1.data.annotations": coco / "annotations" / "instances_train2017.json",
        "stages.1.data.images": coco / "train2017",
    }
    overrides = [f"{key}={value}" for key, value in TINY.items()]
    overrides += [f"{key}={json.dumps(str(value))}" for key, value in places.items()]
    write_text(path, load_recipe("vg3k_r50_transfer_mlp", overrides).to_yaml())


def _object(rng: np.random.Generator, synsets: list[str]) -> dict[str, Any]:
    w, h = rng.integers(8, 40, 2).tolist()
    x, y = int(rng.integers(0, SIDE - w)), int(rng.integers(0, SIDE - h))
    names = [s.split(".")[0].replace("_", " ") for s in synsets]
    return {
        "synsets": synsets,
        "h": h,
        "w": w,
        "x": x,
        "y": y,
        "names": names,
        "merged_object_ids": [],
    }


def _masked(rng: np.random.Generator, number: int, image: int, category: int) -> dict[str, Any]:
    """An octagon."""
    w, h = rng.integers(12, 40, 2).tolist()
    x, y = int(rng.integers(0, SIDE - w)), int(rng.integers(0, SIDE - h))
    corners = [(1, 0), (3, 0), (4, 1), (4, 3), (3, 4), (1, 4), (0, 3), (0, 1)]
    polygon = [v for i, j in corners for v in (x + i * w / 4, y + j * h / 4)]
    row = {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, w, h],
        "iscrowd": 0,
    }
    return {**row, "segmentation": [polygon], "area": w * h * 7 / 8}


def _picture(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((SIDE, SIDE)).save(path)
