"""From files to files: every input's labels under its NAME, whole or not at all."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, PartialError, UsageError
from biounet.exchange.objects import Objects
from biounet.exchange.tables import join_tables
from biounet.images.formats import read_image, stem_name
from biounet.images.image import Image, check_finite, planes
from biounet.images.writing import whole_file, write_labels, write_png, write_probabilities
from biounet.inference.averaging import views
from biounet.inference.engines import ENGINES, Choice, Engine
from biounet.inference.packages import installed_version
from biounet.inference.predict import (
    Prediction,
    plan_for,
    predict_probabilities,
    prediction_of,
    show_bytes,
    tile_memory,
    tiles_at_once,
)
from biounet.inference.tiling import TilePlan
from biounet.model_file import Model
from biounet.report.pictures import overlay
from biounet.workflows.export import EXPORTED, check_frames, export, objects_of
from biounet.workflows.inputs import find_inputs, select_channels
from biounet.workflows.stream import Behind, ahead

__all__ = ["SAVED", "Done", "Request", "find_inputs", "predict_files", "refuse_failed", "select_channels"]

Float32 = npt.NDArray[np.float32]

_WORTH_SAYING_S = 10

SAVED = ("labels", "probabilities", "overlay", *EXPORTED)


@dataclass(frozen=True)
class Request:
    """What `predict_files` writes and within which limits. ``memory`` in bytes."""

    out: Path
    save: tuple[str, ...] = ("labels", "overlay")
    tile: int | None = None
    memory: int | None = None
    channels: tuple[int | str, ...] | None = None
    tta: str = "none"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.save) - set(SAVED))
        if unknown or not self.save:
            raise UsageError(f"--save {','.join(self.save)!r}: choose from {', '.join(SAVED)}, with commas")
        if self.tile is not None and self.tile < 1:
            raise UsageError(f"--tile {self.tile}: must be at least 1 pixel")
        if self.channels is not None and not (self.channels and all(str(one).strip() for one in self.channels)):
            raise UsageError(
                f"--channels {list(self.channels)}: write names or positions from 0 with commas, as DAPI,2"
            )


@dataclass
class Done:
    """What became of one input."""

    input: str
    name: str
    files: list[str] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    plan: str = ""
    objects: int | None = None
    empty: bool = False
    seconds: float = 0.0
    error: str = ""


Listener = Callable[[str, int, int], None]


@dataclass
class _File:
    """One input on its way: what was read, what is found, what became of it."""

    path: Path
    done: Done
    image: Image | None = None
    items: list[npt.NDArray[Any]] = field(default_factory=list)
    plan: TilePlan | None = None
    found: list[Prediction] = field(default_factory=list)
    exports: list[Objects] = field(default_factory=list)
    error: BiounetError | None = None

    def fails(self, error: BiounetError) -> None:
        """Note the first error of this input."""
        if self.error is None:
            self.error = error
            self.done.error = " ".join(str(error).split())


def predict_files(
    model: Model,
    engine: Engine | Choice,
    inputs: Sequence[Path],
    request: Request,
    *,
    start_up_s: float = 0.0,
    listen: Listener | None = None,
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
    stream = _Stream(model, choice.engine, request, listen or (lambda text, done, total: None))
    files = stream.run(inputs)
    for file in files:
        if file.error is not None and len(inputs) == 1:
            raise file.error
    results = [file.done for file in files]
    if "table" in request.save:
        tables = [request.out / file for done in results for file in done.files if file.endswith("_objects.csv")]
        join_tables(request.out / "objects.csv", tables)
    _write_run(model, choice, request, results, start_up_s, time.perf_counter() - begin)
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

    def __init__(self, model: Model, engine: Engine, request: Request, listen: Listener) -> None:
        self.model, self.engine, self.request, self.listen = model, engine, request, listen
        self.tiles_done = self.tiles_known = 0
        self.computing_s = 0.0
        self.said_time = False

    def run(self, inputs: Sequence[Path]) -> list[_File]:
        """All inputs, in their order; what went wrong stands in each."""
        files: list[_File] = []
        waiting: list[tuple[_File, int]] = []  # images that may share a batch
        with Behind() as writer:
            for file in ahead(self._read, inputs):
                files.append(file)
                if file.plan is None:
                    self._end(file, writer)
                    continue
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
            if waiting:
                self._compute(waiting, writer)
        return files

    def _batch(self, plan: TilePlan) -> int:
        return tiles_at_once(plan, self.engine, memory=self.request.memory)

    def _read(self, path: Path) -> _File:
        file = _File(path, Done(str(path), stem_name(path)))
        start = time.perf_counter()
        try:
            image = read_image(path)
            check_finite(image, path)
            items = planes(image, self.model.ndim)
            items = [
                select_channels(plane, self.model, self.request.channels, path, stated=image.channel_names)
                for plane in items
            ]
            size = items[0].shape[1:]
            file.plan = plan_for(size, self.engine, tile=self.request.tile, memory=self.request.memory)
            file.image, file.items = image, items
            file.done.plan = str(file.plan)
            file.done.shape = tuple(size) if len(items) == 1 else (len(items), *size)
        except BiounetError as error:
            file.fails(error)
        file.done.seconds += time.perf_counter() - start
        return file

    def _compute(self, group: Sequence[tuple[_File, int]], writer: Behind) -> None:
        """Probabilities of images of one size; objects are found and files written behind."""
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
            found = []
        self.tiles_done += len(group) * len(plan)
        seconds = (time.perf_counter() - start) / len(group)
        for (file, index), probabilities in zip(group, found, strict=False):
            writer.submit(self._segment, file, index, probabilities)
        for file, index in group:
            file.done.seconds += seconds
            if index == len(file.items) - 1:
                self._end(file, writer)

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

    def _segment(self, file: _File, index: int, probabilities: Float32) -> None:
        start = time.perf_counter()
        assert file.image is not None
        assert file.plan is not None
        found = prediction_of(self.model, probabilities, file.plan)
        if set(self.request.save) & set(EXPORTED):
            place = index if len(file.items) > 1 else None
            file.exports.append(objects_of(self.model, file.image, file.items[index], found, place))
        if "probabilities" not in self.request.save:
            found = replace(found, probabilities=probabilities[:, :0].copy())
        file.found.append(found)
        file.done.seconds += time.perf_counter() - start

    def _end(self, file: _File, writer: Behind) -> None:
        if file.error is not None:
            self.listen(f"failed: {file.done.error}", 0, 0)
        else:
            writer.submit(self._write, file)

    def _write(self, file: _File) -> None:
        start = time.perf_counter()
        try:
            _write(self.model, file, self.request)
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


def _write(model: Model, file: _File, request: Request) -> None:
    done, found, several = file.done, file.found, len(file.found) > 1
    assert file.image is not None
    labels = np.stack([one.labels for one in found]) if several else found[0].labels
    done.empty = not labels.any()
    if model.task == "instances":
        done.objects = int(sum(int(one.labels.max(initial=0)) for one in found))
    size = file.image.pixel_size(model.ndim)
    axes = ("T" if several else "") + "ZYX"[-model.ndim :]
    if "labels" in request.save:
        path = request.out / f"{done.name}_labels.tif"
        write_labels(path, labels, pixel_size_um=size, axes=axes)
        done.files.append(path.name)
        if found[0].classes is not None:
            classes = np.stack([one.classes[one.labels] for one in found if one.classes is not None])
            path = request.out / f"{done.name}_classes.tif"
            write_labels(path, classes if several else classes[0], pixel_size_um=size, axes=axes)
            done.files.append(path.name)
    if "probabilities" in request.save:
        maps = [one.probabilities for one in found]
        path = request.out / f"{done.name}_probabilities.tif"
        # several images: classes first, then the images along Z
        array = np.stack(maps, axis=1) if several else maps[0]
        write_probabilities(path, array, pixel_size_um=None if several else size)
        done.files.append(path.name)
    if "overlay" in request.save:
        path = request.out / f"{done.name}_overlay.png"
        middle = len(file.items) // 2
        write_png(path, overlay(file.items[middle], found[middle].labels))
        done.files.append(path.name)
    exported = export(file.path, file.exports, request.out, request.save)
    done.files += [str(written.relative_to(request.out)) for written in exported]


def _packages(engine: str) -> tuple[str, ...]:
    """What a result may depend on besides the usual; "torch" is usual."""
    kind = ENGINES.get(engine)
    return () if kind is None or engine == "torch" else kind.packages


def _write_run(
    model: Model,
    choice: Choice,
    request: Request,
    results: Sequence[Done],
    start_up_s: float,
    compute_s: float,
) -> None:
    engine = choice.engine
    packages = ["biounet", "numpy", "tifffile", "torch", *_packages(engine.name)]
    values = {
        "model_sha256": model.sha256,
        "task": model.task,
        "classes": list(model.classes),
        "engine": engine.name,
        "precision": engine.precision,
        "agreement": None if choice.agreement is None else choice.agreement.to_dict(),
        "notes": list(choice.notes),
        "settings": {
            "save": list(request.save),
            "tile": request.tile,
            "memory": request.memory,
            "channels": request.channels,
            "tta": request.tta,
            "postprocessing": dict(model.postprocessing),
        },
        "versions": {name: installed_version(name) or None for name in packages}
        | {"python": platform.python_version()},
        "seconds": {"start_up": start_up_s, "compute": compute_s},
        "inputs": [asdict(done) for done in results],
    }
    with whole_file(request.out / "run.json") as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
