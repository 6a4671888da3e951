"""One image of several files that hold a channel each: its header, its pixels in memory, regions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from biounet.errors import DataError
from biounet.images.formats import image_of, read_header
from biounet.images.image import Array, Header, Image
from biounet.images.regions import Regions, regions_from, stored_levels
from biounet.images.stored import CACHE_BYTES, Cache, Index, Stored


def merged_header(files: Sequence[Path], names: Sequence[str] = ()) -> Header:
    """What the image says whose channels the files hold, in their order; ``names``: of these channels.

    The axes are C and those of the first file, the dtype one that holds all values, the pixel size the first file's.
    Raises `DataError` as `read_header`, and where files differ in axes or shape or one has not exactly one channel.
    """
    return _merged(files, _headers(files), names)


def read_merged(files: Sequence[Path], names: Sequence[str] = ()) -> Image:
    """That image in memory, as `read_image` gives one of a single file; its ``source`` is the first file."""
    return image_of(merged_header(files, names), files[0])


def open_merged(files: Sequence[Path], names: Sequence[str] = (), *, cache_bytes: int = CACHE_BYTES) -> Regions:
    """That image opened as `open_regions` opens one of a single file; ``cache_bytes`` are for all files together.

    It has the levels of a pyramid where all files have the same.
    """
    headers = _headers(files)
    cache = Cache(cache_bytes)
    parts = [stored_levels(file, header, cache) for file, header in zip(files, headers, strict=True)]
    alike = len({tuple(level.shape for level in levels) for levels in parts}) == 1
    place = headers[0].axes.find("C")
    levels: list[Stored] = [_Stacked(level, place) for level in zip(*parts, strict=True)] if alike else []
    levels = levels or [_Stacked(tuple(levels[0] for levels in parts), place)]
    return regions_from(files[0], _merged(files, headers, names), levels)


@dataclass(frozen=True, eq=False)
class _Stacked:
    """Arrays of one shape as one, along a new first axis; ``place``: of their own axis of length 1 that it replaces."""

    parts: tuple[Stored, ...]
    place: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return (len(self.parts), *self._others(self.parts[0].shape))

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """One that holds the values of all."""
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def chunk(self) -> tuple[int, ...]:
        """That of the first, in all channels: regions are read in all of them."""
        return (len(self.parts), *self._others(self.parts[0].chunk))

    def read(self, index: Index) -> Array:
        """The part that the slices select."""
        inner = list(index[1:])
        if self.place >= 0:
            inner.insert(self.place, slice(0, 1))
        found = [part.read(tuple(inner)).astype(self.dtype, copy=False) for part in self.parts[index[0]]]
        return np.stack([one.squeeze(self.place) if self.place >= 0 else one for one in found])

    def _others(self, sizes: Sequence[int]) -> tuple[int, ...]:
        return tuple(size for at, size in enumerate(sizes) if at != self.place)


def _headers(files: Sequence[Path]) -> list[Header]:
    """Those of all files, checked to fit together."""
    headers = [read_header(file, fits=False) for file in files]
    first = headers[0]
    for file, header in zip(files, headers, strict=True):
        if header.size("C") != 1 or header.palette is not None:
            raise DataError(f"{file}: has more than one channel, and is one of the {len(files)} files of one image")
        if (header.axes, header.shape) != (first.axes, first.shape):
            sizes = [f"{'x'.join(map(str, one.shape))} ({one.axes})" for one in (header, first)]
            raise DataError(f"{file}: is {sizes[0]}, but {files[0].name}, a channel of the same image, {sizes[1]}")
    return headers


def _merged(files: Sequence[Path], headers: Sequence[Header], names: Sequence[str]) -> Header:
    first, place = headers[0], headers[0].axes.find("C")
    others = [at for at in range(len(first.axes)) if at != place]
    return replace(
        first,
        axes="C" + "".join(first.axes[at] for at in others),
        shape=(len(files), *(first.shape[at] for at in others)),
        dtype=np.result_type(*(header.dtype for header in headers)),
        capacity=sum(header.capacity for header in headers),
        read=partial(_read, headers, place),
        alpha=False,
        notes=tuple(dict.fromkeys(note for header in headers for note in header.notes)),
        channel_names=tuple(names),
    )


def _read(headers: Sequence[Header], place: int) -> Array:
    found = [header.read() for header in headers]
    return np.stack([one.squeeze(place) if place >= 0 else one for one in found])
