"""CVAT's auto-annotation with cvat-cli's loader and the SDK's driver; the server is a stub."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from halfmask.errors import InputError
from halfmask.inference.predictor import load

cvataa = pytest.importorskip("cvat_sdk.auto_annotation")
from cvat_sdk import models  # noqa: E402
from cvat_sdk.auto_annotation import driver  # noqa: E402
from cvat_sdk.datasets import FrameAnnotations, Sample  # noqa: E402
from cvat_sdk.masks import decode_mask  # noqa: E402

from halfmask.integrations.cvat import create, fill_task  # noqa: E402

torch.set_num_threads(1)

MODULE = "halfmask.integrations.cvat"
NAMES = ("cat", "dog", "tree", "owl")
BOXES = [[4, 4, 30, 36], [10, 8, 40, 20]]


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))


class Server:
    """A client, and the data set of a task of one frame, that remembers what was uploaded."""

    def __init__(
        self, image: Image.Image, shapes: list[Any] | None = None, kinds: str = "any"
    ) -> None:
        self.logger = logging.getLogger("test")
        self.uploaded: list[Any] = []
        self.tasks = SimpleNamespace(api=self)
        self.labels = [
            models.Label(id=100 + k, name=name, type=kinds, attributes=[], sublabels=[])
            for k, name in enumerate(NAMES)
        ]
        media = SimpleNamespace(load_image=lambda: image)
        annotations = FrameAnnotations(shapes=shapes or [])
        self.samples = [
            Sample(frame_index=7, frame_name="photos/1.png", annotations=annotations, media=media)
        ]

    def partial_update_annotations(
        self, action: str, task_id: int, patched_labeled_data_request: Any
    ) -> None:
        assert (action, task_id) == ("create", 3)
        self.uploaded += patched_labeled_data_request.shapes


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, image: Image.Image) -> Callable[..., Server]:
    def make(**options: Any) -> Server:
        out = Server(image, **options)
        for place in (
            "cvat_sdk.auto_annotation.driver.TaskDataset",
            "cvat_sdk.datasets.TaskDataset",
        ):
            monkeypatch.setattr(place, lambda *a, **k: out)
        return out

    return make


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    rows = [
        {"id": k, "image_id": 1, "category_id": c, "bbox": list(box), "iscrowd": crowd}
        for k, (c, box, crowd) in enumerate(
            [(5, BOXES[0], 0), (9, BOXES[1], 0), (5, BOXES[0], 1)], start=1
        )
    ]
    rows.append(rows[0] | {"id": 9, "segmentation": [[5, 5, 20, 5, 12, 20]]})
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 48}],
        "annotations": rows,
        "categories": [{"id": 5, "name": "dog"}, {"id": 9, "name": "owl"}],
    }
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    return path


def pixels(shape: Any) -> np.ndarray:
    return decode_mask(shape.points, image_width=64, image_height=48)


def test_a_detectors_objects(
    server: Callable[..., Server], tiny_detector: Path, tiny_segmenter: Path, image: Image.Image
) -> None:
    function = create(model=str(tiny_segmenter), detector=str(tiny_detector))
    assert isinstance(function.spec, cvataa.DetectionFunctionSpec)
    assert [label.name for label in function.spec.labels] == ["cat", "dog", "tree"]
    task = server()
    driver.annotate_task(task, 3, function, conf_threshold=0.0)
    found = load(tiny_segmenter, tiny_detector).detect(image)
    assert len(task.uploaded) == len(found) > 0
    for shape, label, score, mask in zip(
        task.uploaded, found.labels, found.scores, found.masks(), strict=True
    ):
        assert shape.type.value == "mask"
        assert shape.label_id == 99 + int(label), "the task's id of the class"
        assert shape.frame == 7
        assert shape.score == pytest.approx(float(score))
        if mask.any():
            assert np.array_equal(pixels(shape), mask.numpy())
    none = server()
    driver.annotate_task(none, 3, function, conf_threshold=1.0)
    assert none.uploaded == []


@pytest.mark.parametrize("polygons", [False, True])
def test_the_boxes_of_a_file(
    server: Callable[..., Server],
    tiny_segmenter: Path,
    coco: Path,
    image: Image.Image,
    polygons: bool,
) -> None:
    loader = pytest.importorskip("cvat_cli._internal.common").FunctionLoader
    parameters = {"model": str(tiny_segmenter), "boxes": str(coco)}
    function = loader(
        function_module=MODULE, function_file=None, function_parameters=parameters
    ).load()
    task = server()
    driver.annotate_task(task, 3, function, conv_mask_to_poly=polygons)
    corners = [[x, y, x + w, y + h] for x, y, w, h in BOXES]
    drawn = load(tiny_segmenter).segment(image, corners, [2, 0])
    assert {shape.label_id for shape in task.uploaded} == {101, 103}, (
        "the crowd and the mask that is there: left alone"
    )
    for label, mask in zip((101, 103), drawn.masks().numpy(), strict=True):
        shapes = [s for s in task.uploaded if s.label_id == label]
        if polygons:
            coco_mask = pytest.importorskip("pycocotools.mask")
            parts = coco_mask.merge(coco_mask.frPyObjects([s.points for s in shapes], 48, 64))
            pixels_of_parts = coco_mask.decode(parts).astype(bool)
            common, either = pixels_of_parts & mask, pixels_of_parts | mask
            assert common.sum() >= 0.97 * either.sum()
            assert {s.type.value for s in shapes} == {"polygon"}
            assert len({getattr(s, "group", 0) for s in shapes}) == 1
        else:
            assert np.array_equal(pixels(shapes[0]), mask)


def test_a_file_of_other_frames(tiny_segmenter: Path, coco: Path, image: Image.Image) -> None:
    function = create(model=str(tiny_segmenter), boxes=str(coco))
    context = SimpleNamespace(frame_name="2.png", conf_threshold=None, conv_mask_to_poly=False)
    assert function.detect(context, image) == []
    context.frame_name = "1.png"
    with pytest.raises(InputError, match=r"frame 1.png: 9 × 9 pixels, .* says 64 × 48"):
        function.detect(context, image.resize((9, 9)))
    context.conf_threshold = 1.0
    assert function.detect(context, image) == []


def test_a_person_draws_a_box(tiny_segmenter: Path, image: Image.Image) -> None:
    """Through the code of cvat-cli's agent, a worker's two ways: the image anew, and
    kept from the last box.
    """
    agent = pytest.importorskip("cvat_cli._internal.agent_driver_interaction")
    from cvat_cli._internal.agent_driver import set_worker_current_function

    function = create(model=str(tiny_segmenter))
    fields = agent.AgentInteractionFunctionDriver.get_remote_function_fields(function.spec)
    assert fields == {"min_pos_points": 0, "startswith_box": True}
    set_worker_current_function(function)
    agent.AgentInteractionFunctionDriver.init_worker(None)
    prompts = SimpleNamespace(pos_points=(), neg_points=(), bounding_box=((4.0, 4.0), (34.0, 40.0)))
    drawn = load(tiny_segmenter).segment(image, [[4, 4, 34, 40]])
    assert agent._worker_job_interact_from_cache("frame", prompts) is None
    for found in (
        agent._worker_job_interact("frame", image, prompts),
        agent._worker_job_interact_from_cache("frame", prompts),
    ):
        (shape,) = found
        assert isinstance(shape, cvataa.InteractionResultShape)
        assert np.array_equal(pixels(shape), drawn.masks()[0].numpy())
        assert float(shape.attributes[0].value) == pytest.approx(float(drawn.quality[0]), abs=1e-4)
    prompts.bounding_box = None
    with pytest.raises(InputError, match="no box was drawn"):
        agent._worker_job_interact_from_cache("frame", prompts)
    prompts.bounding_box = ((70.0, 4.0), (90.0, 9.0))
    with pytest.raises(InputError, match="is not an xyxy box within the image"):
        agent._worker_job_interact_from_cache("frame", prompts)


def rectangle(
    label: int, points: list[float], rotation: float = 0.0, kind: str = "rectangle"
) -> Any:
    return models.LabeledShape(
        id=1, type=kind, frame=7, label_id=label, points=points, rotation=rotation
    )


def test_a_tasks_own_rectangles(
    server: Callable[..., Server], tiny_segmenter: Path, image: Image.Image
) -> None:
    shapes = [
        rectangle(101, [4, 4, 34, 40]),
        rectangle(103, [-5, 8, 50, 28]),
        rectangle(101, [4, 4, 34, 40], rotation=30.0),
        rectangle(101, [100, 100, 130, 120]),
        rectangle(101, [1, 1, 9, 1, 5, 9], kind="polygon"),
    ]
    task = server(shapes=shapes)
    done = fill_task(task, 3, str(tiny_segmenter))
    assert (done.masks, done.left_alone) == (2, 2)
    drawn = load(tiny_segmenter).segment(image, [[4, 4, 34, 40], [0, 8, 50, 28]], [2, 0])
    for shape, label, mask in zip(task.uploaded, (101, 103), drawn.masks(), strict=True):
        assert (shape.label_id, shape.frame, shape.type.value) == (label, 7, "mask")
        assert np.array_equal(pixels(shape), mask.numpy())
    empty = server()
    assert fill_task(empty, 3, str(tiny_segmenter)).masks == 0
    with pytest.raises(InputError, match="label 'dog' allows no masks"):
        fill_task(server(shapes=shapes, kinds="rectangle"), 3, str(tiny_segmenter))


def test_invalid_arguments_of_create(
    tiny_segmenter: Path, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="boxes and detector both"):
        create(model=str(tiny_segmenter), boxes=str(coco), detector=str(tiny_segmenter))
    import sys

    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", None)
    with pytest.raises(InputError, match=r"halfmask\[cvat\]"):
        create(model=str(tiny_segmenter))
