"""45 steps of the mask branch with two drops of the rate, beside the authors' form of it
in NumPy: dense maps of all classes, −1 where a target is ignored, Caffe2's momentum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from halfmask.models.class_weights import ClassRows
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.models.mask_rcnn.loss import region_loss
from halfmask.models.mask_rcnn.mask_branch import MaskBranch
from halfmask.models.mask_rcnn.regions import MaskRegions
from halfmask.recipes.recipe import MaskHead, Optimiser
from halfmask.training.loop.optim import build_optimiser
from tests.paper.detectron_reference import Caffe2Sgd

Array = NDArray[np.float64]
Blobs = dict[str, Array]

CLASSES, CHANNELS, SIDE, WIDTH, REGIONS, CONVS = 7, 6, 4, 10, 12, 2
MAP = 2 * SIDE
IGNORED = (3, 8)  # regions of box-only classes, which never reach the package's loss
SLOPE = 0.1
STEPS, WARMUP, DROPS = 45, 12, [20, 34]
RATE, DECAY = 0.05, 1e-3
INPUTS = {"cls": WIDTH, "box": 4 * WIDTH, "cls+box": 5 * WIDTH, "random": 9}


def conv(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """3×3, padded: the output, and the windows [n, c, h, w, 3, 3] that it saw."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None], windows


