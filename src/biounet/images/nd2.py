"""Nikon ND2 through the package nd2: frame by frame, of uncompressed files only the pixels that are wanted."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biounet.images.axes import known_axes, stated_size
from biounet.images.image import Array, Header
from biounet.images.optional import load_package
from biounet.images.stored import Cache, Index, Stored

_RATIO = 1040  # deflate cannot do better
_IN_FRAME = "CYXS"  # the axes of a frame, after those that count frames


def nd2_header(path: Path) -> Header:
    """An ND2 image: T, Z and channels as the file names them; positions are separate images (axis I).

    Raises `MissingPackageError` without the package.
    """
    frames = _opened(path)
    axes, notes = known_axes(path, frames.axes, frames.shape)
    return Header(
        axes,
        frames.shape,
        frames.dtype,
        path.stat().st_size * (_RATIO if frames.packed else 1),
        lambda: _pixels(path),
        pixel_size_um=_pixel_size(frames, axes),
        notes=notes,
        channel_names=_channel_names(frames, axes),
    )


def nd2_levels(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """The image at its one resolution."""
    return [_opened(path, cache)]


@dataclass(frozen=True, eq=False)
class _Frames:
    """An open file as an array; ``axes`` as the package names them, ``packed``: frames are compressed."""

    file: Any
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    packed: bool
    cache: Cache

    @property
    def lead(self) -> tuple[int, ...]:
        """Sizes of the axes that count frames."""
        return tuple(size for axis, size in zip(self.axes, self.shape, strict=True) if axis not in _IN_FRAME)

    @property
    def chunk(self) -> tuple[int, ...]:
        """A frame where it is compressed, else single values."""
        inner = self.shape[len(self.lead) :]
        return (1,) * len(self.lead) + (inner if self.packed else (1,) * len(inner))

    def read(self, index: Index) -> Array:
        """A copy of the part that the slices select."""
        outer, inner = index[: len(self.lead)], index[len(self.lead) :]
        result = np.empty([part.stop - part.start for part in index], self.dtype)
        for at in np.ndindex(*(part.stop - part.start for part in outer)):
            place = [part.start + step for part, step in zip(outer, at, strict=True)]
            number = int(np.ravel_multi_index(place, self.lead)) if place else 0
            result[at] = self._frame(number)[inner]
        return result

    def _frame(self, number: int) -> Array:
        if not self.packed:
            return self._read(number)
        return self.cache.get((id(self), number), lambda: self._read(number))

    def _read(self, number: int) -> Array:
        frame: Array = self.file.read_frame(number).reshape(self.shape[len(self.lead) :])
        return frame


def _opened(path: Path, cache: Cache | None = None) -> _Frames:
    package = load_package(path, "nd2")
    with ExitStack() as stack:
        file = stack.enter_context(package.ND2File(stack.enter_context(open(path, "rb"))))
        held = file.attributes
        sizes = {axis: int(size) for axis, size in file.sizes.items()}
        counted = {axis: size for axis, size in sizes.items() if axis not in _IN_FRAME}
        inner = {"C": sizes.get("C", 1), "Y": held.heightPx, "X": held.widthPx or 0, "S": sizes.get("S", 1)}
        kept = {axis: int(size) for axis, size in inner.items() if axis in "YX" or size > 1}
        packed = file.is_legacy or held.compressionType is not None
        shape = (*counted.values(), *kept.values())
        frames = _Frames(file, "".join((*counted, *kept)), shape, np.dtype(file.dtype), packed, cache or Cache(0))
        weakref.finalize(frames, stack.pop_all().close)
    return frames


def _pixels(path: Path) -> Array:
    frames = _opened(path)
    return frames.read(tuple(slice(0, size) for size in frames.shape))


def _channels(frames: _Frames) -> list[Any]:
    """What the file says of each channel; nothing where the package cannot tell, which is no reason not to read."""
    try:
        return list(frames.file.metadata.channels)
    except Exception:
        return []


def _pixel_size(frames: _Frames, axes: str) -> tuple[float, ...] | None:
    """um for (Z)YX, as far as the file says that its axes are calibrated; see `stated_size`."""
    channels = _channels(frames)
    if not channels:
        return None
    volume = channels[0].volume
    stated = zip("XYZ", volume.axesCalibration, volume.axesCalibrated, strict=True)
    return stated_size({axis: float(size) for axis, size, known in stated if known}, axes)


def _channel_names(frames: _Frames, axes: str) -> tuple[str, ...]:
    """One a channel; () for one channel or samples of a colour."""
    if "C" not in axes or frames.axes.endswith("S"):
        return ()
    names = tuple(str(channel.channel.name or "") for channel in _channels(frames))
    return names if len(names) == frames.shape[axes.index("C")] and all(names) else ()
