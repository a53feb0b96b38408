"""SAM and SAM 2 behind `segment`, with tiny networks of random weights that
transformers itself wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from halfmask.errors import InputError
from halfmask.inference.predictor import load
from halfmask.models.fixed.sam import CELLS, SamSegmenter

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

SIDE = 128
BOXES = torch.tensor([[10, 20, 150, 140.0], [0, 0, 200, 150], [30.5, 40.2, 60, 90]])
FAMILIES = ("sam", "sam2")


@pytest.fixture
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    return noise.resize((200, 150), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("family", FAMILIES)
def test_masks_and_scores_are_those_of_transformers(
    sam_folders: Path, photo: Image.Image, family: str
) -> None:
    """The same best mask and score as the network's whole forward and its processor's
    post-processing, within the box.
    """
    drawn = load(f"{family}:{sam_folders / family}").segment(photo, BOXES)
    model, processor = (
        getattr(transformers, family.capitalize() + kind) for kind in ("Model", "Processor")
    )
    network, prepare = (kind.from_pretrained(sam_folders / family) for kind in (model, processor))
    inputs = prepare(images=photo, input_boxes=[BOXES.tolist()], return_tensors="pt")
    with torch.no_grad():
        out = network(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"])
    sizes = [inputs[key] for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
    full = prepare.post_process_masks(out.pred_masks, *sizes)[0]
    assert torch.allclose(drawn.quality, out.iou_scores[0].max(1).values.clamp(0, 1), atol=1e-6)
    best = out.iou_scores[0].argmax(1)
    for k, (x0, y0, x1, y1) in enumerate(BOXES.round().int().tolist()):
        theirs, ours = full[k, best[k], y0:y1, x0:x1], drawn.masks()[k, y0:y1, x0:x1]
        assert (theirs & ours).sum() / (theirs | ours).sum() > 0.97
        assert drawn.masks()[k].sum() == ours.sum(), "nothing beyond the box"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(200, 150), (90, 300), (20, 60)])
def test_pixels_lie_where_the_network_saw_them(
    sam_folders: Path, family: str, size: tuple[int, int]
) -> None:
    """A network that answers with the ellipse in each box, in its own square: so it
    comes back in the image's pixels.
    """
    predictor = load(f"{family}:{sam_folders / family}")
    assert isinstance(predictor.model, SamSegmenter)
    predictor.model.network.forward = ellipses  # type: ignore[assignment]
    width, height = size
    boxes = torch.tensor([[0.1, 0.2, 0.9, 0.8], [0, 0, 1, 1]]) * torch.tensor([width, height] * 2)
    drawn = predictor.segment(np.zeros((height, width, 3), np.uint8), boxes)
    assert torch.allclose(drawn.quality, torch.full((2,), 0.9))
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    for mask, (x0, y0, x1, y1) in zip(drawn.masks(), boxes.tolist(), strict=True):
        across = (x * 2 - x0 - x1) / (x1 - x0)
        truth = across[None] ** 2 + ((y * 2 - y0 - y1) / (y1 - y0))[:, None] ** 2 <= 1
        both, either = (truth & mask).sum(), (truth | mask).sum()
        assert both / either > 0.97 or either - both <= 2


def ellipses(input_boxes: torch.Tensor, **_: Any) -> SimpleNamespace:
    boxes, centres = input_boxes[0][:, :, None], (torch.arange(CELLS) + 0.5) / CELLS * SIDE
    x, y = (
        (centres * 2 - boxes[:, a] - boxes[:, a + 2])
        / (boxes[:, a + 2] - boxes[:, a]).clamp_min(1e-3)
        for a in (0, 1)
    )
    inside = 20 * (1 - (x[:, None] ** 2 + y[:, :, None] ** 2).sqrt())
    nothing = torch.full_like(inside, -1.0)
    scores = torch.tensor([0.1, 0.9, 0.2]).repeat(1, len(inside), 1)
    return SimpleNamespace(
        pred_masks=torch.stack([nothing, inside, nothing], 1)[None], iou_scores=scores
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_encoded_once(sam_folders: Path, photo: Image.Image, family: str) -> None:
    predictor = load(f"{family}:{sam_folders / family}")
    network: Any = predictor.model.parts()["sam"]
    calls: list[int] = []
    encode = network.get_image_embeddings
    network.get_image_embeddings = lambda *a, **k: calls.append(1) or encode(*a, **k)
    many = BOXES.repeat(40, 1)  # more than go through the decoder together
    drawn = predictor.segment(photo, many)
    assert len(calls) == 1
    again = predictor.segment(photo, many[:1])
    assert len(calls) == 1, "the last image's embedding is kept"
    assert torch.allclose(again.mask_probs[0], drawn.mask_probs[0], atol=1e-5)
    assert torch.allclose(drawn.mask_probs[:3], drawn.mask_probs[-3:], atol=1e-5)
    empty = predictor.segment(photo.rotate(180), torch.zeros((0, 4)))
    assert len(empty) == 0
    assert len(calls) == 1, "no box, no encoder"
    other = predictor.segment(photo.rotate(180), many[:1])
    assert len(calls) == 2
    assert not torch.equal(other.mask_probs, again.mask_probs)


def test_loose_boxes_let_masks_go_beyond(sam_folders: Path, photo: Image.Image) -> None:
    predictor = load(f"sam2:{sam_folders / 'sam2'}")
    assert predictor.knows_loose_boxes
    tight, loose = (predictor.segment(photo, BOXES, loose=value) for value in (False, True))
    assert loose.reach == 0.1
    assert tight.reach == 0
    assert (loose.masks()[0].sum() > tight.masks()[0].sum()).item()
    assert torch.equal(loose.quality, tight.quality)


def test_a_video_models_weights_are_taken(sam_folders: Path, photo: Image.Image) -> None:
    """SAM 2.1's repositories hold video models, with more weights than images need."""
    assert (
        json.loads((sam_folders / "sam2_video" / "config.json").read_text())["model_type"]
        == "sam2_video"
    )
    predictor = load(f"sam2:{sam_folders / 'sam2_video'}")
    assert len(predictor.segment(photo, BOXES)) == 3