def conv_back(dy: Array, windows: Array, w: Array) -> tuple[Array, Array, Array]:
    """Gradients of the input, the weight and the bias."""
    turned = w[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    dx, _ = conv(dy, turned, np.zeros(len(turned)))
    return dx, np.einsum("nohw,nchwij->ocij", dy, windows), dy.sum((0, 2, 3))


def loss_and_gradients(p: Blobs, vectors: Array, truth: Array) -> tuple[float, Blobs, Array]:
    """The authors' mask net on `p["x"]`.

    Args:
        vectors: [K, D], T's input.
        truth: [R, K, M, M] of 1, 0 and −1 for what does not count.
    Returns:
        The loss, the gradients by blob, and the gradient of `vectors`.
    """
    g: Blobs = {}
    seen, outs, y = [], [], p["x"]
    for i in range(CONVS):
        y, windows = conv(y, p[f"fcn{i}_w"], p[f"fcn{i}_b"])
        y = np.maximum(y, 0)
        seen.append(windows)
        outs.append(y)
    up = np.einsum("nchw,coab->nohawb", y, p["up_w"]).reshape(len(y), -1, MAP, MAP)
    features = np.maximum(up + p["up_b"][:, None, None], 0)
    before = vectors @ p["t1_w"].T + p["t1_b"]
    hidden = np.where(before > 0, before, SLOPE * before)
    filters = hidden @ p["t2_w"].T + p["t2_b"]
    logits = np.einsum("nchw,kc->nkhw", features, filters)
    flat = features.reshape(len(y), -1)
    if "mlp_w" in p:
        logits = logits + (flat @ p["mlp_w"].T + p["mlp_b"]).reshape(-1, 1, MAP, MAP)
    valid = truth >= 0
    cells = np.logaddexp(0, logits) - logits * truth
    loss = float((cells * valid).sum() / valid.sum())

    dz = (1 / (1 + np.exp(-logits)) - truth) * valid / valid.sum()
    dfeatures = np.einsum("nkhw,kc->nchw", dz, filters)
    if "mlp_w" in p:
        dm = dz.sum(1).reshape(len(y), -1)
        g["mlp_w"], g["mlp_b"] = dm.T @ flat, dm.sum(0)
        dfeatures = dfeatures + (dm @ p["mlp_w"]).reshape(features.shape)
    dfilters = np.einsum("nkhw,nchw->kc", dz, features)
    g["t2_w"], g["t2_b"] = dfilters.T @ hidden, dfilters.sum(0)
    dhidden = (dfilters @ p["t2_w"]) * np.where(before > 0, 1, SLOPE)
    g["t1_w"], g["t1_b"] = dhidden.T @ vectors, dhidden.sum(0)
    dvectors = dhidden @ p["t1_w"]
    dup = dfeatures * (features > 0)
    g["up_b"] = dup.sum((0, 2, 3))
    folded = dup.reshape(len(y), -1, SIDE, 2, SIDE, 2)
    g["up_w"] = np.einsum("nchw,nohawb->coab", y, folded)
    dy = np.einsum("nohawb,coab->nchw", folded, p["up_w"])
    for i in reversed(range(CONVS)):
        dy, g[f"fcn{i}_w"], g[f"fcn{i}_b"] = conv_back(dy * (outs[i] > 0), seen[i], p[f"fcn{i}_w"])
    g["x"] = dy
    return loss, g, dvectors


NAMES = {
    **{f"trunk.convs.{2 * i}": f"fcn{i}" for i in range(CONVS)},
    "trunk.upsample": "up",
    "predictor.transfer.layers.0": "t1",
    "predictor.transfer.layers.2": "t2",
    "mlp.linear": "mlp",
}


class Sides:
    """The package's branch and the NumPy one, from the same start."""

    def __init__(self, source: str, mlp: str, end_to_end: bool) -> None:
        torch.manual_seed(5)
        rng = np.random.default_rng(0)
        transfer = {"input": source, "stop_gradient": not end_to_end}
        transfer |= {"embedding_size": INPUTS["random"]} if source == "random" else {}
        head = MaskHead.model_validate(
            {"width": CHANNELS, "convs": CONVS, "roi_size": SIDE, "mlp": mlp, "transfer": transfer}
        )
        branch = build_mask_branch(head, CHANNELS, CLASSES, box_width=WIDTH)
        assert isinstance(branch, MaskBranch)
        self.branch, self.source, self.end_to_end = branch.double(), source, end_to_end
        self.cls = nn.Parameter(torch.randn(CLASSES, WIDTH).double() * 0.2)
        self.box = nn.Parameter(torch.randn(4 * CLASSES, WIDTH).double() * 0.2)
        self.x = nn.Parameter(torch.randn(REGIONS, CHANNELS, SIDE, SIDE).double())
        self.labels = rng.integers(1, CLASSES, REGIONS)
        drawn = (rng.random((REGIONS, MAP, MAP)) > 0.5).astype(float)
        self.kept = [i for i in range(REGIONS) if i not in IGNORED]
        self.truth = -np.ones((REGIONS, CLASSES, MAP, MAP))
        for i in self.kept:
            self.truth[i, self.labels[i]] = drawn[i]
        self.targets = torch.from_numpy(drawn[self.kept])
        self.own: dict[str, nn.Parameter] = {
            f"{NAMES[name.rpartition('.')[0]]}_{name.rpartition('.')[2][0]}": parameter
            for name, parameter in self.branch.named_parameters()
        }
        if end_to_end:
            self.own |= {"x": self.x, "cls_w": self.cls, "box_w": self.box}
        everything = self.own | {"x": self.x, "cls_w": self.cls, "box_w": self.box}
        self.p = {name: t.detach().numpy().copy() for name, t in everything.items()}

    def numpy_step(self) -> tuple[float, Blobs]:
        """The authors': T reads rows of both layers, flattened class by class."""
        cls, box = self.p["cls_w"], self.p["box_w"].reshape(CLASSES, -1)
        parts = {"cls": [cls], "box": [box], "cls+box": [cls, box]}.get(self.source)
        vectors = np.concatenate(parts, 1) if parts else self.fixed()
        loss, grads, of_vectors = loss_and_gradients(self.p, vectors, self.truth)
        if not self.end_to_end:
            grads.pop("x")
            return loss, grads
        if self.source in ("cls", "cls+box"):
            grads["cls_w"] = of_vectors[:, :WIDTH]
        if self.source in ("box", "cls+box"):
            grads["box_w"] = of_vectors[:, -4 * WIDTH :].reshape(4 * CLASSES, WIDTH)
        return loss, grads

    def fixed(self) -> Array:
        vectors: Tensor = self.branch.class_weights.vectors  # type: ignore[assignment]
        assert not bool(vectors[0].any()), "the background's row is zeros"
        return vectors.double().numpy()

    def package_loss(self) -> Tensor:
        regions = MaskRegions(
            features=self.x[self.kept],
            labels=torch.from_numpy(self.labels)[self.kept],
            targets=self.targets,
        )
        return region_loss(
            self.branch, regions, ClassRows(self.branch.class_weights, self.cls, self.box)
        )


def difference(found: Any, truth: Any) -> float:
    return float(np.abs(found - truth).max() / max(np.abs(truth).max(), 1e-12))


FAST = [("cls+box", "full", True), ("cls", "none", False), ("random", "full", False)]
EVERY = [(s, m, e) for s in INPUTS for m in ("none", "full") for e in (False, True)]


@pytest.mark.parametrize(
    ("source", "mlp", "end_to_end"),
    [*FAST, *(pytest.param(*c, marks=pytest.mark.slow) for c in EVERY if c not in FAST)],
)
def test_45_steps(source: str, mlp: str, end_to_end: bool) -> None:
    """`end to end` is without stop-gradient: the box head and the pooled features learn
    from the mask loss.
    """
    sides = Sides(source, mlp, end_to_end)
    start = {name: array.copy() for name, array in sides.p.items()}
    settings = Optimiser(
        lr=RATE,
        momentum_of="steps",
        weight_decay=DECAY,
        bias_lr_factor=2.0,
        decay_biases=False,
        warmup=WARMUP,
        schedule="step",
        steps=DROPS,
    )
    named = [(name.replace("_b", ".bias"), t) for name, t in sides.own.items()]
    optimiser, schedule = build_optimiser(named, settings=settings, steps=STEPS)
    theirs = Caffe2Sgd(RATE, DECAY, WARMUP, DROPS)
    tensors = {name: torch.from_numpy(array) for name, array in sides.p.items()}  # they share
    for step in range(STEPS):
        wanted, grads = sides.numpy_step()
        optimiser.zero_grad()
        loss = sides.package_loss()
        loss.backward()
        assert loss.item() == pytest.approx(wanted, rel=1e-9)
        for name, parameter in sides.own.items():
            if name in grads:
                assert parameter.grad is not None
                assert difference(parameter.grad.numpy(), grads[name]) < 1e-9, (step, name)
            else:
                assert parameter.grad is None or not bool(parameter.grad.any()), name
        optimiser.step()
        schedule.step()
        theirs.step(step, tensors, {name: torch.from_numpy(g) for name, g in grads.items()})
        for name, parameter in sides.own.items():
            assert difference(parameter.detach().numpy(), sides.p[name]) < 1e-9, (step, name)
    moved = [n for n in sides.own if difference(sides.p[n], start[n]) > 1e-3]
    assert len(moved) >= len(sides.own) - 2, "the run went somewhere"
