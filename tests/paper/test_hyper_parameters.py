"""The published configuration, fact by fact, in the base row of Table 1 and in Table 2's rows."""

import pytest

from halfmask.recipes.recipe import MaskRCNN, load_recipe
from halfmask.training.loop.optim import lr_factor


@pytest.mark.parametrize(
    ("name", "batch", "lr", "steps", "drops"),
    [
        ("coco_stage1_r50_boxes", 16, 0.02, 90_000, [60_000, 80_000]),
        ("coco_t1a_voc2nonvoc_cls_box", 16, 0.02, 90_000, [60_000, 80_000]),
        ("coco_t2_r50_voc2nonvoc_maskx", 16, 0.02, 90_000, [60_000, 80_000]),
        ("coco_t2_r101_voc2nonvoc_maskx", 8, 0.01, 180_000, [120_000, 160_000]),
    ],
)
def test_schedule(name: str, batch: int, lr: float, steps: int, drops: list[int]) -> None:
    recipe = load_recipe(name)
    (stage,) = recipe.stages
    o = stage.optimiser
    assert (stage.batch_size, o.lr, stage.steps, o.steps) == (batch, lr, steps, drops)
    assert (o.name, o.momentum, o.weight_decay, o.bias_lr_factor, o.decay_biases) == (
        "sgd",
        0.9,
        1e-4,
        2.0,
        False,
    )
    assert (o.warmup, o.schedule, o.clip_norm, stage.ema) == (500, "step", None, None)
    factor = lr_factor(o, steps)
    assert factor(0) == pytest.approx(1 / 3)
    at = (500, drops[0] - 1, drops[0], drops[1] - 1, drops[1], steps - 1)
    assert [factor(step) for step in at] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert (recipe.seed, recipe.precision, recipe.data.flip) == (3, "32", 0.5)
    assert not recipe.data.skip_unmasked, "pictures without an object of A stay in the data"
    assert not stage.cache_features


def test_model() -> None:
    recipe = load_recipe("coco_t2_r50_voc2nonvoc_maskx")
    model = recipe.model
    assert isinstance(model, MaskRCNN)
    assert (model.backbone.name, model.backbone.norm, model.backbone.trainable_stages) == (
        "resnet50",
        "frozen",
        3,
    )
    assert (model.images.min_size, model.images.max_size) == ([800], 1333)
    d = model.detector
    assert (d.fpn_channels, d.box_width, d.box_roi_size, d.box_sampling_ratio) == (256, 1024, 7, 2)
    assert (d.strides, d.anchor_sizes, d.anchor_ratios) == (
        [4, 8, 16, 32],
        [32, 64, 128, 256, 512],
        [0.5, 1, 2],
    )
    assert (d.rpn_pre_nms, d.rpn_post_nms, d.rpn_batch, d.box_batch) == (
        (2000, 1000),
        (2000, 1000),
        256,
        512,
    )
    assert (d.score_threshold, d.nms_threshold, d.detections) == (0.05, 0.5, 100)
    h = model.mask_head
    assert (h.kind, h.width, h.convs, h.roi_size, h.sampling_ratio, h.mlp) == (
        "transfer",
        256,
        4,
        14,
        2,
        "full",
    )
    t = h.transfer
    assert (t.input, t.layers, t.activation, t.stop_gradient, t.input_norm) == (
        "cls+box",
        2,
        "leaky_relu",
        True,
        None,
    )
