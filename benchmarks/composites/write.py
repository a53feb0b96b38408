"""Composites as a COCO data set on disk: a file's own masked objects pasted on its
photographs, with exact masks.

from benchmarks.composites.write import write_composites
write_composites("composites/train", CocoFile.read("instances_train.json"), "train2017",
images=3000, seed=0)
"""

from __future__ import annotations

import functools
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.composites.bank import Bank, build_bank
from benchmarks.composites.render import CompositeSpec, compose, composite_spec
from benchmarks.composites.sheet import contact_sheet
from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.data.synthetic.write import annotations_of, file_name, refuse_foreign
from halfmask.errors import InputError
from halfmask.files.atomic import write_json

_CHUNK = 50
"""Pictures that a worker draws before it hands their records back."""
_SHOWN = 24


@dataclass(frozen=True)
class Plan:
    """Which composites to draw.

    Attributes:
        images: number of pictures, ids 1…images.
        seed: picture i of a seed depends on the file, its photographs, part and size,
            and on nothing else.
        size: side of the square pictures in pixels.
        part: (k, n): cut-outs and backgrounds come from part k of n of the photographs
            only, see `photographs_of_part`.
    """

    images: int
    seed: int = 0
    size: int = 128
    part: tuple[int, int] = (0, 1)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        path: the annotation file.
        cutouts: cut-outs of each category id, 0 where the photographs give none: such a
            class stays in `categories`, without objects.
        backgrounds: photographs that gave a background.
    """

    path: Path
    cutouts: dict[int, int]
    backgrounds: int


Progress = Callable[[str, int, int], object]
"""Told what is done, how much of it is done, and how much there is."""


def write_composites(
    folder: str | Path,
    file: CocoFile,
    photographs: str | Path,
    plan: Plan,
    workers: int = 0,
    progress: Progress = lambda *_: None,
) -> Written:
    """Writes composites. The same arguments give the same bytes, whatever the number of
    workers.

    `folder` gets images/, contact_sheet.png and, when all pictures are there,
    instances.json. Categories are those of the file.

    Args:
        folder: is made if needed; files of earlier composites in it are written over.
        file: whose masked objects are cut out.
        photographs: folder of its photographs.
        workers: processes that draw; 0: this one.
    Raises:
        InputError: a number out of range, photographs are missing, nothing to cut out,
            or the folder holds somebody's own data.
    """
    if plan.images < 1 or plan.seed < 0:
        raise InputError(
            "composites need at least one picture and a seed of 0 or more, got --images "
            f"{plan.images} --seed {plan.seed}"
        )
    spec, folder, photographs = composite_spec(plan.size), Path(folder), Path(photographs)
    _refuse_source(folder, file, photographs)
    refuse_foreign(folder)
    looking = "looking for cut-outs"
    bank = build_bank(
        file, photographs, plan.part, spec.limits, spec.size, functools.partial(progress, looking)
    )
    path = folder / "instances.json"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # it would not fit the pictures while they are drawn
    progress("drawing", 0, plan.images)
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for images, objects in _draw(folder, bank, plan, spec, workers):
        records += images
        annotations += objects
        progress("drawing", len(records), plan.images)
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    _sheet(file, bank, plan, spec).save(folder / "contact_sheet.png")
    write_json(path, _document(file, plan, records, annotations))
    counts = {c["id"]: len(bank.by_class.get(c["id"], [])) for c in file.categories}
    return Written(path, counts, len(bank.backgrounds))


def _sheet(file: CocoFile, bank: Bank, plan: Plan, spec: CompositeSpec) -> Image.Image:
    shown = [compose(spec, bank, plan.seed, i) for i in range(min(plan.images, _SHOWN))]
    return contact_sheet(shown, {c["id"]: str(c["name"]) for c in file.categories})


def _refuse_source(folder: Path, file: CocoFile, photographs: Path) -> None:
    """Composites must not be written over what they are made from."""
    for ours, theirs in (
        (folder / "instances.json", Path(file.name)),
        (folder / "images", photographs),
    ):
        if ours.exists() and theirs.exists() and ours.samefile(theirs):
            raise InputError(
                f"{folder}: expected a folder of its own for the composites, {theirs} would be "
                "written over; name another"
            )


def _document(
    file: CocoFile, plan: Plan, records: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    made_from = {
        "file": Path(file.name).name,
        "seed": plan.seed,
        "part": "{}/{}".format(*plan.part),
        "size": plan.size,
        "halfmask": __version__,
    }
    return {
        "info": {
            "description": f"halfmask composites of {made_from['file']}, seed {plan.seed}; the "
            "photographs' licences hold for them",
            "version": "1",
            "composites": made_from,
        },
        "licenses": [],
        "images": records,
        "annotations": annotations,
        "categories": file.categories,
    }


Drawn = tuple[list[dict[str, Any]], list[dict[str, Any]]]
"""Image records, and annotations without ids."""


def _draw(
    folder: Path, bank: Bank, plan: Plan, spec: CompositeSpec, workers: int
) -> Iterator[Drawn]:
    chunks = [
        range(start, min(plan.images, start + _CHUNK)) for start in range(0, plan.images, _CHUNK)
    ]
    if workers == 0:
        for chunk in chunks:
            yield _draw_chunk(folder, bank, plan, spec, chunk)
        return
    with tempfile.TemporaryDirectory(prefix=".bank-", dir=folder) as kept:
        bank.save(Path(kept))
        jobs = [(folder, kept, plan, spec, chunk) for chunk in chunks]
        with ProcessPoolExecutor(
            min(workers, os.cpu_count() or 1), mp_context=get_context("spawn")
        ) as pool:
            yield from pool.map(_draw_job, jobs)


def _draw_job(job: tuple[Path, str, Plan, CompositeSpec, range]) -> Drawn:
    folder, kept, plan, spec, chunk = job
    return _draw_chunk(folder, _loaded(kept), plan, spec, chunk)


@functools.lru_cache(maxsize=1)
def _loaded(kept: str) -> Bank:
    return Bank.load(Path(kept))


def _draw_chunk(folder: Path, bank: Bank, plan: Plan, spec: CompositeSpec, chunk: range) -> Drawn:
    """Draws and writes some pictures."""
    records, annotations = [], []
    for index in chunk:
        made, name = compose(spec, bank, plan.seed, index), file_name(index)
        # Huffman only: quicker than a search for repetitions, and for pictures this
        # small no larger.
        Image.fromarray(made.picture).save(
            folder / "images" / name, compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY
        )
        size = {"width": spec.size, "height": spec.size}
        records.append(
            {"id": index + 1, "file_name": name, **size, "photographs": made.photographs}
        )
        rows = annotations_of(made.instances, index + 1, spec.size)
        annotations += [
            row | {"cutout": cutout} for row, cutout in zip(rows, made.cutouts, strict=True)
        ]
    return records, annotations
