"""Model files in the layout of other programs, with random numbers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

torch.set_num_threads(1)

Arrays = dict[str, NDArray[np.float32]]


class Python2Pickle:
    """Writes what cPickle of Python 2 writes with protocol 2: byte strings, NumPy's old
    module names.
    """

    def __init__(self) -> None:
        self.out: list[bytes] = [b"\x80\x02"]

    def dumps(self, value: Any) -> bytes:
        self._write(value)
        return b"".join([*self.out, b"."])

    def _write(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, dict):
            self.out.append(b"}(")
            for item in value.items():
                self._write(item[0])
                self._write(item[1])
            self.out.append(b"u")
        elif isinstance(value, tuple):
            self.out.append(b"(")
            for item in value:
                self._write(item)
            self.out.append(b"t")
        elif isinstance(value, str | bytes):
            data = value.encode("latin1") if isinstance(value, str) else value
            self.out.append(b"T" + struct.pack("<i", len(data)) + data)
        elif value is None or isinstance(value, bool):
            self.out.append({None: b"N", True: b"\x88", False: b"\x89"}[value])
        else:
            self.out.append(b"J" + struct.pack("<i", value))

    def _array(self, value: NDArray[Any]) -> None:
        self.out.append(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n")
        self._write((0,))
        self._write("b")
        self.out.append(b"tR(")
        self._write(1)
        self._write(value.shape)
        self.out.append(b"cnumpy\ndtype\n")
        self._write((value.dtype.str[1:], 0, 1))
        self.out.append(b"R")
        self._write((3, value.dtype.str[0], None, None, None, -1, -1, 0))
        self.out.append(b"b")
        self._write(False)
        self._write(value.tobytes())
        self.out.append(b"tb")


def head_shapes(classes: int, fpn: int, width: int, side: int) -> dict[str, tuple[int, ...]]:
    """Detectron's FPN, RPN and box head of a ResNet-50."""
    out: dict[str, tuple[int, ...]] = {}
    for top, channels in (("res2_2", 256), ("res3_3", 512), ("res4_5", 1024), ("res5_2", 2048)):
        lateral = "" if top == "res5_2" else "_lateral"
        out |= {
            f"fpn_inner_{top}_sum{lateral}_w": (fpn, channels, 1, 1),
            f"fpn_inner_{top}_sum{lateral}_b": (fpn,),
        }
        out |= {f"fpn_{top}_sum_w": (fpn, fpn, 3, 3), f"fpn_{top}_sum_b": (fpn,)}
    out |= {"conv_rpn_fpn2_w": (fpn, fpn, 3, 3), "conv_rpn_fpn2_b": (fpn,)}
    out |= {"rpn_cls_logits_fpn2_w": (3, fpn, 1, 1), "rpn_cls_logits_fpn2_b": (3,)}
    out |= {"rpn_bbox_pred_fpn2_w": (12, fpn, 1, 1), "rpn_bbox_pred_fpn2_b": (12,)}
    out |= {
        "fc6_w": (width, fpn * side * side),
        "fc6_b": (width,),
        "fc7_w": (width, width),
        "fc7_b": (width,),
    }
    out |= {"cls_score_w": (classes, width), "cls_score_b": (classes,)}
    return out | {"bbox_pred_w": (4 * classes, width), "bbox_pred_b": (4 * classes,)}


def backbone_shapes(blocks: tuple[int, ...] = (3, 4, 6, 3)) -> dict[str, tuple[int, ...]]:
    """Detectron's ResNet of bottleneck blocks."""
    out: dict[str, tuple[int, ...]] = {
        "conv1_w": (64, 3, 7, 7),
        "res_conv1_bn_s": (64,),
        "res_conv1_bn_b": (64,),
    }
    before = 64
    for stage, count in enumerate(blocks):
        inner, wide = 64 << stage, 256 << stage
        for i in range(count):
            name = f"res{stage + 2}_{i}_branch"
            convs = {
                "2a": (inner, before, 1, 1),
                "2b": (inner, inner, 3, 3),
                "2c": (wide, inner, 1, 1),
            }
            convs |= {"1": (wide, before, 1, 1)} if i == 0 else {}
            for branch, shape in convs.items():
                out |= {f"{name}{branch}_w": shape}
                out |= {f"{name}{branch}_bn_s": shape[:1], f"{name}{branch}_bn_b": shape[:1]}
            before = wide
    return out


def mask_shapes(fpn: int, width: int) -> dict[str, tuple[int, ...]]:
    """The four convolutions and the upsampling before every mask output."""
    out: dict[str, tuple[int, ...]] = {
        "conv5_mask_w": (width, width, 2, 2),
        "conv5_mask_b": (width,),
    }
    for i in range(1, 5):
        out |= {
            f"_[mask]_fcn{i}_w": (width, fpn if i == 1 else width, 3, 3),
            f"_[mask]_fcn{i}_b": (width,),
        }
    return out


def transfer_shapes(inputs: int, width: int, layers: int = 2) -> dict[str, tuple[int, ...]]:
    """The paper's T."""
    names = [*(f"bbox2mask_mlp_l{i}" for i in range(1, layers)), "mask_fcn_logits_w_flat"]
    out: dict[str, tuple[int, ...]] = {}
    for i, name in enumerate(names):
        out |= {f"{name}_w": (width, inputs if i == 0 else width), f"{name}_b": (width,)}
    return out


def fill(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Arrays:
    """Random arrays whose products keep their size from layer to layer."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, shape in shapes.items():
        scale = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1
        out[name] = (rng.standard_normal(shape, dtype=np.float32) * scale).astype(np.float32)
        if name.endswith("_bn_s"):
            out[name] = (0.5 + 0.1 * rng.random(shape)).astype(np.float32)
    return out


CLASSES, FPN, WIDTH, MASK = 6, 8, 16, 12


@pytest.fixture(scope="session")
def detectron() -> Callable[..., Arrays]:
    """Blobs of the paper's model on a ResNet-50 with narrow heads: `detectron(**{name:
    shape or None})` adds and removes some.
    """
    shapes = backbone_shapes() | head_shapes(CLASSES, FPN, WIDTH, 7)
    shapes |= mask_shapes(FPN, MASK) | transfer_shapes(5 * WIDTH, MASK)
    shapes |= {"mask_mlp_logits_raw_w": (784, MASK * 784), "mask_mlp_logits_raw_b": (784,)}
    whole = fill(shapes)

    def make(**changes: tuple[int, ...] | None) -> Arrays:
        added = fill({name: shape for name, shape in changes.items() if shape is not None}, seed=1)
        return {
            name: blob
            for name, blob in (whole | added).items()
            if name not in changes or changes[name] is not None
        }

    return make


@pytest.fixture(scope="session")
def python2_pickle() -> Callable[[Any], bytes]:
    return lambda value: Python2Pickle().dumps(value)


@pytest.fixture(scope="session")
def shapes() -> dict[str, Callable[..., Any]]:
    """The tables above, for tests that put a file together themselves."""
    tables = (backbone_shapes, head_shapes, mask_shapes, transfer_shapes, fill)
    return {table.__name__: table for table in tables}
