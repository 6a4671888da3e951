"""Connected components of an array larger than memory: found block by block, joined by union-find.

Every block is labelled together with the first pixels of the blocks behind it. A pixel that two blocks
have in common has one piece in each, and these are one piece of the whole: for face and for full
connectivity, in 2D and 3D, without any halo. Sizes, first pixels and contact with the array's edge are
summed over the parts, so they are exact at any block size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cc3d
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from biounet.labels.blocks import Array, Cache, Grid, Index, Place, Read, for_each, key_of
from biounet.labels.components import CONNECTIVITY

Int64 = npt.NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max
_ENDS = ".ends"  # tables and faces are kept apart from the pixels, so that joining reads only them


@dataclass(frozen=True, eq=False)
class Pieces:
    """All components of one mask: ``size`` in pixels, ``first`` pixel in raster order, ``at_edge`` of the array.

    ``number``: the id each of them has, 0 for those left out. ``read``: those ids, int32 (*spatial).
    """

    size: Int64
    first: Int64
    at_edge: npt.NDArray[np.bool_]
    number: Int64
    _grid: Grid
    _cache: Cache
    _layer: str
    _component: Int64
    _own: dict[Index, slice]  # where a block's pieces stand in ``_component``

    def keep(self, kept: npt.NDArray[np.bool_], *, before: int = 0) -> Pieces:
        """The same pieces, numbered by first pixel from ``before + 1`` on, only those ``kept``."""
        number = np.zeros(len(self.size), np.int64)
        order = np.argsort(self.first, kind="stable")
        order = order[kept[order]]
        number[order] = np.arange(before + 1, before + 1 + len(order))
        return Pieces(
            self.size, self.first, self.at_edge, number,
            self._grid, self._cache, self._layer, self._component, self._own,
        )  # fmt: skip

    @property
    def count(self) -> int:
        """How many are kept."""
        return int(np.count_nonzero(self.number))

    def read(self, start: Place, stop: Place) -> npt.NDArray[np.int32]:
        """The ids in a window."""
        return self._grid.assemble(start, stop, self._part, np.int32)

    def _part(self, index: Index, part: tuple[slice, ...]) -> Array:
        numbers = self.number[self._component[self._own[index]]]
        table = np.concatenate([[0], numbers]).astype(np.int32)
        return np.asarray(table[self._cache.get(key_of(self._layer, index), "labels")[part]])


def find_pieces(
    layer: str,
    mask: Read,
    grid: Grid,
    cache: Cache,
    *,
    full: bool = False,
    threads: int = 1,
    told: Callable[[], None] | None = None,
) -> Pieces:
    """The components of ``mask(start, stop)``, all kept; blocks that the store has already are not done again.

    By faces, or by corners too (``full``). ``told`` is called after each block; ``threads`` work side by side.
    """

    def label(index: Index) -> None:
        keys = key_of(layer, index), key_of(layer + _ENDS, index)
        if not all(map(cache.store.has, keys)):
            labels, ends = _labelled(mask, grid, index, full)
            cache.store.put(keys[1], ends)
            cache.store.put(keys[0], {"labels": labels})

    for_each(grid, label, threads=threads, told=told)
    return _joined(layer, grid, cache)


def _labelled(mask: Read, grid: Grid, index: Index, full: bool) -> tuple[Array, dict[str, Array]]:
    """One block's pieces: the labels of its pixels; tables by piece and the faces by which blocks are joined."""
    start, stop = grid.bounds(index)
    beyond = tuple(min(n, e + 1) for n, e in zip(grid.shape, stop, strict=True))
    found = np.ascontiguousarray(mask(start, beyond))
    labels, count = cc3d.connected_components(
        found.view(np.uint8), connectivity=CONNECTIVITY[found.ndim][full], out_dtype=np.uint32, return_N=True
    )
    labels = labels.view(np.int32)
    sides = [e - a for a, e in zip(start, stop, strict=True)]
    core = np.ascontiguousarray(labels[tuple(slice(0, n) for n in sides)])
    at_edge = np.zeros(count + 1, bool)
    ends: dict[str, Array] = {}
    for axis, side in enumerate(sides):
        if start[axis] == 0:
            at_edge[core.take(0, axis)] = True
        if stop[axis] == grid.shape[axis]:
            at_edge[core.take(-1, axis)] = True
        ends[f"head{axis}"] = core.take(0, axis)
        if beyond[axis] > stop[axis]:
            ends[f"tail{axis}"] = labels.take(side, axis)
    ends["size"] = np.bincount(core.ravel(), minlength=count + 1)[1:]
    ends["first"] = first_pixels(core, count, start, grid.shape)[1:]
    ends["at_edge"] = at_edge[1:]
    return core, ends


