"""An image opened without reading its pixels: regions of it, at full resolution or at a level of its pyramid."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from biounet.errors import UsageError
from biounet.images.arrays import nifti_stored, npy_stored
from biounet.images.czi import czi_levels
from biounet.images.formats import check_fits, known_suffix, native, read_header, reading
from biounet.images.image import AXES, Array, Header, Image, planes, said_of_alpha, separate_axes, spatial_axes
from biounet.images.nd2 import nd2_levels
from biounet.images.ome_zarr import zarr_levels
from biounet.images.sampling import is_large, sample_windows
from biounet.images.slides import slide_levels
from biounet.images.stored import CACHE_BYTES, Cache, Stored, Whole
from biounet.images.tiff_regions import tiff_levels


@dataclass(frozen=True)
class Level:
    """One resolution: ``shape`` and ``factors`` by which it is smaller, for the axes (Z)YX that the image has."""

    shape: tuple[int, ...]
    factors: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Regions:
    """An open image of which regions are read; a context manager.

    ``axes`` and ``shape`` as stored, ``dtype`` in native byte order, other fields as in `Header`.
    ``levels``: full resolution first. ``chunk``: what is decoded together at full resolution, for the
    axes (Z)YX that the image has (1 where single pixels can be had); ``whole``: any reading needs the
    whole image, which is then kept in memory.
    """

    source: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_size_um: tuple[float, ...] | None
    channel_names: tuple[str, ...]
    notes: tuple[str, ...]
    levels: tuple[Level, ...]
    chunk: tuple[int, ...]
    whole: bool
    _header: Header
    _stored: list[Stored]
    _channels: int
    _without_alpha: bool
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def size(self, axis: str) -> int:
        """Number of positions on an axis; 1 where the image has no such axis."""
        return self._header.size(axis)

    def item_count(self, ndim: int) -> int:
        """How many items there are: those of `planes`, in its order."""
        return self._header.plane_count(ndim)

    def channels(self) -> int:
        """Of each item, after the rules of `planes` for palettes and transparency."""
        return self._channels

    def spatial_shape(self, ndim: int, level: int = 0) -> tuple[int, ...]:
        """(Z)YX of each item at a level of the pyramid."""
        return replace(self._header, shape=self._level(level).shape).spatial_shape(ndim)

    def factors(self, ndim: int, level: int = 0) -> tuple[float, ...]:
        """By how much an item of ``ndim`` axes is smaller at this level, per axis."""
        self._level(level)
        return tuple(dict(zip(self._own_axes(), self.levels[level].factors, strict=True)).get(axis, 1.0)
                     for axis in spatial_axes(self.axes, ndim))  # fmt: skip

    def pixel_size(self, ndim: int) -> tuple[float, ...] | None:
        """Pixel size in um of ``ndim`` axes at full resolution, or None when the file does not state all."""
        known = self.pixel_size_um
        return known[-ndim:] if known is not None and len(known) >= ndim else None

    def read(self, item: int, start: Sequence[int], stop: Sequence[int], *, ndim: int, level: int = 0) -> Array:
        """Pixels [start, stop) of an item, (C, *spatial) in the stored dtype and native byte order.

        The same as that part of ``planes(read_image(path), ndim)[item]``; at a level above 0 of the
        reduced image, ``start`` and ``stop`` counting its pixels. Raises `UsageError` for a region
        that does not lie in the image, and `DataError` in one line for pixels that are damaged or gone.
        """
        stored = self._level(level)
        index = self._index(stored, item, tuple(start), tuple(stop), ndim)
        with self._lock, reading(self.source):
            pixels = native(stored.read(index))
        part = Image(pixels, self.axes, None, self.source, palette=self._header.palette)
        (found,) = planes(part, ndim)
        return found[:-1] if self._without_alpha else found

    def read_item(self, item: int, *, ndim: int, level: int = 0) -> Array:
        """A whole item, (C, *spatial)."""
        shape = self.spatial_shape(ndim, level)
        return self.read(item, (0,) * ndim, shape, ndim=ndim, level=level)

    def close(self) -> None:
        """Let go what is held in memory; the image cannot be read any more."""
        self._stored.clear()

    def __enter__(self) -> Regions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _own_axes(self) -> str:
        return "".join(axis for axis in "ZYX" if axis in self.axes)

    def _level(self, level: int) -> Stored:
        if not self._stored:
            raise UsageError(f"{self.source}: is closed; open it again")
        if not 0 <= level < len(self._stored):
            raise UsageError(f"{self.source}: has the levels 0 to {len(self._stored) - 1}, not {level}")
        return self._stored[level]

    def _index(
        self, stored: Stored, item: int, start: tuple[int, ...], stop: tuple[int, ...], ndim: int
    ) -> tuple[slice, ...]:
        """The slices of the stored axes that make this region."""
        spatial, separate = spatial_axes(self.axes, ndim), separate_axes(self.axes, ndim)
        size = replace(self._header, shape=stored.shape).size
        inside = len(start) == len(stop) == ndim and all(
            0 <= low < high <= size(axis) for low, high, axis in zip(start, stop, spatial, strict=True)
        )
        if not inside:
            shape = tuple(size(axis) for axis in spatial)
            raise UsageError(f"{self.source}: region {start} to {stop} does not lie in an image of {shape}")
        if not 0 <= item < self.item_count(ndim):
            raise UsageError(f"{self.source}: has the items 0 to {self.item_count(ndim) - 1}, not {item}")
        parts = {axis: slice(low, high) for axis, low, high in zip(spatial, start, stop, strict=True)}
        full = [self._header.size(axis) for axis in separate]
        for axis, at, count in zip(separate, np.unravel_index(item, full), full, strict=True):
            place = int(at) * size(axis) // count  # a pyramid may have fewer planes in its levels
            parts[axis] = slice(place, place + 1)
        return tuple(parts.get(axis, slice(0, length)) for axis, length in zip(self.axes, stored.shape, strict=True))


def open_regions(path: str | Path, *, cache_bytes: int = CACHE_BYTES) -> Regions:
    """Open an image file of any known format without reading its pixels.

    TIFF tiles and strips, OME-TIFF and slide pyramids, ``.npy``, NIfTI (not ``.nii.gz``), OME-Zarr, CZI, ND2
    and what OpenSlide opens are read in parts; of other files the whole image is read when its first region is wanted
    (``whole``). Up to ``cache_bytes`` of decoded chunks are kept. A transparency channel is dropped
    where it is constant: in all of the image, above 2^25 pixels in a sample of it, which a note says.
    Raises `DataError` as `read_header` does, but not for images larger than memory that are read in parts.
    """
    path = Path(path)
    header = read_header(path, fits=False)
    return regions_from(path, header, stored_levels(path, header, Cache(cache_bytes)))


def stored_levels(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """The pixels of a file where they lie, full resolution first; decoded chunks are kept in ``cache``."""
    kind = KINDS.get(known_suffix(path))
    with reading(path):
        return [Whole(header.shape, header.dtype, header.read)] if kind is None else kind(path, header, cache)


def regions_of(image: Image) -> Regions:
    """The same view of an image that is in memory."""
    header = Header(
        image.axes,
        image.array.shape,
        image.array.dtype,
        image.array.nbytes,
        lambda: image.array,
        pixel_size_um=image.pixel_size_um,
        alpha=image.alpha,
        palette=image.palette,
        notes=image.notes,
        channel_names=image.channel_names,
    )
    stored = Whole(header.shape, header.dtype, header.read)
    return regions_from(image.source, header, [stored])


def regions_from(path: Path, header: Header, stored: list[Stored]) -> Regions:
    """The view of an image whose levels lie in ``stored``, in the axes of its header."""
    base = stored[0]
    whole = all(step >= size for step, size in zip(base.chunk, base.shape, strict=True))
    if whole:
        check_fits(path, header)
    dtype = np.dtype(np.uint8) if base.dtype == bool else base.dtype.newbyteorder("=")
    spatial = [at for letter in "ZYX" for at, axis in enumerate(header.axes) if axis == letter]
    regions = Regions(
        path,
        header.axes,
        base.shape,
        dtype,
        header.pixel_size_um,
        header.channel_names,
        header.notes,
        tuple(_level(base, level, spatial) for level in stored),
        tuple(min(base.chunk[at], base.shape[at]) for at in spatial),
        whole,
        header,
        stored,
        _channel_count(header),
        False,
    )
    if not header.alpha or "C" not in header.axes:
        return regions
    return _judged_alpha(regions)


def _level(base: Stored, level: Stored, spatial: Sequence[int]) -> Level:
    shape = tuple(level.shape[at] for at in spatial)
    return Level(shape, tuple(level_factor(base.shape[at], level.shape[at]) for at in spatial))


def level_factor(size: int, reduced: int) -> float:
    """By how much a level is smaller: whole where its size is the quotient rounded up or down, else the ratio."""
    factor = round(size / reduced)
    return float(factor) if reduced in (size // factor, ceil(size / factor)) else size / reduced


def _channel_count(header: Header) -> int:
    if header.palette is not None:
        return 1 if (header.palette == header.palette[:, :1]).all() else 3
    return header.size("C")


def _judged_alpha(regions: Regions) -> Regions:
    """Without its transparency channel where that says nothing."""
    axes = "".join(axis for axis in AXES if axis in regions.axes and axis != "C")  # as in `drops_alpha`
    shape = tuple(regions._header.size(axis) for axis in axes)
    seen: set[Any] = set()
    for start, stop in sample_windows(shape):
        parts = {axis: slice(low, high) for axis, low, high in zip(axes, start, stop, strict=True)}
        parts["C"] = slice(regions._header.size("C") - 1, regions._header.size("C"))
        with reading(regions.source):
            alpha = regions._stored[0].read(tuple(parts[axis] for axis in regions.axes))
        seen |= {alpha.min().item(), alpha.max().item()}
    constant = len(seen) < 2
    note = said_of_alpha(constant, looked_at="a sample of all pixels" if is_large(shape) else "all pixels")
    return replace(
        regions,
        _channels=regions._channels - constant,
        notes=(*regions.notes, note),
        _without_alpha=constant,
    )


KINDS: dict[str, Callable[[Path, Header, Cache], list[Stored]]] = {
    ".tif": tiff_levels,
    ".tiff": tiff_levels,
    ".npy": npy_stored,
    ".nii": nifti_stored,
    ".nii.gz": nifti_stored,
    ".zarr": zarr_levels,
    ".svs": tiff_levels,
    ".ndpi": tiff_levels,
    ".lsm": tiff_levels,
    ".czi": czi_levels,
    ".nd2": nd2_levels,
    ".mrxs": slide_levels,
    ".scn": slide_levels,
    ".bif": slide_levels,
    ".vms": slide_levels,
    ".svslide": slide_levels,
}
