"""A Label Studio ML backend that turns drawn rectangles into masks.

`python -m halfmask.integrations.label_studio box-segmenter --label-studio URL` speaks
the protocol of Label Studio's backends (`/health`, `/setup`, `/predict`). It does not
use `label-studio-ml`, whose released version does not build on current Pythons.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Annotated, Any
from xml.etree.ElementTree import ParseError

import fastapi
import torch
import typer
import uvicorn
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from fastapi import responses
from PIL import Image, ImageOps

from halfmask.errors import InputError
from halfmask.formats.label_studio.brush import pack_brush
from halfmask.formats.shapes import pairs
from halfmask.inference.complete.filling import nonempty
from halfmask.inference.predictor import Predictor, load
from halfmask.integrations.label_studio_images import ImageSource
from halfmask.masks.outline import TOLERANCE, outlines
from halfmask.structures import Detection

CONFIDENCE = 0.5
"""Score below which a detection is left out."""
RECTANGLES = ("rectanglelabels", "rectangle")
MASKS = ("BrushLabels", "Brush", "PolygonLabels", "Polygon")
"""The tags that can hold a mask, best first."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Controls:
    """The tags of a labelling configuration for images and masks.

    Attributes:
        image: name of the Image tag.
        key: key of the image's address in a task's data.
        mask: name of the tag that takes masks.
        kind: result type of that tag: brushlabels, brush, polygonlabels or polygon.
    """

    image: str
    key: str
    mask: str
    kind: str


def read_controls(config: str) -> Controls:
    """Reads a labelling configuration.

    Raises:
        InputError: not XML, no image, or no tag for masks on it.
    """
    try:
        tags = list(fromstring(config, forbid_dtd=True).iter())
    except (ParseError, DefusedXmlException) as error:
        raise InputError(f"the labelling configuration is not XML: {error}") from error
    images = (tag for tag in tags if tag.tag == "Image")
    image = next((tag for tag in images if tag.get("value", "").startswith("$")), None)
    if image is None:
        raise InputError('the labelling configuration has no <Image value="$…"/>')
    name, key = image.get("name", ""), image.get("value", "")[1:]
    for kind in MASKS:
        for tag in tags:
            if tag.tag == kind and name in tag.get("toName", "").split(","):
                return Controls(name, key, tag.get("name", ""), kind.lower())
    raise InputError(
        "the labelling configuration has no tag for masks on its image: add <BrushLabels> or "
        "<PolygonLabels>"
    )


class Backend:
    """Answers Label Studio's requests with a model's masks.

    Args:
        predictor: draws the masks.
        source: fetches the images.
    """

    def __init__(self, predictor: Predictor, source: ImageSource) -> None:
        self.predictor, self.source = predictor, source
        self._lock = threading.Lock()  # one model, many requests

    def predict(self, request: Json) -> Json:
        """Answers `/predict` with masks for the new rectangles in `params.context`.

        Without such rectangles, the answer for each task has the objects that the model
        detects. If the model cannot detect, it has masks for the rectangles of the
        task's last annotation.

        Raises:
            InputError: a configuration without a tag for masks, or an image that cannot
                be fetched.
        """
        controls = read_controls(str(request.get("label_config") or ""))
        context = ((request.get("params") or {}).get("context") or {}).get("result") or []
        tasks = request.get("tasks") or []
        if context:
            return {"results": [self._filled(controls, tasks[0], context)] if tasks else []}
        return {"results": [self._of_task(controls, task) for task in tasks]}

    def _of_task(self, controls: Controls, task: Json) -> Json:
        if not self.predictor.can_detect:
            annotations = task.get("annotations") or [{}]
            return self._filled(controls, task, annotations[-1].get("result") or [])
        image = self._image(controls, task)
        with self._lock:
            found = self.predictor.detect(image, least_score=CONFIDENCE)
        found = found.select(found.labels > 0)
        names = [self.predictor.categories[label - 1]["name"] for label in found.labels.tolist()]
        return self._answer(controls, found, names)

    def _filled(self, controls: Controls, task: Json, regions: list[Json]) -> Json:
        """Masks for the rectangles among the regions of a task."""
        named = [r for r in regions if r.get("to_name") in (controls.image, None)]
        drawn = [r for r in named if r.get("type") in RECTANGLES]
        drawn = [r for r in drawn if not r["value"].get("rotation")]  # a box has no rotation
        if not drawn:
            return {"result": [], "model_version": self.predictor.identity}
        image = self._image(controls, task)
        names = [_label_of(region) for region in drawn]
        known = {c["name"]: i + 1 for i, c in enumerate(self.predictor.categories)}
        boxes = [_box(region["value"], image.size) for region in drawn]
        with self._lock:
            found = self.predictor.segment(
                image, boxes, [known.get(name or "", 0) for name in names]
            )
        return self._answer(controls, found, names)

    def _image(self, controls: Controls, task: Json) -> Image.Image:
        address = (task.get("data") or {}).get(controls.key)
        if not isinstance(address, str):
            raise InputError(
                f"task {task.get('id')}: its data has no {controls.key!r}, which the "
                "configuration shows"
            )
        # Browsers rotate a photograph by its EXIF data, and boxes are drawn on that.
        return ImageOps.exif_transpose(self.source.open(address))

    def _answer(self, controls: Controls, found: Detection, names: list[str | None]) -> Json:
        crops, scores = nonempty(found)
        height, width = found.image_size
        common = {
            "from_name": controls.mask,
            "to_name": controls.image,
            "type": controls.kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
        }
        rows: list[Json] = []
        for k, (name, score) in enumerate(zip(names, scores, strict=True)):
            named = name is not None and controls.kind.endswith("labels")
            label = {controls.kind: [name]} if named else {}
            for value in _values(controls, crops.select(torch.tensor([k]))):
                row = {"id": uuid.uuid4().hex[:10], **common, "value": {**value, **label}}
                rows.append({**row, "score": score})
        mean = sum(scores) / len(scores) if scores else 0.0
        return {"result": rows, "score": round(mean, 4), "model_version": self.predictor.identity}


