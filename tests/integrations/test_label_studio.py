"""The Label Studio backend over HTTP, and its brush code against the SDK's own decoder."""

import base64
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from halfmask.errors import InputError
from halfmask.formats.label_studio.brush import pack_brush
from halfmask.inference.predictor import load
from halfmask.integrations.label_studio import Backend, app, read_controls
from halfmask.integrations.label_studio_images import ImageSource

torch.set_num_threads(1)

CONFIG = """<View><Image name="img" value="$photo"/>
<{kind} name="mask" toName="img"><Label value="cat"/></{kind}>
<RectangleLabels name="box" toName="img" smart="true"><Label value="cat"/></RectangleLabels></View>"""
BRUSH = CONFIG.format(kind="BrushLabels")


def decoded(code: list[int]) -> np.ndarray:
    """Label Studio's reading of its code, bit by bit."""
    bits, at = "".join(f"{byte:08b}" for byte in code), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < total:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        out += [read(word)] * length if repeated else [read(word) for _ in range(length)]
    assert len(out) == total
    assert len(bits) - at < 8
    return np.array(out, dtype=np.uint8)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_brush_code(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    values = decoded(pack_brush(mask)).reshape(height, width, 4)
    assert np.array_equal(values, np.repeat(mask[:, :, None] * np.uint8(255), 4, axis=2))


def test_brush_code_of_long_runs() -> None:
    mask = np.zeros((300, 200), dtype=bool)  # 240,000 values: several runs of the longest kind
    mask[250:] = True
    assert np.array_equal(decoded(pack_brush(mask)).reshape(300, 200, 4)[:, :, 3] > 0, mask)


def test_brush_code_is_the_sdks() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    rng = np.random.default_rng(0)
    for mask in (
        rng.random((37, 53)) < 0.3,
        np.ones((9, 7), bool),
        np.zeros((9, 7), bool),
        np.eye(300, dtype=bool),
    ):
        theirs = brush.decode_rle(pack_brush(mask)).reshape(*mask.shape, 4)
        assert np.array_equal(theirs[:, :, 3] > 0, mask)
        code = brush.mask2rle(mask.astype(np.uint8) * 255)
        assert pack_brush(mask) == code[: len(pack_brush(mask))]
        assert code[len(pack_brush(mask)) :] in ([], [0]), (
            "theirs fills up to a byte even where it is full"
        )


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


def png(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.fixture
def studio(photo: Image.Image) -> Iterator[str]:
    """A Label Studio that gives one image to who has a token, legacy or personal, and
    points from elsewhere to it.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", self.headers["Host"].join(["http://", "/open"]))
                self.end_headers()
                return
            known = self.headers.get("Authorization") in ("Token key", "Bearer fresh")
            # What is redirected must come without the token.
            fine = (
                known
                if self.path == "/data/upload/1.png"
                else self.headers.get("Authorization") is None
            )
            self._answer(200 if fine else 401, png(photo))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200 if body == b'{"refresh": "a.b.c"}' else 401, b'{"access": "fresh"}')

        def _answer(self, code: int, body: bytes) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def client(model: Path, source: ImageSource, detector: Path | None = None) -> Any:
    from fastapi.testclient import TestClient

    return TestClient(app(Backend(load(model, detector, "cpu"), source)))


def rectangle(label: str = "cat", **changes: Any) -> dict[str, Any]:
    value = {
        "x": 6.25,
        "y": 12.5,
        "width": 50.0,
        "height": 75.0,
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return {
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "img",
        "value": value | changes,
    }


def request(
    config: str, address: str, context: list[Any] | None = None, **task: Any
) -> dict[str, Any]:
    params = {} if context is None else {"context": {"result": context}}
    return {
        "tasks": [{"id": 5, "data": {"photo": address}, **task}],
        "label_config": config,
        "params": params,
    }


def data_url(image: Image.Image, **options: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(png(image, **options)).decode()


@pytest.mark.parametrize("token", ["key", "a.b.c"])
def test_a_rectangle_comes_back_as_a_brush(
    tiny_segmenter: Path, studio: str, photo: Image.Image, token: str
) -> None:
    web = client(tiny_segmenter, ImageSource(studio, token))
    assert web.get("/health").json()["status"] == "UP"
    name = load(tiny_segmenter).identity
    assert web.post("/setup", json={"schema": BRUSH}).json() == {"model_version": name}
    answer = web.post("/predict", json=request(BRUSH, "/data/upload/1.png", [rectangle()]))
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    (region,) = result["result"]
    drawn = load(tiny_segmenter).segment(photo, [[4, 6, 36, 42]], [1])
    assert np.array_equal(
        decoded(region["value"]["rle"]).reshape(48, 64, 4)[:, :, 3] > 0, drawn.masks()[0].numpy()
    )
    assert region["value"]["brushlabels"] == ["cat"]
    assert region["value"]["format"] == "rle"
    assert (region["from_name"], region["to_name"], region["type"]) == (
        "mask",
        "img",
        "brushlabels",
    )
    assert (region["original_width"], region["original_height"]) == (64, 48)
    assert region["score"] == pytest.approx(float(drawn.quality[0]), abs=1e-4)
    assert result["model_version"] == name
    assert web.post("/webhook", json={"action": "ANNOTATION_CREATED"}).json() == {}


def test_polygons_in_percent(tiny_segmenter: Path, photo: Image.Image) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    web = client(tiny_segmenter, ImageSource("http://localhost:1"))
    config = CONFIG.format(kind="PolygonLabels")
    (result,) = web.post(
        "/predict", json=request(config, data_url(photo), [rectangle("owl")])
    ).json()["results"]
    parts = [
        [v for x, y in r["value"]["points"] for v in (x * 0.64, y * 0.48)] for r in result["result"]
    ]
    drawn = load(tiny_segmenter).segment(photo, [[4, 6, 36, 42]], [0]).masks()[0].numpy()
    given = coco.decode(coco.merge(coco.frPyObjects(parts, 48, 64))).astype(bool)
    assert (given & drawn).sum() / (given | drawn).sum() >= 0.97  # few points, see `outlines`
    assert {tuple(r["value"]["polygonlabels"]) for r in result["result"]} == {("owl",)}


def test_a_rotated_photograph(tiny_segmenter: Path, photo: Image.Image) -> None:
    """A browser shows it upright, so the rectangle is of the upright one."""
    exif = Image.Exif()
    exif[0x0112] = 6
    web = client(tiny_segmenter, ImageSource("http://localhost:1"))
    answer = web.post(
        "/predict", json=request(BRUSH, data_url(photo, exif=exif), [rectangle()])
    ).json()
    region = answer["results"][0]["result"][0]
    assert (region["original_width"], region["original_height"]) == (48, 64)


def test_tasks_without_a_fresh_rectangle(
    tiny_segmenter: Path, tiny_detector: Path, photo: Image.Image
) -> None:
    web = client(tiny_segmenter, ImageSource("http://localhost:1"))
    own = [{"result": [rectangle(), rectangle(rotation=20), {"type": "choices", "value": {}}]}]
    (result,) = web.post("/predict", json=request(BRUSH, data_url(photo), annotations=own)).json()[
        "results"
    ]
    assert len(result["result"]) == 1, "of the last annotation; a turned rectangle is no box"
    (nothing,) = web.post("/predict", json=request(BRUSH, data_url(photo))).json()["results"]
    assert nothing["result"] == []
    finds = client(tiny_segmenter, ImageSource("http://localhost:1"), tiny_detector)
    (found,) = finds.post("/predict", json=request(BRUSH, data_url(photo))).json()["results"]
    seen = load(tiny_segmenter, tiny_detector).detect(photo)
    assert len(found["result"]) == int((seen.scores >= 0.5).sum())


def test_images_come_from_where_they_may(tmp_path: Path, studio: str, photo: Image.Image) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a b.png").write_bytes(png(photo))
    (tmp_path / "secret.png").write_bytes(png(photo))
    source = ImageSource(studio, "key", str(tmp_path / "served"))
    assert source.open("/data/local-files/?d=a%20b.png").size == (64, 48)
    assert source.open(studio + "/data/upload/1.png").size == (64, 48)
    assert source.open("/moved").size == (64, 48), "a redirect is followed, without the token"
    other = studio.replace("127.0.0.1", "localhost")
    for address, message in (
        ("/data/local-files/?d=../secret.png", "no such file below"),
        ("/data/local-files/?d=none.png", "no such file below"),
        (other + "/data/upload/1.png", r"to allow localhost:\d+: --allow-host"),
        ("file:///etc/hostname", "to allow file: --allow-host"),
        ("data:image/png;base64,AAAA", "expected a picture, cannot read it"),
        ("data:image/png;base64,%%", "not base64"),
    ):
        with pytest.raises(InputError, match=message):
            source.open(address)
    with pytest.raises(InputError, match=r"answers 401 .*--token"):
        ImageSource(studio).open("/data/upload/1.png")
    with pytest.raises(InputError, match=r"answers 401"):
        ImageSource(studio, "key", hosts=frozenset({"localhost"})).open(
            other + "/data/upload/1.png"
        )
    assert "key" not in repr(source)
    with pytest.raises(InputError, match="no answer"):
        ImageSource("http://127.0.0.1:1").open("/x.png")


def test_configurations(tiny_segmenter: Path, photo: Image.Image) -> None:
    both = '<View><Image name="i" value="$x"/><PolygonLabels name="p" toName="i"/><Brush name="b" toName="i"/></View>'
    assert read_controls(both).mask == "b"
    web = client(tiny_segmenter, ImageSource("http://localhost:1"))
    for config, message in (
        ("<View", "not XML"),
        ("<View/>", "no <Image"),
        (
            '<View><Image name="i" value="$x"/><BrushLabels name="b" toName="other"/></View>',
            "no tag for masks",
        ),
    ):
        answer = web.post("/predict", json=request(config, data_url(photo), [rectangle()]))
        assert answer.status_code == 400
        assert message in answer.json()["detail"]
    lacks = request(BRUSH, "", [rectangle()])
    lacks["tasks"][0]["data"] = {"other": 1}
    assert "no 'photo'" in web.post("/predict", json=lacks).json()["detail"]
    assert web.post("/predict", json={"tasks": [], "label_config": BRUSH}).json() == {"results": []}
