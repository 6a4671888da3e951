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

from biounet.errors import BiounetError, DataError, UsageError
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
from biounet.labels.instances import CELL, mark
from biounet.labels.kinds import weights
from biounet.labels.reaching import blocks_wanted
from biounet.model_file import Model
from biounet.workflows.inputs import said_of_grey, select_channels
from biounet.workflows.region import Region
from biounet.workflows.request import Request
from biounet.workflows.scale import choose_level
from biounet.workflows.stream import Behind

Array = npt.NDArray[Any]

_TILES, _SCALE = "tiles", "scale"
_PROBE = "probe"
_NAMED = {  # what tells tiles from others, by the names of the command line
    "model": "model",
    "input": "image, or it was changed",
    "channels": "--channels",
    "level": "--pixel-size",
    "shape": "--pixel-size",
    "engine": "engine",
    "precision": "--precision",
    "tta": "--tta",
    "kept": "--save",
    "tile": "--tile",
    "region": "--region",
    "postprocessing": "post-processing",
}
_LONG = ("model", "input", "channels", "level", "shape", "kept", "region", "postprocessing")  # whose values say little
_DRAWS = 8  # of windows across seams, until enough of them lie in tiles that are computed


@dataclass(frozen=True, eq=False)
class Job:
    """An item of an open image on its way. ``shape``: of its pixels as the network sees them.

    ``level``: of the pyramid that is read; ``level_shape`` its size, which is resampled to ``shape``.
    ``kept``: what each tile leaves besides marks or class ids: "probabilities", "weights" (whole numbers in
    proportion to them), or nothing. ``region``: outside it tiles are left out. ``wanted``: those that are not,
    apart from tiles into which objects go on (`beyond`); ``seams``: windows that are checked.
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
    region: Region | None = None
    cache: Cache = field(init=False)
    wanted: list[Index] = field(init=False)
    seams: list[tuple[Index, Index]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", Cache(self.store, CACHE_BYTES))
        object.__setattr__(self, "wanted", self._wanted())
        object.__setattr__(self, "seams", self._seams())

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

    def _wanted(self) -> list[Index]:
        """Tiles that touch the region, or hold a pixel on which a line given back in it depends."""
        if self.region is None:
            return list(self.grid)
        near, by = self.region.near, self._around()[0]
        return [i for i in self.grid if near(self.item, self.shape, *self.grid.bounds(i), by=by).any()]

    def _around(self) -> tuple[int, int]:
        """Pixels around the region whose objects are needed whole, and around these objects."""
        if self.model.task == "classes":
            return 0, 0
        settings = instance_settings(self.model.postprocessing)
        around = settings.fill_holes_px + 1
        return 3 * settings.give_back_px + around, settings.give_back_px + around

    def _seams(self) -> list[tuple[Index, Index]]:
        if self.region is None:
            return seam_windows(self.plan)
        computed, most = set(self.wanted), len(seam_windows(self.plan))
        drawn = [window for seed in range(_DRAWS) for window in seam_windows(self.plan, seed=seed)]
        return [w for w in drawn if computed.issuperset(self.grid.touched(*w))][:most]

    def there(self, index: Index) -> bool:
        """Whether a tile is computed."""
        return self.store.has(key_of(_TILES, index))

    def missing(self) -> list[Index]:
        """Tiles that are wanted and not there yet."""
        return [index for index in self.wanted if not self.there(index)]

    def beyond(self) -> list[Index]:
        """Tiles that are not there into which objects of the region go on; to be asked until there are none."""
        if self.region is None or self.model.task == "classes":
            return []
        region = self.region
        near, reach = self._around()
        # the class of an object is that of all its pixels, also of those outside: its neighbours decide where it ends
        beside = near + reach if len(self.model.classes) > 2 else 0
        found = blocks_wanted(
            self.grid,
            lambda index: (self.store.get(key_of(_TILES, index))["ids"] & CELL) > 0,
            self.there,
            lambda start, stop: region.near(self.item, self.shape, start, stop, by=near),
            margin=reach,
            neighbours=beside,
        )
        return sorted(found)

    def compute(self, indices: Iterable[Index], told: Callable[[], None] | None = None) -> None:
        """Compute these tiles, apart from those that are there; written while the next is computed."""
        source = self.source()
        with Behind() as writer:
            for index in indices:
                if not self.there(index):
                    start, stop = self.grid.bounds(index)
                    found = predict_window(self.engine, source, start, stop, output=self.plan.output, tta=self.tta)
                    writer.submit(self._keep, key_of(_TILES, index), start, stop, found)
                if told:
                    told()

    def _keep(self, key: str, start: Index, stop: Index, probabilities: Array) -> None:
        arrays: dict[str, Array] = {}
        if self.model.task == "classes":
            arrays["ids"] = probabilities.argmax(axis=0).astype(np.uint8 if len(probabilities) <= 256 else np.uint16)
        else:
            arrays["ids"] = mark(1 - probabilities[0], instance_settings(self.model.postprocessing))
        if self.kept == "probabilities":
            arrays["probabilities"] = probabilities
        elif self.kept == "weights":
            arrays["weights"] = weights(probabilities)
        for number, (low, high) in enumerate(self.seams):
            inner = [(max(a, s), min(b, e)) for a, b, s, e in zip(low, high, start, stop, strict=True)]
            if all(a < b for a, b in inner):
                own = tuple(slice(a - s, b - s) for (a, b), s in zip(inner, start, strict=True))
                arrays[f"{_PROBE}{number}"] = probabilities[(slice(None), *own)]
        self.store.put(key, arrays)

    def read_ids(self, start: Place, stop: Place) -> Array:
        """Marks or class ids of a window, from the tiles."""
        dtype = np.uint8 if self.model.task == "instances" else np.uint16
        return self.grid.assemble(start, stop, lambda index: self._of_tile(index, "ids"), dtype)

    def read_channel(self, name: str, channel: int, start: Place, stop: Place) -> Array:
        """One class of "probabilities" or "weights", (*window), from the tiles."""
        dtype = np.float32 if name == "probabilities" else np.uint16
        return self.grid.assemble(start, stop, lambda index: self._of_tile(index, name, channel), dtype)

    def _of_tile(self, index: Index, name: str, channel: int | None = None) -> Array:
        """What a tile left; 0 where it was left out."""
        if self.region is not None and not self.there(index):
            start, stop = self.grid.bounds(index)
            return np.zeros([e - a for a, e in zip(start, stop, strict=True)], np.uint8)
        found = self.cache.get(key_of(_TILES, index), name)
        return found if channel is None else np.asarray(found[channel])

    def check_seams(self) -> SeamCheck:
        """Windows across seams computed again as one piece, against what the tiles gave."""

        def pairs() -> Iterable[tuple[Array, Array]]:
            for number, (start, stop) in enumerate(self.seams):
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
    model: Model,
    engine: Engine,
    regions: Regions,
    item: int,
    request: Request,
    *,
    folder: Path,
    budget: Budget,
    region: Region | None,
) -> tuple[Job, list[str]]:
    """The job of an item, as its folder says where it was begun before, and what is to be said of it.

    ``region``: that of the request, opened. A folder of another model, image, region, engine or kind of
    averaging is emptied first, unless shards have a part in it: raises `UsageError` then. Processes that begin
    together agree: who writes the plan first decides.
    """
    notes = said_of_grey(model, regions.channels())
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
        "region": region and region.identity,
        "postprocessing": dict(model.postprocessing),
    }
    store = FolderStore(folder)
    shared = request.merge or request.shard is not None
    stored = _claim(
        store, identity, lambda: {"output": list(budget.plan(shape, engine, request.tile).output)}, shared=shared
    )
    plan = plan_tiles(shape, engine.geometry, tuple(stored["output"]))
    job = Job(
        model, engine, regions, item, channels, shape, level, level_shape,
        plan, Scale((), ()), request.tta, kept, store, region,
    )  # fmt: skip
    object.__setattr__(job, "scale", _scale(job))
    if region is not None:
        notes += [*region.notes, f"{len(job.wanted)} of {len(job.grid)} tiles come near the region"]
    if (there := len(job.wanted) - len(job.missing())) and not request.merge:
        notes.append(f"{there} of {len(job.wanted)} tiles are there already")
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
    if "probabilities" in request.save or set(request.save) - {"labels", "overlay", "ome-zarr"}:
        return "probabilities"
    return "weights" if model.task == "instances" and len(model.classes) > 2 else ""


def _identity(path: Path) -> dict[str, Any]:
    """What tells an input from another: its name, size and time of change."""
    try:
        facts = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    return {"name": path.name, "bytes": facts.st_size, "changed": facts.st_mtime_ns}


def _claim(
    store: FolderStore, identity: Mapping[str, Any], decide: Callable[[], dict[str, Any]], *, shared: bool
) -> dict[str, Any]:
    """What stands in the folder's plan; where there is none of this identity, one with what ``decide`` says.

    The tiles of another identity go, unless the folder is ``shared``: they may be the work of other shards.
    """
    path = store.folder / "plan.json"
    plain = json.loads(json.dumps(identity))
    for _ in range(100):
        try:
            stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            stored = {}
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete the folder and run again") from error
        if stored and stored.get("identity") == plain:
            return stored
        if stored and shared:
            raise UsageError(_unlike(store.folder, stored.get("identity") or {}, plain))
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


def _unlike(folder: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What tells the tiles in a folder from those that are asked for."""
    known = [(key, name) for key, name in _NAMED.items() if there.get(key) != asked.get(key)]
    said = [
        name if key in _LONG else f"{name} {_shown(there.get(key))} (now {_shown(asked.get(key))})"
        for key, name in known
    ]
    return (
        f"{folder}: its tiles were made with another {' and another '.join(said) or 'plan'}; all shards and the merge "
        "take the same model, images and options: give those, or begin in another --out"
    )


def _shown(value: object) -> str:
    return "by itself" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
