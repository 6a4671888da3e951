"""Simple points of digital topology: pixels whose flip joins, parts, makes or removes nothing.

Foreground is connected by faces (4 neighbours in 2D, 6 in 3D), background by everything that touches (8,
26). A pixel is simple when both its topological numbers are 1 (Bertrand and Malandain 1994, doi
10.1016/0167-8655(94)90046-9): there is exactly one piece of foreground in its neighbourhood that touches
it by a face, and exactly one piece of background that touches it. Its own value does not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

Offset = tuple[int, ...]


def neighbour_offsets(ndim: int) -> tuple[Offset, ...]:
    """The 3^ndim - 1 neighbours of a pixel, in raster order; bit k of a pattern belongs to the k-th."""
    return tuple(offset for offset in itertools.product((-1, 0, 1), repeat=ndim) if any(offset))


class SimplePoints(dict[int, bool]):
    """Whether a pixel is simple, looked up by the pattern of its foreground neighbours as an integer.

    Filled as patterns are met: 256 at most in 2D, and in 3D as many of the 2^26 as occur.
    """

    def __init__(self, ndim: int) -> None:
        super().__init__()
        offsets = neighbour_offsets(ndim)
        self._all = (1 << len(offsets)) - 1
        # Paths of the foreground may pass through the neighbours with at most two steps (18 in 3D).
        self._near = _bits(_steps(offset) <= 2 for offset in offsets)
        self._faces = _bits(_steps(offset) == 1 for offset in offsets)
        self._by_face = tuple(_bits(_between(at, o)[0] == 1 for o in offsets) for at in offsets)
        self._by_touch = tuple(_bits(_between(at, o)[1] == 1 for o in offsets) for at in offsets)

    def __missing__(self, pattern: int) -> bool:
        foreground = _pieces(pattern & self._near, self._by_face, self._faces)
        background = _pieces(~pattern & self._all, self._by_touch, self._all)
        self[pattern] = simple = foreground == 1 and background == 1
        return simple


def _bits(flags: Iterable[bool]) -> int:
    return sum(flag << bit for bit, flag in enumerate(flags))


def _steps(offset: Offset) -> int:
    return sum(abs(step) for step in offset)


def _between(one: Offset, other: Offset) -> tuple[int, int]:
    """City-block and chessboard distance of two offsets."""
    apart = [abs(a - b) for a, b in zip(one, other, strict=True)]
    return sum(apart), max(apart)


def _pieces(members: int, adjacent: tuple[int, ...], seeds: int) -> int:
    """Number of connected pieces of a set of neighbours (as bits) that contain one of the seeds."""
    count = 0
    while start := members & seeds:
        piece = grown = start & -start
        while grown:
            bit = grown.bit_length() - 1
            grown &= ~(1 << bit)
            new = adjacent[bit] & members & ~piece
            piece |= new
            grown |= new
        members &= ~piece
        count += 1
    return count
