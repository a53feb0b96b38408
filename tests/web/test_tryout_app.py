"""The try-out page's server."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from halfmask.errors import InputError
from halfmask.masks.rle import overlap
from halfmask.web import surroundings
from halfmask.web import tryout_app as module
from halfmask.web.budget import RETRY_SECONDS
from halfmask.web.segmenting import LONGEST_QUEUE, BusyError, Segmenter
from halfmask.web.tryout_app import tryout_app

BYTES = {"content-type": "application/octet-stream"}


def picture(turn: int = 1) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(
        out, "JPEG", exif=exif
    )
    return out.getvalue()


@pytest.fixture
def segmenter_client(tiny_segmenter: Path) -> TestClient:
    return TestClient(tryout_app(Segmenter(str(tiny_segmenter), device="cpu")))


def send(client: TestClient, data: bytes) -> dict[str, object]:
    answer = client.post("/api/photos", content=data, headers=BYTES)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_box_gets_its_mask(segmenter_client: TestClient) -> None:
    model = segmenter_client.get("/api/model").json()
    assert (model["can_detect"], [c["name"] for c in model["categories"]]) == (
        False,
        ["cat", "dog", "tree"],
    )
    sent = send(segmenter_client, picture(6))
    assert (sent["width"], sent["height"]) == (48, 64)
    shown = segmenter_client.get(f"/api/photos/{sent['photo']}")
    assert Image.open(io.BytesIO(shown.content)).size == (48, 64)
    for label in (0, 2):
        answer = segmenter_client.post(
            f"/api/photos/{sent['photo']}/segment", json={"box": [5, 5, 30, 30], "label": label}
        )
        assert answer.json()["mask"]["size"] == [64, 48]
        assert answer.json()["label"] == label
    assert (
        segmenter_client.post(
            f"/api/photos/{sent['photo']}/segment", json={"box": [5, 5, 3, 3], "label": 4}
        ).status_code
        == 422
    )
    answer = segmenter_client.post(f"/api/photos/{sent['photo']}/detect", json={})
    assert (answer.status_code, "finds none itself" in answer.json()["detail"]) == (422, True)


def test_a_detector_finds_objects(tiny_detector: Path) -> None:
    client = TestClient(tryout_app(Segmenter(str(tiny_detector), device="cpu")))
    assert client.get("/api/model").json()["can_detect"]
    photo = send(client, picture())["photo"]
    found = client.post(f"/api/photos/{photo}/detect", json={"least": 0.0}).json()["items"]
    assert found
    assert [f["confidence"] for f in found] == sorted(
        (f["confidence"] for f in found), reverse=True
    )
    assert all(f["label"] in (1, 2, 3) and f["area"] > 0 for f in found)
    assert client.post(f"/api/photos/{photo}/detect", json={"least": 1.0}).json()["items"] == []


def test_other_files_are_refused(
    segmenter_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in (b"", b"text", picture()[:100]):
        assert segmenter_client.post("/api/photos", content=data, headers=BYTES).status_code == 422
    for photo in ("unknown", "..%2f..%2fetc", "%00"):
        assert segmenter_client.get(f"/api/photos/{photo}").status_code == 404
        assert (
            segmenter_client.post(
                f"/api/photos/{photo}/segment", json={"box": [1, 1, 2, 2]}
            ).status_code
            == 404
        )
        assert segmenter_client.post(f"/api/photos/{photo}/detect", json={}).status_code == 404
    monkeypatch.setattr(module, "MOST_PIXELS", 3000)
    answer = segmenter_client.post("/api/photos", content=picture(), headers=BYTES)
    assert (answer.status_code, "make it smaller" in answer.json()["detail"]) == (422, True)


def test_too_many_waiting_requests_are_refused(tiny_segmenter: Path) -> None:
    segmenter = Segmenter(str(tiny_segmenter), device="cpu")
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    for _ in range(LONGEST_QUEUE):
        assert segmenter._waiting.acquire(blocking=False)
    with pytest.raises(BusyError):
        segmenter.segment(pixels, (1, 1, 20, 20))
    segmenter._waiting.release()
    assert segmenter.segment(pixels, (1, 1, 20, 20)).area > 0


def test_of_a_large_photograph_the_model_sees_the_surroundings_only(
    tiny_segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    segmenter = Segmenter(str(tiny_segmenter), device="cpu")
    looked = []
    predictor = segmenter.predictor()
    real = predictor.segment
    monkeypatch.setattr(
        predictor,
        "segment",
        lambda image, *rest: looked.append(image.shape[:2]) or real(image, *rest),
    )
    for box in ((300.5, 200.0, 360.0, 290.5), (0.0, 0.0, 40.0, 30.0), (700.0, 560.0, 800.0, 600.0)):
        monkeypatch.setattr(surroundings, "WHOLE_PIXELS", 4_000_000)
        whole = segmenter.segment(pixels, box)
        monkeypatch.setattr(surroundings, "WHOLE_PIXELS", 1000)
        part = segmenter.segment(pixels, box)
        assert overlap(part.rle, whole.rle, (600, 800)) > 0.98  # but for rounding
        assert part.score == pytest.approx(whole.score, abs=0.01)
        assert part.box == whole.box
        assert looked[-2] == (600, 800)
        assert looked[-1][0] * looked[-1][1] < 600 * 800 / 4
    smooth = np.asarray(
        Image.fromarray(pixels).resize((40, 30)).resize((800, 600), Image.Resampling.BICUBIC)
    )
    box = (100.0, 80.0, 500.0, 400.0)
    whole = segmenter.segment(smooth, box)
    corner = (500.0, 350.0, 700.0, 550.0)
    in_corner = segmenter.segment(smooth, corner)
    monkeypatch.setattr(surroundings, "WINDOW_PIXELS", 300 * 200)
    small = segmenter.segment(smooth, box)
    assert looked[-1][0] * looked[-1][1] <= 300 * 201
    assert small.rle["size"] == [600, 800]
    assert overlap(small.rle, whole.rle, (600, 800)) > 0.95
    assert overlap(segmenter.segment(smooth, corner).rle, in_corner.rle, (600, 800)) > 0.9
    with pytest.raises(InputError, match="is not an xyxy box"):
        segmenter.segment(pixels, (900.0, 10.0, 950.0, 20.0))


def test_busy_is_503_and_says_when_to_come_again(
    tiny_segmenter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Segmenter(str(tiny_segmenter), device="cpu")

    def busy(*_: object, **__: object) -> None:
        raise BusyError

    monkeypatch.setattr(segmenter, "segment_in", busy)
    client = TestClient(tryout_app(segmenter))
    photo = send(client, picture())["photo"]
    answer = client.post(f"/api/photos/{photo}/segment", json={"box": [1, 1, 20, 20]})
    assert (answer.status_code, int(answer.headers["retry-after"])) == (503, RETRY_SECONDS)
    assert "try again in a few seconds" in answer.json()["detail"]


def test_a_photograph_that_is_gone_can_be_sent_again(tiny_segmenter: Path) -> None:
    client = TestClient(tryout_app(Segmenter(str(tiny_segmenter), device="cpu")))
    for method, path in (("GET", ""), ("POST", "/segment"), ("POST", "/detect")):
        body = {"box": [1, 1, 2, 2]} if path == "/segment" else {}
        answer = client.request(method, f"/api/photos/gone{path}", json=body)
        assert (answer.status_code, "open it again" in answer.json()["detail"]) == (404, True)
