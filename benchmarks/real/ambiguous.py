"""Boxes that two objects share, where only the class can tell whose mask is wanted:
does a label change a box segmenter's mask?

Composites of COCO-mini's cut-outs, half of whose objects share nearly one box with an
object of another class. Masks of the VOC classes are learnt; told apart is how often a
mask is more like its own object than like the other's.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.paper.sources import Composites
from benchmarks.paper.table1_page import spread
from benchmarks.real.command import Halfmask, run_halfmask
from benchmarks.result import Options, Result, Row

RECIPE = "coco_mini_voc2nonvoc_box_segmenter"
PLAIN = "no class"
CONDITION = "model.condition"
WAYS: dict[str, list[str]] = {
    PLAIN: [],
    "random vectors": [f"{CONDITION}.input=random", f"{CONDITION}.input_norm=1"],
    "class names (GloVe)": [
        f"{CONDITION}.input=embedding",
        f"{CONDITION}.embedding=${{HALFMASK_SHARED}}/data/embeddings/coco_glove.npy",
        f"{CONDITION}.input_norm=1",
    ],
    "prototypes": [f"{CONDITION}.input=prototype", f"{CONDITION}.input_norm=1"],
}
"""How the class reaches the model, as keys of the recipe."""
TRAIN, TEST = 2000, 400
"""Pictures."""
BUDGET = [
    "stages.0.steps=1000",
    "stages.0.batch_size=8",
    "model.crop_size=64",
    "model.zooms=[]",
    "data.paste=0",
    "data.rotation=0",
    "rounds=1",
]
"""Composites are small, pasted and many: crops of 64 pixels, and nothing more is
pasted. Some three minutes of one core.
"""
SETS = ("A", "B")


def run(options: Options, halfmask: Halfmask = run_halfmask) -> Result:
    """Trains each way on composites of each seed, and measures it on composites of the
    other photographs.

    Raises:
        InputError: the shared data are absent, or a run fails.
    """
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    measures: list[dict[str, Any]] = []
    for seed in seeds:
        folders = {part: options.out / f"seed-{seed}" / part for part in ("train", "test")}
        for part, folder in folders.items():
            Composites().pictures(folder, TRAIN if part == "train" else TEST, seed, part == "test")
        for way, keys in WAYS.items():
            scores = _measured(way, keys, seed, folders, halfmask)
            found[way].append(scores)
            measures.append({"way": way, "seed": seed, **scores})
            options.say(
                f"{way}, seed {seed}: told apart A {scores['told_A']:.1f} %, B "
                f"{scores['told_B']:.1f} %"
            )
    command = (
        f"python -m benchmarks ambiguous --seeds {options.seeds} --first-seed {options.first_seed}"
    )
    return Result(_rows(found), {"ambiguous": _table(found)}, command, {"measures": measures})


def _measured(
    way: str, keys: list[str], seed: int, folders: dict[str, Path], halfmask: Halfmask
) -> dict[str, float]:
    """Percent: told_A and told_B (told apart), miou_A and miou_B, of boxes that are the
    same; all_A and all_B, mask IoU in all boxes.
    """
    own = folders["train"].parent / "".join(c if c.isalnum() else "-" for c in way)
    train, test = folders["train"], folders["test"]
    data = [f"data.annotations={train / 'instances.json'}", f"data.images={train / 'images'}"]
    halfmask(
        [
            "train",
            RECIPE,
            f"seed={seed}",
            *BUDGET,
            *data,
            *keys,
            "--out",
            str(own / "run"),
            "--resume",
        ]
    )
    result = own / "evaluation.json"
    if not result.is_file():
        truth = [str(test / "instances.json"), "--images", str(test / "images"), "--masked", "voc"]
        halfmask(["evaluate", str(own / "run"), *truth, "--given-boxes", "--json", str(result)])
    blocks = json.loads(result.read_text(encoding="utf-8"))
    out: dict[str, float] = {}
    for name in SETS:
        shared = blocks["ambiguous"][name]["same_box"]
        out |= {f"told_{name}": 100 * shared["told_apart"], f"miou_{name}": 100 * shared["miou"]}
        out[f"all_{name}"] = 100 * blocks["given_boxes"][name]["miou"]
    return out


def _table(found: dict[str, list[dict[str, float]]]) -> str:
    heads = [
        "told apart, A",
        "told apart, B",
        "IoU in shared boxes, A",
        "B",
        "IoU in all boxes, A",
        "B",
        "runs",
    ]
    lines = [
        f"| what the model knows of a class | {' | '.join(heads)} |",
        "|" + "---|" * (len(heads) + 1),
    ]
    keys = [f"{what}_{name}" for what in ("told", "miou", "all") for name in SETS]
    for way, runs in found.items():
        cells = [spread([r[key] for r in runs], 1) for key in keys]
        lines.append(f"| {' | '.join([way, *cells, str(len(runs))])} |")
    return "\n".join(lines)


def _rows(found: dict[str, list[dict[str, float]]]) -> list[Row]:
    means = {way: statistics.fmean(r["told_B"] for r in runs) for way, runs in found.items()}
    base = means[PLAIN]
    return [
        {
            "name": f"shared boxes told apart on B, {way}",
            "peer": PLAIN,
            "peer_value": base,
            "value": value,
            "unit": "%",
            "ratio": value / base,
            "bar": None,
            "ok": None,
        }
        for way, value in means.items()
    ]
