"""Detectors of torchvision, transformers and the YOLOX family, with small random networks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models import detection as zoo

from halfmask.coco.categories import COCO_NAMES, labels_by_name
from halfmask.errors import InputError
from halfmask.inference.predictor import load, load_detector
from halfmask.models.detectors.base import BoxDetector, ScoredBoxes
from halfmask.models.detectors.yolox import decoded_cells, letterboxed

torch.set_num_threads(1)
CPU = torch.device("cpu")
SSD = "ssdlite320_mobilenet_v3_large"


@pytest.fixture
def photo() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((3, 48, 80), dtype=np.float32))


class TwoBoxes(BoxDetector):
    """Finds the same boxes everywhere, some of which cannot be used."""

    def find(self, image: torch.Tensor) -> ScoredBoxes:
        boxes = [[5, 5, 30, 30], [-9, 10, 500, 40], [200, 0, 300, 9], [1, 1, 9, 9], [2, 2, 9, 9.0]]
        scores = [0.6, 0.9, 0.9, 0.9, 0.001]
        return ScoredBoxes(torch.tensor(boxes), torch.tensor([1, 3, 1, 2, 1]), torch.tensor(scores))


def test_boxes_are_clipped_sorted_and_named(photo: torch.Tensor, tiny_segmenter: Path) -> None:
    detector = TwoBoxes("two", "", ["__background__", "Cat", "N/A", "tree"])
    assert detector.categories == [{"id": 1, "name": "Cat"}, {"id": 2, "name": "tree"}]
    found = detector.detect(photo)
    assert found.boxes.tolist() == [[0, 10, 80, 40], [5, 5, 30, 30]]
    assert found.labels.tolist() == [2, 1]
    together = load(tiny_segmenter, detector, "cpu")
    seen = together.detect(photo)
    assert seen.names == ["tree", "Cat"]
    assert torch.equal(seen.boxes, found.boxes)


def test_names_meet_without_case_spaces_and_in_vocs_spelling() -> None:
    known = {"fire hydrant": 1, "tv": 2, "couch": 3, "Cat": 4, "cat": 5}
    names = ["Fire_Hydrant", "tvmonitor", "sofa", "cat", "CAT", "dog", "fire-hydrant"]
    assert labels_by_name(names, known) == [1, 2, 3, 5, 0, 0, 1]


def test_a_state_dict_of_torchvision(tmp_path: Path, photo: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = zoo.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    ).eval()
    file = tmp_path / "mine.pth"
    torch.save(network.state_dict(), file)
    detector = load_detector(f"torchvision:{SSD}={file}", CPU, "cat, traffic light")
    assert isinstance(detector, BoxDetector)
    assert [c["name"] for c in detector.categories] == ["cat", "traffic light"]
    assert detector.identity.startswith(f"torchvision:{SSD}=mine.pth@")
    found = detector.detect(photo)
    with torch.no_grad():
        theirs = network([photo])[0]
    assert len(found) > 0
    best = theirs["scores"].argsort(descending=True, stable=True)[: len(found)]
    assert torch.allclose(found.scores, theirs["scores"][best])
    assert torch.equal(found.labels, theirs["labels"][best])
    with pytest.raises(InputError, match=r"with 4 rows of classes.*of another shape"):
        load_detector(f"torchvision:{SSD}={file}", CPU, ["a", "b", "c"])


def test_torchvision_names_and_files_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=f"near: {SSD}"):
        load_detector("torchvision:ssdlite320_mobilenet", CPU)
    with pytest.raises(InputError, match="no such file"):
        load_detector(f"torchvision:{SSD}={tmp_path / 'absent.pth'}", CPU)
    with pytest.raises(InputError, match="--classes names the classes of a file"):
        load_detector(f"torchvision:{SSD}", CPU, "cat")

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"cannot get its weights: no network.*=FILE"):
        load_detector(f"torchvision:{SSD}", CPU)


def rt_detr(folder: Path) -> None:
    import transformers as hf

    resnet = hf.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 8, 8, 8],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    width = dict.fromkeys(("encoder_hidden_dim", "encoder_ffn_dim", "d_model"), 16)
    config = hf.RTDetrConfig(
        backbone_config=resnet,
        encoder_in_channels=[8, 8, 8],
        encoder_layers=1,
        encoder_attention_heads=2,
        num_queries=12,
        decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16,
        decoder_n_points=2,
        decoder_layers=1,
        decoder_attention_heads=2,
        num_denoising=0,
        id2label={0: "cat", 1: "N/A", 2: "Dog"},
        label2id={"cat": 0, "N/A": 1, "Dog": 2},
        **width,
    )
    hf.RTDetrForObjectDetection(config).save_pretrained(folder)
    hf.RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def owl_v2(folder: Path) -> None:
    import transformers as hf

    folder.mkdir()
    letters = [chr(i) for i in range(97, 123)]
    words = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: k for k, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = hf.CLIPTokenizerFast(*files, model_max_length=32, pad_token=words[-1])
    part = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    part |= {"num_attention_heads": 2}
    last = len(words) - 1
    ids = {"bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last}
    text = {**part, **ids, "vocab_size": len(words), "max_position_embeddings": 32}
    vision = {**part, "image_size": 64, "patch_size": 16}
    config = hf.Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
    hf.Owlv2ForObjectDetection(config).save_pretrained(folder)
    prepare = hf.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    hf.Owlv2Processor(image_processor=prepare, tokenizer=tokenizer).save_pretrained(folder)


def grounding_dino(folder: Path) -> None:
    import transformers as hf

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "fire", "hydrant", "bear", "?"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = hf.BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=16)
    swin = hf.SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1],
        num_heads=[1, 1, 1],
        window_size=4,
        image_size=64,
        out_features=["stage2", "stage3"],
    )
    bert = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 1}
    bert |= {"num_attention_heads": 2, "intermediate_size": 16}
    config = hf.GroundingDinoConfig(
        backbone_config=swin,
        text_config=hf.BertConfig(**bert),
        num_queries=10,
        encoder_layers=1,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_layers=2,
        decoder_ffn_dim=16,
        decoder_attention_heads=2,
        d_model=32,
        num_feature_levels=3,
        encoder_n_points=2,
        decoder_n_points=2,
        max_text_len=16,
    )
    hf.GroundingDinoForObjectDetection(config).save_pretrained(folder)
    prepare = hf.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    hf.GroundingDinoProcessor(image_processor=prepare, tokenizer=tokenizer).save_pretrained(folder)


def test_a_model_of_transformers(tmp_path: Path, photo: torch.Tensor) -> None:
    hf = pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path / "rt_detr"
    rt_detr(folder)
    detector = load_detector(f"hf:{folder}", CPU)
    assert isinstance(detector, BoxDetector)
    assert detector.identity.startswith("hf:rt_detr@")
    assert [c["name"] for c in detector.categories] == ["cat", "Dog"]
    found = detector.detect(photo)
    prepare = hf.AutoImageProcessor.from_pretrained(folder)
    network = hf.AutoModelForObjectDetection.from_pretrained(folder).eval()
    pixels = (photo.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    with torch.no_grad():
        out = network(**prepare(images=pixels, return_tensors="pt"))
    theirs = prepare.post_process_object_detection(out, threshold=0.01, target_sizes=[(48, 80)])[0]
    classes = theirs["labels"] != 1
    assert len(found) == int(classes.sum()) > 0
    assert torch.allclose(found.scores, theirs["scores"][classes].sort(descending=True).values)
    with pytest.raises(InputError, match="a rt_detr has its own classes"):
        load_detector(f"hf:{folder}", CPU, "cat")


@pytest.mark.parametrize("make", [owl_v2, grounding_dino])
def test_an_open_vocabulary(tmp_path: Path, photo: torch.Tensor, make: Any) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path / "model"
    make(folder)
    detector = load_detector(f"hf:{folder}", CPU, "Fire  hydrant, bear")
    assert isinstance(detector, BoxDetector)
    assert [c["name"] for c in detector.categories] == ["Fire hydrant", "bear"]
    found = detector.detect(photo)
    assert len(found) > 0
    assert {*found.labels.tolist()} <= {1, 2}
    if make is grounding_dino:
        halves = detector._words.tolist()  # type: ignore[attr-defined]
        assert halves == [[0, 0.5, 0.5, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0]]
    with pytest.raises(InputError, match="add --classes"):
        load_detector(f"hf:{folder}", CPU)
    with pytest.raises(InputError, match="name fewer classes, or shorter ones"):
        load_detector(f"hf:{folder}", CPU, " ".join(["bear"] * 40))


def test_models_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="names no model"):
        load_detector("hf:", CPU)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r'pip install "halfmask\[sam\]"'):
        load_detector("hf:anyone/anything", CPU)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r'pip install "halfmask\[export\]"'):
        load_detector(tmp_path / "a.onnx", CPU)


def test_a_photograph_lies_in_the_upper_left_of_yoloxs_input() -> None:
    image = torch.zeros(3, 20, 40)
    image[0] = 1.0  # red
    pixels, scale = letterboxed(image, (64, 96))
    assert scale == 2.4
    assert pixels[:, :48, :96].amax((1, 2)).tolist() == [0, 0, 255], "BGR, 0–255"
    assert (pixels[:, 48:] == 114).all()


def test_a_cell_says_where_its_box_is() -> None:
    """The cell in row 1, column 2 of the grid with stride 8, and the only one of stride 32."""
    raw = torch.zeros(16 + 4 + 1, 7)
    raw[4 + 2] = torch.tensor([0.5, 0.25, 1.0, 0.0, 0.5, 0.8, 0.1])
    boxes, scores = decoded_cells(raw, (32, 32))
    side = 8 * float(np.e) / 2
    assert torch.allclose(boxes[6], torch.tensor([20 - side, 6.0, 20 + side, 14.0]))
    assert torch.allclose(scores[6], torch.tensor([0.4, 0.05]))
    assert boxes[-1].tolist() == [-16, -16, 16, 16]


def graph(path: Path, cells: int, columns: int = 7, side: int = 32) -> Path:
    """An ONNX file that finds one box, in the cell in row 1, column 2 of stride 8."""
    onnx = pytest.importorskip("onnx")
    out = np.zeros((1, cells, columns), np.float32)
    out[0, 6, :7] = [0.5, 0.5, 0.5, 0.5, 0.9, 0.1, 0.8]
    nodes = [
        onnx.helper.make_node("ReduceSum", ["images"], ["sum"], keepdims=0),
        onnx.helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        onnx.helper.make_node("Add", ["found", "zero"], ["output"]),
    ]
    values = {"found": out, "nothing": np.zeros((), np.float32)}
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        nodes,
        "fixed",
        [info("images", kind, [1, 3, side, side])],
        [info("output", kind, list(out.shape))],
        [onnx.numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(made, opset_imports=[opset], ir_version=9), path)
    return path


def test_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = graph(tmp_path / "mine.onnx", 21)
    detector = load_detector(path, CPU, "cat, dog")
    found = detector.detect_batch([torch.zeros(3, 16, 16)])[0]
    assert found.labels.tolist() == [2, 1]
    assert found.scores.tolist() == pytest.approx([0.72, 0.09])
    half = 8 * float(np.exp(0.5)) / 2
    box = [(20 - half) / 2, (12 - half) / 2, 16.0, (12 + half) / 2]
    assert found.boxes[0].tolist() == pytest.approx([box[0], box[1], (20 + half) / 2, box[3]])
    with pytest.raises(InputError, match="2 classes; --classes has to name them"):
        load_detector(path, CPU)
    with pytest.raises(InputError, match="not of the YOLOX family"):
        load_detector(graph(tmp_path / "other.onnx", 20), CPU)
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="ONNX Runtime cannot open it"):
        load_detector(tmp_path / "bad.onnx", CPU)
    with pytest.raises(InputError, match="twice"):
        load_detector(path, CPU, "cat, Cat")


def test_classes_need_a_detector_that_takes_them(tiny_segmenter: Path, tiny_detector: Path) -> None:
    with pytest.raises(InputError, match="names the classes of a --detector"):
        load(tiny_segmenter, classes="cat")
    with pytest.raises(InputError, match="has its own classes"):
        load(tiny_segmenter, tiny_detector, classes="cat")


def test_cocos_ids_for_cocos_classes() -> None:
    detector = TwoBoxes("coco", "", list(COCO_NAMES.values()))
    assert [c["id"] for c in detector.categories] == list(COCO_NAMES)
