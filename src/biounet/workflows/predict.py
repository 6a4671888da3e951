"""From files to files: every input's labels under its NAME, whole or not at all."""

from __future__ import annotations

import glob
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, DataError, PartialError, UsageError
from biounet.exchange.objects import Objects
from biounet.exchange.tables import join_tables
from biounet.images.channels import find_channels
from biounet.images.formats import READERS, known_suffix, read_image, stem_name
from biounet.images.image import Image, check_finite, planes
from biounet.images.writing import whole_file, write_labels, write_png, write_probabilities
from biounet.inference.engines import Engine
from biounet.inference.predict import Prediction, plan_for, predict_array, show_bytes, tile_memory
from biounet.inference.tiling import TilePlan
from biounet.model_file import Model
from biounet.report.pictures import overlay
from biounet.workflows.export import EXPORTED, check_frames, export, objects_of

Float32 = npt.NDArray[np.float32]

SAVED = ("labels", "probabilities", "overlay", *EXPORTED)


@dataclass(frozen=True)
class Request:
    """What `predict_files` writes and within which limits. ``memory`` in bytes."""

    out: Path
    save: tuple[str, ...] = ("labels", "overlay")
    tile: int | None = None
    memory: int | None = None
    channels: tuple[int | str, ...] | None = None

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


def find_inputs(given: Sequence[str | Path]) -> list[Path]:
    """The image files that names, folders and patterns stand for, each once, in order.

    Of a folder all images in it. Raises `DataError` where something stands for nothing, and
    `UsageError` where two inputs would have results of the same NAME.
    """
    found: list[Path] = []
    for item in given:
        path = Path(item)
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if known_suffix(p) and not p.name.startswith("."))
            if not inside:
                raise DataError(
                    f"{path}: holds no image of a known format ({', '.join(READERS)}); name a folder of images"
                )
            found += inside
        elif path.exists():
            found.append(path)
        elif matches := sorted(glob.glob(str(item))):
            found += [Path(m) for m in matches]
        else:
            raise DataError(f"{item}: there is no such file or folder; check the name")
    found = list(dict.fromkeys(found))
    names: dict[str, Path] = {}
    for path in found:
        other = names.setdefault(stem_name(path), path)
        if other != path:
            raise UsageError(f"{other} and {path} would both be written as {stem_name(path)}; predict them apart")
    return found


def predict_files(
    model: Model,
    engine: Engine,
    inputs: Sequence[Path],
    request: Request,
    *,
    start_up_s: float = 0.0,
    listen: Listener | None = None,
) -> list[Done]:
    """Predict every input and write its results and ``run.json``.

    ``listen(text, done, all)`` is told each plan and each finished tile (with an empty text). An
    input that fails is reported in its `Done` and the others are done; `refuse_failed` turns that
    into an error. Raises the error itself when there was only one input, and `UsageError` where the
    folder for the results cannot be made.
    """
    listen = listen or (lambda text, done, total: None)
    begin = time.perf_counter()
    check_frames(inputs, request.save)
    _make_folder(request.out)
    results = []
    for path in inputs:
        done = Done(str(path), stem_name(path))
        start = time.perf_counter()
        try:
            _predict_file(model, engine, path, request, done, listen)
        except BiounetError as error:
            if len(inputs) == 1:
                raise
            done.error = " ".join(str(error).split())
            listen(f"failed: {done.error}", 0, 0)
        done.seconds = time.perf_counter() - start
        results.append(done)
    if "table" in request.save:
        tables = [request.out / file for done in results for file in done.files if file.endswith("_objects.csv")]
        join_tables(request.out / "objects.csv", tables)
    _write_run(model, engine, request, results, start_up_s, time.perf_counter() - begin)
    return results


def refuse_failed(results: Sequence[Done]) -> None:
    """Raise `PartialError` where inputs failed, naming the first."""
    failed = [done.error for done in results if done.error]
    if failed:
        rest = "the rest is done" if len(failed) < len(results) else "nothing is done"
        raise PartialError(f"{len(failed)} of {len(results)} inputs failed, {rest}; first: {failed[0]}")


def select_channels(
    plane: npt.NDArray[Any],
    model: Model,
    channels: Sequence[int | str] | None,
    path: Path,
    *,
    stated: Sequence[str] = (),
) -> npt.NDArray[Any]:
    """The model's channels of an image (C, *spatial); grey is repeated for a three-channel model.

    ``stated``: names of its channels, where its file states them.
    Without ``channels`` a model that learnt channels by name takes those of the same names, where the file
    names its channels; one that learnt from chosen positions (not the first few) takes the same ones. Raises
    `DataError` that lists what the file has where one is missing or stands there twice.
    """
    names = model.channels
    stated = stated if len(stated) == len(plane) else ()
    by_position = all(name.isdecimal() for name in names)
    if channels is None and ((stated and not by_position) or (by_position and not _are_the_first(names))):
        channels = names
    if channels is not None:
        try:
            plane = plane[find_channels(channels, stated, len(plane), path)]
        except UsageError as error:
            raise DataError(f"{error}; the model takes {', '.join(names)}: choose them with --channels") from error
    wanted = len(names)
    if len(plane) == 1 and wanted == 3:
        plane = np.repeat(plane, 3, axis=0)
    if len(plane) != wanted:
        raise DataError(f"{path}: {len(plane)} channels, the model takes {wanted}; choose them with --channels")
    return plane


