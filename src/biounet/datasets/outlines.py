"""Objects drawn as outlines, and the one rule by which they become pixels.

Points are (y, x) in pixels with the origin at the outer corner of the first pixel: pixel (i, j) covers
i <= y < i + 1, j <= x < j + 1, and its centre lies at (i + 0.5, j + 0.5). So do ImageJ and QuPath count.
Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError
from biounet.images.image import Header

REGION, IGNORE, BACKGROUND = "region", "ignore", "background"
FARTHEST = 1e8  # pixels; beyond this no outline can be meant
_MOST_CROSSINGS = 1 << 24  # of edges and rows of pixels, which bounds memory

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Place:
    """Where in a stack something is drawn: ``z`` and ``t`` from 0, or the page of the whole ``stack`` from 0,
    channels counted. None means every one."""

    z: int | None = None
    t: int | None = None
    stack: int | None = None

    def planes(self, header: Header) -> range | None:
        """Which of the 2D `planes` of an image it is on, from 0; None: on every one."""
        if self.stack is not None:
            samples = header.axes.endswith("C")  # RGB counts as one page of a stack
            page = self.stack // (1 if samples else header.size("C"))
            return range(page, page + 1)
        if self.z is None and self.t is None:
            return None
        depth, z, t = header.size("Z"), self.z or 0, self.t or 0
        count = header.plane_count(2)
        if depth == 1:  # pages and times are counted as z by some programs
            return range(z + t, z + t + 1)
        if z >= depth:  # beyond the last one
            return range(count, count + 1)
        if self.t is None:
            return range(z, count, depth)
        return range(t * depth, (t + 1) * depth) if self.z is None else range(t * depth + z, t * depth + z + 1)

    def is_on(self, header: Header, plane: int) -> bool:
        """Whether it is on one of the 2D `planes` of an image."""
        planes = self.planes(header)
        return planes is None or plane in planes


@dataclass(frozen=True, eq=False)
class Outline:
    """One drawn object: its rings, or the mask of it; its class; where in a stack it lies.

    ``rings``: closed polygons, each (n, 2) float64 as (y, x), holes and separate parts in any order;
    ``united``: none of them is a hole, they may overlap. ``mask``: instead of rings, which pixels of the
    ``box`` in the plane it covers (see `masked`). Neither: something drawn that encloses nothing, as a line.
    ``size``: (Y, X) of the plane it was drawn on, None where that is not said. ``kind``: name of its class, "" where
    it has none; "region", "ignore" and "background" say what is known (see `paint`). ``inferred``: what it was taken
    for without being called so, and why.
    """

    rings: tuple[Floats, ...] = ()
    kind: str = ""
    place: Place = Place()
    mask: Mask | None = None
    box: Box = (slice(None), slice(None))
    united: bool = False
    size: tuple[int, int] | None = None
    inferred: str = ""

    @property
    def has_area(self) -> bool:
        """Whether it encloses anything."""
        return bool(self.rings) or self.mask is not None


def masked(mask: Mask, kind: str = "") -> Outline:
    """The object that covers these pixels of a plane (Y, X), of which no more is kept than the box around it."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = tuple(slice(int(at[0]), int(at[-1]) + 1) if len(at) else slice(0, 0) for at in (rows, columns))
    return Outline(kind=kind, mask=mask[box].copy(), box=(box[0], box[1]), size=(mask.shape[0], mask.shape[1]))


@dataclass(frozen=True, eq=False)
class Painted:
    """Outlines as pixels of one plane.

    ``labels``: int32 (Y, X), ids from 1, 0 where nothing is drawn, -1 unknown. ``kinds``: name of the
    class by id, for those that have one. ``complete``: where undrawn is background under any rule, or None.
    ``notes``: what was drawn in vain.
    """

    labels: Labels
    kinds: dict[int, str] = field(default_factory=dict)
    complete: Mask | None = None
    notes: tuple[str, ...] = ()


