"""Images of any size from file to files, in a fixed amount of memory: tiles, objects across them, results.

The way of `predict` for images that do not fit into the memory allowed, are at another pixel size than the
model's, or are computed by several processes. Labels are those of the way through memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.images.formats import stem_name
from biounet.images.image import Image
from biounet.images.regions import Regions, open_regions
from biounet.images.resample import nearest_window
from biounet.inference.engines import Engine
from biounet.inference.memory import CACHE_BYTES, THREADS, Budget
from biounet.inference.predict import Prediction, instance_settings, show_bytes, tile_memory
from biounet.labels.blocks import Grid, Place
from biounet.labels.instances import reach
from biounet.labels.joined import Joined, join_instances, numbers_by_first_pixel
from biounet.labels.kinds import weigh, weights
from biounet.model_file import Model
from biounet.words import counted
from biounet.workflows.blocks import Job, open_job
from biounet.workflows.cluster import Cluster
from biounet.workflows.export import EXPORTED, objects_of
from biounet.workflows.gallery import Seen
from biounet.workflows.region import Region, open_region
from biounet.workflows.request import Done, Listener, Request
from biounet.workflows.results import Results, write_results
from biounet.workflows.scale import pixel_size
from biounet.workflows.thumbnail import thumbnail
from biounet.workflows.zarr_results import Ids, Targets

Array = npt.NDArray[Any]
Read = Callable[[Place, Place], Array]


@dataclass(frozen=True, eq=False)
class _Found:
    """The result of one item: ``labels(start, stop)`` on the grid of the file, and how many objects."""

    job: Job
    labels: Read
    count: int
    classes: npt.NDArray[np.int32] | None


def folder_of(out: Path, name: str) -> Path:
    """Where the blocks of an image are kept until its results are complete."""
    return out / f".{name}.blocks"


def predict_large(
    model: Model,
    engine: Engine,
    path: Path,
    targets: Targets,
    *,
    budget: Budget,
    listen: Listener,
    cluster: Cluster | None = None,
    show: Callable[[Seen], None] | None = None,
) -> Done:
    """Predict one file block by block and write its results; with a shard only compute its share.

    Tiles are computed here or by the workers of a ``cluster``. ``show`` gets what a page shows.

    What is finished stays in a folder beside the results (`folder_of`) until all is complete, so that the
    same call goes on after an interruption. Raises `DataError` where a merge finds tiles missing.
    """
    request, done = targets.request, Done(str(path), stem_name(path))
    folder = folder_of(request.out, done.name)
    with open_regions(path, cache_bytes=CACHE_BYTES) as regions:
        items = regions.item_count(model.ndim)
        region = open_region(request.region, regions, model.ndim)
        jobs = []
        for item in range(items):
            job, notes = open_job(
                model, engine, regions, item, request, folder=folder / str(item), budget=budget, region=region
            )
            jobs.append(job)
            if item == 0:
                done.plan = str(job.plan)
                done.notes = [*regions.notes, *notes]
                listen(_plan_line(path, job, items, budget), 0, 0)
                for note in done.notes:
                    listen(f"{path.name}: {note}", 0, 0)
        if region is not None and not any(job.wanted for job in jobs):
            _clear(jobs, folder)
            raise DataError(f"--region {region.name}: has no pixel in {path}; is it drawn on another image?")
        _compute(jobs, request, listen, cluster)
        if request.shard is not None:
            return done
        found = [_found(job, budget, listen) for job in jobs]
        shape = regions.spatial_shape(model.ndim)
        done.shape = shape if items == 1 else (items, *shape)
        write_results(_results_of(regions, found, request, budget), targets, done)
        if show is not None:
            show(_seen(regions, found[len(found) // 2]))
        check = max((job.check_seams() for job in jobs[:1]), key=lambda c: c.largest_difference)
        done.seams = check.to_dict()
        listen(f"{path.name}: {check}", 0, 0)
    _clear(jobs, folder)
    return done


def begin_large(
    model: Model, engine: Engine, path: Path, request: Request, *, budget: Budget, cluster: Cluster
) -> None:
    """Give out all tiles of a file to a cluster, so that small files are computed side by side, too."""
    folder = folder_of(request.out, stem_name(path))
    with open_regions(path, cache_bytes=CACHE_BYTES) as regions:
        region = open_region(request.region, regions, model.ndim)
        for item in range(regions.item_count(model.ndim)):
            job, _ = open_job(
                model, engine, regions, item, request, folder=folder / str(item), budget=budget, region=region
            )
            cluster.begin(job, request)


def _clear(jobs: list[Job], folder: Path) -> None:
    """Remove the blocks."""
    for job in jobs:
        job.store.clear()
    with suppress(OSError):
        folder.rmdir()


def _compute(jobs: list[Job], request: Request, listen: Listener, cluster: Cluster | None) -> None:
    """The tiles that are this process's share; of a region also those into which its objects go on.

    In a merge there must be no other left.
    """
    total = sum(len(job.wanted) for job in jobs)
    told_of = 0

    def told() -> None:
        nonlocal told_of
        told_of += 1
        listen("", told_of, max(told_of, total))

    if request.merge:
        missing = sum(len(job.missing()) for job in jobs)
        if missing:
            raise DataError(
                f"{jobs[0].regions.source}: {missing} of {total} tiles are not computed; run the shards that did "
                "not end well again, then --merge"
            )
    elif cluster is not None:
        for job in jobs:
            cluster.compute(job, request, told)
    else:
        # images of one tile are shared out too: each begins at another shard, by its name
        number = zlib.crc32(stem_name(jobs[0].regions.source).encode())
        for job in jobs:
            mine = []
            for index in job.wanted:
                if request.shard is None or number % request.shard[1] == request.shard[0] - 1:
                    mine.append(index)
                number += 1
            job.compute(mine, told)
    for job in jobs if request.shard is None else ():
        while beyond := job.beyond():
            more = counted(len(beyond), "more tile")
            listen(f"{job.regions.source.name}: objects of the region go on into {more}", 0, 0)
            if cluster is not None:
                cluster.compute(job, request, told, beyond)
            else:
                job.compute(beyond, told)


def _plan_line(path: Path, job: Job, items: int, budget: Budget) -> str:
    count = f"{items} images of " if items > 1 else ""
    work = items * len(job.plan) * float(job.engine.cost.work(job.plan.input))
    return (
        f"{path.name}: {count}{'x'.join(map(str, job.shape))} block by block in {job.plan}, {job.engine.name} "
        f"{job.engine.precision}, {work / 1e9:.3g} GFLOP; of {show_bytes(budget.limit)} the program takes "
        f"{show_bytes(budget.base)}, a tile about {show_bytes(tile_memory(job.plan, job.engine))}"
    )


def _found(job: Job, budget: Budget, listen: Listener) -> _Found:
    """Objects or classes of an item, on the grid of the file."""
    full = job.regions.spatial_shape(job.model.ndim)
    joined: Joined | None = None
    if job.model.task == "classes":
        read: Read = job.read_ids
        count = len(job.model.classes) - 1
    else:
        settings = instance_settings(job.model.postprocessing)
        side = budget.block(job.model.ndim, reach(settings))
        grid = Grid(job.shape, tuple(min(side, n) for n in job.shape))
        store = job.store.within(f"objects-{side}")  # blocks of another side, as another memory limit makes, are others
        joined = join_instances(job.read_ids, grid, settings, store, cache_bytes=CACHE_BYTES, threads=THREADS)
        read, count = joined.read, joined.count
    classes = _object_classes(job, joined) if joined is not None and len(job.model.classes) > 2 else None

    def labels(start: Place, stop: Place) -> Array:
        if full == job.shape:
            return read(start, stop)
        return nearest_window(read, job.shape, full, start, stop)

    found = _Found(job, labels, count, classes)
    return found if job.region is None else _inside(found, job.region, budget)


def _inside(found: _Found, region: Region, budget: Budget) -> _Found:
    """What of a result lies in the region, objects numbered anew by their first pixel there."""
    job = found.job

    def cut(start: Place, stop: Place) -> Array:
        return np.where(region.inside(job.item, start, stop), found.labels(start, stop), 0)

    if job.model.task == "classes":
        return _Found(job, cut, found.count, None)
    side = budget.block(job.model.ndim, 0)
    grid = Grid(region.full, tuple(min(side, n) for n in region.full))
    table = numbers_by_first_pixel(cut, grid, found.count)
    kept = np.argsort(table, kind="stable")[np.count_nonzero(table == 0) :]  # ids in their new order
    classes = None if found.classes is None else np.concatenate([found.classes[:1], found.classes[kept]])
    return _Found(job, lambda start, stop: table[cut(start, stop)], len(kept), classes)


def _object_classes(job: Job, joined: Joined) -> npt.NDArray[np.int32]:
    """The class of every object by id, as `labels.kinds.object_classes` of the whole image."""
    several = len(job.model.classes)
    sums = np.zeros((joined.count + 1, several))
    for index in joined.grid:
        start, stop = joined.grid.bounds(index)
        ids = joined.read(start, stop).ravel()
        for channel in range(several):
            found = job.read_channel(job.kept, channel, start, stop).ravel()
            numbers = found if job.kept == "weights" else weights(found)
            sums[:, channel] += np.bincount(ids, weights=numbers, minlength=joined.count + 1)
    return weigh(sums)


def _results_of(regions: Regions, found: list[_Found], request: Request, budget: Budget) -> Results:
    """What was found in a file whose pixels stay where they are, a stack of items first where it is one."""
    several = len(found) > 1
    job, model = found[0].job, found[0].job.model
    spatial = regions.spatial_shape(model.ndim)
    shape = (len(found), *spatial) if several else spatial
    axes = ("T" if several else "") + "ZYX"[-model.ndim :]
    size = pixel_size(regions, request.pixel_size_um, model.ndim)

    def ids(kind: str, readers: list[Read], largest: int) -> Ids:
        return Ids(kind, _stacked(readers) if several else readers[0], shape, largest, axes, size)

    every = [ids("labels", [one.labels for one in found], max(one.count for one in found))]
    if found[0].classes is not None:
        every.append(ids("classes", [_by_class(one.labels, one.classes) for one in found], len(model.classes) - 1))
    masks = job.region.masks if job.region is not None else ()
    return Results(
        regions.source,
        every,
        sum(one.count for one in found) if model.task == "instances" else None,
        len(model.classes),
        _stacked_probabilities(found, spatial),
        lambda: _overlaid(regions, found[len(found) // 2]),
        lambda: [_objects(regions, one, index if several else None, budget) for index, one in enumerate(found)],
        (np.stack(masks) if several else masks[0]) if masks else None,
    )


def _stacked(readers: list[Read]) -> Read:
    """Items one behind the other along a first axis."""

    def read(start: Place, stop: Place) -> Array:
        return np.stack([readers[item](start[1:], stop[1:]) for item in range(start[0], stop[0])])

    return read


def _by_class(labels: Read, classes: npt.NDArray[np.int32] | None) -> Read:
    assert classes is not None
    return lambda start, stop: classes[labels(start, stop)]


def _stacked_probabilities(found: list[_Found], full: tuple[int, ...]) -> Read:
    """Classes first, then items of a stack; at another pixel size each pixel has that of the nearest one."""
    several = len(found) > 1

    def read(start: Place, stop: Place) -> Array:
        space = slice(1 + several, None)
        items = range(start[1], stop[1]) if several else range(1)
        stack = [
            [_probabilities(found[item].job, channel, full, start[space], stop[space]) for item in items]
            for channel in range(start[0], stop[0])
        ]
        return np.array(stack) if several else np.array(stack)[:, 0]

    return read


def _probabilities(job: Job, channel: int, full: tuple[int, ...], start: Place, stop: Place) -> Array:
    """Of one class in a window of the file's grid; 0 outside the region."""

    def own(a: Place, e: Place) -> Array:
        return job.read_channel("probabilities", channel, a, e)

    found = own(start, stop) if job.shape == full else nearest_window(own, job.shape, full, start, stop)
    return found if job.region is None else found * job.region.inside(job.item, start, stop)


