"""Opens a data set of any format as a COCO file and the folder of its photographs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.coco.reading.read_as import ReadAs
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.files.guard import Given, Output, guard
from halfmask.formats.detect import coco_inside, detect_format
from halfmask.formats.origin import (
    cache_folder,
    copy_name,
    note_of,
    origin_of,
    photographs_beside,
    photographs_of_coco,
)
from halfmask.formats.read_only.panoptic import png_folder
from halfmask.formats.read_only.parts import photograph_places
from halfmask.formats.registry import READERS
from halfmask.formats.report import ConversionReport, Options, Suspects, note_findings, steps_to
from halfmask.formats.sink import CocoSink
from halfmask.formats.yolo.config import config_path, names_path
from halfmask.formats.yolo.source import find_parts
from halfmask.progress import Progress

_READING = 2
"""Grows when a reader finds more in the same files: copies are then made again."""
_WITHOUT_PARTS = {
    "coco": "a COCO file",
    "coco-panoptic": "a COCO panoptic file",
    "label-studio": "an export of Label Studio",
    "labelme": "a folder of labelme",
    "via": "a file of VIA",
}


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """A data set of any format as a COCO file and its photographs' folder.

    Attributes:
        annotations: the COCO file: the original, or the converted copy.
        images: folder of the photographs, as given or as the data set itself says; None
            if neither does.
        format: coco, or the format of `convert` that it has.
        original: the data set as the user named it.
        report: faults and notes of the reading; empty for a COCO file.
    """

    annotations: Path
    images: Path | None
    format: str
    original: Path
    report: ConversionReport = field(default_factory=ConversionReport)

    def photographs(self) -> Path:
        """Returns the folder of the photographs.

        Raises:
            InputError: nobody says where it is, or there is no such folder.
        """
        if self.images is None:
            raise InputError(
                f"{self.original}: does not say where its photographs are: name their folder "
                "with --images"
            )
        if not self.images.is_dir():
            raise InputError(f"{self.images}: no such folder of images")
        return self.images

    def guard(self, outputs: Iterable[Output], *inputs: Given) -> None:
        """Refuses outputs that are the data set, an input, or among its photographs.

        Raises:
            InputError: see `guard`.
        """
        read = (self.original, self.annotations, *inputs)
        guard(outputs, inputs=read, photographs=[self.images])

    def read(self) -> CocoFile:
        """Reads the annotations into memory; what is suspected of them is in `report`.

        Raises:
            InputError: no COCO file.
        """
        file = CocoFile.read(self.annotations, self.original)
        self.note_findings(file)
        return file

    def note_findings(self, file: Suspects) -> None:
        """Adds what is suspected of a COCO file to `report`; converted copies are COCO's."""
        if self.format == "coco":
            note_findings(self.report, file)

    @property
    def unread(self) -> list[str]:
        """A line for each kind of content that could not be read."""
        return self.report.lines(self.report.faults)

    @property
    def ok(self) -> bool:
        """Whether everything in the data set could be read."""
        return not self.report.faults


def open_source(
    data: str | Path,
    *,
    images: str | Path | None = None,
    split: str | None = None,
    folder: str | Path | None = None,
    read_as: ReadAs | None = None,
    progress: Progress | None = None,
) -> DataSource:
    """Opens a data set of any format.

    A COCO file is used in place, or as a copy if `read_as` changes it. Anything else is
    converted, with all its parts, to a COCO file in which every image has its `split`.
    The copy is used again as long as the data set does not change.

    Args:
        data: a file or folder in any format that `convert` reads.
        images: folder of the photographs; None: where the data set says.
        split: only this part of the data set: train, val, …; None: all.
        folder: where the copy goes; None: the folder that the environment variable
            HALFMASK_CACHE names, else halfmask's folder in the user's cache.
        read_as: of a COCO file; None: as COCO writes it.
        progress: reports how far the conversion is.
    Raises:
        InputError: no format fits, no image can be used, or the copy cannot be written.
    """
    original = Path(data)
    given = None if images is None else Path(images)
    if given is not None and not given.is_dir():
        raise InputError(f"{given}: no such folder of images")
    format = detect_format(original)
    if split is not None and format in _WITHOUT_PARTS:
        name = _WITHOUT_PARTS[format]
        raise InputError(f"{original}: {name} has no parts to choose from ({split})")
    if format == "coco":
        file = coco_inside(original) or original
        found = given or photographs_of_coco(file)
        if read_as is not None and read_as.changes:
            target = Path(folder or cache_folder()) / copy_name(file, None, read_as.label)
            return _reread(file, target, read_as, images=found)
        return DataSource(annotations=file, images=found, format=format, original=original)
    if read_as is not None and read_as.changes:
        raise InputError(
            f"{original}: --crowd-masks and --read-as are for COCO files; this one is {format}"
        )
    given = given or photographs_beside(original, format)
    # CVAT's file is read the same whatever the photographs.
    matter = None if format == "cvat" else given
    target = Path(folder or cache_folder()) / copy_name(original, matter, split)
    options = Options(
        images=given, split=split, whole=True, advance=steps_to(progress, "reading the data set")
    )
    return _converted(original, format, target, options=options)


