"""Results larger than memory as one TIFF: tiles as they come, with a pyramid, whole or not at all.

Knows nothing of where the pixels come from: a function gives each tile when it is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile

from biounet.errors import UsageError
from biounet.images.writing import (
    LARGEST_UINT16,
    SOFTWARE,
    Array,
    Read,
    checked_ids,
    packed,
    spatial_sizes,
    whole_file,
)

_SMALL = 1024  # pixels a side at which a pyramid ends
_SHOWN = 255.0  # the display range of labels, as in `write_labels`


def label_dtype(largest_id: int) -> np.dtype[Any]:
    """What label images are stored in: uint16 up to 65,535, float32 up to 2^24, uint32 beyond.

    Raises `UsageError` below 0 and above 2^31 - 1.
    """
    if not 0 <= largest_id < 2**31:
        raise UsageError(f"largest id {largest_id}: ids must lie between 0 and 2^31 - 1")
    if largest_id <= LARGEST_UINT16:
        return np.dtype(np.uint16)
    return np.dtype(np.float32 if largest_id <= 2**24 else np.uint32)


def write_large_labels(
    path: str | Path,
    read: Read,
    shape: Sequence[int],
    *,
    largest_id: int,
    pixel_size_um: Sequence[float] | None = None,
    axes: str | None = None,
    tile: int = 512,
    pyramid: bool = True,
) -> None:
    """Write ids as a tiled BigTIFF with OME metadata, reduced levels in it, compressed by zlib.

    ``read(start, stop)`` gives the int32 ids of that region of ``shape``, (Z)YX or what ``axes`` names
    (of TZYX, YX last); it is asked once for each tile, page by page in raster order. The type is
    `label_dtype` of ``largest_id``. ``tile``: side in pixels, a multiple of 16. ``pyramid``: levels
    of every second pixel, down to 1024 a side. Never more than a few rows of tiles are in memory; the
    levels wait compressed in a nameless file beside ``path``. The display range is 0 to 255, as of
    `writing.write_labels_in_parts`, which small images should use: Fiji opens its files without Bio-Formats, in colour.
    Raises `UsageError` for ids outside 0 to ``largest_id``, and `BiounetError` where the disk refuses.
    """
    axes = axes or {2: "YX", 3: "ZYX"}.get(len(shape), "")
    dtype = label_dtype(largest_id)
    ids = checked_ids(Path(path), read, largest_id)
    _Writer(shape, axes, dtype, tile, pyramid, (0.0, _SHOWN)).write(Path(path), ids, pixel_size_um)


def write_large_probabilities(
    path: str | Path,
    read: Read,
    shape: Sequence[int],
    *,
    pixel_size_um: Sequence[float] | None = None,
    axes: str | None = None,
    tile: int = 512,
    pyramid: bool = True,
) -> None:
    """Write class probabilities (C, (T), (Z), Y, X), or what ``axes`` names, as float32; else as `write_large_labels`.

    ``read(start, stop)`` gives regions of that shape, one class at a time. Shown from 0 to 1.
    """
    axes = axes or {3: "CYX", 4: "CZYX", 5: "CTZYX"}.get(len(shape), "")
    _Writer(shape, axes, np.dtype(np.float32), tile, pyramid, (0.0, 1.0)).write(Path(path), read, pixel_size_um)


class _Writer:
    """One TIFF of pages ``shape[-2:]`` and its levels."""

    def __init__(
        self,
        shape: Sequence[int],
        axes: str,
        dtype: np.dtype[Any],
        tile: int,
        pyramid: bool,
        shown: tuple[float, float],
    ) -> None:
        if len(axes) != len(shape) or set(axes) - set("TCZYX") or axes[-2:] != "YX" or min(shape, default=0) < 1:
            raise UsageError(f"axes {axes!r} for shape {tuple(shape)}: one letter of TCZYX each, YX last, none empty")
        if tile < 16 or tile % 16:
            raise UsageError(f"tile {tile}: TIFF tiles have a multiple of 16 pixels a side")
        self.shape, self.axes, self.dtype, self.tile, self.shown = tuple(map(int, shape)), axes, dtype, tile, shown
        self.sizes = [(self.shape[-2], self.shape[-1])]
        while pyramid and max(self.sizes[-1]) > _SMALL:
            self.sizes.append((ceil(self.sizes[-1][0] / 2), ceil(self.sizes[-1][1] / 2)))

    def write(self, path: Path, read: Read, pixel_size_um: Sequence[float] | None) -> None:
        """All levels from one walk over the full resolution."""
        sizes = spatial_sizes(self.axes, pixel_size_um)
        metadata: dict[str, Any] = {"axes": self.axes}
        metadata |= {f"PhysicalSize{axis}": size for axis, size in sizes.items()}
        metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in sizes}
        options: dict[str, Any] = {"dtype": self.dtype, "tile": (self.tile, self.tile), "compression": "zlib"}
        options |= {"predictor": False, "photometric": "minisblack", "maxworkers": 1, "extratags": self._range_tags()}
        with whole_file(path) as temporary, tempfile.TemporaryFile(dir=path.parent) as spool:
            reduced = [_Reduced(size, self.tile, self.dtype, spool) for size in self.sizes[1:]]
            for level, following in pairwise(reduced):
                level.following = following
            with tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as file:
                tiles = self._tiles(read, reduced[0] if reduced else None)
                file.write(
                    tiles, shape=self.shape, subifds=len(reduced), metadata=metadata, software=SOFTWARE, **options
                )
                for level in reduced:
                    shape = (*self.shape[:-2], *level.size)
                    file.write(level.tiles(), shape=shape, subfiletype=1, metadata=None, **options)

    def _tiles(self, read: Read, reduced: _Reduced | None) -> Iterator[bytes]:
        """The compressed tiles of full resolution; each is handed on to the first reduced level."""
        height, width = self.shape[-2:]
        for page in np.ndindex(*self.shape[:-2]):
            for y in range(0, height, self.tile):
                for x in range(0, width, self.tile):
                    stop = (min(y + self.tile, height), min(x + self.tile, width))
                    pixels = read((*page, y, x), (*(at + 1 for at in page), *stop))
                    pixels = pixels.reshape(stop[0] - y, stop[1] - x).astype(self.dtype)
                    if reduced is not None:
                        reduced.take(pixels, y, x)
                    yield _packed(pixels, self.tile)

    def _range_tags(self) -> list[tuple[Any, ...]]:
        """SMinSampleValue and SMaxSampleValue, which viewers take for the range to show."""
        kind, convert = ("f", float) if self.dtype.kind == "f" else (self.dtype.char, int)
        return [(340, kind, 1, convert(self.shown[0]), False), (341, kind, 1, convert(self.shown[1]), False)]


class _Reduced:
    """Every second pixel of the level above, one row of tiles at a time; finished tiles wait in a file."""

    def __init__(self, size: tuple[int, int], tile: int, dtype: np.dtype[Any], spool: IO[bytes]) -> None:
        self.size, self.tile, self.spool = size, tile, spool
        self.row = np.zeros((tile, size[1]), dtype)
        self.places: list[tuple[int, int]] = []  # offset and bytes of each tile
        self.following: _Reduced | None = None

    def take(self, pixels: Array, y: int, x: int) -> None:
        """A tile of the level above that begins at (y, x) there; they come in raster order."""
        part = pixels[::2, ::2]
        top, left = y // 2 % self.tile, x // 2
        self.row[top : top + part.shape[0], left : left + part.shape[1]] = part
        bottom = y // 2 + part.shape[0]
        if left + part.shape[1] == self.size[1] and (bottom % self.tile == 0 or bottom == self.size[0]):
            self._finish(bottom - (top + part.shape[0]), top + part.shape[0])

    def tiles(self) -> Iterator[bytes]:
        """The compressed tiles in raster order."""
        for offset, count in self.places:
            self.spool.seek(offset)
            yield self.spool.read(count)

    def _finish(self, y: int, height: int) -> None:
        for x in range(0, self.size[1], self.tile):
            pixels = self.row[:height, x : x + self.tile]
            data = _packed(pixels, self.tile)
            self.places.append((self.spool.seek(0, 2), self.spool.write(data)))
            if self.following is not None:
                self.following.take(pixels, y, x)


def _packed(pixels: Array, tile: int) -> bytes:
    """A compressed tile, zeros beyond the edge of the image."""
    whole = np.zeros((tile, tile), pixels.dtype)
    whole[: pixels.shape[0], : pixels.shape[1]] = pixels
    return packed(whole)