def _overlaid(regions: Regions, one: _Found) -> tuple[Array, Array]:
    """What an overlay of an item shows: image and labels."""
    image, labels = thumbnail(regions, one.job.item, one.job.channels, [one.labels], ndim=one.job.model.ndim)
    return image, labels


def _seen(regions: Regions, one: _Found) -> Seen:
    """What a page shows of an item; of probabilities where they were kept."""
    job, full = one.job, regions.spatial_shape(one.job.model.ndim)
    if job.kept != "probabilities":
        return Seen(*_overlaid(regions, one), None, one.classes)

    def foreground(start: Place, stop: Place) -> Array:
        several = range(1, len(job.model.classes))
        return np.asarray(sum(_probabilities(job, channel, full, start, stop) for channel in several))

    image, labels, probable = thumbnail(regions, job.item, job.channels, [one.labels, foreground], ndim=job.model.ndim)
    return Seen(image, labels, probable, one.classes)


def _objects(regions: Regions, one: _Found, index: int | None, budget: Budget) -> Any:
    """The objects of an item for other programs, which are traced in memory."""
    job, ndim = one.job, one.job.model.ndim
    full = regions.spatial_shape(ndim)
    needed = math.prod(full) * (12 + 4 * len(job.model.classes) + regions.dtype.itemsize * len(job.channels))
    if needed > budget.limit - budget.base:
        kinds = ", ".join(EXPORTED)
        raise UsageError(
            f"{regions.source}: objects as {kinds} are traced in memory, about {show_bytes(needed + budget.base)} "
            f"of {show_bytes(budget.limit)}; raise --memory, or save labels and trace them in parts"
        )
    labels = one.labels((0,) * ndim, full).astype(np.int32)
    maps = [_probabilities(job, channel, full, (0,) * ndim, full) for channel in range(len(job.model.classes))]
    pixels = regions.read_item(job.item, ndim=ndim)[list(job.channels)]
    image = Image(pixels, "C" + "ZYX"[-ndim:], regions.pixel_size_um, regions.source)
    found = Prediction(labels, np.stack(maps), job.plan, one.classes)
    return objects_of(job.model, image, pixels, found, index)