def _reread(file: Path, target: Path, read_as: ReadAs, *, images: Path | None) -> DataSource:
    """Writes a copy of a COCO file in COCO's own forms, unless a current one is there."""
    try:
        status = file.stat()
        print_of = f"{__version__} {status.st_size} {status.st_mtime_ns} {read_as}"
    except OSError:
        print_of = ""  # the reader reports the fault
    beside = target.with_suffix(".source.json")
    known = _known(beside, print_of) if target.is_file() else None
    if known is None:
        report = ConversionReport()
        document, counts = read_as.applied(CocoFile.read(file))
        for what, count in counts.items():
            report.note(what, times=count)
            report.fault("options without effect", what, times=count == 0)
        info = document.get("info")
        info = info if isinstance(info, dict) else {}
        origin = {**origin_of(info), "format": "coco", "data": str(file.resolve())}
        note = {**note_of(info), "source": origin | {"read_as": asdict(read_as)}}
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, document | {"info": {**info, "halfmask": note}})
        known = {"fingerprint": print_of, "report": report.to_json()}
        write_json(beside, known)
    report = ConversionReport.from_json(known["report"])
    return DataSource(
        annotations=target, images=images, format="coco", original=file, report=report
    )


def _converted(original: Path, format: str, target: Path, *, options: Options) -> DataSource:
    print_of = _fingerprint(original, format, options)
    beside = target.with_suffix(".source.json")
    known = _known(beside, print_of) if target.is_file() else None
    if known is None:
        known = {"fingerprint": print_of, **_convert(original, format, target, options=options)}
        write_json(beside, known)
    images = known["images"]
    return DataSource(
        annotations=target,
        images=options.images if images is None else Path(images),
        format=format,
        original=original,
        report=ConversionReport.from_json(known["report"]),
    )


def _convert(original: Path, format: str, target: Path, *, options: Options) -> dict[str, Any]:
    """Writes the copy; returns the photographs' folder and the report."""
    report = ConversionReport()
    with CocoSink(target, report, f"converted from {format}") as sink:
        sink.origin |= {"format": format, "data": str(original.resolve())}
        if options.images is not None and format != "cvat":
            sink.origin["images"] = str(options.images.resolve())
        READERS[format].read(original, sink, options)
        if not sink.images:
            first = next((f": {line}" for line in report.lines(report.faults)), "")
            raise InputError(f"{original}: no image could be used{first}")
        sink.count_nothing(READERS[format].objects)
        images = sink.origin.get("images")
    return {"images": images, "report": report.to_json()}


def _known(beside: Path, print_of: str) -> dict[str, Any] | None:
    """What stands beside a copy, if the copy is current."""
    try:
        known = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(known, dict) and known.get("fingerprint") == print_of
    return known if fits else None


def _fingerprint(original: Path, format: str, options: Options) -> str:
    """Names, sizes and times of all files that the reading depends on."""
    digest = hashlib.blake2b(
        f"{__version__} {_READING} {format} {options.split}".encode(), digest_size=16
    )
    for path in _inputs(original, format, options):
        try:
            status = path.stat()
            line = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:
            line = f"{path}\0absent\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _inputs(original: Path, format: str, options: Options) -> Iterator[Path]:
    if format == "yolo":
        found = find_parts(original, options.images, options.split)
        config = config_path(original) or names_path(original)
        labels = found.labels.of.values()
        # A folder's time changes when a file is added to it.
        folders = sorted(found.labels.folders)
        yield from (*([] if config is None else [config]), *found.photographs, *labels, *folders)
        return
    if format == "coco-panoptic" and original.is_file():
        yield from sorted(png_folder(original).glob("*.png"))
    if format == "via":
        folder = original if original.is_dir() else original.parent
        yield from (p for place in photograph_places(folder) for p in sorted(place.glob("*.*")))
    if original.is_dir():
        yield from _files_below(original)
    else:
        yield from (original, original.parent / "label_config.xml")
    if options.images is not None and format != "cvat":
        yield from _files_below(options.images)


def _files_below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(files))
