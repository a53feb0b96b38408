"""Puts photographs into a data set that is written: a link for each, or a copy."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from halfmask.coco.images import photograph_path
from halfmask.errors import InputError
from halfmask.formats.report import ConversionReport


class PhotographLinks:
    """Links photographs into a folder that is being written.

    Every photograph has its own link: a reader that follows a linked folder would look
    for the labels beside the folder's target.

    Args:
        photographs: the folder that they are in; None: nothing is linked.
        folder: the folder that is being written.
        report: counts photographs that are not there.
    """

    def __init__(self, photographs: Path | None, folder: Path, report: ConversionReport) -> None:
        self._from, self._folder, self._report = photographs, folder, report
        self._can_link = True

    def put(self, name: str, place: PurePosixPath) -> None:
        """Links a photograph.

        Args:
            name: its name below the folder of the photographs.
            place: of the link, below the folder that is being written.
        """
        if self._from is None:
            return
        try:
            found = photograph_path(self._from, name)
        except InputError as error:
            self._report.fault("photographs that are not there: not linked", error)
            return
        if not found.is_file():
            self._report.fault("photographs that are not there: not linked", found)
            return
        target = self._folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._can_link:
            try:
                target.symlink_to(found.absolute())
            except OSError:  # a file system, or a Windows account, without links
                self._can_link = False
        if not self._can_link:
            shutil.copyfile(found, target)