def app(backend: Backend) -> Any:
    """Returns the FastAPI app."""
    out = fastapi.FastAPI(title="halfmask for Label Studio", docs_url=None, redoc_url=None)
    version = {"model_version": backend.predictor.identity}

    def refused(_: Any, error: Exception) -> Any:
        return responses.JSONResponse({"detail": str(error)}, status_code=400)

    def health() -> Json:
        return {"status": "UP", "model_class": "halfmask", **version}

    def setup() -> Json:
        return version

    def versions() -> Json:
        return {"versions": [backend.predictor.identity]}

    def predict(request: Json = fastapi.Body()) -> Json:  # noqa: B008 - FastAPI's way
        return backend.predict(request)

    def nothing() -> Json:
        return {}  # Label Studio reports every annotation; the model does not learn from it

    out.add_exception_handler(InputError, refused)
    for path in ("/", "/health"):
        out.get(path)(health)
    out.get("/versions")(versions)
    out.post("/setup")(setup)
    out.post("/predict")(predict)
    for path in ("/webhook", "/train"):
        out.post(path)(nothing)
    return out


def serve_backend(
    model: Annotated[
        str, typer.Argument(help="A checkpoint, a run's folder, or a shipped model's name.")
    ] = "box-segmenter",
    label_studio: Annotated[
        str, typer.Option(help="Address of Label Studio, whose uploaded images are fetched.")
    ] = "http://localhost:8080",
    token: Annotated[
        str,
        typer.Option(
            envvar="LABEL_STUDIO_API_KEY", help="Label Studio access token (legacy or personal)."
        ),
    ] = "",
    *,
    images: Annotated[
        str | None, typer.Option(help="Folder that Label Studio serves as local files.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another host to fetch images from; repeatable.")
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="A model that detects the boxes for MODEL.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9090,
) -> None:
    """Serves MODEL to Label Studio.

    Example: python -m halfmask.integrations.label_studio box-segmenter --token KEY
    """
    try:
        source = ImageSource(label_studio, token, images, frozenset(allow_host or ()))
        backend = Backend(load(model, detector, device), source)
        uvicorn.run(app(backend), host=host, port=port, log_level="info")
    except InputError as error:
        typer.echo(f"halfmask: {error}", err=True)
        raise typer.Exit(2) from error


def _box(value: Json, size: tuple[int, int]) -> list[float]:
    """Converts a rectangle in percent of the image to xyxy in pixels."""
    x, y, w, h = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    return [x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1]]


def _label_of(region: Json) -> str | None:
    names = region["value"].get("rectanglelabels") or region["value"].get("labels")
    return str(names[0]) if names else None


def _values(controls: Controls, mask: Any) -> list[Json]:
    """The values of one mask's regions: one brush, or polygons in percent of the image."""
    if controls.kind.startswith("brush"):
        return [{"format": "rle", "rle": pack_brush(mask.dense()[0].numpy())}]
    height, width = mask.image_size
    (bitmap,), ((x, y),) = mask.bitmaps(), mask.offsets.tolist()
    parts = [pairs(part) for part in outlines(bitmap.numpy(), (x, y), TOLERANCE)]
    shares = [[[100 * px / width, 100 * py / height] for px, py in part] for part in parts]
    return [{"points": points, "closed": True} for points in shares]


if __name__ == "__main__":
    typer.run(serve_backend)
