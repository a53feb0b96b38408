"""Encoders: where networks are cut, which weights fit, what stays frozen."""

import copy
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from halfmask.errors import InputError
from halfmask.models.backbones.cut import cut_network
from halfmask.models.backbones.encoder import build_encoder

# The nodes at which the stages end, found by reading torchvision's sources.
STAGES: dict[str, dict[int, str]] = {
    "resnet18": {2: "relu", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"},
    "resnet50": {2: "relu", 4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"},
    "mobilenet_v2": {2: "features.1", 4: "features.3", 8: "features.6", 16: "features.13", 32: "features.18"},
    "mobilenet_v3_small": {2: "features.0", 4: "features.1", 8: "features.3", 16: "features.8", 32: "features.12"},
    "mobilenet_v3_large": {2: "features.1", 4: "features.3", 8: "features.6", 16: "features.12", 32: "features.16"},
    "efficientnet_b0": {2: "features.1", 4: "features.2", 8: "features.3", 16: "features.5", 32: "features.8"},
    "convnext_tiny": {4: "features.1", 8: "features.3", 16: "features.5", 32: "features.7"},
    "regnet_y_400mf": {2: "stem", 4: "trunk_output.block1", 8: "trunk_output.block2", 16: "trunk_output.block3", 32: "trunk_output.block4"},
}  # fmt: skip


SLOW = ("resnet50", "convnext_tiny", "efficientnet_b0", "regnet_y_400mf")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in STAGES]
)
def test_networks_are_cut_where_their_stages_end(name: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).eval()
    expected = create_feature_extractor(network, {node: str(s) for s, node in STAGES[name].items()})
    cut = cut_network(copy.deepcopy(network))
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted, found = expected(images), cut.body(images)
    assert list(cut.channels) == list(STAGES[name])
    for stride, one in zip(cut.channels, found, strict=True):
        assert torch.equal(one, wanted[str(stride)]), stride
        assert one.shape[1:] == (cut.channels[stride], 64 // stride, 96 // stride)


def test_encoder_returns_maps_by_stride_and_drops_what_nobody_wants() -> None:
    encoder = build_encoder(
        "small_resnet", widths=[8, 12, 16, 20], blocks=[1, 2, 1, 1], strides=[4, 8]
    )
    maps = encoder(torch.rand(2, 3, 64, 32))
    assert {s: tuple(m.shape) for s, m in maps.items()} == {4: (2, 8, 16, 8), 8: (2, 12, 8, 4)}
    assert encoder.channels == {4: 8, 8: 12}
    assert not [
        name for name in encoder.state_dict() if ".stages.2." in name or ".stages.3." in name
    ]
    whole = build_encoder("small_resnet", widths=[8, 12, 16, 20])
    assert whole.channels == {2: 8, 4: 8, 8: 12, 16: 16, 32: 20}


def test_encoders_can_be_copied_and_sent_to_other_processes() -> None:
    encoder = build_encoder("mobilenet_v3_small").eval()
    images = torch.rand(1, 3, 32, 32)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(other(images)[32], encoder(images)[32])
        assert list(other.state_dict()) == list(encoder.state_dict())


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet1_1",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("vit_b_16", "alexnet", "swin_t")),
    ],
)
def test_networks_that_do_not_fit(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=f"backbone {name}: does not fit") as caught:
        build_encoder(name)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


