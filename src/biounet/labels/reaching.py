"""Which blocks hold all of the objects that begin in a part of an image, where blocks are had one by one.

Knows nothing of files or networks: functions say which blocks are there and what is a cell in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.labels.blocks import Grid, Index, Place, window
from biounet.labels.components import components

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]
Ids = npt.NDArray[Any]

_KEPT = 4  # labelled blocks in memory


def blocks_wanted(
    grid: Grid,
    cells: Callable[[Index], Mask],
    there: Callable[[Index], bool],
    wanted: Callable[[Place, Place], Mask],
    *,
    margin: int,
    neighbours: int = 0,
) -> set[Index]:
    """Blocks that are not ``there`` and come within ``margin`` pixels, at least 1, of an object that is wanted.

    Wanted are the face-connected pieces of ``cells`` with a pixel in ``wanted(start, stop)`` (bool windows of
    ``grid.shape``), wherever they go on, and those within ``neighbours`` pixels of them. To be asked again
    when these blocks are there, until none is left.
    """
    walk = _Walk(grid, cells, there, margin)
    for index in grid:
        if there(index):
            inside = wanted(*grid.bounds(index))
            if inside.any():
                walk.add(index, walk.labels(index)[inside])
    walk.run()
    if neighbours:
        for index, ids in list(walk.known.items()):
            walk.add_near(index, ids.copy(), neighbours)
        walk.run()
    return walk.missing


class _Walk:
    """From piece to piece across the faces of blocks; ``known``: ids of the pieces wanted, by block."""

    def __init__(self, grid: Grid, cells: Callable[[Index], Mask], there: Callable[[Index], bool], margin: int) -> None:
        self.grid, self.there, self.margin = grid, there, margin
        self.known: dict[Index, Ids] = {}
        self.missing: set[Index] = set()
        self._waiting: deque[tuple[Index, Ids]] = deque()

        @lru_cache(_KEPT)
        def labels(index: Index) -> Labels:
            return components(cells(index))

        self.labels = labels

    def add(self, index: Index, ids: Ids) -> None:
        """Pieces of a block, 0 left out, those that are new to be followed."""
        before = self.known.get(index, np.zeros(0, np.int32))
        new = np.setdiff1d(ids[ids > 0], before)
        if len(new):
            self.known[index] = np.concatenate([before, new])
            self._waiting.append((index, new))

    def run(self) -> None:
        """Follow all pieces to their ends."""
        while self._waiting:
            index, ids = self._waiting.popleft()
            pieces = np.isin(self.labels(index), ids)
            self._ask(index, pieces, self.margin)
            for axis in range(pieces.ndim):
                for step in (-1, 1):
                    beyond = (*index[:axis], index[axis] + step, *index[axis + 1 :])
                    if 0 <= beyond[axis] < self.grid.counts[axis] and self.there(beyond):
                        own = np.asarray(pieces.take(-1 if step > 0 else 0, axis))
                        self.add(beyond, np.asarray(self.labels(beyond).take(0 if step > 0 else -1, axis))[own])

    def add_near(self, index: Index, ids: Ids, by: int) -> None:
        """All pieces within so many pixels of these, in a square around each pixel."""
        start, stop = self.grid.bounds(index)
        outer = self.grid.widened(start, stop, by)
        wide = np.zeros([e - a for a, e in zip(*outer, strict=True)], np.uint8)
        wide[window(outer[0], start, stop)] = np.isin(self.labels(index), ids)
        wide = ndimage.maximum_filter(wide, 2 * by + 1, mode="constant")
        for other in self.grid.touched(*outer):
            first, last = self.grid.bounds(other)
            low, high = tuple(map(max, outer[0], first)), tuple(map(min, outer[1], last))
            near = wide[window(outer[0], low, high)] > 0
            if near.any():
                if self.there(other):
                    self.add(other, self.labels(other)[window(first, low, high)][near])
                else:
                    self.missing.add(other)

    def _ask(self, index: Index, pieces: Mask, margin: int) -> None:
        """Blocks that are not there within ``margin`` pixels of these."""
        start, stop = self.grid.bounds(index)
        for other in self.grid.touched(*self.grid.widened(start, stop, margin)):
            if other in self.missing or self.there(other):
                continue
            low, high = self.grid.widened(*self.grid.bounds(other), margin)
            low, high = tuple(map(max, low, start)), tuple(map(min, high, stop))
            if pieces[window(start, low, high)].any():
                self.missing.add(other)
