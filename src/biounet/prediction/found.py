"""What was found in one item of a large image, on the grid of its file, from the tiles that were computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.inference.memory import CACHE_BYTES, THREADS, Budget
from biounet.inference.predict import instance_settings
from biounet.labels.blocks import Grid, Place
from biounet.labels.instances import reach
from biounet.labels.joined import Joined, join_instances, numbers_by_first_pixel
from biounet.labels.kinds import weigh, weights
from biounet.prediction.blocks import Job
from biounet.prediction.view import Read
from biounet.results.gallery import Seen
from biounet.results.thumbnail import thumbnail

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Found:
    """The result of one item: ``labels(start, stop)`` on the grid of the file, ids 1 to ``count`` by first pixel there.

    ``classes``: that of every object by id, int32 (count + 1,), where there are several kinds of them. ``unseen``: how
    many objects more there are, too small for a pixel of the file.
    """

    job: Job
    labels: Read
    count: int
    classes: npt.NDArray[np.int32] | None
    unseen: int = 0

    def by_class(self, start: Place, stop: Place) -> Array:
        """The class of the object at each pixel, 0 for background."""
        assert self.classes is not None
        return self.classes[self.labels(start, stop)]

    def probabilities(self, channel: int, start: Place, stop: Place) -> Array:
        """Of one class in a window of the file's grid; 0 outside the region."""
        job = self.job
        read = job.view.on_file(lambda a, e: job.read_channel("probabilities", channel, a, e))
        found = read(start, stop)
        return found if job.region is None else found * job.region.inside(job.view.item, start, stop)

    @cached_property
    def seen(self) -> Seen:
        """What a picture shows, small enough for a screen; of probabilities where they were kept."""
        view, model = self.job.view, self.job.model

        def foreground(start: Place, stop: Place) -> Array:
            return np.asarray(sum(self.probabilities(k, start, stop) for k in range(1, len(model.classes))))

        maps = [self.labels, foreground] if self.job.kept == "probabilities" else [self.labels]
        image, *small = thumbnail(view.regions, view.item, view.channels, maps, ndim=view.ndim)
        return Seen(image, small[0], small[1] if len(small) > 1 else None, self.classes)


def find(job: Job, budget: Budget) -> Found:
    """Objects, joined across tiles, or classes of an item whose tiles are all there."""
    model, view = job.model, job.view
    if model.task == "classes":
        read = _cut(view.on_file(job.read_ids), job)
        grid = _file_grid(job, budget)
        return Found(job, read, max(int(read(*grid.bounds(index)).max()) for index in grid), None)
    settings = instance_settings(model.postprocessing)
    side = budget.block(view.ndim, reach(settings))
    grid = Grid(view.shape, tuple(min(side, n) for n in view.shape))
    # blocks of another side, as another memory limit makes, are others; made again sooner than forced to disk
    store = job.store.within(f"objects-{side}", lasting=False)
    joined = join_instances(job.read_ids, grid, settings, store, cache_bytes=CACHE_BYTES, threads=THREADS)
    classes = _object_classes(job, joined) if len(model.classes) > 2 else None
    found = Found(job, view.on_file(joined.read), joined.count, classes)
    # on another grid objects may have no pixel, and their first pixels another order
    return found if job.region is None and view.is_of_file else _renumbered(found, budget)


def _file_grid(job: Job, budget: Budget) -> Grid:
    """Blocks of the file's grid, of which several are in memory at once, also where the model's pixels are finer."""
    view = job.view
    finer = max(1, *(-(-n // m) for n, m in zip(view.shape, view.covered, strict=True)))
    side = max(1, budget.block(view.ndim, 0) // finer)
    return Grid(view.file_shape, tuple(min(side, n) for n in view.file_shape))


def _cut(read: Read, job: Job) -> Read:
    """The same ids, 0 outside the region."""
    region, item = job.region, job.view.item
    if region is None:
        return read
    return lambda start, stop: np.where(region.inside(item, start, stop), read(start, stop), 0)


def _renumbered(found: Found, budget: Budget) -> Found:
    """The objects that have a pixel of the file, in the region where there is one, numbered anew by the first."""
    cut = _cut(found.labels, found.job)
    table = numbers_by_first_pixel(cut, _file_grid(found.job, budget), found.count)
    kept = np.argsort(table, kind="stable")[np.count_nonzero(table == 0) :]  # ids in their new order
    classes = None if found.classes is None else np.concatenate([found.classes[:1], found.classes[kept]])
    unseen = found.count - len(kept) if found.job.region is None else 0  # in a region others lie outside
    return Found(found.job, lambda start, stop: table[cut(start, stop)], len(kept), classes, unseen)


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
