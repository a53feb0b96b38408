"""import_detectron: the model uses every blob and computes the same as Detectron."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from halfmask.errors import InputError
from halfmask.inference.predictor import load
from halfmask.models.build import build_model
from halfmask.models.imported.assemble import ImportedModel
from halfmask.models.imported.detectron import import_detectron
from halfmask.models.mask_rcnn.model import PartialMaskRCNN

Arrays = dict[str, NDArray[np.float32]]
Make = Callable[..., Arrays]
CLASSES, FPN, WIDTH, MASK = 6, 8, 16, 12


def built(imported: ImportedModel) -> PartialMaskRCNN:
    model = build_model(imported.model, imported.classes, pretrained=False)
    assert isinstance(model, PartialMaskRCNN)
    model.load_state_dict(imported.state)  # strict: every key has a value
    return model.eval()


@pytest.fixture(scope="module")
def imported(detectron: Make) -> tuple[ImportedModel, PartialMaskRCNN, Arrays]:
    blobs = detectron()
    found = import_detectron(blobs, "model.pkl")
    return found, built(found), blobs


def conv(blobs: Arrays, name: str, x: Tensor, stride: int = 1, bias: bool = True) -> Tensor:
    weight = torch.from_numpy(blobs[name + "_w"])
    return F.conv2d(
        x,
        weight,
        torch.from_numpy(blobs[name + "_b"]) if bias else None,
        stride,
        weight.shape[-1] // 2,
    )


def affine(blobs: Arrays, name: str, x: Tensor) -> Tensor:
    scale, shift = (torch.from_numpy(blobs[f"{name}_{part}"])[:, None, None] for part in "sb")
    return x * scale + shift


def detectron_features(blobs: Arrays, image: Tensor) -> list[Tensor]:
    """ResNet-50-FPN as Detectron runs it: BGR pixels less their means, AffineChannel,
    stride in a block's first convolution.
    """
    x = image.flip(0) * 255 - torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
    x = F.max_pool2d(
        affine(blobs, "res_conv1_bn", conv(blobs, "conv1", x[None], 2, False)).relu(), 3, 2, 1
    )
    tops = []
    for stage, count in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        for i in range(count):
            name, stride = f"res{stage}_{i}_branch", 2 if i == 0 and stage > 2 else 1
            y = affine(blobs, f"{name}2a_bn", conv(blobs, f"{name}2a", x, stride, False)).relu()
            y = affine(blobs, f"{name}2b_bn", conv(blobs, f"{name}2b", y, 1, False)).relu()
            y = affine(blobs, f"{name}2c_bn", conv(blobs, f"{name}2c", y, 1, False))
            x = (
                affine(blobs, f"{name}1_bn", conv(blobs, f"{name}1", x, stride, False))
                if i == 0
                else x
            )
            x = (x + y).relu()
        tops.append(x)
    inner = conv(blobs, "fpn_inner_res5_2_sum", tops[3])
    out = [conv(blobs, "fpn_res5_2_sum", inner)]
    for name, top in (("res4_5", tops[2]), ("res3_3", tops[1]), ("res2_2", tops[0])):
        inner = conv(blobs, f"fpn_inner_{name}_sum_lateral", top) + F.interpolate(
            inner, scale_factor=2
        )
        out.insert(0, conv(blobs, f"fpn_{name}_sum", inner))
    return out


@torch.no_grad()
def test_features_and_rpn_are_detectrons(
    imported: tuple[ImportedModel, PartialMaskRCNN, Arrays],
) -> None:
    _, model, blobs = imported
    image = torch.rand(3, 64, 96)
    expected = detectron_features(blobs, image)
    found = model.features(model.transform.normalize(image)[None])
    for level, map_ in enumerate(expected):
        torch.testing.assert_close(
            found[str(level)], map_, rtol=1e-4, atol=1e-4 * float(map_.abs().max())
        )
    logits, offsets = model.rpn.head([expected[0]])
    hidden = conv(blobs, "conv_rpn_fpn2", expected[0]).relu()
    torch.testing.assert_close(logits[0], conv(blobs, "rpn_cls_logits_fpn2", hidden))
    torch.testing.assert_close(offsets[0], conv(blobs, "rpn_bbox_pred_fpn2", hidden))


def relu(x: Any) -> Any:
    return np.maximum(x, 0)


def numpy_box_head(blobs: Arrays, regions: NDArray[np.float64]) -> tuple[Any, Any]:
    x = regions.reshape(len(regions), -1)
    for name in ("fc6", "fc7"):
        x = relu(x @ blobs[name + "_w"].T + blobs[name + "_b"])
    return tuple(
        x @ blobs[name + "_w"].T + blobs[name + "_b"] for name in ("cls_score", "bbox_pred")
    )


def numpy_trunk(blobs: Arrays, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four 3×3 convolutions and the 2×2 upsampling of stride 2, in sums over shifted maps."""
    side = x.shape[-1]
    for i in range(1, 5):
        weight, bias = blobs[f"_[mask]_fcn{i}_w"], blobs[f"_[mask]_fcn{i}_b"]
        wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        shifted = [
            np.einsum(
                "rchw,oc->rohw", wide[:, :, dy : dy + side, dx : dx + side], weight[:, :, dy, dx]
            )
            for dy in range(3)
            for dx in range(3)
        ]
        x = relu(sum(shifted) + bias[:, None, None])
    out = np.zeros((len(x), blobs["conv5_mask_w"].shape[1], 2 * side, 2 * side))
    for dy in range(2):
        for dx in range(2):
            out[:, :, dy::2, dx::2] = np.einsum(
                "rchw,co->rohw", x, blobs["conv5_mask_w"][:, :, dy, dx]
            )
    return relu(out + blobs["conv5_mask_b"][:, None, None])


