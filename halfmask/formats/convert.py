"""`convert`: other formats to COCO, and COCO to other formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from halfmask.coco.reading.read_as import ReadAs
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import COCO, CVAT, NEW_FOLDER, report
from halfmask.formats.detect import coco_inside
from halfmask.formats.export_source import ExportSource
from halfmask.formats.registry import READERS, WRITERS
from halfmask.formats.report import ConversionReport, Options, steps_to
from halfmask.formats.sink import CocoSink
from halfmask.formats.source import open_source
from halfmask.formats.visual_genome.convert import (
    IMAGES,
    OBJECTS,
    convert_visual_genome,
    genome_files,
)
from halfmask.masks.outline import check_tolerance
from halfmask.progress import Progress

VISUAL_GENOME = "visual-genome"
REPORT = report("convert", "written", "faults", "notes")
_GENOME_OPTIONS = ("--coco-val", "--synsets", "--test-count")


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What `convert` wrote, and what it could not carry over.

    Attributes:
        summary: one line about what was written; several for Visual Genome.
        counts: what was written → how many, for example images, annotations, masks.
        report: counts of errors in the source, and of content the target cannot hold.
    """

    summary: str
    counts: dict[str, int]
    report: ConversionReport = field(default_factory=ConversionReport)

    @property
    def ok(self) -> bool:
        """Whether everything in the source could be read."""
        return not self.report.faults

    @property
    def notes(self) -> list[str]:
        """A line for each kind of content that the target cannot hold."""
        return self.report.lines(self.report.notes)

    @property
    def problems(self) -> list[str]:
        """A line for each kind of content that could not be read and was left out."""
        return self.report.lines(self.report.faults)

    def to_json(self) -> dict[str, Any]:
        """Returns the summary and both counts, as `--json` writes them."""
        return {"written": self.summary, **self.report.to_json()}