def first_pixels(labels: Array, count: int, start: Place, shape: Place) -> Int64:
    """Where in the whole array each id 0..``count`` of a block has its first pixel; the largest int64 for none."""
    flat = labels.ravel()
    first = np.full(count + 1, _NEVER, np.int64)
    new = np.concatenate([np.arange(min(1, flat.size)), 1 + np.flatnonzero(flat[1:] != flat[:-1])])  # ids come in runs
    first[flat[new[::-1]]] = new[::-1]  # what is assigned last stays
    seen = np.flatnonzero(first < _NEVER)
    within = np.unravel_index(first[seen], labels.shape)
    first[seen] = np.ravel_multi_index([p + a for p, a in zip(within, start, strict=True)], tuple(shape))
    return first


def _joined(layer: str, grid: Grid, cache: Cache) -> Pieces:
    size, first, at_edge, own, total = [], [], [], {}, 0
    for index in grid:
        ends = cache.store.get(key_of(layer + _ENDS, index))
        size.append(ends["size"])
        first.append(ends["first"])
        at_edge.append(ends["at_edge"])
        own[index] = slice(total, total + len(ends["size"]))
        total = own[index].stop
    pairs = [pair for index in grid for pair in _same(layer, grid, index, cache, own)]
    joined = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), np.int64)
    graph = coo_array((np.ones(joined.shape[1], np.int8), (joined[0], joined[1])), shape=(total, total))
    count, component = connected_components(graph, directed=False) if total else (0, np.zeros(0, np.int64))
    component = component.astype(np.int64)
    firsts = np.full(count, _NEVER, np.int64)
    np.minimum.at(firsts, component, np.concatenate([*first, np.zeros(0, np.int64)]))
    sizes = np.bincount(component, weights=np.concatenate([*size, np.zeros(0)]), minlength=count).astype(np.int64)
    edges = np.bincount(component, weights=np.concatenate([*at_edge, np.zeros(0)]), minlength=count) > 0
    pieces = Pieces(sizes, firsts, edges, np.zeros(count, np.int64), grid, cache, layer, component, own)
    return pieces.keep(np.ones(count, bool))


def _same(layer: str, grid: Grid, index: Index, cache: Cache, own: dict[Index, slice]) -> list[Int64]:
    """Pairs of pieces of this block and of those behind it that have a pixel in common, (2, n) each."""
    found = []
    start, stop = grid.bounds(index)
    for axis in range(len(index)):
        if stop[axis] == grid.shape[axis]:
            continue
        tail = cache.get(key_of(layer + _ENDS, index), f"tail{axis}")
        others = [other for other in range(len(index)) if other != axis]
        sides = [stop[other] - start[other] for other in others]
        behind = [range(1 + (length > side)) for length, side in zip(tail.shape, sides, strict=True)]
        for steps in itertools.product(*behind):
            beyond = dict(zip(others, steps, strict=True)) | {axis: 1}
            neighbour = tuple(i + beyond[a] for a, i in enumerate(index))
            ours = tail[tuple(slice(n, n + 1) if step else slice(0, n) for step, n in zip(steps, sides, strict=True))]
            head = cache.get(key_of(layer + _ENDS, neighbour), f"head{axis}")
            theirs = head[tuple(slice(0, n) for n in ours.shape)]
            both = ours > 0
            first, second = (np.int64(own[at].start - 1) for at in (index, neighbour))
            ends = np.stack([ours[both] + first, theirs[both] + second])
            found.append(np.unique(ends, axis=1))
    return found