class Tokens(nn.Module):
    """A transformer in miniature: patches, then tokens, and a check of the picture's size."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 16, stride=16)
        self.linear = nn.Linear(8, 8)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 224
        return self.linear(self.patches(images).flatten(2).transpose(1, 2))


def test_transformers_do_not_fit() -> None:
    with pytest.raises(ValueError, match="cannot be traced"):
        cut_network(Tokens())


def test_unknown_names_and_sizes() -> None:
    with pytest.raises(InputError, match=r"near: .*resnet50"):
        build_encoder("resnet_50")
    with pytest.raises(InputError, match="needs `widths`"):
        build_encoder("small_resnet")
    with pytest.raises(InputError, match="as many blocks as widths"):
        build_encoder("small_resnet", widths=[8, 16], blocks=[1])
    with pytest.raises(InputError, match=r"strides \[2, 4, 8\], wanted \[2, 64\]"):
        small(strides=[2, 64])
    with pytest.raises(InputError, match="no DEFAULT weights"):
        build_encoder("small_resnet", "DEFAULT", widths=[8])


def small(weights: Path | None = None, **options: Any) -> nn.Module:
    return build_encoder(
        "small_resnet", str(weights) if weights else None, widths=[4, 8], **options
    )


def saved(path: Path, seed: int = 1, **changes: Tensor | None) -> dict[str, Tensor]:
    """Writes weights for `small`, as torchvision would name them; a change of None
    drops the key.
    """
    torch.manual_seed(seed)
    state = {
        k.removeprefix("body."): torch.rand_like(v)
        for k, v in small().state_dict().items()
        if v.ndim
    }
    for key, value in changes.items():
        state.pop(key, None)
        if value is not None:
            state[key] = value
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if "wrapped" in path.name else state, path)
    return state


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "wrapped.pt"])
def test_local_weights(tmp_path: Path, name: str) -> None:
    state = saved(tmp_path / name)  # without num_batches_tracked
    loaded = small(tmp_path / name).state_dict()
    for key, value in state.items():
        assert torch.equal(loaded[f"body.{key}"], value), key


def test_weights_of_dropped_stages_may_be_absent(tmp_path: Path) -> None:
    state = saved(tmp_path / "w.safetensors")
    partial = {k: v for k, v in state.items() if not k.startswith("stages.1.")}
    save_file(partial, tmp_path / "partial.safetensors")
    with pytest.raises(InputError, match="missing"):
        small(tmp_path / "partial.safetensors")
    encoder = build_encoder(
        "small_resnet", str(tmp_path / "w.safetensors"), widths=[4, 8], strides=[2, 4]
    )
    build_encoder(
        "small_resnet", str(tmp_path / "partial.safetensors"), widths=[4, 8], strides=[2, 4]
    )
    assert torch.equal(encoder.state_dict()["body.stem.0.weight"], state["stem.0.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stem.0.weight": None}, r"keys do not fit.*1 missing \(stem.0.weight"),
        ({"stem.9.weight": torch.zeros(1)}, r"1 unknown \(stem.9.weight"),
        (
            {"stem.0.weight": torch.zeros(4, 3, 5, 5)},
            r"stem.0.weight: expected shape \[4, 3, 3, 3\], found \[4, 3, 5, 5\]",
        ),
        ({"stem.0.weight": torch.full((4, 3, 3, 3), torch.nan)}, "not finite"),
    ],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    path = tmp_path / "w.safetensors"
    saved(path, **changes)
    with pytest.raises(InputError, match=message):
        small(path)


class Payload:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("halfmask-was-here"),))


def test_files_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"x": Payload()}, tmp_path / "pickle.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    for name in ("text.safetensors", "text.pth", "pickle.pth"):
        with pytest.raises(InputError, match="not a file of weights"):
            small(tmp_path / name)
    with pytest.raises(InputError, match="expected a dictionary of tensors"):
        small(tmp_path / "list.pth")
    with pytest.raises(InputError, match="no such file"):
        small(tmp_path / "absent.pth")
    assert not (tmp_path / "halfmask-was-here").exists()  # nothing in a weights file is run


def test_default_weights_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> nn.Module:
        raise URLError("no route to host")

    monkeypatch.setattr(torchvision.models, "get_model", refuse)
    with pytest.raises(
        InputError, match=r"DEFAULT weights could not be fetched .*name a local file"
    ):
        build_encoder("resnet18", "DEFAULT")


@pytest.mark.shared
def test_shared_mobilenet_weights(shared_data: Path) -> None:
    path = shared_data / "weights" / "mobilenet_v2_imagenet.safetensors"
    encoder = build_encoder("mobilenet_v2", str(path), norm="frozen")
    network = torchvision.models.mobilenet_v2(weights=None)
    network.load_state_dict(load_file(path), strict=False)
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        expected = network.eval().features(images)
        assert torch.equal(encoder.eval()(images)[32].float(), expected) or torch.allclose(
            encoder(images)[32], expected, atol=1e-4
        )
    assert float(expected.std()) > 0.1
    with pytest.raises(InputError, match="same architecture"):
        build_encoder("mobilenet_v3_small", str(path))


def test_frozen_norm_learns_neither_weights_nor_statistics() -> None:
    encoder = small(norm="frozen").train()
    before = copy.deepcopy(encoder.state_dict())
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(encoder(images)[8], encoder.eval()(images)[8])
    assert {k: v.shape for k, v in before.items()} == {
        k: v.shape for k, v in encoder.state_dict().items()
    }
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in before.items())
    assert {p.ndim for p in encoder.parameters()} == {4}  # convolutions alone


@pytest.mark.parametrize(
    ("stages", "learning"), [(5, {"stem", "stages"}), (2, {"stages"}), (1, {"stages"}), (0, set())]
)
def test_frozen_stages_cannot_be_trained(stages: int, learning: set[str]) -> None:
    encoder = small(trainable_stages=stages).train().requires_grad_(True)
    before = copy.deepcopy(encoder.state_dict())
    if stages:
        optimiser = torch.optim.SGD(encoder.parameters(), 0.1)
        encoder(torch.rand(4, 3, 32, 32))[8].square().sum().backward()
        optimiser.step()
    changed = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert {k.split(".")[1] for k in changed} == learning
    if stages == 1:
        assert all(k.startswith("body.stages.1.") for k in changed)
    assert set(before) >= {k for k, _ in encoder.named_parameters()}


def test_resnet_stages_are_torchvisions() -> None:
    """trainable_stages counts as torchvision's trainable_layers does."""
    encoder = build_encoder("resnet18", trainable_stages=3)
    learning = {name.split(".")[1] for name, _ in encoder.named_parameters()}
    assert learning == {"layer2", "layer3", "layer4"}
    buffers = {
        name.split(".")[1] for name, _ in encoder.named_buffers() if name.endswith(".weight")
    }
    assert buffers == {"conv1", "bn1", "layer1"}
