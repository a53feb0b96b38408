"""A Label Studio export (JSON) to COCO, task by task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask.coco.supervision import all_finite
from halfmask.errors import InputError
from halfmask.formats.json_stream import CountBytes, stream_items
from halfmask.formats.label_studio.addresses import Picture, file_names, image_tags, pictures_of
from halfmask.formats.label_studio.regions import Region, add_region, regions_of, size_of_region
from halfmask.formats.report import ConversionReport, Options
from halfmask.formats.sink import CocoSink
from halfmask.formats.source_files import size_of_photograph
from halfmask.formats.xml_stream import root_of

Task = dict[str, Any]
CONFIG = "label_config.xml"


def read_label_studio(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an export in the format JSON (not JSON-MIN) to a sink, task by task.

    Of a task's annotations the ground truth is used, else the first that was not
    cancelled. With `options.predictions`, a task without one gets its last prediction:
    boxes with a score, and masks that count as filled by a model. A task of several
    images becomes several images. File names are those of `file_names`; `file_names`
    and the choice of the pictures use the `label_config.xml` beside the export, if
    any, and so does the order of the classes. The file is read twice, for the names
    and for the regions.

    Raises:
        InputError: not a JSON list of tasks.
    """
    source = source / "tasks.json" if source.is_dir() else source
    config = source.parent / CONFIG
    for name in _class_names(config):
        sink.category(name)
    reader = _Reader(sink, options, image_tags(config))
    progress = options.advance_bytes(source, reads=2)
    reader.read_names(_tasks(source, ConversionReport(), progress))
    for where, task in _tasks(source, sink.report, progress):
        reader.add(task, where)


def _tasks(
    source: Path, report: ConversionReport, progress: CountBytes
) -> Iterator[tuple[str, Task]]:
    """Yields the tasks with a name for the report; counts items that are none."""
    for position, task in enumerate(stream_items(source, progress=progress)):
        is_task = isinstance(task, dict) and isinstance(task.get("data"), dict)
        where = f"task {task.get('id', position)}" if isinstance(task, dict) else f"item {position}"
        if is_task:
            yield where, task
        elif position:
            report.fault("items that are no task with data: left out", where)
        else:
            raise InputError(
                f"{source}: {where}: expected an object with data and annotations: export as "
                "JSON, not JSON-MIN"
            )


@dataclass(frozen=True)
class _Work:
    """The results of a task that count, and the model that drew them, if one did."""

    results: list[Any]
    model: str | None = None


class _Reader:
    def __init__(self, sink: CocoSink, options: Options, tags: dict[str, str]) -> None:
        self.sink, self.options, self.tags = sink, options, tags
        self.names: dict[str, str | None] = {}

    def read_names(self, tasks: Iterator[tuple[str, Task]]) -> None:
        """Finds the file name of each picture."""
        addresses: dict[str, None] = {}
        for where, task in tasks:
            work = _work(task, where, ConversionReport(), predictions=self.options.predictions)
            if work is not None:
                addresses |= dict.fromkeys(p.address for p in self._pictures(task, work, where))
        self.names = file_names(addresses, self.options.images)

    def add(self, task: Task, where: str) -> None:
        """Adds the images of a task with their regions."""
        report = self.sink.report
        work = _work(task, where, report, predictions=self.options.predictions)
        if work is None:
            return
        pictures = self._pictures(task, work, where, report=report)
        regions = regions_of(work.results, where, self.sink) if pictures else []
        for picture in pictures:
            own = [region for region in regions if picture.has(region)]
            self._add_image(picture, own, where, model=work.model, split=task["data"].get("split"))
            regions = [region for region in regions if not picture.has(region)]
        report.fault(
            "regions that name none of their task's images (item_index, to_name): left out",
            where,
            len(regions),
        )

    def _pictures(
        self, task: Task, work: _Work, where: str, *, report: ConversionReport | None = None
    ) -> list[Picture]:
        try:
            return pictures_of(task, work.results, self.tags, where=where)
        except ValueError as error:
            if report is not None:
                report.fault(
                    "tasks in which no value is clearly the picture: left out; put the project's "
                    f"labelling configuration beside the export as {CONFIG}",
                    f"{where}: {error}",
                )
            return []

    def _add_image(
        self,
        picture: Picture,
        regions: list[Region],
        where: str,
        *,
        model: str | None,
        split: object,
    ) -> None:
        report, name = self.sink.report, self.names[picture.address]
        if name is None:
            report.fault(
                "images whose photograph below --images is that of another address too: left "
                "out; keep the folders of their addresses there",
                f"{where}: {picture.address}",
            )
            return
        sizes = (s for s in map(size_of_region, regions) if s is not None)
        size = next(sizes, None) or size_of_photograph(self.options.images, name)
        if size is None:
            report.fault(
                "images without a region, so without a size: left out; name the photographs with "
                "--images",
                where,
            )
            return
        if picture.embedded:
            report.note("pictures inside the export: only named, by their task", where)
        keep = self.options.whole and not picture.embedded
        more = {"address": picture.address} if keep else {}
        more |= {"split": split} if isinstance(split, str) and split else {}
        number = self.sink.add_image(name, size, where, **more)
        for region in regions if number is not None else ():
            place = f"{where} region {region.get('id', '?')}"
            add_region(region, number or 0, size, where=place, sink=self.sink, model=model)


def _work(task: Task, where: str, report: ConversionReport, *, predictions: bool) -> _Work | None:
    """The annotation or prediction that counts; None, and a fault, if there is none."""
    rows = _objects(task.get("annotations") or task.get("completions"))
    done = [a for a in rows if not (a.get("was_cancelled") or a.get("skipped"))]
    drawn = [p for p in _objects(task.get("predictions")) if isinstance(p.get("result"), list)]
    if done:
        report.note("cancelled annotations: not used", where, len(rows) - len(done))
        done.sort(key=lambda a: not a.get("ground_truth"))
        report.note(
            "further annotations of a task: left out, the ground truth or the first is used",
            where,
            len(done) - 1,
        )
        report.note("predictions beside an annotation: not used", where, len(drawn))
        found = done[0].get("result")
        return _Work(found if isinstance(found, list) else [])
    if drawn and predictions:
        report.note("tasks without an annotation: their last prediction is used", where)
        return _of_model(drawn[-1])
    if drawn:
        report.fault(
            "tasks with predictions only: left out; `convert label-studio --predictions` reads "
            "them",
            where,
        )
    elif rows:
        report.fault("tasks whose annotations are all cancelled: left out", where)
    else:
        report.fault("tasks that nobody has annotated: left out", where)
    return None


def _of_model(prediction: dict[str, Any]) -> _Work:
    """A prediction; regions without a score of their own get that of the prediction."""
    score = prediction.get("score")
    more = {"score": score} if all_finite([score]) else {}
    results = [more | r if isinstance(r, dict) else r for r in prediction["result"]]
    return _Work(results, str(prediction.get("model_version") or "prediction"))


def _objects(rows: Any) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _class_names(config: Path) -> list[str]:
    if not config.is_file():
        return []
    lists = (e for e in root_of(config, "View").iter() if e.tag.endswith("Labels"))
    found = (label.get("value", "") for each in lists for label in each.findall("Label"))
    return list(dict.fromkeys(found))
