"""Fixtures that every room shares."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data folder; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("HALFMASK_SHARED", "../shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the shared data: {folder} is absent (set HALFMASK_SHARED)")
    return folder.resolve()


@pytest.fixture(scope="session", autouse=True)
def copies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of COCO copies: no test writes into the user's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFMASK_CACHE", str(folder))
        yield folder


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The errors that halfmask printed."""
        return [line for line in self.err.splitlines() if line.startswith("halfmask:")]

    @property
    def line(self) -> str:
        """The only line on stderr."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


RunsHalfmask = Callable[..., Outcome]


@pytest.fixture
def halfmask_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunsHalfmask:
    """Runs `halfmask ARGUMENTS` in this process."""
    from halfmask.cli import main as cli

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["halfmask", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


CLASSES = [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 7, "name": "tree"}]


def _checkpoint(path: Path, model: dict[str, Any]) -> Path:
    """A model of random weights, saved as training would save it."""
    import torch

    from halfmask.models.build import build_model
    from halfmask.models.checkpoint import Checkpoint, save_checkpoint
    from halfmask.recipes.recipe import parse_recipe

    optimiser = {"lr": 0.1}
    stage = {"name": "all", "train": ["all"], "steps": 1, "batch_size": 1, "optimiser": optimiser}
    document = {
        "name": "tiny",
        "model": model,
        "data": {"annotations": "a", "images": "b"},
        "stages": [stage],
    }
    recipe = parse_recipe(document, "tiny")
    torch.manual_seed(0)
    made = build_model(recipe.model, len(CLASSES) + 1, pretrained=False)
    if model.get("clicks"):  # a new model ignores clicks until it has learnt from some
        first = next(m for m in made.modules() if isinstance(m, torch.nn.Conv2d))
        torch.nn.init.normal_(first.weight[:, 4:])
    state = made.state_dict()
    save_checkpoint(
        path,
        Checkpoint(
            state=state,
            recipe=recipe,
            categories=CLASSES,
            masked=[2, 5],
            mask_counts={2: 30, 5: 20, 7: 0},
        ),
    )
    return path


@pytest.fixture(scope="session")
def tiny_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that draws masks into given boxes: classes cat, dog (masked in
    training) and tree.
    """
    encoder = {"name": "small_resnet", "widths": [4, 6, 8, 8], "blocks": [1, 1, 1, 1]}
    model = {"kind": "box_segmenter", "encoder": encoder, "crop_size": 64, "decoder_widths": [8, 6]}
    return _checkpoint(tmp_path_factory.mktemp("tiny") / "tiny.safetensors", model)


@pytest.fixture(scope="session")
def clicked_segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_segmenter`, and it takes clicks and earlier masks."""
    encoder = {"name": "small_resnet", "widths": [4, 6, 8, 8], "blocks": [1, 1, 1, 1]}
    model = {"kind": "box_segmenter", "encoder": encoder, "crop_size": 64, "decoder_widths": [8, 6]}
    return _checkpoint(
        tmp_path_factory.mktemp("clicked") / "c.safetensors", model | {"clicks": True}
    )


@pytest.fixture(scope="session")
def tiny_detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a Mask R-CNN of the same classes, whose head needs them."""
    detector = {
        "fpn_channels": 8,
        "strides": [4, 8],
        "extra_level": False,
        "anchor_sizes": [16, 32],
        "box_width": 16,
        "box_roi_size": 3,
        "detections": 12,
    }
    model = {
        "kind": "mask_rcnn",
        "backbone": {"name": "small_resnet", "widths": [4, 8], "blocks": [1, 1]},
        "images": {"min_size": [64], "max_size": 96},
        "detector": detector,
        "mask_head": {"width": 8, "convs": 1, "roi_size": 6},
    }
    run = tmp_path_factory.mktemp("run")
    _checkpoint(run / "model.safetensors", model)
    return run


SIDE = 128
PROMPT = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
DECODER = {"hidden_size": 16, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
DECODER |= {"iou_head_hidden_dim": 16, "iou_head_depth": 2}


def _tiny_sam(folder: Path) -> None:
    import transformers

    vision = {
        "hidden_size": 16,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_dim": 32,
    }
    vision |= {
        "image_size": SIDE,
        "patch_size": 16,
        "window_size": 4,
        "global_attn_indexes": [1],
        "num_pos_feats": 8,
    }
    vision |= {"initializer_range": 0.3}
    parts = {
        "vision_config": vision,
        "prompt_encoder_config": PROMPT,
        "mask_decoder_config": DECODER,
    }
    parts |= {"initializer_range": 0.3}  # logits far from 0
    transformers.SamModel(transformers.SamConfig(**parts)).save_pretrained(folder)
    sizes = {"size": {"longest_edge": SIDE}, "pad_size": {"height": SIDE, "width": SIDE}}
    transformers.SamProcessor(transformers.SamImageProcessor(**sizes)).save_pretrained(folder)


def _tiny_sam2(folder: Path, kind: str = "Sam2") -> None:
    import transformers

    backbone = {"model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE]}
    backbone |= {
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads": 1,
    }
    backbone |= {
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [8, 4, 4, 2],
    }
    backbone |= {
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "fpn_hidden_size": 16,
    }
    vision |= {"backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
    parts: dict[str, Any] = {
        "vision_config": vision,
        "prompt_encoder_config": PROMPT,
        "mask_decoder_config": DECODER,
        "initializer_range": 0.3,
    }
    if kind == "Sam2Video":
        parts |= {
            "image_size": SIDE,
            "memory_attention_hidden_size": 16,
            "memory_encoder_hidden_size": 16,
        }
        parts |= {"memory_encoder_output_channels": 8, "mask_downsampler_embed_dim": 16}
        parts |= {
            "memory_fuser_embed_dim": 16,
            "memory_fuser_intermediate_dim": 16,
            "memory_attention_num_layers": 1,
        }
        parts |= {
            "memory_attention_feed_forward_hidden_size": 16,
            "memory_attention_rope_feat_sizes": [8, 8],
        }
    model, config = getattr(transformers, f"{kind}Model"), getattr(transformers, f"{kind}Config")
    model(config(**parts)).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    transformers.Sam2Processor(transformers.Sam2ImageProcessor(size=size)).save_pretrained(folder)


@pytest.fixture(scope="session")
def sam_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sam, sam2 and sam2_video: folders of tiny networks of random weights for images
    of 128 × 128, as transformers writes them.
    """
    pytest.importorskip("transformers")
    import torch

    out = tmp_path_factory.mktemp("sam")
    torch.manual_seed(0)
    _tiny_sam(out / "sam")
    _tiny_sam2(out / "sam2")
    _tiny_sam2(out / "sam2_video", "Sam2Video")
    return out


@pytest.fixture(scope="session")
def average_precision() -> Any:
    """(images, categories, truth, results, kind) → PrecisionTable: the images streamed,
    in another order than the file's.
    """
    from halfmask.evaluation.measures.average_precision import PrecisionStream

    def streamed(images: Any, categories: Any, truth: Any, results: Any, kind: Any) -> Any:
        stream = PrecisionStream(categories, kind)
        for image in reversed(images):
            own = [
                [r for r in records if r["image_id"] == image["id"]] for records in (truth, results)
            ]
            stream.add(image, *own)
        return stream.table()

    return streamed