def test_what_pins_it_down(sam_folders: Path) -> None:
    first, second = (load(f"sam2:{sam_folders / name}") for name in ("sam2", "sam2_video"))
    assert first.name == "sam2:sam2", "no folder of this machine"
    assert len(first.digest) == 12
    assert second.digest != first.digest
    assert not first.categories
    assert not first.can_detect
    owned = sum(p.numel() for part in first.model.parts().values() for p in part.parameters())
    assert owned == sum(p.numel() for p in first.model.parameters())


def test_names_that_are_no_sam(
    sam_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name, message in (
        (f"sam:{sam_folders / 'sam2'}", "expected a model of type sam, found sam2"),
        (f"sam2:{sam_folders / 'sam'}", "expected a model of type sam2 or sam2_video, found sam"),
        (
            "sam2:nobody/nothing-of-the-kind",
            r"neither a folder here nor a model.*`hf download nobody/nothing-of",
        ),
        ("sam:", "names no model after the colon"),
        (f"sam:{tmp_path}", "expected a model of type sam, found no model"),
    ):
        with pytest.raises(InputError, match=message):
            load(name)


def test_weights_that_lack_something_are_refused(sam_folders: Path, tmp_path: Path) -> None:
    """transformers would fill them with noise and go on."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(sam_folders / "sam", tmp_path / "sam")
    path = tmp_path / "sam" / "model.safetensors"
    state = load_file(path)
    lost = next(key for key in sorted(state) if key.startswith("mask_decoder"))
    save_file(
        {key: value for key, value in state.items() if key != lost}, path, metadata={"format": "pt"}
    )
    with pytest.raises(InputError, match=f"its weights lack {lost}"):
        load(f"sam:{tmp_path / 'sam'}")


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install \"halfmask\[sam\]\""):
        load("sam:facebook/sam-vit-base")
