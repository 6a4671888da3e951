"""Parts of TIFF files: tiles and strips of pages decoded one by one, pyramids level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from biounet.errors import DataError
from biounet.images.image import Array, Header
from biounet.images.stored import Cache, Chunked, Index, Mapped, Stored, Whole
from biounet.images.tiff import opened_tiff

_BAND = 1 << 20  # bytes of uncompressed rows that are read together
_JPEG = {6, 7, 34892, 33007}  # TIFF compressions whose tiles may share tables


def tiff_levels(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """The first image series and its reduced levels, full resolution first, axes as in the header.

    Levels whose axes differ from the full resolution's in more than Z, Y and X are left out. What
    cannot be taken apart is a `Whole`. Raises `DataError` for a damaged structure.
    """
    with opened_tiff(path) as tif:
        series = tif.series[0]
        levels: list[Stored] = [_stored(path, series, cache) or Whole(header.shape, header.dtype, header.read)]
        for level in series.levels[1:]:
            found = _stored(path, level, cache) if level.axes == series.axes else None
            if found is not None and _is_reduced(header, found.shape, levels[-1].shape):
                levels.append(found)
    return levels


def _is_reduced(header: Header, shape: tuple[int, ...], before: tuple[int, ...]) -> bool:
    fixed = all(size == old or axis in "ZYX" for axis, size, old in zip(header.axes, shape, before, strict=True))
    smaller = all(0 < size <= old for size, old in zip(shape, before, strict=True))
    return fixed and smaller and shape != before


def _stored(path: Path, series: Any, cache: Cache) -> Stored | None:
    """One level as an array of which parts can be read; None where its pages do not show how."""
    if series.transform is not None:
        return None
    keyframe = series.keyframe
    dtype = np.dtype(series.dtype)
    if series.dataoffset is not None:
        return Mapped(path, int(series.dataoffset), tuple(series.shape), dtype.newbyteorder(keyframe.parent.byteorder))
    places = _places(series)
    if places is None or any(page is None for page in series.pages):
        return None
    lead = tuple(series.shape[: places.index(next(at for at in places if at is not None))])
    if prod(lead) != len(series.pages):
        return None
    pages = _rows(path, series, cache) if keyframe.is_final else _segments(path, series, cache)
    return _Paged(tuple(series.shape), pages.dtype, lead, tuple(at for at in places if at is not None), pages)


def _places(series: Any) -> list[int | None] | None:
    """For each axis of a series, where it stands in a page (samples, Z, Y, X, samples); None: pages.

    Returns None where the axes of the series are not pages followed by those of a page.
    """
    sizes = tuple(int(size) for size in series.keyframe.shaped)
    axes, shape = series.axes, series.shape
    found: list[int | None] = [None] * len(shape)
    if "YX" not in axes:
        return None
    y = axes.index("YX")
    found[y], found[y + 1] = 2, 3
    if len(axes) > y + 2:
        if len(axes) > y + 3:
            return None
        found[y + 2] = 4
    for place in (1, 0):
        if sizes[place] > 1:
            y -= 1
            if y < 0:
                return None
            found[y] = place
    used = {place for place in found if place is not None}
    fits = all(place is None or shape[at] == sizes[place] for at, place in enumerate(found))
    return found if fits and all(size == 1 or place in used for place, size in enumerate(sizes)) else None


@dataclass(frozen=True, eq=False)
class _Paged:
    """Pages (page, samples, Z, Y, X, samples) seen as an array with axes before those of a page."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    lead: tuple[int, ...]  # sizes of the axes that count pages
    places: tuple[int, ...]  # of the other axes within a page
    pages: Chunked

    @property
    def chunk(self) -> tuple[int, ...]:
        return (1,) * len(self.lead) + tuple(self.pages.chunk[1 + place] for place in self.places)

    def read(self, index: Index) -> Array:
        inner = [slice(0, 1)] * 5
        for place, part in zip(self.places, index[len(self.lead) :], strict=True):
            inner[place] = part
        size = [part.stop - part.start for part in index]
        result = np.empty(size, self.dtype)
        for at in np.ndindex(*size[: len(self.lead)]):
            where = [part.start + step for part, step in zip(index, at, strict=False)]
            page = int(np.ravel_multi_index(where, self.lead)) if where else 0
            block = self.pages.read((slice(page, page + 1), *inner))
            result[at] = block.reshape(size[len(self.lead) :])
        return result