def _are_the_first(names: Sequence[str]) -> bool:
    return list(names) == list(map(str, range(len(names))))


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made a folder ({error.strerror}); name another") from error


def _predict_file(model: Model, engine: Engine, path: Path, request: Request, done: Done, listen: Listener) -> None:
    image = read_image(path)
    check_finite(image, path)
    items = [
        select_channels(plane, model, request.channels, path, stated=image.channel_names)
        for plane in planes(image, model.ndim)
    ]
    plan = plan_for(items[0].shape[1:], engine, tile=request.tile, memory=request.memory)
    done.plan = str(plan)
    done.shape = tuple(items[0].shape[1:]) if len(items) == 1 else (len(items), *items[0].shape[1:])
    listen(_plan_line(path, plan, engine, len(items)), 0, 0)
    predictions: list[Prediction] = []
    exports: list[Objects] = []
    wanted = bool(set(request.save) & set(EXPORTED))
    for index, item in enumerate(items):
        first, total = index * len(plan), len(items) * len(plan)

        def told(n: int, _: int, before: int = first, total: int = total) -> None:
            listen("", before + n, total)

        found = predict_array(model, engine, item, plan=plan, progress=told)
        if wanted:
            exports.append(objects_of(model, image, item, found, index if len(items) > 1 else None))
        keep = "probabilities" in request.save
        predictions.append(found if keep else replace(found, probabilities=found.probabilities[:, :0].copy()))
    _write(model, image, items, predictions, request, done)
    done.files += [str(file.relative_to(request.out)) for file in export(path, exports, request.out, request.save)]


def _plan_line(path: Path, plan: TilePlan, engine: Engine, images: int) -> str:
    count = f"{images} images of " if images > 1 else ""
    return (
        f"{path.name}: {count}{'x'.join(map(str, plan.size))} in {plan}, "
        f"{engine.name} {engine.precision}, about {show_bytes(tile_memory(plan, engine))} a tile"
    )


def _write(
    model: Model,
    image: Image,
    items: Sequence[npt.NDArray[Any]],
    predictions: Sequence[Prediction],
    request: Request,
    done: Done,
) -> None:
    several = len(items) > 1
    labels = np.stack([p.labels for p in predictions]) if several else predictions[0].labels
    done.empty = not labels.any()
    if model.task == "instances":
        done.objects = int(sum(int(p.labels.max(initial=0)) for p in predictions))
    size = image.pixel_size(model.ndim)
    axes = ("T" if several else "") + "ZYX"[-model.ndim :]
    if "labels" in request.save:
        path = request.out / f"{done.name}_labels.tif"
        write_labels(path, labels, pixel_size_um=size, axes=axes)
        done.files.append(path.name)
        if predictions[0].classes is not None:
            classes = np.stack([p.classes[p.labels] for p in predictions if p.classes is not None])
            path = request.out / f"{done.name}_classes.tif"
            write_labels(path, classes if several else classes[0], pixel_size_um=size, axes=axes)
            done.files.append(path.name)
    if "probabilities" in request.save:
        maps = [p.probabilities for p in predictions]
        path = request.out / f"{done.name}_probabilities.tif"
        # several images: classes first, then the images along Z
        array = np.stack(maps, axis=1) if several else maps[0]
        write_probabilities(path, array, pixel_size_um=None if several else size)
        done.files.append(path.name)
    if "overlay" in request.save:
        path = request.out / f"{done.name}_overlay.png"
        middle = len(items) // 2
        write_png(path, overlay(items[middle], predictions[middle].labels))
        done.files.append(path.name)


def _write_run(
    model: Model,
    engine: Engine,
    request: Request,
    results: Sequence[Done],
    start_up_s: float,
    compute_s: float,
) -> None:
    packages = ("biounet", "numpy", "tifffile", "torch")
    values = {
        "model_sha256": model.sha256,
        "task": model.task,
        "classes": list(model.classes),
        "engine": engine.name,
        "precision": engine.precision,
        "settings": {
            "save": list(request.save),
            "tile": request.tile,
            "memory": request.memory,
            "channels": request.channels,
            "postprocessing": dict(model.postprocessing),
        },
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "seconds": {"start_up": start_up_s, "compute": compute_s},
        "inputs": [asdict(done) for done in results],
    }
    with whole_file(request.out / "run.json") as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