def convert(
    format: str,
    source: str | Path,
    out: str | Path,
    *,
    images: str | Path | None = None,
    split: str | None = None,
    masks: str | Path | None = None,
    zero_based: bool = False,
    predictions: bool = False,
    image_url: str | None = None,
    tolerance: float | None = None,
    coco_val: str | Path | None = None,
    synsets: int | None = None,
    test_count: int | None = None,
    copy: bool = False,
    crowd_masks: bool = False,
    read_as: str | None = None,
    json: str | Path | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Converts another format to COCO, or COCO to another format.

    Box-only annotations stay box-only. The source is never changed, and the result
    appears completely or not at all.

    Args:
        format: a key of READERS or WRITERS, or `visual-genome`.
        source: file or folder to read; from COCO, also a folder that `complete` wrote.
        out: COCO file to write; from COCO, a new folder (CVAT: an XML file).
        images: folder of the photographs, for formats without sizes; from COCO, the
            names of the photographs found there are written.
        split: one part of the source: train, val, …; yolo: `all` for all in one file.
        masks: folder of the mask PNGs (voc, open-images, coco-panoptic).
        zero_based: voc: boxes count from 0 and exclude the last pixel.
        predictions: label-studio: whether a task without an annotation gets its last
            prediction; its masks count as filled by a model.
        image_url: to-label-studio: prefix of file names; local storage by default.
        tolerance: to-yolo, to-cvat, to-label-studio: pixels that polygons of masks
            drawn by a model may be from the mask's border. Default: 1 in YOLO; CVAT and
            Label Studio get an RLE as a mask, unless this is given.
        coco_val: visual-genome: COCO's instances_val2017.json, whose images become val.
        synsets: visual-genome: number of synsets that become classes, besides COCO's
            80; 3000 by default.
        test_count: visual-genome: number of the last images, outside COCO, that become
            test; 5000 by default.
        copy: to-yolo, to-voc: photographs are copied into OUT. By default they are
            linked: some tools refuse links, and they end on another machine.
        crowd_masks: from COCO: masks with iscrowd 1 are masks of single objects.
        read_as: from COCO: how the file writes boxes or polygons; see `ReadAs.of`.
        json: writes the report to this JSON file.
        progress: receives how far the conversion is.
    Raises:
        InputError: no such format, an option it does not use, a source that cannot be
            used, or an output that is an input, something else, or cannot be written
            (see `guard`).
    """
    source, out = Path(source), Path(out)
    read = (source, images, masks, coco_val)
    guard(_outputs(format, out, json), inputs=read, photographs=(source, images, masks))
    advance = steps_to(progress, "converting")
    options = Options(
        images=None if images is None else Path(images),
        masks=None if masks is None else Path(masks),
        split=split,
        zero_based=zero_based,
        predictions=predictions,
        image_url=image_url,
        tolerance=None if tolerance is None else check_tolerance(tolerance),
        copy=copy,
        advance=advance,
    )
    genome = {"--coco-val": coco_val, "--synsets": synsets, "--test-count": test_count}
    _check(format, options, [key for key, value in genome.items() if value is not None])
    as_ = ReadAs.of(crowd_masks, read_as)
    if as_.changes and format not in WRITERS:
        raise InputError(
            f"convert {format}: --crowd-masks and --read-as are for COCO files; expected "
            f"{' or '.join(WRITERS)}"
        )
    if format == VISUAL_GENOME:
        numbers = {"classes": synsets or 3000, "test": 5000 if test_count is None else test_count}
        done = _from_visual_genome(source, out, coco_val, **numbers, advance=advance)
    elif format in READERS:
        done = _to_coco(format, source, out, options=options)
    else:
        done = _from_coco(format, source, out, options=options, read_as=as_)
    if json is not None:
        write_json(json, done.to_json(), indent=2)
    return done


def _outputs(format: str, out: Path, json: str | Path | None) -> list[Output]:
    """What a conversion writes."""
    side = Output(json, "--json", REPORT)
    if format == VISUAL_GENOME:
        return [side, *(Output(path, "OUT", COCO) for path in genome_files(out).values())]
    if format == "to-cvat":
        return [side, Output(out, "OUT", CVAT)]
    is_folder = format in WRITERS and format != "to-coco"
    return [side, Output(out, "OUT", NEW_FOLDER if is_folder else COCO)]


def _check(format: str, options: Options, genome: list[str]) -> None:
    """Raises InputError for a format that is none, or an option that it does not use.

    Args:
        format: as for `convert`.
        options: those of the other formats.
        genome: the options of `visual-genome` that are given.
    """
    entry = READERS.get(format) or WRITERS.get(format)
    if entry is None and format != VISUAL_GENOME:
        raise InputError(
            f"convert: no format {format}; there are: "
            f"{', '.join([*READERS, VISUAL_GENOME, *WRITERS])}"
        )
    uses = _GENOME_OPTIONS if entry is None else entry.options
    unused = [option for option in [*options.given(), *genome] if option not in uses]
    if unused:
        used = ", ".join(uses) or "no options"
        raise InputError(f"convert {format}: does not use {unused[0]}; it uses: {used}")
    if options.images is not None and not options.images.is_dir():
        raise InputError(
            f"{options.images}: expected the folder of the photographs, there is no such folder"
        )


def _to_coco(format: str, source: Path, out: Path, *, options: Options) -> Conversion:
    reader, report = READERS[format], ConversionReport()
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; expected {reader.source}")
    with CocoSink(out, report, f"converted from {format}") as sink:
        reader.read(source, sink, options)
        if not sink.images:
            first = next((f": {line}" for line in report.lines(report.faults)), "")
            raise InputError(f"{source}: no image could be used{first}")
        sink.count_nothing(reader.objects)
    counts = sink.counts()
    summary = (
        "{images} images, {annotations} annotations, {masks} of them with masks, {classes} classes"
    )
    return Conversion(summary=f"{out}: {summary.format(**counts)}", counts=counts, report=report)


def _from_coco(
    format: str, source: Path, out: Path, *, options: Options, read_as: ReadAs
) -> Conversion:
    writer = WRITERS[format]
    source = coco_inside(source) or source
    opened = open_source(source, read_as=read_as) if read_as.changes else None
    given = ExportSource.read(
        source if opened is None else opened.annotations, writer.name, writer.holds, options=options
    )
    if opened is not None:
        given.report.add(opened.report)
    counts = writer.write(given, out)
    summary = f"{out}: {writer.summary.format(**counts)}"
    return Conversion(summary=summary, counts=counts, report=given.report)


def _from_visual_genome(
    source: Path,
    out: Path,
    coco_val: str | Path | None,
    *,
    classes: int,
    test: int,
    advance: Callable[[int, int], None],
) -> Conversion:
    if coco_val is None:
        raise InputError(
            "convert visual-genome: --coco-val FILE is missing: name COCO's "
            "instances_val2017.json, or images that COCO tests on would be trained on"
        )
    files = [source / name for name in (OBJECTS, IMAGES)]
    found = [file.name for file in files if file.is_file()]
    if len(found) < len(files):
        raise InputError(
            f"{source}: expected a folder with {OBJECTS} and {IMAGES}, found "
            f"{', '.join(found) or 'neither'}"
        )
    objects, images = (file.stat().st_size for file in files)
    total = 2 * objects + images  # objects.json is read twice
    done = convert_visual_genome(
        source,
        out,
        Path(coco_val),
        classes=classes,
        test=test,
        progress=lambda read: advance(read, total),
    )
    return Conversion(summary="\n".join(done.lines()), counts=done.counts())
