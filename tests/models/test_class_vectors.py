"""Class vectors from files: by row or by name, the background's row, and files that do not fit."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from halfmask.errors import InputError
from halfmask.models.build import build_model, with_embedding_size
from halfmask.models.class_vectors import read_vectors, vector_size
from halfmask.models.class_weights import build_class_weights
from halfmask.recipes.recipe import Transfer

NAMES = ["cat", "hot dog", "tree", "tv"]
ROWS = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)


def by_name(path: Path, **changes: Any) -> Path:
    """Vectors under names, not in the order of the classes."""
    vectors = {name: torch.from_numpy(row.copy()) for name, row in zip(NAMES, ROWS, strict=True)}
    vectors |= changes
    save_file(
        {
            name: vectors[name]
            for name in sorted(vectors, reverse=True)
            if vectors[name] is not None
        },
        path,
    )
    return path


def test_rows_become_class_weights(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, ROWS.astype(np.float64))
    weights, size = build_class_weights(
        Transfer(input="embedding", embedding=str(path)), num_classes=5, box_width=3
    )
    assert size == 7
    table = weights(torch.zeros(5, 3), torch.zeros(20, 3)).numpy()
    assert not table[0].any()
    np.testing.assert_allclose(table[1:], ROWS, rtol=1e-6)


def test_a_background_row_of_zeros_may_stand_first_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    np.save(path, np.concatenate([np.zeros((1, 7), np.float32), ROWS]))
    np.testing.assert_array_equal(read_vectors(path, 5).numpy(), ROWS)
    np.save(path, np.concatenate([np.ones((1, 7), np.float32), ROWS]))
    with pytest.raises(InputError, match=r"expected class vectors \[4, E\].*found \[5, 7\]"):
        read_vectors(
            path, 5
        )  # one class too many, or every class shifted by one: not to be guessed


def test_names_put_rows_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = by_name(tmp_path / "v.safetensors")
    np.testing.assert_array_equal(read_vectors(path, 5, NAMES).numpy(), ROWS)
    np.testing.assert_array_equal(read_vectors(path, 5, NAMES[::-1]).numpy(), ROWS[::-1])
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "halfmask"):
        np.testing.assert_array_equal(read_vectors(path, 3, ["tv", "cat"]).numpy(), ROWS[[3, 0]])
    assert "2 vectors belong to no class and are not used: hot dog, tree" in caplog.text


def test_missing_and_surplus_names_are_listed(tmp_path: Path) -> None:
    path = by_name(tmp_path / "v.safetensors")
    with pytest.raises(InputError) as caught:
        read_vectors(path, 5, ["cat", "hotdog", "Tree", "quokka"])
    line = str(caught.value)
    assert (
        "no vector for 3 classes: hotdog, Tree, quokka; 3 vectors are no class's: hot dog, tree, tv"
        in line
    )
    assert "rename 'hot dog' for 'hotdog', 'tree' for 'Tree'" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((3, 7), np.float32), r"expected class vectors \[4, 7\].*found \[3, 7\]"),
        (np.zeros((4, 8), np.float32), r"expected class vectors \[4, 7\].*found \[4, 8\]"),
        (np.zeros(7, np.float32), r"one array of numbers.*found float32 \[7\]"),
        (np.full((4, 7), "x"), "one array of numbers"),
        (np.full((4, 7), np.nan, np.float32), "not finite"),
        (b"hello", "cannot be read"),
        (np.array([{"a": 1}] * 4, dtype=object), "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_files_of_rows_that_do_not_fit(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "vectors.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, np.asarray(content), allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read_vectors(path, num_classes=5, size=7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tv": torch.zeros(6)}, r"'\w[\w ]*': expected \[\d\] as '\w[\w ]*' has, found \[\d\]"),
        ({"cat": torch.zeros(7, 1), "tree": torch.zeros(7, 1)}, "found"),
        ({"cat": torch.full((7,), torch.inf)}, "not finite"),
    ],
)
def test_files_of_names_that_do_not_fit(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_vectors(by_name(tmp_path / "v.safetensors", **changes), 5, NAMES)


def test_files_that_are_none(tmp_path: Path) -> None:
    broken = tmp_path / "v.safetensors"
    for content in (b"", b"hello, world"):
        broken.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_vectors(broken, 5, NAMES)
    save_file({}, broken)
    with pytest.raises(InputError, match="no vector in it"):
        vector_size(broken)
    with pytest.raises(InputError, match="cannot be read"):
        vector_size(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="need the names"):
        read_vectors(by_name(broken), 5)
    np.savez(tmp_path / "v.npz", a=ROWS)
    with pytest.raises(InputError, match="archive of several"):
        read_vectors(tmp_path / "v.npz", 5)


@pytest.mark.parametrize("kind", ["mask_rcnn", "box_segmenter"])
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_the_file_gives_the_size_and_a_checkpoint_needs_no_file(
    config: Any, tmp_path: Path, kind: str, suffix: str
) -> None:
    path = tmp_path / f"v.{suffix}"
    if suffix == "npy":
        np.save(path, ROWS)
    else:
        by_name(path)
    transfer = Transfer(input="embedding", embedding=str(path))
    recipe = config(transfer=transfer)
    if kind == "box_segmenter":
        from halfmask.recipes.recipe import BoxSegmenterConfig

        recipe = BoxSegmenterConfig(
            kind="box_segmenter",
            encoder=recipe.backbone,
            crop_size=32,
            decoder_widths=[8, 6],
            condition=transfer,
        )
    known = with_embedding_size(recipe)
    chosen = known.mask_head.transfer if known.kind == "mask_rcnn" else known.condition
    assert chosen is not None
    assert chosen.embedding_size == 7
    assert with_embedding_size(known) == known
    first = build_model(recipe, 5, names=NAMES)
    path.unlink()
    second = build_model(known, 5, pretrained=False)
    second.load_state_dict(first.state_dict())
    (key,) = [k for k in second.state_dict() if k.endswith("class_weights.vectors")]
    np.testing.assert_array_equal(second.state_dict()[key][1:].numpy(), ROWS)
    with pytest.raises(InputError, match="embedding_size is null"):
        build_model(recipe, 5, pretrained=False)
    with pytest.raises(InputError, match="cannot be read"):
        with_embedding_size(recipe)


def test_models_without_a_file_are_settled_already(config: Any) -> None:
    for transfer in ({"input": "cls"}, {"input": "random"}):
        assert with_embedding_size(config(transfer=transfer)) == config(transfer=transfer)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "length"), [("coco_glove", 6.5), ("coco_randn_0", 0.94)])
def test_the_papers_own_vectors(shared_data: Path, name: str, length: float) -> None:
    path = shared_data / "embeddings" / f"{name}.npy"
    assert vector_size(path) == 300
    assert float(read_vectors(path, num_classes=81).norm(dim=1).mean()) == pytest.approx(
        length, rel=0.02
    )  # paper, 1.1
