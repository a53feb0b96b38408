"""Makes the README's picture: boxes of a class without masks in training, beside the
masks that the model draws into them.

halfmask train coco_mini_voc2nonvoc_more_box_segmenter --out runs/voc2nonvoc
python tools/make_readme_picture.py runs/voc2nonvoc docs/figures/boxes_to_masks.jpg

docs/figures/CREDITS.md names the source and the licence of the photograph.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

import halfmask
from halfmask.coco.categories import VOC_NAMES
from halfmask.inference.predictor import Predictor
from halfmask.pictures import overlay
from halfmask.pictures.style import font

PHOTOS = Path(halfmask.__file__).parent / "assets" / "photos"
PHOTO = "000000475678.jpg"
"""Suitcases, CC BY 2.0."""
CC_BY = 4
"""COCO's number of that licence."""
WIDTH, GAP, STRIP = 632, 16, 46
TITLES = ("what was there: boxes", "what halfmask drew: masks")


def panels(predictor: Predictor, file_name: str) -> tuple[Image.Image, Image.Image]:
    """Returns a photograph with its boxes, and the same photograph with masks in them."""
    document = json.loads((PHOTOS / "photos.json").read_text(encoding="utf-8"))
    record = next(i for i in document["images"] if i["file_name"] == file_name)
    assert record["license"] == CC_BY, f"{file_name}: CREDITS.md says CC BY 2.0"
    name_of = {c["id"]: c["name"] for c in document["categories"]}
    rows = [
        (a["bbox"], name_of[a["category_id"]])
        for a in document["annotations"]
        if a["image_id"] == record["id"]
    ]
    # The model had masks of VOC's 20 classes: show the others.
    rows = [(box, name) for box, name in rows if name not in VOC_NAMES]
    boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _ in rows], dtype=torch.float32)
    objects = torch.arange(1, len(rows) + 1)  # as labels: one colour per object
    names = {k + 1: name for k, (_, name) in enumerate(rows)}
    image = np.asarray(Image.open(PHOTOS / file_name).convert("RGB"))
    masks = predictor.segment(image, boxes).crops()
    return overlay(image, boxes, None, labels=objects, names=names), overlay(
        image, None, masks, labels=objects, names={}
    )


def side_by_side(pictures: tuple[Image.Image, ...]) -> Image.Image:
    """Returns the pictures in one row, each below its title."""
    height = round(WIDTH * pictures[0].height / pictures[0].width)
    out = Image.new("RGB", (2 * WIDTH + GAP, STRIP + height), "white")
    draw = ImageDraw.Draw(out)
    for k, picture in enumerate(pictures):
        left = k * (WIDTH + GAP)
        middle = (left + WIDTH / 2, STRIP / 2)
        draw.text(middle, TITLES[k], fill=(24, 26, 29), font=font(26), anchor="mm")
        out.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (left, STRIP))
    return out


def main(model: str, out: str) -> None:
    """Writes the picture."""
    predictor = halfmask.load(model, device="cpu")
    if others := sorted(predictor.masked_names - VOC_NAMES):
        sys.exit(f"{model}: expected masks of VOC's 20 classes only, found masks of {others}")
    picture = side_by_side(panels(predictor, PHOTO))
    picture.save(out, quality=72, optimize=True, progressive=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