def _rows(path: Path, series: Any, cache: Cache) -> Chunked:
    """Pages whose values lie one after the other: bands of rows."""
    keyframe = series.keyframe
    sizes = tuple(int(size) for size in keyframe.shaped)
    dtype = np.dtype(keyframe.dtype).newbyteorder(keyframe.parent.byteorder)
    offsets = [int(page.dataoffsets[0]) for page in series.pages]
    rows = min(max(_BAND // (sizes[3] * sizes[4] * dtype.itemsize), 1), sizes[2])
    shape, chunk = (len(offsets), *sizes), (1, 1, 1, rows, sizes[3], sizes[4])

    def decode(position: tuple[int, ...]) -> Array:
        page = Mapped(path, offsets[position[0]], sizes, dtype)
        return page.read(_extent(position, chunk, shape)[1:])[None]

    return Chunked(shape, dtype, chunk, decode, cache)


def _segments(path: Path, series: Any, cache: Cache) -> Chunked:
    """Pages of tiles or strips, each decoded by tifffile; absent ones hold the file's value for no data."""
    keyframe = series.keyframe
    sizes = tuple(int(size) for size in keyframe.shaped)
    tile = _tile_of(keyframe)
    grid = tuple(ceil(size / step) for size, step in zip(sizes[:4], (1, *tile), strict=True))
    shape, chunk = (len(series.pages), *sizes), (1, 1, *tile, sizes[4])
    segments = [(page.dataoffsets, page.databytecounts) for page in series.pages]
    options = [_decoding(keyframe, page) for page in series.pages]
    unpack, nodata, dtype = keyframe.decode, keyframe.nodata, np.dtype(keyframe.dtype)

    def decode(position: tuple[int, ...]) -> Array:
        extent = _extent(position, chunk, shape)
        size = tuple(part.stop - part.start for part in extent)
        number = int(np.ravel_multi_index(position[1:5], grid))
        offsets, counts = segments[position[0]]
        data = _bytes(path, offsets, counts, number)
        if data is None:
            return np.full(size, nodata, dtype)
        pixels = unpack(data, number, **options[position[0]])[0]
        cut = pixels[: size[2], : size[3], : size[4], : size[5]]
        return np.asarray(cut).reshape(size)

    return Chunked(shape, dtype, chunk, decode, cache)


def _tile_of(keyframe: Any) -> tuple[int, int, int]:
    """(Z, Y, X) of what a page is stored in."""
    if keyframe.is_tiled:
        return int(keyframe.tiledepth), int(keyframe.tilelength), int(keyframe.tilewidth)
    return 1, int(min(keyframe.rowsperstrip, keyframe.imagelength)), int(keyframe.imagewidth)


def _decoding(keyframe: Any, page: Any) -> dict[str, Any]:
    if int(keyframe.compression) not in _JPEG:
        return {}
    return {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}


def _bytes(path: Path, offsets: Sequence[int], counts: Sequence[int], number: int) -> bytes | None:
    """The stored bytes of a tile or strip; None where the file has none for it."""
    if number >= len(counts) or number >= len(offsets):
        raise DataError(f"{path}: tile {number} is not there; the TIFF is damaged: copy or export it again")
    if counts[number] == 0 or offsets[number] == 0:
        return None
    with open(path, "rb") as file:
        file.seek(offsets[number])
        data = file.read(counts[number])
    if len(data) < counts[number]:
        raise DataError(f"{path}: the TIFF is truncated in tile {number}; copy or export it again")
    return data


def _extent(position: tuple[int, ...], chunk: tuple[int, ...], shape: tuple[int, ...]) -> Index:
    return tuple(
        slice(at * step, min((at + 1) * step, size)) for at, step, size in zip(position, chunk, shape, strict=True)
    )
