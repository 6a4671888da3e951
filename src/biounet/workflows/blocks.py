"""One plane or volume of a file, computed tile by tile into a folder of blocks.

What a tile leaves there is all that objects need: marks instead of probabilities (`labels.instances.mark`),
or class ids. Tiles that are there are not computed again, whoever computed them: the same command after an
interruption, another process, another machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import BiounetError, DataError
from biounet.images.normalize import Scale, measure_regions
from biounet.images.regions import Regions
from biounet.images.resample import resample_window, resized_shape
from biounet.images.writing import whole_file
from biounet.inference.block_store import FolderStore
from biounet.inference.engines import Engine
from biounet.inference.memory import CACHE_BYTES, Budget
from biounet.inference.predict import instance_settings
from biounet.inference.tiling import TilePlan, plan_tiles
from biounet.inference.windows import SeamCheck, Source, compare_seams, predict_window, seam_windows
from biounet.labels.blocks import Cache, Grid, Index, Place, key_of
from biounet.labels.instances import mark
from biounet.labels.kinds import weights
from biounet.model_file import Model
from biounet.workflows.inputs import select_channels
from biounet.workflows.request import Request
from biounet.workflows.scale import choose_level
from biounet.workflows.stream import Behind

Array = npt.NDArray[Any]

_TILES, _SCALE = "tiles", "scale"
_PROBE = "probe"


@dataclass(frozen=True, eq=False)
class Job:
    """An item of an open image on its way. ``shape``: of its pixels as the network sees them.

    ``level``: of the pyramid that is read; ``level_shape`` its size, which is resampled to ``shape``.
    ``kept``: what each tile leaves besides marks or class ids: "probabilities", "weights" (whole numbers in
    proportion to them), or nothing.
    """

    model: Model
    engine: Engine
    regions: Regions
    item: int
    channels: tuple[int, ...]
    shape: tuple[int, ...]
    level: int
    level_shape: tuple[int, ...]
    plan: TilePlan
    scale: Scale
    tta: str
    kept: str
    store: FolderStore
    cache: Cache = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", Cache(self.store, CACHE_BYTES))

    @property
    def grid(self) -> Grid:
        """What each tile is kept for."""
        return Grid(self.plan.size, self.plan.step, fewer=self.plan.counts)

    def pixels(self, start: Place, stop: Place) -> Array:
        """The model's channels of a window, (C, *spatial), before normalisation."""
        if self.level_shape == self.shape:
            return self._stored(start, stop)
        return resample_window(self._stored, self.level_shape, self.shape, start, stop)

    def _stored(self, start: Place, stop: Place) -> Array:
        window = self.regions.read(self.item, tuple(start), tuple(stop), ndim=self.model.ndim, level=self.level)[
            list(self.channels)
        ]
        if window.dtype.kind == "f" and not np.isfinite(window).all():
            raise DataError(
                f"{self.regions.source}: pixels from {tuple(start)} to {tuple(stop)} are NaN or infinite; "
                "every pixel must be a number: replace them (for instance by 0)"
            )
        return window

    def source(self) -> Source:
        """The image as the network sees it."""
        return Source(self.shape, lambda start, stop: self.scale.apply(self.pixels(start, stop)))

    def missing(self) -> list[Index]:
        """Tiles that are not there yet."""
        return [index for index in self.grid if not self.store.has(key_of(_TILES, index))]

    def compute(self, indices: Iterable[Index], told: Callable[[], None] | None = None) -> None:
        """Compute these tiles, apart from those that are there; written while the next is computed."""
        source, windows = self.source(), seam_windows(self.plan)
        with Behind() as writer:
            for index in indices:
                key = key_of(_TILES, index)
                if not self.store.has(key):
                    start, stop = self.grid.bounds(index)
                    found = predict_window(self.engine, source, start, stop, output=self.plan.output, tta=self.tta)
                    writer.submit(self._keep, key, start, stop, found, windows)
                if told:
                    told()

    def _keep(
        self, key: str, start: Index, stop: Index, probabilities: Array, windows: list[tuple[Index, Index]]
    ) -> None:
        arrays: dict[str, Array] = {}
        if self.model.task == "classes":
            arrays["ids"] = probabilities.argmax(axis=0).astype(np.uint8 if len(probabilities) <= 256 else np.uint16)
        else:
            arrays["ids"] = mark(1 - probabilities[0], instance_settings(self.model.postprocessing))
        if self.kept == "probabilities":
            arrays["probabilities"] = probabilities
        elif self.kept == "weights":
            arrays["weights"] = weights(probabilities)
        for number, (low, high) in enumerate(windows):
            inner = [(max(a, s), min(b, e)) for a, b, s, e in zip(low, high, start, stop, strict=True)]
            if all(a < b for a, b in inner):
                own = tuple(slice(a - s, b - s) for (a, b), s in zip(inner, start, strict=True))
                arrays[f"{_PROBE}{number}"] = probabilities[(slice(None), *own)]
        self.store.put(key, arrays)

    def read_ids(self, start: Place, stop: Place) -> Array:
        """Marks or class ids of a window, from the tiles."""
        dtype = np.uint8 if self.model.task == "instances" else np.uint16
        return self.grid.assemble(start, stop, lambda index: self.cache.get(key_of(_TILES, index), "ids"), dtype)

    def read_channel(self, name: str, channel: int, start: Place, stop: Place) -> Array:
        """One class of "probabilities" or "weights", (*window), from the tiles."""
        dtype = np.float32 if name == "probabilities" else np.uint16
        return self.grid.assemble(start, stop, lambda i: self.cache.get(key_of(_TILES, i), name)[channel], dtype)

    def check_seams(self) -> SeamCheck:
        """Windows across seams computed again as one piece, against what the tiles gave."""

        def pairs() -> Iterable[tuple[Array, Array]]:
            for number, (start, stop) in enumerate(seam_windows(self.plan)):
                whole = predict_window(self.engine, self.source(), start, stop, tta=self.tta)
                tiled = np.full_like(whole, np.nan)
                for index in self.grid.touched(start, stop):
                    first, last = self.grid.bounds(index)
                    part = tuple(
                        slice(max(a, s) - a, min(b, e) - a) for a, b, s, e in zip(start, stop, first, last, strict=True)
                    )
                    tiled[(slice(None), *part)] = self.store.get(key_of(_TILES, index))[f"{_PROBE}{number}"]
                yield whole, tiled

        return compare_seams(iter(pairs()))


