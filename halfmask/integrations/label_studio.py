"""A Label Studio ML backend: a person draws a rectangle with the smart tool, the mask
comes back.

`python -m halfmask.integrations.label_studio box-segmenter --label-studio URL` speaks
the protocol of Label Studio's backends (`/health`, `/setup`, `/predict`). It is an app
of its own: the released `label-studio-ml` does not build on the Pythons that halfmask
runs on.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Annotated, Any
from xml.etree import ElementTree

import torch
import typer
from PIL import Image, ImageOps

from halfmask.errors import InputError
from halfmask.formats.label_studio.brush import pack_brush
from halfmask.inference.complete.filling import nonempty
from halfmask.inference.predictor import Predictor, load
from halfmask.integrations.label_studio_images import ImageSource
from halfmask.masks.outline import outlines
from halfmask.structures import Detection

CONFIDENCE = 0.5
"""What a detector finds with less is left out."""
RECTANGLES = ("rectanglelabels", "rectangle")
MASKS = ("BrushLabels", "Brush", "PolygonLabels", "Polygon")
"""The tags that can hold a mask, best first."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Controls:
    """What of a labelling configuration matters here.

    Attributes:
        image: name of the Image tag.
        key: of the task's data that holds the image's address.
        mask: name of the tag that takes masks.
        kind: its result type: brushlabels, brush, polygonlabels or polygon.
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
        tags = list(ElementTree.fromstring(config).iter())
    except ElementTree.ParseError as error:
        raise InputError(f"the labelling configuration is not XML: {error}") from error
    image = next(
        (tag for tag in tags if tag.tag == "Image" and tag.get("value", "").startswith("$")), None
    )
    if image is None:
        raise InputError('the labelling configuration has no <Image value="$…"/>')
    for kind in MASKS:
        for tag in tags:
            if tag.tag == kind and image.get("name") in tag.get("toName", "").split(","):
                return Controls(
                    image.get("name", ""),
                    image.get("value", "")[1:],
                    tag.get("name", ""),
                    kind.lower(),
                )
    raise InputError(
        "the labelling configuration has no tag for masks on its image: add <BrushLabels> or "
        "<PolygonLabels>"
    )


class Backend:
    """Answers Label Studio's requests with a model's masks.

    Args:
        predictor: draws the masks.
        source: where images come from.
    """

    def __init__(self, predictor: Predictor, source: ImageSource) -> None:
        self.predictor, self.source = predictor, source
        self._lock = threading.Lock()  # one model, many requests

    def predict(self, request: Json) -> Json:
        """The answer to `/predict`: masks for the rectangles that a person has just
        drawn (`params.context`); without any, for each task what the model finds, or
        masks for the rectangles of the task's last annotation where it finds no boxes.

        Raises:
            InputError: a configuration without a tag for masks, or an image that cannot
                be had.
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
            found = self.predictor.detect(image)
        found = found.select((found.scores >= CONFIDENCE) & (found.labels > 0))
        names = [self.predictor.categories[label - 1]["name"] for label in found.labels.tolist()]
        return self._answer(controls, found, names)

    def _filled(self, controls: Controls, task: Json, regions: list[Json]) -> Json:
        """Masks for the rectangles among the regions of a task."""
        drawn = [
            r
            for r in regions
            if r.get("type") in RECTANGLES and r.get("to_name") in (controls.image, None)
        ]
        drawn = [r for r in drawn if not r["value"].get("rotation")]  # a turned rectangle is no box
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
        # Browsers turn a photograph as its EXIF data says, and boxes are drawn on what
        # they show.
        return ImageOps.exif_transpose(self.source.open(address))

    def _answer(self, controls: Controls, found: Detection, names: list[str | None]) -> Json:
        crops, scores = nonempty(found)
        height, width = found.image_size
        rows: list[Json] = []
        for k, (name, score) in enumerate(zip(names, scores, strict=True)):
            for value in _values(controls, crops.select(torch.tensor([k]))):
                if name is not None and controls.kind.endswith("labels"):
                    value[controls.kind] = [name]
                rows.append(
                    {
                        "id": uuid.uuid4().hex[:10],
                        "from_name": controls.mask,
                        "to_name": controls.image,
                        "type": controls.kind,
                        "original_width": width,
                        "original_height": height,
                        "image_rotation": 0,
                        "value": value,
                        "score": score,
                    }
                )
        mean = sum(scores) / len(scores) if scores else 0.0
        return {"result": rows, "score": round(mean, 4), "model_version": self.predictor.identity}


