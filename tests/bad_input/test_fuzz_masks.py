"""The mask decoders on bytes of anyone's: the short form of fuzz/masks.py,
without atheris.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfmask.formats.label_studio.brush import pack_brush, unpack_brush
from tests.bad_input.fuzz import targets
from tests.bad_input.fuzz.masks import NAMES
from tests.bad_input.fuzz.targets import TARGETS, check_segmentation

many = settings(
    max_examples=150, deadline=5000, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("name", TARGETS)
@many
@given(data=st.binary(max_size=200))
def test_a_decoder_refuses_or_reads_as_pycocotools_does(name: str, data: bytes) -> None:
    TARGETS[name](data)


WORDS = st.sampled_from(
    ["0", "1", "0.5", "-1", "nan", "inf", "1e999", "x", "", " ", "3.0", "99999999999999999999"]
)


@many
@given(words=st.lists(WORDS, max_size=14), keypoints=st.integers(0, 255))
def test_lines_of_label_files(words: list[str], keypoints: int) -> None:
    TARGETS["yolo"](bytes([keypoints]) + " ".join(words).encode())


VALUES = (
    st.floats() | st.integers(-(2**70), 2**70) | st.none() | st.text(max_size=2) | st.booleans()
)


@many
@given(parts=st.lists(st.lists(VALUES | st.floats(-70, 130), max_size=12), max_size=3))
def test_polygons_of_any_json_values(parts: list[Any]) -> None:
    check_segmentation(parts, (31, 43))


@many
@given(
    points=st.lists(st.integers(0, 160), min_size=6, max_size=16),
    times=st.integers(1, 3),
    kind=st.sampled_from([2, 6]),
)
def test_polygons_that_go_round_more_than_once(points: list[int], times: int, kind: int) -> None:
    """What the fuzzer found: twice round is no pixel, and was taken for a mask."""
    even = points[: len(points) // 2 * 2]
    TARGETS["polygon"](bytes([40, 40, kind, 0, *even * times]))


def test_the_tool_knows_every_decoder() -> None:
    assert set(NAMES) == set(TARGETS)


def test_a_wrong_decoder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness can fail: a decoder that is off by one pixel is caught."""
    real = targets.decode
    monkeypatch.setattr(targets, "decode", lambda s, size: (real(s, size)[0], (0, 0)))
    with pytest.raises((AssertionError, ValueError)):
        check_segmentation([[5, 5, 20, 5, 20, 20]], (30, 30))


@pytest.mark.parametrize("seed", range(4))
def test_a_brush_stream_with_literals_is_read(seed: int) -> None:
    """Another writer may spell values out one by one: halfmask's own packs runs alone."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, 4 * 5 * 7)
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    at = 0
    while at < len(values):
        count = min(int(rng.integers(1, 9)), len(values) - at)
        bits += f"0{0:02b}{count - 1:03b}" + "".join(f"{v:08b}" for v in values[at : at + count])
        at += count
    bits += "0" * (-len(bits) % 8)
    mask = unpack_brush(list(int(bits, 2).to_bytes(len(bits) // 8, "big")), (5, 7))
    assert np.array_equal(mask, values[3::4].reshape(5, 7) > 0)
    assert np.array_equal(unpack_brush(pack_brush(mask), (5, 7)), mask)


def test_a_short_stream_of_a_large_image_takes_no_more_than_the_image() -> None:
    import tracemalloc

    side = 2000
    rle = pack_brush(np.ones((side, side), dtype=np.uint8))
    tracemalloc.start()
    unpack_brush(rle, (side, side))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * side * side
