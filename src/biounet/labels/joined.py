"""Objects of an image larger than memory, block by block: the same labels, the same ids as of the whole.

The steps are those of `instances`. What looks at whole pieces (holes, specks, seeds, numbers) is joined
across blocks by `pieces`; growth and the line given back read their reach around each block. Every
intermediate lies in a `Store`, so that an interrupted run goes on at the block where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import fastremap
import numpy as np
import numpy.typing as npt

from biounet.labels.blocks import Cache, Grid, Index, Place, Read, Store, for_each, key_of, window
from biounet.labels.growth import give_back, grow
from biounet.labels.instances import CELL, InstanceSettings, SplitSettings, depth_reach, inner_pixels
from biounet.labels.pieces import Int64, Pieces, find_pieces, first_pixels

Labels = npt.NDArray[np.int32]
_NEVER = np.iinfo(np.int64).max
_LAYER = "objects"


@dataclass(frozen=True, eq=False)
class Joined:
    """Objects of a whole image, kept in blocks. ``count`` of them, ids 1..count by first pixel in raster order."""

    count: int
    grid: Grid
    _cache: Cache
    _final: Labels

    def read(self, start: Place, stop: Place) -> Labels:
        """Ids in a window, int32 (*spatial)."""
        return self.grid.assemble(start, stop, self._part, np.int32)

    def _part(self, index: Index, part: tuple[slice, ...]) -> Labels:
        return np.asarray(self._final[self._cache.get(key_of(_LAYER, index), "labels")[part]])


@dataclass(frozen=True, eq=False)
class _Walk:
    """How all blocks are visited."""

    grid: Grid
    cache: Cache
    threads: int
    told: Callable[[], None] | None

    def each(self, work: Callable[[Index], None]) -> None:
        for_each(self.grid, work, threads=self.threads, told=self.told)

    def find(self, layer: str, mask: Read, *, full: bool = False) -> Pieces:
        return find_pieces(layer, mask, self.grid, self.cache, full=full, threads=self.threads, told=self.told)


def join_instances(
    marks: Read,
    grid: Grid,
    settings: InstanceSettings,
    store: Store,
    *,
    cache_bytes: int = 64 << 20,
    threads: int = 1,
    told: Callable[[], None] | None = None,
) -> Joined:
    """Objects from ``marks(start, stop)``, uint8 windows of `instances.mark` inside ``grid.shape``.

    Equal to `instances.instances_from_marks` of the whole array, ids included, for every size of block.
    Blocks of a pass are done by ``threads`` side by side. ``told`` is called after every block of every
    pass; `passes` says how many these are.
    """
    cache = Cache(store, cache_bytes)
    walk = _Walk(grid, cache, threads, told)
    base, count = _unnumbered(marks, settings, walk)
    steps = settings.give_back_px

    def finish(index: Index) -> None:
        key = key_of(_LAYER, index)
        if not (store.has(key) and store.has(f"{key}.first")):
            start, stop = grid.bounds(index)
            outer = grid.widened(start, stop, 3 * steps)
            labels = give_back(base(*outer), steps)[window(outer[0], start, stop)]
            ids, dense = fastremap.unique(labels, return_inverse=True)
            first = first_pixels(dense.reshape(labels.shape), len(ids) - 1, start, grid.shape)
            store.put(f"{key}.first", {"ids": ids, "first": first})
            store.put(key, {"labels": np.ascontiguousarray(labels)})

    walk.each(finish)
    firsts = np.full(count + 1, _NEVER, np.int64)
    for index in grid:
        table = store.get(f"{key_of(_LAYER, index)}.first")
        np.minimum.at(firsts, table["ids"], table["first"])
    return Joined(count, grid, cache, _by_first_pixel(firsts))


def passes(settings: InstanceSettings) -> int:
    """How often every block is visited."""
    return 2 + (settings.fill_holes_px > 0) + 3 * (settings.split is not None)


def _by_first_pixel(firsts: Int64) -> Labels:
    """Final id by preliminary id, 0 for those without a pixel; index 0 stays 0."""
    final = np.zeros(len(firsts), np.int32)
    order = 1 + np.argsort(firsts[1:], kind="stable")
    order = order[firsts[order] < _NEVER]
    final[order] = np.arange(1, len(order) + 1)
    return final


def numbers_by_first_pixel(read: Read, grid: Grid, count: int) -> Labels:
    """New ids of the ids 0..``count``, 1..n by first pixel in ``read(start, stop)``; 0 for those without a pixel."""
    firsts = np.full(count + 1, _NEVER, np.int64)
    for index in grid:
        start, stop = grid.bounds(index)
        labels = read(start, stop)
        ids, dense = fastremap.unique(labels, return_inverse=True)
        first = first_pixels(dense.reshape(labels.shape), len(ids) - 1, start, grid.shape)
        np.minimum.at(firsts, ids, first)
    return _by_first_pixel(firsts)


def _unnumbered(marks: Read, settings: InstanceSettings, walk: _Walk) -> tuple[Callable[[Place, Place], Labels], int]:
    """Objects before the line is given back, with preliminary ids as in memory, and how many."""

    def cells(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
        return np.asarray((marks(start, stop) & CELL) > 0)

    filled = cells
    if settings.fill_holes_px > 0:
        every = walk.find("holes", lambda a, e: ~cells(a, e), full=True)
        holes = every.keep((every.size <= settings.fill_holes_px) & ~every.at_edge)

        def filled(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
            return np.asarray(cells(start, stop) | (holes.read(start, stop) > 0))

    pieces = walk.find("pieces", filled)
    pieces = pieces.keep(pieces.size >= settings.smallest_px)
    if settings.split is None:
        return pieces.read, pieces.count
    return _split(pieces, marks, settings.split, settings.smallest_px, walk)


def _split(
    pieces: Pieces, marks: Read, split: SplitSettings, smallest_px: int, walk: _Walk
) -> tuple[Callable[[Place, Place], Labels], int]:
    """`instances.split_touching`, block by block."""
    grid, cache = walk.grid, walk.cache

    def inner(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
        outer = grid.widened(start, stop, depth_reach(split))
        found = inner_pixels(pieces.read(*outer) > 0, marks(*outer), split)
        return np.asarray(found[window(outer[0], start, stop)])

    seeds = walk.find("seeds", inner)
    seeds = seeds.keep(seeds.size >= split.smallest_seed_px)

    def grow_seeds(index: Index) -> None:
        key = key_of("grown", index)
        if not cache.store.has(key):
            start, stop = grid.bounds(index)
            outer = grid.widened(start, stop, split.reach_px)
            grown = grow(seeds.read(*outer), pieces.read(*outer) > 0, split.reach_px)
            cache.store.put(key, {"labels": np.ascontiguousarray(grown[window(outer[0], start, stop)])})

    walk.each(grow_seeds)

    def read_grown(start: Place, stop: Place) -> Labels:
        return grid.assemble(
            start, stop, lambda index, part: cache.get(key_of("grown", index), "labels")[part], np.int32
        )

    def left(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
        return np.asarray((pieces.read(start, stop) > 0) & (read_grown(start, stop) == 0))

    rest = walk.find("rest", left)
    rest = rest.keep(rest.size >= smallest_px, before=seeds.count)

    def read(start: Place, stop: Place) -> Labels:
        return np.asarray(np.maximum(rest.read(start, stop), read_grown(start, stop)))  # they have no pixel in common

    return read, seeds.count + rest.count
