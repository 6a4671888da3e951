"""From files to files: every input's labels under its NAME, whole or not at all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, PartialError, UsageError
from biounet.exchange.tables import join_tables
from biounet.images.formats import read_header, read_image, stem_name
from biounet.images.image import Header, check_finite, planes
from biounet.inference.averaging import views
from biounet.inference.engines import Choice, Engine
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
from biounet.workflows.cluster import Cluster
from biounet.workflows.export import EXPORTED, check_frames, objects_of
from biounet.workflows.gallery import Gallery, Seen
from biounet.workflows.inputs import find_inputs, select_channels
from biounet.workflows.large import begin_large, folder_of, predict_large
from biounet.workflows.one_file import File
from biounet.workflows.predict_page import write_prediction_page
from biounet.workflows.request import Done, Listener, Request
from biounet.workflows.results import write_results
from biounet.workflows.run_file import write_run
from biounet.workflows.said import said_of_image
from biounet.workflows.scale import needs_scale
from biounet.workflows.stream import Behind, ahead
from biounet.workflows.zarr_results import Targets

__all__ = ["Done", "Request", "find_inputs", "predict_files", "refuse_failed"]

Float32 = npt.NDArray[np.float32]

_WORTH_SAYING_S = 10
_ARRAYS_AT_ONCE = 3  # images in memory: one read ahead, one computed, one written


def predict_files(
    model: Model,
    engine: Engine | Choice,
    inputs: Sequence[Path],
    request: Request,
    *,
    start_up_s: float = 0.0,
    listen: Listener | None = None,
    cluster: Cluster | None = None,
) -> list[Done]:
    """Predict every input and write its results and ``run.json``.

    The next file is read and the last one written while one is computed, and small images of one
    size go through the engine together; neither changes a result. ``listen(text, done, all)`` is told
    each plan and each finished batch of tiles (with an empty text). An input that fails is reported in
    its `Done` and the others are done; `refuse_failed` turns that into an error. Raises the error
    itself when there was only one input, and `UsageError` where the folder for the results cannot be
    made.
    """
    choice = engine if isinstance(engine, Choice) else Choice(engine)
    begin = time.perf_counter()
    check_frames(inputs, request.save)
    _make_folder(request.out)
    views(request.tta, model.geometry)  # refuses what cannot be meant before anything is read
    gallery = Gallery(model, inputs if request.report and request.shard is None else ())
    stream = _Stream(model, choice.engine, request, listen or (lambda text, done, total: None), cluster, gallery)
    files = stream.run(inputs)
    for file in files:
        if file.error is not None and len(inputs) == 1:
            raise file.error
    results = [file.done for file in files]
    try:
        if "table" in request.save:
            tables = [request.out / file for done in results for file in done.files if file.endswith("_objects.csv")]
            join_tables(request.out / "objects.csv", tables)
        values = write_run(model, choice, request, results, start_up_s, time.perf_counter() - begin)
        if request.report and request.shard is None:
            write_prediction_page(request.out / "report.html", values, results, gallery.figures, request.command)
    except BiounetError as error:
        if all(file.error is None for file in files):
            raise
        stream.listen(f"failed: {error}", 0, 0)  # the disk is full, most likely, and the inputs failed before
    return results


def refuse_failed(results: Sequence[Done]) -> None:
    """Raise `PartialError` where inputs failed, naming the first."""
    failed = [done.error for done in results if done.error]
    if failed:
        rest = "the rest is done" if len(failed) < len(results) else "nothing is done"
        raise PartialError(f"{len(failed)} of {len(results)} inputs failed, {rest}; first: {failed[0]}")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made a folder ({error.strerror}); name another") from error


class _Stream:
    """What `predict_files` does, from file to file."""

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
        self.targets = Targets.of(model, engine, request)
        whole = request.memory if request.memory is not None else total_memory() // 2
        self.budget = Budget(whole, process_bytes())
        self.tiles_done = self.tiles_known = 0
        self.computing_s = 0.0
        self.said: set[str] = set()
        self.several = False
        self.said_time = False

    def run(self, inputs: Sequence[Path]) -> list[File]:
        """All inputs, in their order; what went wrong stands in each."""
        self.several = len(inputs) > 1
        files: list[File] = []
        waiting: list[tuple[File, int]] = []  # images that may share a batch
        for path in inputs if self.cluster is not None else ():
            self._begin(path)
        with Behind() as writer:
            for file in ahead(self._read, inputs):
                files.append(file)
                if file.by_blocks:
                    self._compute(waiting, writer)
                    waiting = []
                    writer.wait()
                    self._by_blocks(file)
                    continue
                if file.plan is None:
                    self._end(file, writer)
                    continue
                self._remark(file)
                images = len(file.items)
                self.tiles_known += images * len(file.plan)
                self.listen(_plan_line(file.path, file.plan, self.engine, images, self.request.tta), 0, 0)
                if waiting and waiting[0][0].plan != file.plan:
                    self._compute(waiting, writer)
                    waiting = []
                for index in range(images):
                    waiting.append((file, index))
                    if len(waiting) * len(file.plan) >= self._batch(file.plan):
                        self._compute(waiting, writer)
                        waiting = []
            self._compute(waiting, writer)
        return files

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
            begin_large(self.model, self.engine, path, self.request, budget=self.budget, cluster=self.cluster)

    def _batch(self, plan: TilePlan) -> int:
        return tiles_at_once(plan, self.engine, memory=self._tile_memory())

    def _tile_memory(self) -> int | None:
        return None if self.request.memory is None else self.budget.free

    def _takes_blocks(self, path: Path, header: Header) -> bool:
        """Whether the image goes the way of `large`: too large for memory, another pixel size, several processes."""
        request, model = self.request, self.model
        if (
            self.cluster
            or request.shard
            or request.merge
            or request.region
            or folder_of(request.out, stem_name(path)).exists()
        ):
            return True
        size = header.pixel_size_um
        known = size[-model.ndim :] if size is not None and len(size) >= model.ndim else None
        if request.pixel_size_um is not None or needs_scale(model, known):
            return True
        pixels = math.prod(header.shape)
        items = pixels // header.size("C")
        needed = header.dtype.itemsize * pixels + items * (4 * len(model.channels) + 16 * len(model.classes) + 60)
        return _ARRAYS_AT_ONCE * needed > self.budget.limit - self.budget.base - self._least_tile()

    def _least_tile(self) -> int:
        """Memory to leave for a tile beside whole images."""
        side = self.engine.geometry.input_size((256,) * self.model.ndim if self.model.ndim == 2 else (32,) * 3)
        return int(self.engine.cost.memory(side))

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
            if self._takes_blocks(path, read_header(path, fits=False)):
                file.by_blocks = True
                return file
            image = read_image(path)
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
        if not group:
            return
        plan = group[0][0].plan
        assert plan is not None
        start = time.perf_counter()
        try:
            images = [self.model.normalisation.apply(file.items[index]) for file, index in group]
            found = predict_probabilities(
                self.engine, images, plan, tta=self.request.tta, batch=self._batch(plan), progress=self._told(plan)
            )
        except BiounetError as error:
            for file, _ in group:
                file.fails(error)
            found, images = [], []
        for (file, index), image, probabilities in zip(group, images, found, strict=True):
            if index == 0:
                self._check_seams(file, image, plan, probabilities)
        self.tiles_done += len(group) * len(plan)
        seconds = (time.perf_counter() - start) / len(group)
        for (file, index), probabilities in zip(group, found, strict=False):
            writer.submit(self._segment, file, index, probabilities)
        for file, index in group:
            file.done.seconds += seconds
            if index == len(file.items) - 1:
                self._end(file, writer)

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
        assert file.image is not None
        assert file.plan is not None
        found = prediction_of(self.model, probabilities, file.plan)
        if set(self.request.save) & set(EXPORTED):
            place = index if len(file.items) > 1 else None
            file.exports.append(objects_of(self.model, file.image, file.items[index], found, place))
        if index == len(file.items) // 2 and (show := self.gallery.show(file.path, file.done.name)):
            show(Seen(file.items[index], found.labels, 1 - found.probabilities[0], found.classes))
        if "probabilities" not in self.request.save:
            found = replace(found, probabilities=probabilities[:, :0].copy())
        file.found.append(found)
        file.done.seconds += time.perf_counter() - start

    def _end(self, file: File, writer: Behind) -> None:
        if file.error is not None:
            self._tell_failed(file)
        elif file.done.done_before:
            self.listen(f"{file.done.name}: done before by the same model with the same settings", 0, 0)
        else:
            writer.submit(self._write, file)

    def _tell_failed(self, file: File) -> None:
        """Of several inputs; that of one is raised."""
        if self.several:
            self.listen(f"failed: {file.done.error}", 0, 0)

    def _write(self, file: File) -> None:
        start = time.perf_counter()
        try:
            assert file.image is not None
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
