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

from biounet.labels.blocks import Cache, Grid, Index, Place, Read, Store, key_of, window
from biounet.labels.instances import (
    CELL,
    InstanceSettings,
    SplitSettings,
    depth_reach,
    give_back,
    grow,
    inner_pixels,
)
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
        return self.grid.assemble(start, stop, self._block, np.int32)

    def _block(self, index: Index) -> Labels:
        return np.asarray(self._final[self._cache.get(key_of(_LAYER, index), "labels")])


def join_instances(
    marks: Read,
    grid: Grid,
    settings: InstanceSettings,
    store: Store,
    *,
    cache_bytes: int = 64 << 20,
    told: Callable[[], None] | None = None,
) -> Joined:
    """Objects from ``marks(start, stop)``, uint8 windows of `instances.mark` inside ``grid.shape``.

    Equal to `instances.instances_from_marks` of the whole array, ids included, for every size of block.
    ``told`` is called after every block of every pass; `passes` says how many these are.
    """
    cache = Cache(store, cache_bytes)
    base, count = _unnumbered(marks, grid, settings, cache, told)
    steps = settings.give_back_px
    firsts = np.full(count + 1, _NEVER, np.int64)
    for index in grid:
        key = key_of(_LAYER, index)
        if not store.has(key):
            start, stop = grid.bounds(index)
            outer = grid.widened(start, stop, 3 * steps)
            labels = give_back(base(*outer), steps)[window(outer[0], start, stop)]
            ids, dense = fastremap.unique(labels, return_inverse=True)
            first = first_pixels(dense.reshape(labels.shape), len(ids) - 1, start, grid.shape)
            store.put(f"{key}.first", {"ids": ids, "first": first})
            store.put(key, {"labels": np.ascontiguousarray(labels)})
        table = store.get(f"{key}.first")
        np.minimum.at(firsts, table["ids"], table["first"])
        if told:
            told()
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


def _unnumbered(
    marks: Read, grid: Grid, settings: InstanceSettings, cache: Cache, told: Callable[[], None] | None
) -> tuple[Callable[[Place, Place], Labels], int]:
    """Objects before the line is given back, with preliminary ids as in memory, and how many."""

    def cells(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
        return np.asarray((marks(start, stop) & CELL) > 0)

    filled = cells
    if settings.fill_holes_px > 0:
        every = find_pieces("holes", lambda a, e: ~cells(a, e), grid, cache, full=True, told=told)
        holes = every.keep((every.size <= settings.fill_holes_px) & ~every.at_edge)

        def filled(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
            return np.asarray(cells(start, stop) | (holes.read(start, stop) > 0))

    pieces = find_pieces("pieces", filled, grid, cache, told=told)
    pieces = pieces.keep(pieces.size >= settings.smallest_px)
    if settings.split is None:
        return pieces.read, pieces.count
    return _split(pieces, marks, grid, settings.split, settings.smallest_px, cache, told)


def _split(
    pieces: Pieces,
    marks: Read,
    grid: Grid,
    split: SplitSettings,
    smallest_px: int,
    cache: Cache,
    told: Callable[[], None] | None,
) -> tuple[Callable[[Place, Place], Labels], int]:
    """`instances.split_touching`, block by block."""

    def inner(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
        outer = grid.widened(start, stop, depth_reach(split))
        found = inner_pixels(pieces.read(*outer) > 0, marks(*outer), split)
        return np.asarray(found[window(outer[0], start, stop)])

    seeds = find_pieces("seeds", inner, grid, cache, told=told)
    seeds = seeds.keep(seeds.size >= split.smallest_seed_px)
    for index in grid:
        key = key_of("grown", index)
        if not cache.store.has(key):
            start, stop = grid.bounds(index)
            outer = grid.widened(start, stop, split.reach_px)
            grown = grow(seeds.read(*outer), pieces.read(*outer) > 0, split.reach_px)
            cache.store.put(key, {"labels": np.ascontiguousarray(grown[window(outer[0], start, stop)])})
        if told:
            told()

    def read_grown(start: Place, stop: Place) -> Labels:
        return grid.assemble(start, stop, lambda index: cache.get(key_of("grown", index), "labels"), np.int32)

    def left(start: Place, stop: Place) -> npt.NDArray[np.bool_]:
        return np.asarray((pieces.read(start, stop) > 0) & (read_grown(start, stop) == 0))

    rest = find_pieces("rest", left, grid, cache, told=told)
    rest = rest.keep(rest.size >= smallest_px, before=seeds.count)

    def read(start: Place, stop: Place) -> Labels:
        return np.asarray(np.maximum(rest.read(start, stop), read_grown(start, stop)))  # they have no pixel in common

    return read, seeds.count + rest.count
