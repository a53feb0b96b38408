"""The second look at a mask's border: what it sees, when it learns, what it corrects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.masks.crops import MaskCrops, iou
from halfmask.models.box_segmenter.border import BorderLook, fine_pixels
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.recipes.recipe import BoxSegmenterConfig
from halfmask.structures import Target

torch.set_num_threads(1)

BOXES = torch.tensor([[10.0, 12.0, 50.0, 44.0], [30.0, 20.0, 70.0, 60.0]])
BORDER = {"width": 16, "blocks": 2}


def build(border: dict[str, Any] | None = BORDER, **changes: Any) -> BoxSegmenter:
    torch.manual_seed(0)
    values = {
        "kind": "box_segmenter",
        "encoder": {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]},
        "crop_size": 32,
        "decoder_widths": [24, 16, 12],
        "mirror": True,
        "zooms": [0.1, 0.3],
        "border": border,
    }
    return build_box_segmenter(BoxSegmenterConfig.model_validate(values | changes), 3)


def test_it_starts_as_no_change() -> None:
    look = BorderLook([6, 8], 16, 3).eval()
    first = torch.rand(2, 8, 8)
    maps = torch.rand(2, 6, 8, 8), torch.rand(2, 8, 8, 8)
    found = look(torch.rand(2, 4, 32, 32), first, maps)
    wanted = F.interpolate(first[:, None].logit(1e-3), size=(16, 16), mode="bilinear")[:, 0]
    assert torch.allclose(found, wanted, atol=1e-4)
    first[:] = 0  # sure cells stay finite
    assert bool(look(torch.rand(2, 4, 32, 32), first, maps).isfinite().all())


def test_the_shipped_width_is_small() -> None:
    assert sum(p.numel() for p in BorderLook([16, 24], 24, 4).parameters()) < 500_000


def test_pixels_are_read_finely_about_the_closest_context() -> None:
    model = build()
    image = torch.rand(3, 70, 80)
    pixels = fine_pixels(model, model.reader.pyramid(image), BOXES)
    assert pixels.shape == (2, 4, 4 * model.mask_size, 4 * model.mask_size)
    mean = F.avg_pool2d(pixels[:, 3:], 4)[:, 0]
    share = 1 / 1.2**2  # of the box, with a tenth of its side around it
    assert mean.mean((1, 2)).tolist() == pytest.approx([share, share], abs=0.01)


def test_masks_are_corrected_and_features_stay() -> None:
    """The score's features are those of the first mask."""
    plain, model = build(None).eval(), build().eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    image = torch.rand(3, 70, 80)
    (before, marks), (after, same) = (
        m.segment_with_features([image], [BOXES])[0] for m in (plain, model)
    )
    assert torch.allclose(marks, same, atol=1e-5)
    size = 2 * model.mask_size
    assert after.mask_probs.shape == (2, size, size)
    assert float((before.masks() ^ after.masks()).float().mean()) < 0.02, "no change yet"
    assert model.border is not None
    assert model.border.last.bias is not None
    with torch.no_grad():
        model.border.last.bias.fill_(-30)
    assert int(model.segment([image], [BOXES])[0].masks().sum()) == 0


def test_the_boxes_of_a_batch_do_not_mix() -> None:
    model = build().eval()
    assert model.border is not None
    with torch.no_grad():
        torch.nn.init.normal_(model.border.last.weight)
    images = [torch.rand(3, 70, 80), torch.rand(3, 64, 90)]
    many = [BOXES.repeat(20, 1), BOXES[:1]]  # more than a chunk
    together = model.segment(images, many)
    assert torch.allclose(together[0].mask_probs[38:], together[0].mask_probs[:2], atol=1e-5)
    alone = model.segment(images[1:], many[1:])[0]
    assert torch.allclose(alone.mask_probs, together[1].mask_probs, atol=1e-5)


def comb(seed: int) -> tuple[Tensor, Target]:
    """A bright comb with teeth finer than a cell of the first mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(96, 96, dtype=torch.bool)
    mask[16:80, 16:80] = True
    for x in range(16, 80, 8):
        mask[16:48, x : x + 4] = False
    mask = mask.roll(int(torch.randint(0, 8, (1,), generator=generator)), 1)
    rows, columns = torch.where(mask)
    box = [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
    image = torch.rand((3, 96, 96), generator=generator) * 0.3
    image[:, mask] += 0.6
    target = Target(
        boxes=torch.tensor([box]),
        labels=torch.ones(1, dtype=torch.int64),
        has_mask=torch.ones(1, dtype=torch.bool),
        masks=MaskCrops.from_dense(mask[None]),
    )
    return image, target


@pytest.mark.slow
def test_a_stage_of_its_own_teaches_it_alone() -> None:
    model = build(mirror=False, zooms=[])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("border."))
    assert set(model.parts()) == {"encoder", "decoder", "mask_head", "border"}
    for name, part in model.parts().items():
        part.train(name == "border")
    data = [comb(seed) for seed in range(4)]
    images, targets = [d[0] for d in data], [d[1] for d in data]
    before = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("border.")}
    scores = []
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0
    )
    for _ in range(30):
        losses = model(images, targets)
        assert set(losses) == {"loss_border", "loss_border_dice"}
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        scores.append(float(losses["loss_border"].detach()))
    assert scores[-1] < 0.5 * scores[0], scores
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items() if k in before)
    image, target = comb(9)
    found = model.eval().segment([image], [target.boxes])[0].crops()
    assert float(iou(found, target.masks)) > 0.75, "teeth that the first mask cannot show"


def test_without_masks_and_beside_the_first_look() -> None:
    model = build()
    image, target = comb(0)
    losses = model([image], [target])
    assert set(losses) == {"loss_border", "loss_border_dice", "loss_mask", "loss_dice"}
    bare = Target(
        boxes=target.boxes,
        labels=target.labels,
        has_mask=torch.zeros(1, dtype=torch.bool),
        masks=MaskCrops.empty((96, 96)),
    )
    nothing = model([image], [bare])
    assert set(nothing) == set(losses)
    assert all(v.item() == 0 for v in nothing.values())
    torch.stack(list(nothing.values())).sum().backward()
