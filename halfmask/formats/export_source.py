"""Reads a COCO file for writing it in another format, and counts what the format cannot hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from halfmask.coco.annotations import Annotations
from halfmask.coco.file import CocoFile
from halfmask.coco.images import missing_photographs, relative_name, why_missing
from halfmask.coco.large import LargeFile, open_large
from halfmask.coco.locate import plain_name
from halfmask.coco.records import Document, file_name_of
from halfmask.coco.supervision import MaskState, provenance
from halfmask.formats.export_parts import DRAWN, ExportClasses, ExportImage, ExportInstance, differ
from halfmask.formats.origin import note_of, origin_of
from halfmask.formats.report import ConversionReport, Options, note_findings
from halfmask.formats.shapes import sound_crop
from halfmask.formats.sink import Size, own_box
from halfmask.formats.source_files import orientation_of_photograph, stems_of
from halfmask.formats.yolo.upright import TURNING, stored_orientations, upright
from halfmask.masks.outline import outlines

_KNOWN = {"id", "image_id", "category_id", "bbox", "area", "segmentation", "iscrowd", "halfmask"}
_KNOWN_OF_IMAGE = {"id", "file_name", "width", "height", "coco_url", "split", "address"}
_KNOWN_OF_FILE = {"images", "annotations", "categories"}
_OWN_INFO = {"description", "halfmask"}
"""Keys of `info` that halfmask writes."""


@dataclass(frozen=True, kw_only=True)
class ExportSource:
    """A COCO file to write in another format.

    Attributes:
        file: the images and annotations.
        document: the values of the file; of a large one, its two long lists are empty.
        large: the file, if it does not fit into memory.
        target: name of the format, for the report.
        holds: what the format can express: any of `halfmask`, `attributes` and
            `polygons` (several for one annotation).
        options: the options of the conversion.
        report: counts what is lost.
    """

    file: Annotations
    document: Document
    large: LargeFile | None = None
    target: str
    holds: frozenset[str]
    options: Options
    report: ConversionReport = field(default_factory=ConversionReport)

    @classmethod
    def read(
        cls, path: Path, target: str, holds: Iterable[str], *, options: Options
    ) -> ExportSource:
        """Reads a file; annotations without a usable box, image or class are counted.

        For a tool that turns photographs, so are their annotations, unless the file
        comes from that tool.

        Raises:
            InputError: not a COCO file.
        """
        large = open_large(path)
        found = CocoFile.read(path) if large is None else large
        file: Annotations = found if isinstance(found, CocoFile) else found.index
        source = cls(
            file=file,
            document=found.document,
            large=large,
            target=target,
            holds=frozenset(holds),
            options=options,
        )
        source = source._upright(path)
        note_findings(source.report, found)
        for problem in found.structure:
            source.report.fault(
                f"{problem.facts.heading}: {problem.facts.consequence.split(':')[0]}",
                problem.message,
            )
        source._count_keys("categories", file.categories, {"id", "name"})
        source._count_keys("images", file.images, _KNOWN_OF_IMAGE)
        info = found.document.get("info")
        own = {"info"} if isinstance(info, dict) and set(info) <= _OWN_INFO else set()
        source._count_keys("files", [found.document], _KNOWN_OF_FILE | own)
        return source

    def _upright(self, path: Path) -> ExportSource:
        """The source with annotations in turned photographs, if its format wants that."""
        format = self.target.lower().replace(" ", "-")
        origin = origin_of(self.document.get("info")).get("format")
        if format not in TURNING or origin == format or self.photographs is None:
            return self
        turned = stored_orientations(self.file, self.photographs, self.report)
        if not turned:
            return self
        file = self.file if isinstance(self.file, CocoFile) else CocoFile.read(path)
        file = upright(file, turned)
        return replace(self, file=file, document=file.document, large=None)

    @property
    def photographs(self) -> Path | None:
        """The folder of photographs to link; None if nobody says where it is."""
        if self.options.images is not None:
            return self.options.images
        info = self.document.get("info")
        named = note_of(info).get("images") or origin_of(info).get("images")
        return Path(named) if isinstance(named, str) and Path(named).is_dir() else None

    @cached_property
    def classes(self) -> ExportClasses:
        """The classes, each name once."""
        used = self.file.used_categories()
        return ExportClasses.of(self.file.categories, used, self.report)

    def __len__(self) -> int:
        return len(self.file.images)

    def images(self) -> Iterator[ExportImage]:
        """Yields the images, and reports the progress.

        Raises:
            InputError: a file name leads out of the folder, or two differ in their
                ending only.
        """
        names = self.names
        stems = stems_of(names, self.file.name)
        for image, name in zip(self.file.images, names, strict=True):
            size = self.file.size_of(image["id"])
            states = self.file.states_of(image["id"], "filled")
            rows = zip(self.file.annotations_of(image["id"]), states, strict=True)
            yield ExportImage(
                record=image,
                size=size,
                name=name,
                stem=stems[name],
                instances=[self._instance(annotation, state, size) for annotation, state in rows],
            )
            self.options.advance(1, len(names))

    @cached_property
    def names(self) -> list[str]:
        """The name of each image: of the photograph that is found, else with "/" in it."""
        names = [file_name_of(image) for image in self.file.images]
        folder = self.options.images
        if folder is None:
            return [plain_name(name) for name in names]
        absent = {image["id"] for image in missing_photographs(folder, self.file.images)}
        for image, name in zip(self.file.images, names, strict=True):
            if image["id"] in absent:
                why = why_missing(folder, name)
                self.report.note(
                    "images without a photograph in --images", f"{name}: {why}" if why else name
                )
        return [
            plain_name(name) if image["id"] in absent else self._found(folder, image, name)
            for image, name in zip(self.file.images, names, strict=True)
        ]

    def _found(self, folder: Path, image: dict[str, Any], name: str) -> str:
        """The name of a photograph; one found by its last part must have the image's size."""
        found, size = relative_name(folder, name), self.file.size_of(image["id"])
        shown = None if found == name else orientation_of_photograph(folder, found)
        if shown is not None and size not in (shown.stored, shown.turned):
            self.report.fault(
                "photographs found by their last part, of another size than the file says: the "
                "name in the file is written",
                f"{name} → {found}",
            )
            return plain_name(name)
        return found

    def _count_keys(self, what: str, records: Iterable[dict[str, Any]], known: set[str]) -> None:
        for record in [] if "keys" in self.holds else records:
            extra = ", ".join(key[:40] for key in sorted(set(record) - known))
            if extra:
                where = "" if what == "files" else f"id {record['id']}"
                self.report.note(f"{what} with {extra}: {self.target} has no field for that", where)

    def _instance(self, annotation: dict[str, Any], state: MaskState, size: Size) -> ExportInstance:
        crowd = state == MaskState.CROWD
        if crowd:
            state = self.file.state_of({**annotation, "iscrowd": 0}, "filled")
        mask = annotation["segmentation"] if state in (MaskState.MASK, MaskState.SUSPECT) else None
        mask = self._editable(annotation, mask, size)
        label = self.classes.index_of[annotation["category_id"]]
        instance = ExportInstance(
            annotation=annotation,
            label=label,
            name=self.classes.names[label],
            box=_clipped(annotation["bbox"], size),
            mask=mask,
            suspect=state == MaskState.SUSPECT,
            crowd=crowd,
            own=None if mask is None else own_box(mask, size),
            size=size,
            report=self.report,
        )
        self._count(instance, state)
        return instance

    def _editable(self, annotation: dict[str, Any], mask: Any, size: Size) -> Any:
        """An RLE that a model drew as polygons, if a tolerance is given and the format has them."""
        tolerance = self.options.tolerance
        drawn = isinstance(mask, dict) and provenance(annotation) in DRAWN
        if tolerance is None or not drawn or "polygons" not in self.holds:
            return mask
        return outlines(*sound_crop(mask, size), tolerance)

    def _count(self, instance: ExportInstance, state: MaskState) -> None:
        annotation, note = instance.annotation, instance.note
        if state == MaskState.BROKEN:
            where = f"annotation {annotation['id']}"
            self.report.fault("broken masks: the box is written without one", where)
        if state == MaskState.REJECTED:
            note("masks that were rejected in review: the box is written without one")
        elif provenance(annotation) and "halfmask" not in self.holds:
            what = "masks with halfmask's note (state, score)"
            note(f"{what}: {self.target} has no field for the note")
        if differ(instance.box, annotation["bbox"], 0.01):
            note("boxes that extend beyond their image: clipped")
        for key in sorted(set(annotation) - _KNOWN - (self.holds & {"attributes"})):
            note(f"annotations with {key[:40]!r}: {self.target} has no field for it")


def _clipped(bbox: list[float], size: Size) -> tuple[float, float, float, float]:
    x, y, w, h = (float(v) for v in bbox)
    x0, y0 = max(x, 0.0), max(y, 0.0)
    return x0, y0, min(x + w, size[1]) - x0, min(y + h, size[0]) - y0
