"""Segments boxes of one photograph. Draws the masks on it and prints them as COCO RLE.

Boxes are x0,y0,x1,y1 in pixels:

python examples/segment_photo.py photo.jpg drawn.png 58,159,279,622 234,194,327,481
"""

import json
import sys

import numpy as np
import torch
from PIL import Image

import halfmask
from halfmask.pictures import overlay

if __name__ == "__main__":
    photo, out, *rows = sys.argv[1:]
    boxes = [[float(v) for v in row.split(",")] for row in rows]
    model = halfmask.load("box-segmenter")
    found = model.segment(photo, boxes)

    image = np.asarray(Image.open(photo).convert("RGB"))
    objects = torch.arange(1, len(found) + 1)  # a colour for each object
    names = {k + 1: f"mask {k}" for k in range(len(found))}
    overlay(
        image, found.boxes, found.crops(), labels=objects, names=names, scores=found.quality
    ).save(out)

    masks = [
        {"bbox": box, "score": round(float(score), 3), "segmentation": rle}
        for box, score, rle in zip(boxes, found.quality, found.rle(), strict=True)
    ]
    print(json.dumps(masks))
