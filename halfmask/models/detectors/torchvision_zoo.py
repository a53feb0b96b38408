"""Detectors of torchvision: `torchvision:NAME`, or `torchvision:NAME=FILE` for your weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection as zoo
from torchvision.models import get_model_builder, get_model_weights, list_models

from halfmask.errors import InputError
from halfmask.models.backbones.encoder import read_weights
from halfmask.models.checkpoint import file_digest
from halfmask.models.detectors.base import BoxDetector, ScoredBoxes

PREFIX = "torchvision:"


class TorchvisionDetector(BoxDetector):
    """A detector of torchvision.models.detection."""

    def __init__(self, network: nn.Module, name: str, digest: str, *, rows: Sequence[str]) -> None:
        super().__init__(name, digest, rows)
        self.network = network
        self.device = next(network.parameters()).device

    def find(self, image: Tensor) -> ScoredBoxes:
        out = self.network([image])[0]
        return ScoredBoxes(out["boxes"], out["labels"], out["scores"])


def build_torchvision(
    name: str, classes: Sequence[str], device: torch.device
) -> TorchvisionDetector:
    """Builds the detector of `torchvision:NAME` or `torchvision:NAME=FILE`.

    Args:
        name: see above; FILE is a state dict (.pth, .safetensors).
        classes: the classes of FILE in the order of its rows, without background; none
            for those of torchvision's own weights.
        device: where to run.
    Raises:
        InputError: torchvision has no such detector, its weights cannot be fetched, or
            FILE does not fit.
    """
    kind, _, file = name.removeprefix(PREFIX).partition("=")
    known = list_models(module=zoo)
    if kind not in known:
        near = difflib.get_close_matches(kind, known, n=3) or known
        raise InputError(f"{name}: torchvision has no such detector; near: {', '.join(near)}")
    if classes and not file:
        raise InputError(
            f"{name}: --classes names the classes of a file of weights "
            f"({PREFIX}{kind}=FILE); torchvision's own weights have theirs"
        )
    weights = get_model_weights(kind).DEFAULT
    rows = ["__background__", *classes] if classes else list(weights.meta["categories"])
    network = get_model_builder(kind)(
        weights=None, weights_backbone=None, num_classes=len(rows)
    ).eval()
    if file:
        digest = _load_file(network, Path(file), kind, rows=rows)
        shown = f"{PREFIX}{kind}={Path(file).name}"
    else:
        _load_default(network, weights, name)
        found = re.search(r"-([0-9a-f]{8})\.", weights.url)
        digest, shown = found[1] if found else str(weights), f"{PREFIX}{kind}"
    return TorchvisionDetector(network.to(device), shown, digest, rows=rows)


def _load_default(network: nn.Module, weights: Any, name: str) -> None:
    try:
        network.load_state_dict(weights.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # no network, or a file that is cut short
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{name}: torchvision cannot get its weights: {reason}. To fix: download them where "
            f"there is a network, and name the file: {name}=FILE"
        ) from error


def _load_file(network: nn.Module, path: Path, kind: str, *, rows: Sequence[str]) -> str:
    """Loads a state dict; returns the file's digest."""
    state, own = read_weights(path), network.state_dict()
    # The counter of batches steers training only; old files lack it.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    faults = {
        "missing": sorted(needed - set(state)),
        "unknown": sorted(set(state) - set(own)),
        "of another shape": sorted(
            k for k in needed & set(state) if own[k].shape != state[k].shape
        ),
    }
    said = [f"{len(keys)} {what} (such as {keys[0]})" for what, keys in faults.items() if keys]
    if said:
        raise InputError(
            f"{path}: not a state dict of torchvision's {kind} with {len(rows)} rows of classes, "
            f"background included: tensors {', '.join(said)}; --classes a,b,c names other classes"
        )
    network.load_state_dict(state, strict=False)
    return file_digest(path)
