"""A small data set with a box without a mask in each photograph."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

RECIPE = """
name: tiny
model:
  kind: box_segmenter
  encoder: {{name: small_resnet, widths: [4, 6, 8], blocks: [1, 1, 1]}}
  crop_size: 32
  decoder_widths: [8, 6]
data: {{annotations: {folder}/data.json, images: {folder}/photos, masked_threshold: 1, workers: 0}}
stages: [{{name: one, train: [all], loss: masks, steps: 4, batch_size: 1, optimiser: {{lr: 0.01}}}}]
checkpoint_every: 2
loggers: []
"""


@dataclass(frozen=True)
class World:
    folder: Path
    data: Path
    photos: Path
    recipe: Path
    yolo: Path

    def contents(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Twelve photographs of 64 × 48, in each a masked cat and a dog without a mask; as
    COCO and as YOLO.
    """
    folder = tmp_path / "inputs"
    for name in ("photos", "yolo/images", "yolo/labels"):
        (folder / name).mkdir(parents=True)
    rows, images = [], []
    for i in range(1, 13):
        for place in (folder / "photos", folder / "yolo" / "images"):
            Image.new("RGB", (64, 48), (20 * i, 90, 60)).save(place / f"{i}.jpg")
        (folder / "yolo" / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.25 0.25\n" * 40)
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48})
        cat = {
            "id": 2 * i,
            "image_id": i,
            "category_id": 2,
            "bbox": [5, 4, 24, 30],
            "area": 312,
            "iscrowd": 0,
        }
        rows.append(cat | {"segmentation": [[5, 4, 29, 12, 17, 34]]})
        rows.append(
            {
                "id": 2 * i + 1,
                "image_id": i,
                "category_id": 5,
                "bbox": [20, 8, 30, 30],
                "iscrowd": 0,
            }
        )
    categories = [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}]
    data = folder / "data.json"
    data.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    (folder / "yolo" / "data.yaml").write_text("names: [cat]\n")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    return World(folder, data, folder / "photos", folder / "recipe.yaml", folder / "yolo")