def numpy_masks(
    blobs: Arrays, regions: NDArray[np.float64], labels: list[int]
) -> NDArray[np.float64]:
    """The paper's head: T makes a filter of each class's weights, the MLP adds one map
    for all, then the sigmoid.
    """
    hidden = numpy_trunk(blobs, regions)
    classes = len(blobs["cls_score_w"])
    vectors = np.concatenate([blobs["cls_score_w"], blobs["bbox_pred_w"].reshape(classes, -1)], 1)
    layer = vectors @ blobs["bbox2mask_mlp_l1_w"].T + blobs["bbox2mask_mlp_l1_b"]
    layer = np.where(layer > 0, layer, 0.1 * layer)
    filters = layer @ blobs["mask_fcn_logits_w_flat_w"].T + blobs["mask_fcn_logits_w_flat_b"]
    maps = np.einsum("rchw,kc->rkhw", hidden, filters)  # all K of them, as Detectron does
    flat = (
        hidden.reshape(len(hidden), -1) @ blobs["mask_mlp_logits_raw_w"].T
        + blobs["mask_mlp_logits_raw_b"]
    )
    logits = maps + flat.reshape(-1, 1, 28, 28)
    return 1 / (1 + np.exp(-logits[np.arange(len(labels)), labels]))


@torch.no_grad()
def test_heads_equal_numpy(imported: tuple[ImportedModel, PartialMaskRCNN, Arrays]) -> None:
    _, model, blobs = imported
    rng = np.random.default_rng(5)
    boxes, masks = rng.normal(size=(4, FPN, 7, 7)), rng.normal(size=(4, FPN, 14, 14))
    labels = [1, 5, 3, 1]
    scores, offsets = model.box_heads.box_predictor(
        model.box_heads.box_head(torch.from_numpy(boxes).float())
    )
    for found, expected in zip((scores, offsets), numpy_box_head(blobs, boxes), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)
    probs = model.mask_probs(torch.from_numpy(masks).float(), torch.tensor(labels))
    expected = numpy_masks(blobs, masks, labels)
    assert expected.std() > 0.05
    np.testing.assert_allclose(probs.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_recipe(imported: tuple[ImportedModel, PartialMaskRCNN, Arrays]) -> None:
    found, model, blobs = imported
    section = found.model
    assert (section.backbone.name, section.backbone.stride_in_1x1, section.backbone.norm) == (
        "resnet50",
        True,
        "frozen",
    )
    assert (
        section.detector.legacy_boxes,
        section.detector.box_width,
        section.detector.box_roi_size,
    ) == (True, WIDTH, 7)
    head = section.mask_head
    assert (head.kind, head.mlp, head.transfer.input, head.transfer.layers) == (
        "transfer",
        "full",
        "cls+box",
        2,
    )
    assert (found.classes, found.trained_masks, found.masked_rows) == (CLASSES, True, None)
    assert sum(b.size for b in blobs.values()) == sum(
        t.numel() for k, t in found.state.items() if not k.endswith(("running_mean", "running_var"))
    )
    norm = model.backbone.body.bn1
    assert torch.equal(
        (norm.running_var + norm.eps).rsqrt() * norm.weight,
        torch.from_numpy(blobs["res_conv1_bn_s"]),
    )


def test_ignored_blobs(detectron: Make) -> None:
    """ImageNet's remains and unused class vectors."""
    blobs = detectron(
        conv1_b=(64,),
        fc1000_w=(1000, 2048),
        fc1000_b=(1000,),
        res2_0_branch2a_b=(64,),
        v_glove=(CLASSES, 300),
    )
    found = import_detectron(blobs, "model.pkl")
    assert not any("vectors" in key for key in found.state)


def test_backup_rows_come_back(detectron: Make) -> None:
    """The paper's Visual Genome files: the live rows are cut to COCO's."""
    cut = {
        "cls_score_w": (3, WIDTH),
        "cls_score_b": (3,),
        "bbox_pred_w": (12, WIDTH),
        "bbox_pred_b": (12,),
    }
    full = {
        f"{name}_jcvbackup": (CLASSES * (4 if "bbox" in name else 1), *shape[1:])
        for name, shape in cut.items()
    }
    blobs = detectron(**cut, **full)
    found = import_detectron(blobs, "model.pkl")
    assert found.classes == CLASSES
    weight = found.state["box_heads.box_predictor.bbox_pred.weight"]
    np.testing.assert_array_equal(weight.numpy(), blobs["bbox_pred_w_jcvbackup"])
    assert (
        "rows of all 5 classes taken from *_jcvbackup (the live ones were cut to 2)" in found.notes
    )
    del blobs["bbox_pred_b_jcvbackup"]
    with pytest.raises(
        InputError,
        match=r"bbox_pred_b_jcvbackup: missing, though the file has cls_score_w_jcvbackup",
    ):
        import_detectron(blobs, "model.pkl")


NO_T = dict.fromkeys(
    (
        "bbox2mask_mlp_l1_w",
        "bbox2mask_mlp_l1_b",
        "mask_fcn_logits_w_flat_w",
        "mask_fcn_logits_w_flat_b",
    )
)
NO_MLP = dict.fromkeys(("mask_mlp_logits_raw_w", "mask_mlp_logits_raw_b"))


@pytest.mark.parametrize(
    ("changes", "kind", "mlp"),
    [
        (
            NO_T
            | NO_MLP
            | {"mask_fcn_logits_w": (CLASSES, MASK, 1, 1), "mask_fcn_logits_b": (CLASSES,)},
            "per_class",
            "none",
        ),
        (
            NO_T | {"mask_fcn_logits_w": (1, MASK, 1, 1), "mask_fcn_logits_b": (1,)},
            "agnostic",
            "full",
        ),
    ],
)
def test_baselines(detectron: Make, changes: dict[str, Any], kind: str, mlp: str) -> None:
    blobs = detectron(**changes)
    found = import_detectron(blobs, "model.pkl")
    assert (found.model.mask_head.kind, found.model.mask_head.mlp) == (kind, mlp)
    assert found.masked_rows == (CLASSES - 1 if kind == "per_class" else None)
    np.testing.assert_array_equal(
        found.state["mask_branch.predictor.conv.weight"].numpy(), blobs["mask_fcn_logits_w"]
    )


@pytest.mark.parametrize(
    ("inputs", "layers", "name"), [(WIDTH, 1, "cls"), (4 * WIDTH, 3, "box"), (300, 2, "embedding")]
)
def test_transfer_inputs_and_depths(
    detectron: Make, shapes: Any, inputs: int, layers: int, name: str
) -> None:
    vectors = {"v_glove": (CLASSES, 300), "v_randn_0": (CLASSES, 300)}
    blobs = detectron(**NO_T, **vectors) | shapes["fill"](
        shapes["transfer_shapes"](inputs, MASK, layers)
    )
    found = import_detectron(blobs, "model.pkl", activation="relu", embedding="v_glove")
    transfer = found.model.mask_head.transfer
    assert (transfer.input, transfer.layers, transfer.activation) == (name, layers, "relu")
    branch = "mask_branch."
    last = found.state[f"{branch}predictor.transfer.layers.{2 * (layers - 1)}.weight"]
    np.testing.assert_array_equal(last.numpy(), blobs["mask_fcn_logits_w_flat_w"])
    if name == "embedding":
        np.testing.assert_array_equal(
            found.state[branch + "class_weights.vectors"].numpy(), blobs["v_glove"]
        )
        with pytest.raises(
            InputError,
            match=r"expected one blob \[6, 300\].*found v_glove, v_randn_0; .*--embedding",
        ):
            import_detectron(blobs, "model.pkl")


def test_a_detector_alone_gets_an_untrained_mask_head(detectron: Make) -> None:
    blobs = {
        n: b
        for n, b in detectron(**NO_T, **NO_MLP).items()
        if not n.startswith(("_[mask]_", "conv5_mask"))
    }
    found = import_detectron(blobs, "model.pkl", mask_head="agnostic")
    assert (found.trained_masks, found.masked_rows, found.model.mask_head.kind) == (
        False,
        0,
        "agnostic",
    )
    built(found)


def test_misfits_are_listed_by_name(detectron: Make) -> None:
    blobs = detectron(
        res3_1_branch2b_w=None,
        fc7_b=None,
        res_conv1_bn_s=(65,),
        kps_score_w=(17, 8),
        fc_mask_head_mlp_l1_w=(1024, 64),
    )
    blobs["_[mask]_fcn2_w"] = blobs["_[mask]_fcn2_w"][:, :3]
    with pytest.raises(InputError) as error:
        import_detectron(blobs, "model.pkl")
    text = str(error.value)
    assert text.startswith("model.pkl: does not fit resnet50-FPN with 5 classes: ")
    assert "2 missing: fc7_b, res3_1_branch2b_w" in text
    assert (
        f"_[mask]_fcn2_w [{MASK}, 3, 3, 3] instead of [{MASK}, {MASK}, 3, 3], res_conv1_bn_s "
        "[65] instead of [64]" in text
    )
    assert "2 unknown: fc_mask_head_mlp_l1_w, kps_score_w" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"fc6_w": None, "cls_score_w": None},
            "missing: cls_score_w, fc6_w; expected an FPN model",
        ),
        ({"cls_score_w": (6,)}, r"cls_score_w: expected a matrix, found shape \[6\]"),
        ({f"res4_{i}_branch2a_w": None for i in range(6)}, "found 0 blocks|found 0; first blobs"),
    ],
)
def test_files_of_other_models(detectron: Make, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_detectron(detectron(**change), "model.pkl")


@pytest.mark.slow
def test_from_file_to_masks(
    detectron: Make, python2_pickle: Callable[[Any], bytes], tmp_path: Path
) -> None:
    """A pickle as Detectron's Python 2 writes it, the verb, and the checkpoint at work."""
    blobs = detectron()
    momentum = {f"{name}_momentum": blob for name, blob in blobs.items() if name.startswith("fc")}
    source, out, names = (
        tmp_path / "model_final.pkl",
        tmp_path / "out.safetensors",
        tmp_path / "names.json",
    )
    source.write_bytes(python2_pickle({"blobs": blobs | momentum, "cfg": "MODEL: {}"}))
    names.write_text(json.dumps([{"id": i, "name": f"n{i}"} for i in range(1, CLASSES)]))
    command = [
        sys.executable,
        "-m",
        "halfmask",
        "import-weights",
        "detectron",
        source,
        out,
        "--categories",
        names,
        "--masked",
        "n2,n4",
    ]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True
    )
    assert (
        "resnet50-FPN of detectron, 5 classes, 2 of them with masks; mask head: transfer + MLP"
        in done.stdout
    )
    model = load(out, device="cpu")
    assert model.masked == [2, 4]
    found = model.segment(np.full((100, 150, 3), 90, dtype=np.uint8), [[10, 10, 90, 80]], [3])
    assert found.mask_probs.shape == (1, 28, 28)
    assert found.regions.tolist() == [[9.5, 9.5, 89.5, 79.5]]


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [(3, 4, 6, 3), (3, 4, 23, 3)])
def test_full_size(shapes: Any, blocks: tuple[int, ...]) -> None:
    """The real names and shapes of the paper's Mask^X R-CNN on COCO; its MLP branch has
    157 million weights.
    """
    table = (
        shapes["backbone_shapes"](blocks)
        | shapes["head_shapes"](81, 256, 1024, 7)
        | shapes["mask_shapes"](256, 256)
    )
    table |= shapes["transfer_shapes"](5120, 256)
    table |= {"mask_mlp_logits_raw_w": (784, 256 * 784), "mask_mlp_logits_raw_b": (784,)}
    if blocks[2] == 23:  # a ResNet-101's FPN is named for its own last block
        table = {name.replace("res4_5_sum", "res4_22_sum"): shape for name, shape in table.items()}
    blobs = {name: np.full(shape, 0.01, dtype=np.float32) for name, shape in table.items()}
    found = import_detectron(blobs, "model.pkl")
    assert (
        sum(t.numel() for k, t in found.state.items() if k.startswith("mask_branch.predictor"))
        == 1_376_768
    )
    assert (
        sum(t.numel() for k, t in found.state.items() if k.startswith("mask_branch.mlp"))
        == 157_352_720
    )
    built(found)
