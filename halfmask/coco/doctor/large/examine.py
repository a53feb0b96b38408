"""Examines a COCO file of any size in one pass, and in little memory.

Every number and every finding is that of `check` and `diagnose` for a file in memory.
Memory holds the images, what is found, and a few numbers for each annotation; the rest
of an annotation lies in temporary files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np

from halfmask.coco.annotations import Annotations
from halfmask.coco.doctor.checks import check, duplicate_keys
from halfmask.coco.doctor.classes import check_classes
from halfmask.coco.doctor.diagnosis import FileNumbers
from halfmask.coco.doctor.findings import Findings
from halfmask.coco.doctor.large.left_out import LeftOut, left_out
from halfmask.coco.doctor.large.rows import PROVENANCES, ROW, DoctorRows
from halfmask.coco.doctor.large.survey import Survey
from halfmask.coco.doctor.published import count_records, found_counts
from halfmask.coco.file import CocoFile
from halfmask.coco.index.decode import decode_with_area
from halfmask.coco.index.format import MASK_STATES
from halfmask.coco.index.place import open_index
from halfmask.coco.index.spool import Spool
from halfmask.coco.problems import Problem, ProblemKind
from halfmask.coco.scan.keys import ListKeys
from halfmask.coco.scan.rest import keys_of_file
from halfmask.errors import InputError
from halfmask.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a file holds.

    Attributes:
        numbers: of images, annotations and masks.
        findings: those of `duplicate_keys` and `check`.
        counts: as `count_records` returns them.
        file: opens the annotations.
        structure, readings, suspected: as of `CocoFile`; they are among the findings.
    """

    numbers: FileNumbers
    findings: Findings
    counts: dict[str, int]
    file: Callable[[], Annotations]
    structure: list[Problem]
    readings: list[Problem]
    suspected: list[Problem]


def examine_in_memory(path: Path, name: str, progress: Progress | None = None) -> Examined:
    """Examines a COCO file that is read into memory; arguments and errors as `examine`."""
    file = CocoFile.read(path, name)
    counts = count_records(file.document)
    findings = Findings()
    findings.add_all([*duplicate_keys(path), *check(file, progress)])
    numbers = FileNumbers.of(file)
    return Examined(
        numbers=numbers,
        findings=findings,
        counts=counts,
        file=lambda: file,
        structure=file.structure,
        readings=file.readings,
        suspected=file.suspected,
    )


def examine(path: Path, name: str, progress: Progress | None = None) -> Examined:
    """Examines a COCO file.

    Args:
        path: the file.
        name: of the file in findings.
        progress: reports MiB read, and images checked.
    Raises:
        InputError: no COCO file (see `scan_lists` and `keys_of_file`), or no room for
            the temporary files: half the size of the file.
    """
    with _writable(), TemporaryDirectory(prefix="halfmask-doctor-") as folder:
        image_keys = ListKeys(path)
        spool = Spool(path, Path(folder), DoctorRows)
        spool.read(progress, decode=decode_with_area, look=image_keys.look)
        rows = spool.rows
        assert isinstance(rows, DoctorRows)
        keys = keys_of_file(path, [image_keys, rows.keys], spool.constants)
        with closing(Survey(path, spool.images, spool.categories)) as survey:
            for number in range(spool.parts):
                first = number * spool.images_a_part
                last = min(first + spool.images_a_part, len(spool.images))
                part = spool.part(number, ROW)
                survey.add(part, first, last, may_repeat=not rows.rising)
                if progress is not None:
                    progress("checking annotations", last, len(spool.images))
    known = {int(category["id"]) for category in spool.categories}
    out = left_out(
        path, rows, spool.images, known=known, orphans=survey.orphans, dropped=survey.dropped
    )
    if gone := len(survey.dropped) + len(out.merged):
        spool.ids.merged["annotation"] = gone
    of_file = _of_file(spool, survey, out, name=name)
    for found in (keys, *of_file.values(), survey.same_ids()):
        survey.findings.add_all(found)
    numbers = _numbers(spool, survey, name, annotations=rows.count - gone)
    counts = _counts(spool, survey, out, numbers=numbers)
    return Examined(
        numbers=numbers,
        findings=survey.findings,
        counts=counts,
        file=lambda: open_index(path, progress),
        structure=of_file["structure"],
        readings=of_file["readings"],
        suspected=of_file["suspected"],
    )


@contextmanager
def _writable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{gettempdir()}: cannot write temporary files here: {error.strerror or error}; name "
            "a folder with more room in the environment: TMPDIR=FOLDER"
        ) from error


def _of_file(spool: Spool, survey: Survey, out: LeftOut, *, name: str) -> dict[str, list[Problem]]:
    """Returns the findings that are not about single usable annotations."""
    known = [int(category["id"]) for category in spool.categories]
    used = {known[k] for k in np.flatnonzero(survey.states[1:].sum(axis=1)).tolist()}
    strict = f"{name}: holds NaN or Infinity, which strict JSON does not allow"
    parts = sorted(survey.mask_parts, key=lambda placed: placed[0])
    return {
        "structure": [
            *([Problem(ProblemKind.NOT_STRICT_JSON, (), strict)] if spool.constants else []),
            *spool.images.faults.values(),
            *out.found,
        ],
        "readings": [*spool.ids.problems(name), *(problem for _, problem in parts)],
        "suspected": survey.conventions.found(name, set(known)),
        "classes": check_classes(spool.categories, used),
    }


def _numbers(spool: Spool, survey: Survey, name: str, *, annotations: int) -> FileNumbers:
    states = {
        int(category["id"]): Counter(
            {state: n for state, n in zip(MASK_STATES, row, strict=True) if n}
        )
        for category, row in zip(spool.categories, survey.states[1:].tolist(), strict=True)
    }
    return FileNumbers(
        name=name,
        images=len(spool.images) + len(spool.images.faults),
        usable_images=len(spool.images),
        images_with_masks=survey.with_masks,
        annotations=annotations,
        categories=spool.categories,
        states=states,
        origins=dict(zip(PROVENANCES, survey.origins.tolist(), strict=True)),
        sizes=survey.areas.sizes(),
        tightness=survey.areas.tightness(),
    )


def _counts(spool: Spool, survey: Survey, out: LeftOut, *, numbers: FileNumbers) -> dict[str, int]:
    """Returns the counts of all records, with those that cannot be used."""
    ids = spool.images.table["id"]
    named = np.array(sorted(out.image_ids), dtype=np.int64)
    empty = int((~survey.has_rows & ~np.isin(ids, named)).sum())
    empty += sum(fault.ids[0] not in out.image_ids for fault in spool.images.faults.values())
    of_class = survey.categories + Counter(out.category_ids)
    totals = numbers.images, numbers.annotations, empty
    return found_counts(totals, numbers.categories, of_class)
