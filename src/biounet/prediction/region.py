"""The part of an image that is to be predicted: a mask, outlines drawn in QuPath, or where there is tissue.

Labels inside are those of the whole image: tiles that do not come near the region are left out, but none on
which an object in it depends (`labels.reaching`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.geojson import geojson_outlines
from biounet.datasets.outlines import IGNORE, Outline, fill
from biounet.datasets.outlines import Place as OnPlane
from biounet.errors import DataError, UsageError
from biounet.images.formats import known_suffix, read_header, reading
from biounet.images.image import Header
from biounet.images.regions import Regions, open_regions
from biounet.images.tissue import Tissue, find_tissue
from biounet.labels.blocks import Place

Mask = npt.NDArray[np.bool_]
Read = Callable[[Place, Place], npt.NDArray[Any]]

AUTO = "auto"
_OUTLINES = (".geojson", ".geojson.gz")
_AT_ONCE = 1 << 22  # pixels of a region that are looked at together


@dataclass(frozen=True, eq=False)
class Region:
    """Pixels inside, on a grid of its own that covers images of shape ``full``.

    ``name`` as it was given; ``grid``: its shape per item, ``factors``
    times smaller than ``full``. ``read(item, start, stop)``: bool windows of ``grid``. ``notes``: what is
    to be said of it; ``masks``: of each item, where it was found in the image.
    """

    name: str
    full: tuple[int, ...]
    grid: tuple[int, ...]
    factors: tuple[int, ...]
    read: Callable[[int, Place, Place], Mask]
    notes: tuple[str, ...] = ()
    masks: tuple[Mask, ...] = ()

    def inside(self, item: int, start: Place, stop: Place) -> Mask:
        """Which pixels of a window of the image (``full``) are inside, bool (*window)."""
        places = [
            np.minimum(np.arange(a, e) // k, n - 1)
            for a, e, k, n in zip(start, stop, self.factors, self.grid, strict=True)
        ]
        low = [int(place[0]) for place in places]
        found = self.read(item, low, [int(place[-1]) + 1 for place in places])
        return np.asarray(found[np.ix_(*(place - first for place, first in zip(places, low, strict=True)))])

    def near(self, item: int, shape: Place, start: Place, stop: Place, *, by: int, covered: Place) -> Mask:
        """Which pixels of a window touch the region or come within ``by`` pixels of it, on every axis.

        ``shape``: of the image as the window counts, which may be resampled, and then has ``covered`` pixels.
        """
        ends = zip(range(len(shape)), shape, covered, start, stop, strict=True)
        low, high = zip(*(self._places(*end, by) for end in ends), strict=True)
        first, last = [int(a[0]) for a in low], [int(e[-1]) for e in high]
        sides = [e - a for a, e in zip(start, stop, strict=True)]
        axis = sides.index(max(sides))
        if math.prod(e - a for a, e in zip(first, last, strict=True)) > _AT_ONCE and sides[axis] > 1:
            middle = start[axis] + sides[axis] // 2
            before = self.near(item, shape, start, [*stop[:axis], middle, *stop[axis + 1 :]], by=by, covered=covered)
            behind = self.near(item, shape, [*start[:axis], middle, *start[axis + 1 :]], stop, by=by, covered=covered)
            return np.concatenate([before, behind], axis=axis)
        found = self.read(item, first, last)
        for axis, (a, e, origin) in enumerate(zip(low, high, first, strict=True)):
            counts = np.cumsum(found, axis=axis, dtype=np.int32)
            counts = np.concatenate([np.zeros_like(counts.take([0], axis)), counts], axis=axis)
            found = counts.take(e - origin, axis) > counts.take(a - origin, axis)
        return found

    def _places(self, axis: int, size: int, covered: int, start: int, stop: int, by: int) -> tuple[Any, Any]:
        """Of each pixel start..stop of an axis of ``size``: first and last place of the grid within ``by`` pixels.

        The last pixel stands for all beyond what is covered, too.
        """
        full, factor, own = self.full[axis], self.factors[axis], self.grid[axis]
        at = np.arange(start, stop)
        low = np.clip(at - by, 0, None) * covered // size // factor
        high = np.where(at + 1 + by < size, -(-(at + 1 + by) * covered // size), full)
        return np.minimum(low, own - 1), np.clip(-(-high // factor), 1, own)


def open_region(given: str | None, regions: Regions, ndim: int) -> Region | None:
    """The region of an open image that ``given`` names: ``auto``, a file of QuPath's GeoJSON, or a mask image.

    A mask has the size of the image or a whole fraction of it; what is not 0 is inside. Its items belong to
    those of the image, or its only one to all. Outlines of class ``Ignore*`` are cut out. Raises `DataError`
    where file and image do not fit, and `UsageError` for other files.
    """
    if given is None:
        return None
    full = regions.spatial_shape(ndim)
    if given == AUTO:
        return _of_tissue(regions, full, ndim)
    path = Path(given)
    if not path.exists():
        raise UsageError(f"--region {given}: there is no such file; name a mask image or a .geojson, or write auto")
    if path.name.lower().endswith(_OUTLINES):
        return _of_outlines(path, regions, full, ndim)
    if not known_suffix(path):
        raise UsageError(f"--region {given}: of no kind known here; name a mask image or a .geojson, or write auto")
    return _of_mask(path, regions, full, ndim)


def _of_tissue(regions: Regions, full: tuple[int, ...], ndim: int) -> Region:
    found = _tissue(regions, ndim)
    share = float(np.mean([one.mask.mean() for one in found]))
    how = ", ".join(dict.fromkeys(one.how for one in found))
    note = f"region: tissue by {how}, {100 * share:.0f} % of the image"

    def read(item: int, start: Place, stop: Place) -> Mask:
        return found[item].mask[tuple(map(slice, start, stop))]

    masks = tuple(one.mask for one in found)
    return Region(AUTO, full, masks[0].shape, found[0].factors, read, (note,), masks)


def _tissue(regions: Regions, ndim: int) -> list[Tissue]:
    """Found once in a process, however many parts of the image it computes."""
    path = regions.source
    return _cached_tissue(path.resolve(), path.stat().st_mtime_ns, ndim)


@lru_cache(2)
def _cached_tissue(path: Path, changed: int, ndim: int) -> list[Tissue]:
    with open_regions(path) as regions:
        return [find_tissue(regions, item, ndim=ndim) for item in range(regions.item_count(ndim))]


def _of_mask(path: Path, regions: Regions, full: tuple[int, ...], ndim: int) -> Region:
    mask = open_regions(path)
    grid, items = mask.spatial_shape(ndim), mask.item_count(ndim)
    factors = tuple(max(1, round(n / m)) for n, m in zip(full, grid, strict=True))
    fits = [m in (n // k, -(-n // k)) for n, m, k in zip(full, grid, factors, strict=True)]
    if not all(fits) or items not in (1, regions.item_count(ndim)):
        sizes = ["x".join(map(str, size)) for size in ((items, *grid), (regions.item_count(ndim), *full))]
        raise DataError(
            f"{path}: a mask of {sizes[0]} for an image of {sizes[1]} (images, pixels); it must have the size of "
            f"{regions.source.name} or a whole fraction of it"
        )

    def read(item: int, start: Place, stop: Place) -> Mask:
        found = mask.read(item if items > 1 else 0, tuple(start), tuple(stop), ndim=ndim)
        return np.asarray((found != 0).any(axis=0))

    return Region(str(path), full, grid, factors, read)


def _of_outlines(path: Path, regions: Regions, full: tuple[int, ...], ndim: int) -> Region:
    header = read_header(regions.source, fits=False)
    with reading(path):
        drawn = [outline for outline in geojson_outlines(path) if outline.rings]
    several = regions.item_count(ndim) > 1
    if {one.place for one in drawn} == {OnPlane(z=0, t=0)}:  # on no other plane than the first: meant for all
        drawn = [replace(one, place=OnPlane()) for one in drawn]

    def read(item: int, start: Place, stop: Place) -> Mask:
        shape = [e - a for a, e in zip(start, stop, strict=True)]
        result = np.zeros(shape, bool)
        planes = result.reshape(-1, *shape[-2:])
        for number, plane in enumerate(planes):
            z = start[0] + number if ndim == 3 else None
            here = [one for one in drawn if _lies_on(one, header, item if several else None, z)]
            _draw(here, plane, start[-2:])
        return result

    return Region(str(path), full, full, (1,) * ndim, read)


def _lies_on(outline: Outline, header: Header, item: int | None, z: int | None) -> bool:
    """Whether an outline belongs to a plane; ``item`` None: the only one, ``z`` None: of a 2D model."""
    if z is not None:
        return outline.place.z in (None, z) and (item is None or outline.place.t in (None, item))
    return item is None or outline.place.is_on(header, item)


def _draw(outlines: list[Outline], plane: Mask, origin: Place) -> None:
    """Set the pixels (Y, X) of a window that begins at ``origin``; what is to be ignored is cut out of the rest."""
    for outline in sorted(outlines, key=lambda one: one.kind == IGNORE):
        points = np.concatenate(outline.rings) - np.asarray(origin)
        if (points.max(axis=0) < 0).any() or (points.min(axis=0) > plane.shape).any():
            continue
        box, inside = fill([ring - np.asarray(origin) for ring in outline.rings], plane.shape)
        plane[box] = plane[box] & ~inside if outline.kind == IGNORE else plane[box] | inside