def open_job(
    model: Model, engine: Engine, regions: Regions, item: int, request: Request, *, folder: Path, budget: Budget
) -> tuple[Job, list[str]]:
    """The job of an item, as its folder says where it was begun before, and what is to be said of it.

    A folder of another model, image, engine or kind of averaging is emptied first. Processes that begin
    together agree: who writes the plan first decides.
    """
    notes: list[str] = []
    channels = model_channels(model, regions, request)
    level, factors = choose_level(model, regions, request.pixel_size_um, notes)
    level_shape = regions.spatial_shape(model.ndim, level)
    shape = resized_shape(level_shape, factors)
    kept = _kept(model, request)
    identity = {
        "model": model.sha256,
        "input": _identity(regions.source),
        "item": item,
        "channels": list(channels),
        "shape": list(shape),
        "level": level,
        "engine": engine.name,
        "precision": engine.precision,
        "tta": request.tta,
        "kept": kept,
        "tile": request.tile,
        "postprocessing": dict(model.postprocessing),
    }
    store = FolderStore(folder)
    stored = _claim(store, identity, lambda: {"output": list(budget.plan(shape, engine, request.tile).output)})
    plan = plan_tiles(shape, engine.geometry, tuple(stored["output"]))
    job = Job(
        model, engine, regions, item, channels, shape, level, level_shape, plan, Scale((), ()), request.tta, kept, store
    )
    object.__setattr__(job, "scale", _scale(job))
    if (there := len(job.grid) - len(job.missing())) and not request.merge:
        notes.append(f"{there} of {len(job.grid)} tiles are there already")
    return job, notes


def _scale(job: Job) -> Scale:
    """Intensity statistics of the whole item, measured once for all who work in the folder."""
    if not job.store.has(_SCALE):
        scale = measure_regions(job.model.normalisation, job.pixels, job.shape)
        job.store.put(_SCALE, {"offset": np.array(scale.offset), "scale": np.array(scale.scale)})
    kept = job.store.get(_SCALE)
    return Scale(tuple(kept["offset"].tolist()), tuple(kept["scale"].tolist()))


def model_channels(model: Model, regions: Regions, request: Request) -> tuple[int, ...]:
    """Positions of the model's channels in the file, chosen as `select_channels` does."""
    places = np.arange(regions.channels()).reshape(-1, *(1,) * model.ndim)
    chosen = select_channels(places, model, request.channels, regions.source, stated=regions.channel_names)
    return tuple(int(place) for place in chosen.ravel())


def _kept(model: Model, request: Request) -> str:
    if "probabilities" in request.save or set(request.save) - {"labels", "overlay"}:
        return "probabilities"
    return "weights" if model.task == "instances" and len(model.classes) > 2 else ""


def _identity(path: Path) -> dict[str, Any]:
    """What tells an input from another: its name, size and time of change."""
    try:
        facts = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    return {"name": path.name, "bytes": facts.st_size, "changed": facts.st_mtime_ns}


def _claim(store: FolderStore, identity: Mapping[str, Any], decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What stands in the folder's plan; where there is none of this identity, one with what ``decide`` says."""
    path = store.folder / "plan.json"
    for _ in range(100):
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            stored = {}
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete the folder and run again") from error
        if stored and stored.get("identity") == json.loads(json.dumps(identity)):
            return stored
        if stored:
            store.clear()
        decided = decide()
        mine = path.with_name(f"plan.{os.getpid()}.{time.time_ns()}.json")
        with whole_file(mine) as temporary:
            temporary.write_text(json.dumps({"identity": identity, **decided}, indent=1), encoding="utf-8")
        try:
            os.link(mine, path)  # fails where another process was faster
        except FileExistsError:
            continue
        except OSError:  # a file system without links: the last one decides
            os.replace(mine, path)
        finally:
            mine.unlink(missing_ok=True)
    raise BiounetError(f"{path}: other processes work in this folder on something else; give each its own --out")
