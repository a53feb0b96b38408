"""The classes of the paper's Visual Genome model: frequent synsets and COCO's (paper.md, 5.1)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from halfmask.coco.categories import COCO_NAMES

MANUAL_SYNSETS: dict[str, str] = {
    "cell phone": "cellular_telephone.n.01",
    "dining table": "dinner_table.n.01",
    "donut": "doughnut.n.02",
    "hot dog": "hotdog.n.01",
    "remote": "remote_control.n.01",
    "teddy bear": "teddy.n.01",
    "wine glass": "wineglass.n.01",
    "fire hydrant": "water_faucet.n.01",
    "stop sign": "sign.n.02",
    "handbag": "bag.n.04",
    "suitcase": "bag.n.06",
    "couch": "sofa.n.01",
    "tv": "television.n.01",
    "skis": "ski.n.01",
    "sports ball": "ball.n.01",
    "potted plant": "plant.n.01",
    "orange": "orange.n.01",
    "hair drier": "hand_blower.n.01",
}
"""COCO's name → the synset that the paper's authors chose by hand."""

_SENSE = len(".n.01")


@dataclass(frozen=True)
class Classes:
    """The synsets that are classes.

    Attributes:
        categories: COCO category records with ids 1…n: id, name, synset, and
            coco_category_id if COCO has the class. COCO's come first, in the order and
            with the names of COCO, then the others alphabetically, each named by its
            synset.
        added: synsets that are classes because of COCO and are not among the most
            frequent ones.
        unmatched: COCO's classes without a mention; they are not classes here.
    """

    categories: list[dict[str, Any]]
    added: list[str]
    unmatched: list[str]

    @cached_property
    def id_of(self) -> dict[str, int]:
        """Synset → category id."""
        return {category["synset"]: category["id"] for category in self.categories}


def choose_classes(counts: Counter[str], classes: int = 3000) -> Classes:
    """Returns the `classes` most frequent synsets and the synsets of COCO's classes.

    A COCO class is the synset in MANUAL_SYNSETS, else the most frequent one whose word
    (with spaces for underscores) is its name. Every name is unique: no COCO name ends
    in a sense number, and every other name is the whole synset.

    On Visual Genome 1.4 one synset is added: 3001 classes, K = 3002 with background.
    Equal counts are ordered by name.

    Args:
        counts: synset → mentions, over all objects.
        classes: at least 1.
    """
    ranking = sorted(counts, key=lambda synset: (-counts[synset], synset))
    frequent = set(ranking[:classes])
    by_word: dict[str, str] = {}
    for synset in ranking:
        by_word.setdefault(synset[:-_SENSE].replace("_", " "), synset)
    aligned: dict[int, str] = {}
    for number, name in COCO_NAMES.items():
        found = MANUAL_SYNSETS.get(name, by_word.get(name))
        if found is not None and counts[found] > 0:
            aligned[number] = found
    own = set(aligned.values())
    records = [
        {"name": COCO_NAMES[number], "synset": synset, "coco_category_id": number}
        for number, synset in aligned.items()
    ]
    records += [{"name": synset, "synset": synset} for synset in sorted(frequent - own)]
    return Classes(
        categories=[{"id": i, **record} for i, record in enumerate(records, 1)],
        added=sorted(own - frequent),
        unmatched=[name for number, name in COCO_NAMES.items() if number not in aligned],
    )