def fill(rings: Iterable[Floats], shape: Sequence[int]) -> tuple[Box, Mask]:
    """The pixels inside closed polygons: their box in an image (Y, X) of ``shape``, and the mask in it.

    A pixel belongs to the polygons if its centre lies inside by the even-odd rule over all rings together,
    so rings inside rings are holes whatever their direction. A centre exactly on an edge belongs to what
    lies to its right, or, on a horizontal edge, below it: polygons that share an edge share no pixel and
    leave none between them. What lies outside the image is cut off.

    Raises `DataError` for points that are not finite or farther than 1e8 pixels away.
    """
    height, width = (int(n) for n in shape)
    rows, columns = [], []
    for ring in rings:
        if not (np.abs(ring) < FARTHEST).all():
            raise DataError("an outline has points that are no numbers or lie absurdly far away; draw it again")
        row, column = _crossings(ring, height, width)
        rows.append(row)
        columns.append(column)
    row, column = (np.concatenate([*parts, np.zeros(0, np.int64)]) for parts in (rows, columns))
    if not len(row):
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    top, left = int(row.min()), int(column.min())
    size = (int(row.max()) + 1 - top, int(column.max()) - left)
    flat = (row - top) * (size[1] + 1) + (column - left)
    toggles = np.bincount(flat, minlength=size[0] * (size[1] + 1)).reshape(size[0], size[1] + 1)
    inside = np.cumsum(toggles, axis=1)[:, : size[1]] % 2 == 1
    return (slice(top, top + size[0]), slice(left, left + size[1])), inside


def _crossings(ring: Floats, height: int, width: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Per edge and row whose centre line it crosses: the row, and the first column whose centre is not left of it."""
    ends = np.roll(ring, -1, axis=0)
    downward = ring[:, :1] <= ends[:, :1]  # the same numbers whichever way an edge is walked
    upper, lower = np.where(downward, ring, ends), np.where(downward, ends, ring)
    first = np.clip(np.ceil(upper[:, 0] - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(lower[:, 0] - 0.5), 0, height).astype(np.int64)
    counts = np.maximum(stop - first, 0)
    if counts.sum() > _MOST_CROSSINGS:
        raise DataError(f"an outline crosses {counts.sum()} pixel rows with its {len(ring)} points; simplify it")
    edge = np.repeat(np.arange(len(ring)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    (y0, x0), (y1, x1) = upper[edge].T, lower[edge].T
    x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
    return row, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)


def paint(outlines: Iterable[Outline], shape: Sequence[int]) -> Painted:
    """Outlines of one plane as labels (see `Painted`), with ids in their order.

    Where objects overlap, the later one lies on top. Class "region": everything outside all regions is
    unknown, and inside them what is not drawn is background. "ignore": unknown, over everything else.
    "background": background, over objects drawn before.
    """
    labels = np.zeros((int(shape[0]), int(shape[1])), np.int32)
    outlines = list(outlines)
    known: dict[str, Mask] = {}
    kinds: dict[int, str] = {}
    number = lines = 0
    for outline in outlines:
        if not outline.has_area:
            lines += 1
            continue
        box, inside = _pixels(outline, labels.shape)
        if outline.kind in (REGION, IGNORE, BACKGROUND):
            known.setdefault(outline.kind, np.zeros(labels.shape, bool))[box] |= inside
        if outline.kind in (REGION, IGNORE):
            continue
        number += outline.kind != BACKGROUND
        labels[box][inside] = 0 if outline.kind == BACKGROUND else number
        if outline.kind and outline.kind != BACKGROUND:
            kinds[number] = outline.kind
    seen = {int(i) for i in np.unique(labels) if i > 0}
    notes: tuple[str, ...] = (f"{lines} lines, points, texts or boxes have no outline: left out",) if lines else ()
    if hidden := number - len(seen):
        notes += (f"{hidden} of {number} objects have no pixel of their own (too small, outside, or under others)",)
    notes += tuple(dict.fromkeys(outline.inferred for outline in outlines if outline.inferred))
    complete = [known[kind] for kind in (REGION, BACKGROUND) if kind in known]
    if REGION in known:
        labels[~known[REGION]] = -1
    if IGNORE in known:
        labels[known[IGNORE]] = -1
    kinds = {i: kind for i, kind in kinds.items() if i in seen}
    return Painted(labels, kinds, np.logical_or.reduce(complete) if complete else None, notes)


def _pixels(outline: Outline, shape: tuple[int, ...]) -> tuple[Box, Mask]:
    if outline.size is not None and outline.size != shape:
        raise DataError(f"an object drawn on {_size(outline.size)} pixels, the image has {_size(shape)}: must be equal")
    if outline.mask is not None:
        return outline.box, outline.mask
    if len(outline.rings) < 2 or not outline.united:
        return fill(outline.rings, shape)
    whole = np.zeros(shape, bool)
    for ring in outline.rings:
        box, inside = fill([ring], shape)
        whole[box] |= inside
    return (slice(None), slice(None)), whole


def _size(shape: Sequence[Any]) -> str:
    return " x ".join(map(str, shape))


def kind_of(name: str) -> str:
    """The class that a name stands for: without the star of QuPath's ``Region*`` and ``Ignore*``."""
    plain = name.strip().rstrip("*").strip()
    return plain.lower() if plain.lower() in (REGION, IGNORE, BACKGROUND) else plain
