"""Outlines of labelled objects along the edges of their pixels.

`datasets.outlines.fill` gives back exactly the pixels that were traced, with holes, touching objects and
diagonal contacts. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from biounet.labels.components import components

_CORNERS_AT_ONCE = 1 << 20

Labels = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]
Points = npt.NDArray[np.int32]


class Traced(NamedTuple):
    """One object: its ``id`` and its face-connected ``pieces``.

    Each piece is a list of rings, the outer one first and then its holes. A ring is int32 (n, 2), the
    corners (y, x) where it turns, in pixels from the outer corner of the first pixel, not closed. With
    y pointing down outer rings run clockwise and holes counterclockwise; no ring touches itself.
    """

    id: int
    pieces: list[list[Points]]


class _Corners(NamedTuple):
    """Where outlines turn: vertex as y * (width + 1) + x, the piece that is walked round and the object that it is
    of, directions in and out."""

    vertex: Indices
    piece: Labels
    owner: Labels
    come: npt.NDArray[np.int8]
    leave: npt.NDArray[np.int8]


# directions: 0 right, 1 down, 2 left, 3 up; each with the four pixels round its end seen in that direction:
# right behind (the object), left behind, left ahead, right ahead, as indices into (top left, top right,
# bottom left, bottom right)
_SEEN = ((2, 0, 1, 3), (0, 1, 3, 2), (1, 3, 2, 0), (3, 2, 0, 1))


def trace(labels: Labels) -> Iterator[Traced]:
    """Every object of a label image (Y, X) int32, values above 0, by id; its pieces in raster order."""
    corners = _corners(components(labels), labels)
    if not len(corners.vertex):
        return
    owners = corners.owner
    order = np.lexsort((corners.vertex, corners.piece, owners))
    where = np.empty_like(order)
    where[order] = np.arange(len(order))
    following = where[_next(corners, labels.shape)][order]
    owners, in_order = owners[order], corners.piece[order]
    points = np.stack(np.divmod(corners.vertex[order], labels.shape[1] + 1), axis=1).astype(np.int32)
    for start, stop in _chunks(owners):
        part = slice(start, stop)
        yield from _rings(owners[part], in_order[part], following[part] - start, points[part])


def _corners(pieces: Labels, labels: Labels) -> _Corners:
    """All corners, in raster order for each direction of arrival.

    Where two pixels of one piece meet at their corners only, the outline goes on along the other pixel: so
    rings of a face-connected piece never touch themselves, and holes that meet at a corner stay apart.
    """
    padded = np.pad(pieces, 1)
    around = (padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:])
    mixed = (around[0] != around[1]) | (around[0] != around[2]) | (around[0] != around[3])
    vertex = np.flatnonzero(mixed)
    seen = [pixels[mixed] for pixels in around]
    del padded, around, mixed  # large, and what follows takes as much again
    parts = []
    for come, sides in enumerate(_SEEN):
        own, left_behind, left_ahead, right_ahead = (seen[side] for side in sides)
        edge = (own > 0) & (own != left_behind)
        left = edge & (left_ahead == own)
        right = edge & (left_ahead != own) & (right_ahead != own)
        at = np.flatnonzero(left | right)
        leave = np.where(left[at], (come + 3) % 4, (come + 1) % 4).astype(np.int8)
        y, x = np.divmod(vertex[at], labels.shape[1] + 1)
        owner = labels[y - (sides[0] < 2), x - (sides[0] % 2 == 0)]  # the pixel seen right behind lies in the image
        parts.append(_Corners(vertex[at], own[at], owner, np.full(len(at), come, np.int8), leave))
    return _Corners(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _next(corners: _Corners, shape: tuple[int, ...]) -> Indices:
    """The corner that follows each: straight edges of one direction on one line never overlap, so the order of
    their starts on it is that of their ends."""
    y, x = np.divmod(corners.vertex, shape[1] + 1)
    following = np.empty(len(corners.vertex), np.int64)
    for direction in range(4):
        along = corners.vertex if direction % 2 == 0 else x * (shape[0] + 1) + y
        starts, ends = np.flatnonzero(corners.leave == direction), np.flatnonzero(corners.come == direction)
        following[starts[np.argsort(along[starts], kind="stable")]] = ends[np.argsort(along[ends], kind="stable")]
    return following


def _chunks(owners: Labels) -> Iterator[tuple[int, int]]:
    """Stretches of about a million corners that cut no object in two."""
    start = 0
    while start < len(owners):
        stop = min(start + _CORNERS_AT_ONCE, len(owners))
        stop = int(np.searchsorted(owners, owners[stop - 1], side="right"))
        yield start, stop
        start = stop


def _rings(owners: Labels, pieces: Labels, following: Indices, points: Points) -> Iterator[Traced]:
    """Walk all rings; the first corner of a piece, its topmost leftmost, lies on its outer ring."""
    step = following.tolist()
    walked = bytearray(len(step))
    order: list[int] = []
    ends: list[int] = []
    starts: list[int] = []
    for start in range(len(step)):
        if walked[start]:
            continue
        at = start
        while not walked[at]:
            walked[at] = 1
            order.append(at)
            at = step[at]
        starts.append(start)
        ends.append(len(order))
    rings = np.split(points[np.array(order)], ends[:-1])
    owner, piece = owners[starts].tolist(), pieces[starts].tolist()
    found: list[Any] = []
    for index, ring in enumerate(rings):
        if index and owner[index] != owner[index - 1]:
            yield Traced(owner[index - 1], found)
            found = []
        if index and piece[index] == piece[index - 1] and found:
            found[-1].append(ring)
        else:
            found.append([ring])
    yield Traced(owner[-1], found)
