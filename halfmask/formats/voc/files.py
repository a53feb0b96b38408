"""Finds the files of a VOC data set: XML files, photographs, parts, and each image's name."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

from halfmask.coco.locate import Key, last_part, name_key
from halfmask.errors import InputError
from halfmask.formats.report import ConversionReport
from halfmask.formats.sink import Size
from halfmask.formats.source_files import (
    PART_FOLDERS,
    PhotographIndex,
    leads_out,
    photographs_in,
    plain_file_name,
    size_of_photograph,
    text_lines,
    without_ending,
)
from halfmask.formats.xml_stream import XmlError, root_of, text_of, whole_of

KINDS = ("Segmentation", "Main")
"""Folders of ImageSets with the lists of the parts."""
SPLITS = ("train", "val", "test")
_PHOTOGRAPHS = ("jpegimages", "images")
"""Folders of photographs, in lower case."""


@dataclass(kw_only=True)
class VocFiles:
    """The files of a data set.

    Attributes:
        root: the folder that holds Annotations, ImageSets and SegmentationObject.
        annotations: the folder that holds the XML files, itself or in folders below.
        files: the XML files, sorted.
        photographs: names below the folder of the photographs; None without a folder.
        classes: names of the classes in the XML files.
        names: how many XML files have a name as their `filename`.
    """

    root: Path
    annotations: Path
    files: list[Path] = field(repr=False)
    photographs: PhotographIndex | None = None
    classes: set[str] = field(default_factory=set)
    names: Counter[str] = field(default_factory=Counter, repr=False)

    @classmethod
    def find(cls, source: Path, images: Path | None) -> VocFiles:
        """Finds the XML files below a folder, and what their heads say.

        Args:
            source: the data set's folder, or its folder Annotations.
            images: folder of the photographs; None: JPEGImages, images, or where the
                XML files are, if there are photographs.
        Raises:
            InputError: no XML files.
        """
        annotations = _below(source, ("annotations",)) or source
        found = annotations.rglob("*") if annotations.is_dir() else ()
        files = sorted(p for p in found if p.suffix.lower() == ".xml" and p.is_file())
        if not files:
            raise InputError(
                f"{source}: expected a VOC folder with Annotations/*.xml, found no XML file"
            )
        images = images or photographs_of_voc(source)
        made = cls(
            root=_root_folder(source),
            annotations=annotations,
            files=files,
            photographs=None if images is None else PhotographIndex(images),
        )
        for file in files:
            try:
                made._add_head(root_of(file, "annotation"))
            except XmlError:
                continue  # reported when the file is converted
        return made

    def _add_head(self, root: Element) -> None:
        self.names[_written(root)] += 1
        self.classes |= {text_of(thing, "name") for thing in root.findall("object")} - {""}

    def class_names(self) -> list[str]:
        """Returns the names in labels.txt, else all, sorted, so that splits agree."""
        listed = self.root / "labels.txt"
        return text_lines(listed) if listed.is_file() else sorted(self.classes)

    def name_of(self, file: Path, root: Element, report: ConversionReport) -> str:
        """Returns the file name of a file's image, below the folder of the photographs.

        With photographs it is the name of the one that is found: by `filename`, below
        the folder that the XML file is in or that `folder` names, or by the XML file's
        own name. Guesses are counted, and used only if the sizes agree.
        """
        written = _written(root) or f"{file.stem}.jpg"
        if plain_file_name(written) != written:
            report.note("file names that are paths of another machine: their last part", written)
            written = plain_file_name(written)
        below = file.parent.relative_to(self.annotations).as_posix()
        inside, folder = f"{below}/{written}", f"{text_of(root, 'folder')}/{written}"
        if self.photographs is not None and not leads_out(written):
            for name in (inside, folder, written, f"{below}/{file.stem}"):
                found = None if leads_out(name) else self.photographs.find(name)
                if found is not None:
                    return self._checked(written, found, root, report=report)
            what = f"images without a photograph in {self.photographs.folder}"
            report.note(what, f"{file}: {written}")
        if below != "." and not leads_out(inside):
            return inside
        return folder if self.names[_written(root)] > 1 and not leads_out(folder) else written

    def _checked(self, written: str, found: str, root: Element, *, report: ConversionReport) -> str:
        assert self.photographs is not None
        if name_key(found)[-1] == name_key(written)[-1]:
            return found
        size, where = size_of_xml(root), f"{written} → {found}"
        if min(size) > 0 and size_of_photograph(self.photographs.folder, found) != size:
            report.fault(
                "photographs found without the ending in `filename`, of another size than "
                "the XML file says: the name in the file is kept",
                where,
            )
            return written
        report.note("photographs of another ending or name than `filename` says: used", where)
        return found

    def part_of(self, file: Path) -> str | None:
        """Returns the part that a folder around an XML file is named after."""
        folders = file.relative_to(self.annotations).parts[:-1]
        return next((PART_FOLDERS[f.lower()] for f in folders if f.lower() in PART_FOLDERS), None)

    def splits(self, report: ConversionReport) -> dict[Path, str]:
        """Returns XML file → its part, by ImageSets, else by folder; train before val."""
        split_of: dict[Path, str] = {}
        for split in SPLITS:
            for path in self._lists(split):
                for file in self._listed(path, report):
                    split_of.setdefault(file, split)
        if split_of:
            return split_of
        return {file: part for file in self.files if (part := self.part_of(file)) is not None}

    def chosen(self, split: str, report: ConversionReport) -> list[Path]:
        """Returns the XML files of a part.

        Raises:
            InputError: there is no list and no folder of that name, or none of its
                files is there.
        """
        lists = [] if leads_out(split) else self._lists(split)
        files = self._listed(lists[0], report) if lists else set()
        if not lists:
            files = {file for file in self.files if self.part_of(file) == split}
            if not files:
                raise InputError(
                    f"{self.root}: no list ImageSets/Segmentation/{split}.txt or "
                    f"ImageSets/Main/{split}.txt"
                )
        if not files:
            raise InputError(f"{lists[0]}: none of its images has an XML file")
        return sorted(files)

    def _lists(self, split: str) -> list[Path]:
        paths = [self.root / "ImageSets" / kind / f"{split}.txt" for kind in KINDS]
        return [path for path in paths if path.is_file()]

    def _listed(self, path: Path, report: ConversionReport) -> set[Path]:
        """The XML files that a list names; a flag at the end of a line is left out."""
        by_key: dict[Key, list[Path]] = {}
        for file in self.files:
            key = name_key(file.relative_to(self.annotations).with_suffix("").as_posix())
            by_key.setdefault(key, []).append(file)
            if len(key) > 1:
                by_key.setdefault(key[-1:], []).append(file)
        found: set[Path] = set()
        for line in text_lines(path):
            tries = [line, re.sub(r"\s+-?[01]$", "", line)]
            keys = [name_key(without_ending(t)) for t in [*tries, *map(last_part, tries)]]
            files = next((by_key[key] for key in keys if key in by_key), [])
            if len(files) != 1:
                report.fault("lines of ImageSets without their XML file", f"{path}: {line}")
            found.update(files if len(files) == 1 else ())
        return found


def photographs_of_voc(source: Path) -> Path | None:
    """Returns the folder of the photographs: JPEGImages, images, or where the XML files are."""
    named = _below(_root_folder(source), _PHOTOGRAPHS)
    if named is not None or not source.is_dir():
        return named
    place = _below(source, ("annotations",)) or source
    return place if any(True for _ in photographs_in(place)) else None


def size_of_xml(root: Element) -> Size:
    """Returns (H, W) of the XML; 0 where it does not say."""
    size = root.find("size")
    if size is None:
        return 0, 0
    return whole_of(size.findtext("height")), whole_of(size.findtext("width"))


def _written(root: Element) -> str:
    return text_of(root, "filename")


def _root_folder(source: Path) -> Path:
    """The folder that holds Annotations."""
    return source.parent if source.name.lower() == "annotations" else source


def _below(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The folder inside another one that has the first of some names, in any case."""
    found = {p.name.lower(): p for p in sorted(folder.iterdir())} if folder.is_dir() else {}
    return next((found[name] for name in names if name in found and found[name].is_dir()), None)
