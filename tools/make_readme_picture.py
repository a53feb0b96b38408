"""The README's picture: boxes on classes that the model never had a mask of, beside the
masks that it draws into them.

halfmask train coco_mini_voc2nonvoc_box_segmenter --out runs/voc2nonvoc
python tools/make_readme_picture.py runs/voc2nonvoc docs/figures/boxes_to_masks.jpg
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
from halfmask.pictures import footer, overlay
from halfmask.pictures.style import font

PHOTOS = Path(halfmask.__file__).parent / "assets" / "photos"
ROWS = [["000000475678.jpg"], ["000000000285.jpg", "000000377575.jpg"]]
"""CC BY 2.0, all three: suitcases; a bear and a fire hydrant."""
CC_BY = 4
"""COCO's number of that licence."""
WIDTH, GAP, STRIP = 632, 8, 46
TITLES = ("what was there: boxes", "what halfmask drew: masks")


def panels(predictor: Predictor, file_name: str) -> tuple[Image.Image, Image.Image, str]:
    """A photograph with its boxes, the same with the masks in them, and where the
    photograph comes from.
    """
    document = json.loads((PHOTOS / "photos.json").read_text(encoding="utf-8"))
    record = next(i for i in document["images"] if i["file_name"] == file_name)
    assert record["license"] == CC_BY, f"{file_name}: the footer says CC BY 2.0"
    name_of = {c["id"]: c["name"] for c in document["categories"]}
    rows = [
        (a["bbox"], name_of[a["category_id"]])
        for a in document["annotations"]
        if a["image_id"] == record["id"]
    ]
    rows = [
        (box, name) for box, name in rows if name not in VOC_NAMES
    ]  # the model had masks of VOC's 20 classes
    boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _ in rows], dtype=torch.float32)
    objects = torch.arange(
        1, len(rows) + 1
    )  # as labels: a colour for each object, not for each class
    names = {k + 1: name for k, (_, name) in enumerate(rows)}
    image = np.asarray(Image.open(PHOTOS / file_name).convert("RGB"))
    masks = predictor.segment(image, boxes).crops()
    source = str(record["flickr_url"]).partition("://")[2]
    return (
        overlay(image, boxes, None, objects, names),
        overlay(image, None, masks, objects, {}),
        source,
    )


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one height, that make WIDTH together."""
    height = round((WIDTH - GAP * (len(pictures) - 1)) / sum(p.width / p.height for p in pictures))
    row, x = Image.new("RGB", (WIDTH, height), "white"), 0
    for k, picture in enumerate(pictures):
        width = (
            WIDTH - x if k == len(pictures) - 1 else round(picture.width / picture.height * height)
        )
        row.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (x, 0))
        x += width + GAP
    return row


def column(title: str, rows: list[Image.Image]) -> Image.Image:
    """Rows below a title."""
    out = Image.new(
        "RGB", (WIDTH, STRIP + sum(r.height for r in rows) + GAP * (len(rows) - 1)), "white"
    )
    ImageDraw.Draw(out).text(
        (WIDTH / 2, STRIP / 2), title, fill=(24, 26, 29), font=font(26), anchor="mm"
    )
    y = STRIP
    for row in rows:
        out.paste(row, (0, y))
        y += row.height + GAP
    return out


def main(model: str, out: str) -> None:
    """Writes the picture."""
    predictor = halfmask.load(model, device="cpu")
    if predictor.masked_names - VOC_NAMES:
        sys.exit(
            f"{model}: had masks of {sorted(predictor.masked_names - VOC_NAMES)}; the picture "
            "wants a voc → non-voc model"
        )
    drawn = [[panels(predictor, name) for name in row] for row in ROWS]
    columns = [
        column(TITLES[k], [side_by_side([p[k] for p in row]) for row in drawn]) for k in (0, 1)
    ]
    both = Image.new("RGB", (2 * WIDTH + 2 * GAP, columns[0].height), "white")
    both.paste(columns[0], (0, 0))
    both.paste(columns[1], (WIDTH + 2 * GAP, 0))
    sources = ", ".join(source for row in drawn for _, _, source in row)
    credits = f"Photos: {sources}. Licence: CC BY 2.0, creativecommons.org/licenses/by/2.0. Drawn on by halfmask."
    footer(both, credits).save(out, quality=62, optimize=True, progressive=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
