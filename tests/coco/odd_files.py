"""COCO files with sound and odd records, which two readers must read alike."""

import json
from typing import Any

import numpy as np
from hypothesis import strategies as st

from halfmask.masks.rle import rle_of

H, W = 40, 60


def bitmap(seed: int) -> Any:
    return np.random.default_rng(seed).random((9, 7)) < 0.4


RLE = rle_of(bitmap(0), (5, 6), (H, W))
RUNS = [100, 4, H * W - 104]
NUMBERS = st.integers(-5, 70) | st.floats(-5, 70) | st.floats(0, 40).map(lambda v: round(v, 2))
INSIDE = st.floats(0, H).map(lambda v: round(v, 2)) | st.integers(0, H)
BOX = st.tuples(INSIDE, INSIDE, INSIDE, INSIDE).map(list)
ODD: Any = st.sampled_from(
    [None, True, False, "7", "x", 7.0, 1.5, -1, 0, 10**18, 10**25, 1e300, [], {}, [[]], "", [1]]
)
SQUARE = st.tuples(INSIDE, INSIDE).map(
    lambda p: [p[0], p[1], p[0] + 9, p[1], p[0] + 9, p[1] + 9, p[0], p[1] + 9]
)
POLYGON = st.lists(INSIDE, min_size=6, max_size=14) | st.lists(NUMBERS, min_size=0, max_size=10)
PLAIN = st.lists(POLYGON | SQUARE, min_size=1, max_size=3)
COMPRESSED = st.integers(0, 9).map(lambda k: rle_of(bitmap(k), (k, 2 * k), (H, W)))
BROKEN = st.sampled_from(
    [
        RLE | {"size": [H, W + 1]},
        RLE | {"size": [float(H), W]},
        RLE | {"counts": RLE["counts"][:-1]},
        RLE | {"counts": RLE["counts"] + "0"},
        RLE | {"counts": ""},
        RLE | {"counts": "é"},
        RLE | {"counts": "~" + RLE["counts"]},
        RLE | {"counts": f"b'{RLE['counts']}'"},
        RLE | {"counts": None},
        RLE | {"all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]},
        {"counts": RUNS},
        {"size": [H, W], "counts": [*RUNS, 1]},
        {"size": [H, W], "counts": [-1, 1, H * W]},
        {"size": [H, W], "counts": [H * W]},
        {"size": [H, W], "counts": [H * W - 1.0, 1]},
        [RLE, RLE],
        [RLE, [1, 1, 9, 1, 9, 9]],
        [[[1, 1], [9, 1], [9, 9]]],
        [1, 1, 9, 1, 9, 9],
        [{"x": 1, "y": 1}, {"x": 9, "y": 1}, {"x": 9, "y": 9}],
        [None],
        [[1, 1, 9, None, 9, 9]],
        [[1, 1, 9, "1", 9, 9]],
        [[1, 1, 9, 1e308, 9, 9]],
        [[0, 0, 9, 0, 9, 9], [0, 0, 1]],
        "[[1, 1, 9, 1, 9, 9]]",
    ]
)
MASK = (
    PLAIN
    | COMPRESSED
    | BROKEN
    | ODD
    | st.just({"size": [H, W], "counts": RUNS})
    | st.just({"size": [H, W], "counts": [0, H * W]})
)
NOTE = ODD | st.sampled_from(
    [
        {"state": "filled", "score": 0.5},
        {"state": "accepted"},
        {"state": "rejected"},
        {"state": "redrawn"},
        {"state": "other"},
        {"state": None},
        {"state": 3},
        {"box": [1, 2, 3, 4]},
        {"state": "filled", "box": [1, 2, 3, 4]},
    ]
)
TURNED = ODD | st.sampled_from(
    [{"rotation": 0}, {"rotation": 30.5}, {"rotation": "1"}, {"occluded": False, "rotation": 0.0}]
)
ANNOTATION = st.fixed_dictionaries(
    {
        "id": st.integers(1, 99) | st.integers(1, 10**6) | ODD,
        "image_id": st.integers(1, 5) | ODD,
        "category_id": st.integers(1, 4) | ODD,
        "bbox": BOX | st.lists(NUMBERS, min_size=4, max_size=4) | ODD,
    },
    optional={
        "segmentation": MASK,
        "iscrowd": st.integers(0, 1) | ODD,
        "halfmask": NOTE,
        "attributes": TURNED,
        "caption": st.sampled_from(['a}, {"b', "]]", "\\", 'é"', "NaN", "\ud800", [{}, {}], {}]),
    },
)
SOUND = st.fixed_dictionaries(
    {
        "id": st.integers(1, 10**6),
        "image_id": st.integers(1, 3),
        "category_id": st.integers(1, 3),
        "bbox": st.tuples(INSIDE, INSIDE, st.floats(1, 20), st.floats(1, 20)).map(list),
    },
    optional={
        "segmentation": PLAIN | COMPRESSED,
        "iscrowd": st.integers(0, 1),
        "halfmask": st.sampled_from([{"state": "filled"}, {"state": "rejected"}]),
    },
)
IMAGE = st.fixed_dictionaries(
    {"id": st.integers(1, 5), "height": st.just(H), "width": st.just(W)},
    optional={"file_name": st.sampled_from(["a.jpg", "é.jpg", "", 5, None])},
)
FORMS = st.sampled_from(
    [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False, "indent": 4}]
)


@st.composite
def files(draw: Any) -> bytes:
    """COCO files with sound and odd records, some with damaged bytes."""
    sound = draw(st.booleans())
    images = [{"id": k, "height": H, "width": W, "file_name": f"{k}.jpg"} for k in (1, 2, 3)]
    images += [] if sound else draw(st.lists(IMAGE | ODD, max_size=3))
    rows = draw(st.lists(SOUND if sound else SOUND | ANNOTATION, max_size=12))
    rows += [] if sound else draw(st.lists(ODD, max_size=1))
    document = {
        "images": images,
        "categories": [{"id": k, "name": f"c{k}"} for k in (1, 2, 3)],
        "annotations": rows,
        "info": {"a": [{"b": 1}, {"b": 2}]},
    }
    keys = draw(st.permutations(list(document)))
    text = json.dumps({key: document[key] for key in keys}, **draw(FORMS))
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from(DAMAGE))
    return bytes(data)


DAMAGE = [b"", b",", b"}", b"{", b"[", b"]", b'"', b"\0", b"\xff", b"NaN", b"-", b"1", b"\\", b"."]
