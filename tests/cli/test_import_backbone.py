"""`halfmask import-weights efficientnet-lite`."""

from pathlib import Path

import timm
import torch

from halfmask.models.backbones.encoder import build_encoder
from tests.conftest import RunsHalfmask


def test_a_packages_file_becomes_a_recipes_weights(
    tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    names = [f"_m{k}.{key.rpartition('.')[2]}" for k, key in enumerate(state)]
    names[0] = "_conv_stem.weight"
    # The packages' file was made from arrays of TensorFlow's layout.
    state["conv_stem.weight"] = (
        state["conv_stem.weight"].permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    )
    torch.save(dict(zip(names, state.values(), strict=True)), tmp_path / "lite.pth")
    out = tmp_path / "new" / "lite.safetensors"
    done = halfmask_cli("import-weights", "efficientnet-lite", tmp_path / "lite.pth", out)
    assert done.code == 0
    assert f"model.encoder.name=timm/tf_efficientnet_lite0 model.encoder.weights={out}" in done.out
    encoder = build_encoder("timm/tf_efficientnet_lite0", str(out))
    assert torch.equal(encoder.state_dict()["body.conv_stem.weight"], state["conv_stem.weight"])


def test_another_file_is_refused(tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "x.pth")
    failed = halfmask_cli(
        "import-weights", "efficientnet-lite", tmp_path / "x.pth", tmp_path / "out.safetensors"
    )
    assert failed.code == 2
    assert "_conv_stem.weight" in failed.line
    assert not (tmp_path / "out.safetensors").exists()
