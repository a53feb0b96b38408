"""The try-out page's sample photographs and its YOLO download."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from starlette.testclient import TestClient

import halfmask
from halfmask.masks.rle import overlap, rle_of
from halfmask.web.segmenting import Segmenter
from halfmask.web.tryout_app import tryout_app
from halfmask.web.tryout_routes.samples import FOLDER, THUMBNAIL

from .test_tryout_app import picture, send


@pytest.fixture
def client(tiny_segmenter: Path) -> TestClient:
    return TestClient(tryout_app(Segmenter(str(tiny_segmenter), device="cpu")))


def rings(size: tuple[int, int]) -> list[dict[str, Any]]:
    """Compressed RLE of a disc with a hole, of two parts, and of one pixel."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    away = np.hypot(y - height / 2, x - width / 2)
    parts = (abs(x - 8) < 5) & (abs(y - 9) < 4) | (abs(x - 30) < 6) & (abs(y - 30) < 7)
    bitmaps = [(away < 15) & (away > 6), parts, (x == width - 1) & (y == height - 1)]
    return [rle_of(bitmap.astype(np.uint8), (0, 0), size) for bitmap in bitmaps]


def asked(masks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    objects = [{"number": k % 2, **mask} for k, mask in enumerate(masks)]
    return {"name": "my photo.jpg", "classes": ["cat", "yes"], "objects": objects} | more


def test_samples_are_shipped_photographs_with_sources(client: TestClient) -> None:
    items = client.get("/api/samples").json()["items"]
    assert len(items) == 6
    for item in items:
        whole = client.get(f"/api/samples/{item['name']}")
        assert (whole.headers["content-type"], whole.content) == (
            "image/jpeg",
            (FOLDER / item["name"]).read_bytes(),
        )
        width, height = Image.open(io.BytesIO(whole.content)).size
        small = client.get(f"/api/samples/{item['name']}/small")
        assert Image.open(io.BytesIO(small.content)).size == THUMBNAIL
        assert len(small.content) < 40_000
        assert item["boxes"]
        for box in item["boxes"]:
            x, y, w, h = box["box"]
            assert 0 <= x < x + w <= width + 0.01
            assert 0 <= y < y + h <= height + 0.01
            assert box["name"] in item["caption"]
        assert item["licence_url"] == "https://creativecommons.org/licenses/by/2.0/"
        number = item["source"].split("=")[1]
        assert number in (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for name in ("photos.json", "..%2fATTRIBUTION.md", "000000002592.jpg", "%00", "x" * 99):
        assert client.get(f"/api/samples/{name}").status_code in (404, 422)
        assert client.get(f"/api/samples/{name}/small").status_code in (404, 422)


@pytest.mark.parametrize("turn", [1, 6])
def test_a_yolo_download_comes_back_pixel_by_pixel(
    client: TestClient, tmp_path: Path, turn: int
) -> None:
    data = picture(turn)
    sent = send(client, data)
    size = (int(str(sent["height"])), int(str(sent["width"])))
    masks = rings(size)
    answer = client.post(f"/api/photos/{sent['photo']}/yolo", json=asked(masks))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.read("images/train/my photo.jpg") == data
        config = yaml.safe_load(archive.read("data.yaml"))
        archive.extractall(tmp_path / "yolo")
    assert config == {"train": "images/train", "val": "images/train", "names": {0: "cat", 1: "yes"}}
    halfmask.convert("yolo", tmp_path / "yolo", tmp_path / "coco.json")
    document = json.loads((tmp_path / "coco.json").read_text())
    [image] = document["images"]
    assert (image["height"], image["width"]) == size
    names = {category["id"]: category["name"] for category in document["categories"]}
    rows = document["annotations"]
    assert [names[row["category_id"]] for row in rows] == ["cat", "yes", "cat"]
    for row, mask in zip(rows, masks, strict=True):
        assert overlap(row["segmentation"], mask, size) == 1.0


def test_other_requests_for_yolo_are_refused(client: TestClient) -> None:
    sent = send(client, picture())
    address = f"/api/photos/{sent['photo']}/yolo"
    [mask, *_] = rings((48, 64))
    small = {"size": [2, 2], "counts": "04"}
    refused = {
        "48 × 64 pixels": asked(rings((64, 48))),
        "2 × 2 pixels": asked([small]),
        "malformed": asked([mask | {"counts": mask["counts"][:-3]}]),
        "single pixel": asked([mask | {"counts": "PPP"}]),
        "there are 1 classes": asked([mask, mask], classes=["cat"]),
    }
    for reason, body in refused.items():
        answer = client.post(address, json=body)
        assert answer.status_code == 422, reason
        if reason != "single pixel":
            assert reason in answer.json()["detail"]
    assert client.post("/api/photos/gone/yolo", json=asked([mask])).status_code == 404


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd.jpg"),
        ("a\\b\\c:d.JPG", "c_d.jpg"),
        ("é 猫.webp", "é 猫.webp"),
        ("", "photograph.jpg"),
        ("photograph", "photograph.jpg"),
        ("..jpg", "photograph.jpg"),
    ],
)
def test_names_in_the_archive_stay_inside_it(client: TestClient, given: str, kept: str) -> None:
    sent = send(client, picture())
    answer = client.post(f"/api/photos/{sent['photo']}/yolo", json=asked([], name=given))
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert f"images/train/{kept}" in archive.namelist()


def test_a_name_without_an_ending_gets_that_of_the_photograph(client: TestClient) -> None:
    for kind in ("PNG", "WEBP", "TIFF", "BMP"):
        out = io.BytesIO()
        Image.new("RGB", (64, 48)).save(out, kind)
        sent = send(client, out.getvalue())
        answer = client.post(f"/api/photos/{sent['photo']}/yolo", json=asked([], name="pasted"))
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            [name] = [one for one in archive.namelist() if one.startswith("images")]
            assert Image.open(io.BytesIO(archive.read(name))).format == kind
        assert Path(name).suffix == {"TIFF": ".tif"}.get(kind, f".{kind.lower()}")
