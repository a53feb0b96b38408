"""From the name of a detector to the detector: torchvision, transformers, or an ONNX file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from halfmask.errors import InputError
from halfmask.models.detectors import hub, torchvision_zoo, yolox
from halfmask.models.detectors.base import BoxDetector

EXAMPLES = (
    "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn, hf:PekingU/rtdetr_v2_r18vd, yolox_nano.onnx"
)
HALFMASK_HUB = "hf://"
"""Begins the name of a halfmask checkpoint on the Hugging Face Hub."""


def is_box_detector(name: str) -> bool:
    """Whether a name stands for a detector of another project, not a halfmask checkpoint."""
    foreign = name.startswith((torchvision_zoo.PREFIX, hub.PREFIX)) or name.endswith(yolox.SUFFIX)
    return foreign and not name.startswith(HALFMASK_HUB)


def build_detector(
    name: str, classes: str | Sequence[str] | None, device: torch.device
) -> BoxDetector:
    """Builds the detector of a name for which `is_box_detector` holds.

    Args:
        name: `torchvision:NAME` (its default weights, which torchvision downloads) or
            `torchvision:NAME=FILE`; `hf:OWNER/NAME[@REVISION]` or `hf:FOLDER`; an ONNX
            file of the YOLOX family (.onnx).
        classes: names of the classes to look for (open vocabulary), or of the classes
            of a file that does not name them: a list, or text "a, b, c".
        device: where to run; ONNX files run on the CPU.
    Raises:
        InputError: no such detector, a library is missing, or the classes do not fit.
    """
    wanted = class_names(classes)
    if name.startswith(torchvision_zoo.PREFIX):
        return torchvision_zoo.build_torchvision(name, wanted, device)
    if name.startswith(hub.PREFIX):
        return hub.build_hub(name, wanted, device)
    return yolox.build_yolox(Path(name), wanted)


def class_names(classes: str | Sequence[str] | None) -> list[str]:
    """Returns the names in `--classes`; none for None.

    Raises:
        InputError: a name is empty or occurs twice.
    """
    if classes is None:
        return []
    parts = classes.split(",") if isinstance(classes, str) else list(classes)
    names = [" ".join(str(part).split()) for part in parts]
    twice = [name for name, count in Counter(n.casefold() for n in names).items() if count > 1]
    if not all(names) or twice:
        found = f"{twice[0]!r} twice" if twice and all(names) else "an empty name"
        raise InputError(f"classes: expected names a, b, c, found {found}")
    return names
