"""One plane or volume of a file, computed tile by tile into a folder of blocks.

What a tile leaves there is all that objects need: marks instead of probabilities (`labels.instances.mark`),
or class ids. Tiles that are there are not computed again, whoever computed them: the same command after an
interruption, another process, another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.images.normalize import Scale, measure_regions
from biounet.images.regions import Regions
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
from biounet.prediction.block_store import FolderStore
from biounet.prediction.claim import claim, claimed, identity_of
from biounet.prediction.region import Region, open_region
from biounet.prediction.stream import Behind
from biounet.prediction.view import View, open_view
from biounet.results.ome_zarr import Targets
from biounet.results.request import Request

Array = npt.NDArray[Any]

_TILES, _SCALE = "tiles", "scale"
_PROBE = "probe"
_DRAWS = 8  # of windows across seams, until enough of them lie in tiles that are computed


@dataclass(frozen=True, eq=False)
class Job:
    """An item of an open image on its way, tile by tile.

    ``kept``: what each tile leaves besides marks or class ids: "probabilities", "weights" (whole numbers in
    proportion to them), or nothing. ``region``: outside it tiles are left out.
    """

    model: Model
    engine: Engine
    view: View
    plan: TilePlan
    scale: Scale
    tta: str
    kept: str
    store: FolderStore
    region: Region | None = None

    @property
    def path(self) -> Path:
        """The image's file."""
        return self.view.regions.source

    @property
    def grid(self) -> Grid:
        """What each tile is kept for."""
        return Grid(self.plan.size, self.plan.step, fewer=self.plan.counts)

    @cached_property
    def wanted(self) -> list[Index]:
        """Tiles that touch the region, or hold a pixel on which a line given back in it depends.

        Those into which objects of the region go on come to them, see `beyond`.
        """
        if self.region is None:
            return list(self.grid)
        by = self._around()[0]
        return [index for index in self.grid if self._near(*self.grid.bounds(index), by).any()]

    @cached_property
    def seams(self) -> list[tuple[Index, Index]]:
        """Windows across borders of tiles that are checked, all of their tiles among those wanted."""
        if self.region is None:
            return seam_windows(self.plan)
        computed, most = set(self.wanted), len(seam_windows(self.plan))
        drawn = [window for seed in range(_DRAWS) for window in seam_windows(self.plan, seed=seed)]
        return [w for w in drawn if computed.issuperset(self.grid.touched(*w))][:most]

    @cached_property
    def _cache(self) -> Cache:
        return Cache(self.store, CACHE_BYTES)

    def source(self) -> Source:
        """The image as the network sees it."""
        return Source(self.view.shape, lambda start, stop: self.scale.apply(self.view.read(start, stop)))

    def _near(self, start: Place, stop: Place, by: int) -> Array:
        """Which pixels of a window come within ``by`` pixels of the region."""
        assert self.region is not None
        view = self.view
        return self.region.near(view.item, view.shape, start, stop, by=by, covered=view.covered)

    def _around(self) -> tuple[int, int]:
        """Pixels around the region whose objects are needed whole, and around these objects."""
        if self.model.task == "classes":
            return 0, 0
        settings = instance_settings(self.model.postprocessing)
        around = settings.fill_holes_px + 1
        return 3 * settings.give_back_px + around, settings.give_back_px + around

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
        near, reach = self._around()
        # the class of an object is that of all its pixels, also of those outside: its neighbours decide where it ends
        beside = near + reach if len(self.model.classes) > 2 else 0
        found = blocks_wanted(
            self.grid,
            lambda index: (self.store.get(key_of(_TILES, index), "ids")["ids"] & CELL) > 0,
            self.there,
            lambda start, stop: self._near(start, stop, near),
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
        if self.kept:
            numbers = weights(probabilities) if self.kept == "weights" else probabilities
            arrays |= {f"{self.kept}{channel}": part for channel, part in enumerate(numbers)}  # each is read alone
        for number, (low, high) in enumerate(self.seams):
            inner = [(max(a, s), min(b, e)) for a, b, s, e in zip(low, high, start, stop, strict=True)]
            if all(a < b for a, b in inner):
                own = tuple(slice(a - s, b - s) for (a, b), s in zip(inner, start, strict=True))
                arrays[f"{_PROBE}{number}"] = probabilities[(slice(None), *own)]
        self.store.put(key, arrays)

    def read_ids(self, start: Place, stop: Place) -> Array:
        """Marks or class ids of a window, from the tiles."""
        dtype = np.uint8 if self.model.task == "instances" else np.uint16
        return self.grid.assemble(start, stop, lambda index, part: self._of_tile(index, "ids")[part], dtype)

    def read_channel(self, name: str, channel: int, start: Place, stop: Place) -> Array:
        """One class of "probabilities", float32, or of "weights", uint16, in a window: (*window), from the tiles.

        0 in tiles that were left out. Raises `DataError` for a tile that is damaged or gone, or keeps no such thing.
        """
        dtype = np.float32 if name == "probabilities" else np.uint16
        return self.grid.assemble(
            start, stop, lambda index, part: self._of_tile(index, f"{name}{channel}")[part], dtype
        )

    def _of_tile(self, index: Index, name: str) -> Array:
        """What a tile left; 0 where it was left out."""
        if self.region is not None and not self.there(index):
            start, stop = self.grid.bounds(index)
            return np.zeros([e - a for a, e in zip(start, stop, strict=True)], np.uint8)
        return self._cache.get(key_of(_TILES, index), name)

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
                    probe = f"{_PROBE}{number}"
                    tiled[(slice(None), *part)] = self.store.get(key_of(_TILES, index), probe)[probe]
                yield whole, tiled

        return compare_seams(iter(pairs()))


def open_jobs(
    model: Model, engine: Engine, regions: Regions, targets: Targets, *, folder: Path, budget: Budget
) -> Iterator[tuple[Job, list[str]]]:
    """The jobs of all items, as their folders in ``folder`` say where they were begun, and what is to be said of each.

    A folder of another model, image, region, engine or kind of averaging is emptied first, unless shards have a
    part in it: raises `UsageError` then. Processes that begin together agree: who writes the plan first decides.
    """
    request = targets.request
    region = open_region(request.region, regions, model.ndim)
    given = {
        name: value for name, value in targets.made_by.items() if name != "pixel_size_um"
    }  # level and shape say it
    source = identity_of(regions.source)
    for item in range(regions.item_count(model.ndim)):
        view, notes = open_view(model, regions, item, channels=request.channels, pixel_size_um=request.pixel_size_um)
        identity = given | {
            "input": source,
            "item": item,
            "channels": list(view.channels),
            "shape": list(view.shape),
            "level": view.level,
            "kept": _kept(model, request),
            "tile": request.tile,
        }
        store = FolderStore(folder / str(item))
        decide = partial(_decided, view, engine, request, budget)
        stored = claim(store, identity, decide, shared=request.merge or request.shard is not None)
        job = _job(model, engine, view, request=request, store=store, region=region, stored=stored)
        if region is not None:
            notes += [*region.notes, f"{len(job.wanted)} of {len(job.grid)} tiles come near the region"]
        if (there := len(job.wanted) - len(job.missing())) and not request.merge:
            notes.append(f"{there} of {len(job.wanted)} tiles are there already")
        yield job, notes


def open_claimed(model: Model, engine: Engine, regions: Regions, item: int, request: Request, *, folder: Path) -> Job:
    """The job of an item as another process began it in ``folder``; raises `DataError` where none did."""
    view, _ = open_view(model, regions, item, channels=request.channels, pixel_size_um=request.pixel_size_um)
    region, store = open_region(request.region, regions, model.ndim), FolderStore(folder)
    return _job(model, engine, view, request=request, store=store, region=region, stored=claimed(store))


def _decided(view: View, engine: Engine, request: Request, budget: Budget) -> dict[str, Any]:
    return {"output": list(budget.plan(view.shape, engine, request.tile).output)}


def _job(
    model: Model,
    engine: Engine,
    view: View,
    *,
    request: Request,
    store: FolderStore,
    region: Region | None,
    stored: Mapping[str, Any],
) -> Job:
    """``stored``: the plan that stands in the folder."""
    plan = plan_tiles(view.shape, engine.geometry, tuple(stored["output"]))
    scale = _scale(model, view, store)
    return Job(model, engine, view, plan, scale, request.tta, _kept(model, request), store, region)


def _scale(model: Model, view: View, store: FolderStore) -> Scale:
    """Intensity statistics of the whole item, measured once for all who work in the folder."""
    if not store.has(_SCALE):
        scale = measure_regions(model.normalisation, view.read, view.shape)
        store.put(_SCALE, {"offset": np.array(scale.offset), "scale": np.array(scale.scale)})
    kept = store.get(_SCALE)
    return Scale(tuple(kept["offset"].tolist()), tuple(kept["scale"].tolist()))


def _kept(model: Model, request: Request) -> str:
    if set(request.save) - {"labels", "overlay", "ome-zarr"}:
        return "probabilities"
    return "weights" if model.task == "instances" and len(model.classes) > 2 else ""
