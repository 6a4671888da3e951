"""Files through memory one after the other: the next is read and the last written while one is computed.

Small images of one size share batches. What does not fit goes the way of `large`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, DataError
from biounet.images.formats import stem_name
from biounet.images.image import check_finite, planes
from biounet.inference.averaging import views
from biounet.inference.engines import Engine
from biounet.inference.memory import Budget, process_bytes
from biounet.inference.predict import (
    plan_for,
    predict_probabilities,
    prediction_of,
    show_bytes,
    tile_memory,
    tiles_at_once,
    total_memory,
)
from biounet.inference.tiling import TilePlan
from biounet.inference.windows import Source, check_seams
from biounet.model_file import Model
from biounet.prediction.cluster import Cluster
from biounet.prediction.inputs import select_channels
from biounet.prediction.large import begin_large, folder_of, predict_large
from biounet.prediction.made_by import targets as targets_of
from biounet.prediction.one_file import File
from biounet.prediction.route import takes_blocks
from biounet.prediction.said import said_of_image
from biounet.prediction.source import source_of
from biounet.prediction.stream import Behind, ahead
from biounet.results.export import EXPORTED, objects_of
from biounet.results.gallery import Gallery, Seen
from biounet.results.request import Done, Listener, Request
from biounet.results.write import write_results

Float32 = npt.NDArray[np.float32]

_WORTH_SAYING_S = 10


class Pipeline:
    """What becomes of files, one after the other; `run` it once."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        request: Request,
        listen: Listener,
        cluster: Cluster | None,
        gallery: Gallery,
    ) -> None:
        self.model, self.engine, self.request, self.listen = model, engine, request, listen
        self.cluster, self.gallery = cluster, gallery
        self.targets = targets_of(model, engine, request)
        whole = request.memory if request.memory is not None else total_memory() // 2
        self.budget = Budget(whole, process_bytes())
        self.tiles_done = self.tiles_known = 0
        self.waiting: list[tuple[File, int]] = []  # images that may share a batch
        self.said: set[str] = set()
        self.told_failed: set[Path] = set()
        self.several = False
        self.said_time = False

    def run(self, inputs: Sequence[Path]) -> list[File]:
        """All inputs, in their order; what went wrong stands in each."""
        self.several = len(inputs) > 1
        files: list[File] = []
        for path in inputs if self.cluster is not None else ():
            self._begin(path)
        with Behind() as writer:
            for file in ahead(self._read, inputs):
                files.append(file)
                if file.by_blocks:
                    self._flush(writer)
                    writer.wait()
                    self._by_blocks(file)
                    continue
                if file.plan is None:
                    self._end(file, writer)
                    continue
                self._remark(file)
                self._take(file, file.plan, writer)
            self._flush(writer)
        for file in files:
            if file.error is not None:
                self._tell_failed(file)
        return files

    def _take(self, file: File, plan: TilePlan, writer: Behind) -> None:
        """The images of a file join those of the same plan that wait; enough of them are computed together."""
        images = len(file.items)
        self.tiles_known += images * len(plan)
        self.listen(_plan_line(file.path, plan, self.engine, images, self.request.tta), 0, 0)
        if self.waiting and self.waiting[0][0].plan != plan:
            self._flush(writer)
        for index in range(images):
            self.waiting.append((file, index))
            if len(self.waiting) * len(plan) >= self._batch(plan):
                self._flush(writer)

    def _flush(self, writer: Behind) -> None:
        """Compute the images that wait."""
        group, self.waiting = self.waiting, []
        if group:
            self._compute(group, writer)

    def _remark(self, file: File) -> None:
        """What is to be said of an image, each thing of the first image that it is true of."""
        for note in file.done.notes:
            if note not in self.said:
                self.said.add(note)
                self.listen(f"{file.path.name}: {note}", 0, 0)

    def _begin(self, path: Path) -> None:
        """Give out the tiles of a file; what is wrong with it is said when its turn comes."""
        assert self.cluster is not None
        with suppress(BiounetError):
            self.targets.check(path)
            if self.targets.done_before(path, blocks=folder_of(self.request.out, stem_name(path))):
                return
            begin_large(self.model, self.engine, path, self.targets, budget=self.budget, cluster=self.cluster)

    def _batch(self, plan: TilePlan) -> int:
        return tiles_at_once(plan, self.engine, memory=self._tile_memory())

    def _tile_memory(self) -> int | None:
        return None if self.request.memory is None else self.budget.free

    def _by_blocks(self, file: File) -> None:
        start = time.perf_counter()
        try:
            file.done = predict_large(
                self.model,
                self.engine,
                file.path,
                self.targets,
                budget=self.budget,
                listen=self.listen,
                cluster=self.cluster,
                show=self.gallery.show(file.path, file.done.name),
            )
        except BiounetError as error:
            file.fails(error)
            self._tell_failed(file)
        file.done.seconds += time.perf_counter() - start

    def _read(self, path: Path) -> File:
        file = File(path, Done(str(path), stem_name(path)))
        start = time.perf_counter()
        try:
            self.targets.check(path)
            if before := self.targets.done_before(path, blocks=folder_of(self.request.out, file.done.name)):
                file.done = before
                return file
            source = source_of(path, self.model)
            if takes_blocks(path, source.header(), self.model, self.engine, self.request, self.budget):
                file.by_blocks = True
                return file
            image = source.image()
            check_finite(image, path)
            items = planes(image, self.model.ndim)
            items = [
                select_channels(plane, self.model, self.request.channels, path, stated=image.channel_names)
                for plane in items
            ]
            size = items[0].shape[1:]
            if self.request.memory is None:
                file.plan = plan_for(size, self.engine, tile=self.request.tile)
            else:
                file.plan = self.budget.plan(size, self.engine, self.request.tile)
            file.image, file.items = image, items
            file.done.notes = list(said_of_image(image, items, self.model))
            file.done.plan = str(file.plan)
            file.done.shape = tuple(size) if len(items) == 1 else (len(items), *size)
        except BiounetError as error:
            file.fails(error)
        file.done.seconds += time.perf_counter() - start
        return file

    def _compute(self, group: Sequence[tuple[File, int]], writer: Behind) -> None:
        """Probabilities of images of one size; objects are found and files written behind."""
        plan = group[0][0].plan
        assert plan is not None
        start = time.perf_counter()
        ready = [(file, index, image) for file, index in group if (image := self._normalised(file, index)) is not None]
        found: list[Float32] = []
        try:
            images = [image for *_, image in ready]
            found = predict_probabilities(
                self.engine, images, plan, tta=self.request.tta, batch=self._batch(plan), progress=self._told(plan)
            )
            for (file, index, image), probabilities in zip(ready, found, strict=True):
                if index == 0:
                    self._check_seams(file, image, plan, probabilities)
        except BiounetError as error:
            for file, *_ in ready:
                file.fails(error)
        self.tiles_done += len(group) * len(plan)
        seconds = (time.perf_counter() - start) / len(group)
        for (file, index, _), probabilities in zip(ready, found, strict=False):  # none where the engine failed
            writer.submit(self._segment, file, index, probabilities)
        for file, index in group:
            file.done.seconds += seconds
            if index == len(file.items) - 1:
                self._end(file, writer)

    def _normalised(self, file: File, index: int) -> Float32 | None:
        """One image of a file as the network sees it; None where something is wrong with the file."""
        try:
            return None if file.error is not None else self.model.normalisation.apply(file.items[index])
        except DataError as error:
            file.fails(DataError(f"{file.path}: {error}"))
            return None

    def _check_seams(self, file: File, image: Float32, plan: TilePlan, probabilities: Float32) -> None:
        """Some windows across borders of tiles computed again as one piece, of the first image of a file."""
        check = check_seams(
            self.engine,
            Source.of(image),
            plan,
            lambda start, stop: probabilities[(slice(None), *map(slice, start, stop))],
            tta=self.request.tta,
        )
        file.done.seams = check.to_dict()
        if check.windows:
            self.listen(f"{file.path.name}: {check}", 0, 0)

    def _told(self, plan: TilePlan) -> Callable[[int, int], None]:
        """Progress in tiles; in a pipe once the time that is left, where it is worth a line."""
        start = time.perf_counter()
        looks = len(views(self.request.tta, self.model.geometry))

        def told(done: int, total: int) -> None:
            self.listen("", self.tiles_done + done // looks, self.tiles_known)
            left = (time.perf_counter() - start) / done * (total - done)
            if not self.said_time and left > _WORTH_SAYING_S:
                self.said_time = True
                self.listen(f"about {left:.0f} s left for this image", 0, 0)

        return told

    def _segment(self, file: File, index: int, probabilities: Float32) -> None:
        start = time.perf_counter()
        try:
            if file.error is None:
                self._take_objects(file, index, probabilities)
        except BiounetError as error:
            file.fails(error)
        file.done.seconds += time.perf_counter() - start

    def _take_objects(self, file: File, index: int, probabilities: Float32) -> None:
        assert file.image is not None
        assert file.plan is not None
        found = prediction_of(self.model, probabilities, file.plan)
        if set(self.request.save) & set(EXPORTED):
            objects = objects_of(
                self.model,
                file.image,
                file.items[index],
                labels=found.labels,
                classes=found.classes,
                probabilities=lambda channel, start, stop: probabilities[channel][tuple(map(slice, start, stop))],
                index=index if len(file.items) > 1 else None,
            )
            file.exports.append(objects)
        if index == len(file.items) // 2 and (show := self.gallery.show(file.path, file.done.name)):
            show(Seen(file.items[index], found.labels, 1 - found.probabilities[0], found.classes))
        if "probabilities" not in self.request.save:
            found = replace(found, probabilities=probabilities[:, :0].copy())
        file.found.append(found)

    def _end(self, file: File, writer: Behind) -> None:
        if file.done.done_before:
            self.listen(f"{file.done.name}: done before by the same model with the same settings", 0, 0)
            return
        if file.error is not None:
            self._tell_failed(file)
        writer.submit(self._write, file)

    def _tell_failed(self, file: File) -> None:
        """Of several inputs, each once; that of one is raised."""
        if self.several and file.path not in self.told_failed:
            self.told_failed.add(file.path)
            self.listen(f"failed: {file.done.error}", 0, 0)

    def _write(self, file: File) -> None:
        start = time.perf_counter()
        try:
            if file.error is None:
                write_results(file.results(self.model), self.targets, file.done)
        except BiounetError as error:
            file.fails(error)
        file.image, file.items, file.found, file.exports = None, [], [], []
        file.done.seconds += time.perf_counter() - start


def _plan_line(path: Path, plan: TilePlan, engine: Engine, images: int, tta: str) -> str:
    count = f"{images} images of " if images > 1 else ""
    looks = len(views(tta, engine.geometry))
    work = images * looks * len(plan) * float(engine.cost.work(plan.input))
    return (
        f"{path.name}: {count}{'x'.join(map(str, plan.size))} in {plan}, {engine.name} {engine.precision}, "
        f"about {show_bytes(tile_memory(plan, engine))} a tile, {work / 1e9:.3g} GFLOP"
        + (f" in {looks} views" if looks > 1 else "")
    )
