"""timm's networks as encoders: the same function after the split of their norms,
weights by file, what is refused.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import fx

from halfmask.errors import InputError
from halfmask.models.backbones.encoder import build_encoder
from halfmask.models.backbones.norm import fold_frozen_norm
from halfmask.models.backbones.timm import split_keys, split_norms
from halfmask.models.imported.efficientnet_lite import to_timm

NAME = "efficientnet_lite0"


def lively(name: str) -> torch.nn.Module:
    """A network whose norms do something."""
    torch.manual_seed(0)
    network = timm.create_model(name)
    generator = torch.Generator().manual_seed(1)
    for key, tensor in network.state_dict().items():
        if key.endswith("running_mean") or ("bn" in key and key.endswith("bias")):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
        elif key.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network.eval()


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() < 1e-3 * expected.abs().max())


def test_splitting_norms_changes_names_and_nothing_else() -> None:
    network, images = lively(NAME), torch.rand(2, 3, 64, 64)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        expected = network(images)
        norms = split_norms(network)
        assert same(network(images), expected)
    assert norms
    network.load_state_dict(split_keys(before, norms))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "frozen"])
@pytest.mark.parametrize("name", [NAME, f"tf_{NAME}"])
def test_an_encoder_gives_timms_own_features(tmp_path: Path, norm: str, name: str) -> None:
    """Those of TensorFlow's padding and epsilon too, which go with weights that were
    trained there.
    """
    network, images = lively(name), torch.rand(2, 3, 64, 96)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    features = timm.create_model(name, features_only=True).eval()
    features.load_state_dict(network.state_dict(), strict=False)
    encoder = build_encoder(f"timm/{name}", str(path), norm=norm).eval()
    with torch.no_grad():
        expected = {images.shape[-1] // f.shape[-1]: f for f in features(images)}
        found = encoder(images)
        assert list(found) == [2, 4, 8, 16, 32]
        for stride in (2, 4, 8, 16, 32):
            assert same(found[stride], expected[stride]), stride
        assert encoder.channels == {stride: f.shape[1] for stride, f in found.items()}
        if norm == "frozen":
            assert isinstance(encoder.body, fx.GraphModule)
            assert fold_frozen_norm(encoder.body) > 40
            folded = encoder(images)
            assert all(same(folded[s], found[s]) for s in found)


def test_unknown_names_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"timm/efficientnet_lite9: timm has no network of that name; near: "
        r".*efficientnet_lite",
    ):
        build_encoder("timm/efficientnet_lite9")
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="keys do not fit"):
        build_encoder(f"timm/{NAME}", str(path))


def test_weights_of_the_other_port_get_timms_names() -> None:
    network = lively("tf_efficientnet_lite1")
    state = network.state_dict()
    theirs = {}
    for number, (key, tensor) in enumerate(state.items()):
        first = "_conv_stem" if number == 0 else f"_m{number}"
        theirs[f"{first}.{key.rpartition('.')[2]}"] = tensor
    name, found = to_timm(theirs, "x.pth")
    assert name == "tf_efficientnet_lite1"
    assert list(found) == list(state)
    assert all(torch.equal(found[k], state[k]) for k in state)
    with pytest.raises(
        InputError, match=r"x.pth: its 10 tensors fit none of tf_efficientnet_lite0"
    ):
        to_timm(dict(list(theirs.items())[:10]), "x.pth")
    with pytest.raises(InputError, match="_conv_stem"):
        to_timm(state, "x.pth")