def app(backend: Backend) -> Any:
    """The FastAPI app.

    Raises:
        InputError: fastapi is not installed (extra `label-studio`).
    """
    try:
        from fastapi import Body, FastAPI
        from fastapi.responses import JSONResponse
    except ImportError as error:
        raise InputError('this needs fastapi: pip install "halfmask[label-studio]"') from error
    out = FastAPI(title="halfmask for Label Studio", docs_url=None, redoc_url=None)
    version = {"model_version": backend.predictor.identity}

    def refused(_: Any, error: Exception) -> Any:
        return JSONResponse({"detail": str(error)}, status_code=400)

    def health() -> Json:
        return {"status": "UP", "model_class": "halfmask", **version}

    def setup() -> Json:
        return version

    def versions() -> Json:
        return {"versions": [backend.predictor.identity]}

    def predict(request: Json = Body()) -> Json:  # noqa: B008 - FastAPI's way
        return backend.predict(request)

    def nothing() -> Json:
        return {}  # Label Studio tells of every annotation; nothing is learnt from it here

    out.add_exception_handler(InputError, refused)
    for path in ("/", "/health"):
        out.get(path)(health)
    out.get("/versions")(versions)
    out.post("/setup")(setup)
    out.post("/predict")(predict)
    for path in ("/webhook", "/train"):
        out.post(path)(nothing)
    return out


def serve(
    model: Annotated[str, typer.Argument(help="What halfmask.load takes.")] = "box-segmenter",
    label_studio: Annotated[
        str, typer.Option(help="Label Studio's address, whose uploaded images are fetched.")
    ] = "http://localhost:8080",
    token: Annotated[
        str,
        typer.Option(
            envvar="LABEL_STUDIO_API_KEY",
            help="An access token of Label Studio's (legacy or personal).",
        ),
    ] = "",
    images: Annotated[
        str | None, typer.Option(help="Folder that Label Studio serves as local files.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another host that images may be fetched from; may be repeated."),
    ] = None,
    detector: Annotated[
        str | None, typer.Option(help="A model that finds the boxes which MODEL fills.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 9090,
) -> None:
    """Serves MODEL to Label Studio. Example: python -m
    halfmask.integrations.label_studio box-segmenter --token KEY
    """
    try:
        try:
            import uvicorn
        except ImportError as error:
            raise InputError('this needs uvicorn: pip install "halfmask[label-studio]"') from error
        source = ImageSource(label_studio, token, images, frozenset(allow_host or ()))
        backend = Backend(load(model, detector, device), source)
        uvicorn.run(app(backend), host=host, port=port, log_level="info")
    except InputError as error:
        typer.echo(f"halfmask: {error}", err=True)
        raise typer.Exit(2) from error


def _box(value: Json, size: tuple[int, int]) -> list[float]:
    """xyxy in pixels of a rectangle in percent of the image."""
    x, y, w, h = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    return [x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1]]


def _label_of(region: Json) -> str | None:
    names = region["value"].get("rectanglelabels") or region["value"].get("labels")
    return str(names[0]) if names else None


def _values(controls: Controls, mask: Any) -> list[Json]:
    """The values of one mask's regions: one brush, or a polygon for each part, in
    percent of the image.
    """
    if controls.kind.startswith("brush"):
        return [{"format": "rle", "rle": pack_brush(mask.dense()[0].numpy())}]
    height, width = mask.image_size
    (bitmap,), ((x, y),) = mask.bitmaps(), mask.offsets.tolist()
    return [
        {
            "points": [
                [100 * px / width, 100 * py / height]
                for px, py in zip(part[::2], part[1::2], strict=True)
            ],
            "closed": True,
        }
        for part in outlines(bitmap.numpy(), (x, y))
    ]


if __name__ == "__main__":
    typer.run(serve)
