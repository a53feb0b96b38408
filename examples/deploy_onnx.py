"""Draws masks into given boxes without PyTorch.

It needs `pip install onnxruntime numpy pillow` and a folder from `halfmask export`.
Boxes are x0,y0,x1,y1 in pixels:

python examples/deploy_onnx.py deployed photo.jpg 30,40,220,310 > mask.json
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def segment(folder, photo, boxes):
    """Returns the masks, bool [H, W] each, and the model's estimate of each mask's IoU."""
    image = np.asarray(photo.convert("RGB"), dtype=np.float32).transpose(2, 0, 1) / 255
    boxes = np.asarray(boxes, dtype=np.float32).reshape(-1, 4)
    session = onnxruntime.InferenceSession(
        f"{folder}/segment.onnx", providers=["CPUExecutionProvider"]
    )
    given = {"image": image, "boxes": boxes, "labels": np.zeros(len(boxes), dtype=np.int64)}
    probs, regions, quality = session.run(
        None, {i.name: given[i.name] for i in session.get_inputs()}
    )
    return [paste(*row, photo.size) for row in zip(probs, regions, boxes, strict=True)], quality


def paste(probs, region, box, size):
    """Spreads one map over its region and returns the mask of the image, clipped to its box."""
    cell = (region[2:] - region[:2]) / probs.shape[0]
    grid = (1 / cell[0], 0, -region[0] / cell[0], 0, 1 / cell[1], -region[1] / cell[1])
    padded = Image.fromarray(np.pad(probs, 1, mode="edge"))
    grid = (grid[0], 0, grid[2] + 1, 0, grid[4], grid[5] + 1)  # keeps each cell's centre
    mask = (
        np.asarray(padded.transform(size, Image.Transform.AFFINE, grid, Image.Resampling.BILINEAR))
        >= 0.5
    )
    x, y = (np.arange(side) + 0.5 for side in size)
    return mask & ((y >= box[1]) & (y < box[3]))[:, None] & ((x >= box[0]) & (x < box[2]))


if __name__ == "__main__":
    folder, name, *rows = sys.argv[1:]
    masks, quality = segment(
        folder, Image.open(name), [[float(v) for v in row.split(",")] for row in rows]
    )
    print(
        json.dumps(
            [
                {"pixels": int(m.sum()), "score": round(float(q), 3)}
                for m, q in zip(masks, quality, strict=True)
            ]
        )
    )
