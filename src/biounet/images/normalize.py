"""Intensities on a common scale, with statistics of the whole image or the data set, never of a tile.

A normalisation is ``(image - offset) / scale`` per channel. Measuring is apart from applying, so that
blocks of an image larger than memory come out as they would inside the whole image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.images.sampling import all_windows, is_large, row_windows, sample_windows

KINDS = ("image", "percentile", "dataset")
PERCENTILES = (1.0, 99.8)
_CHUNK = 1 << 20  # values in float64 at a time
_TOGETHER = 1 << 27  # bytes of channels that are read together: one of 2^25 pixels in float32
_LARGEST = 1e6  # far beyond any real intensity; keeps float32 networks finite
_COUNTED = (np.dtype(np.uint8), np.dtype(np.uint16))  # summed through a histogram, in whole numbers
_BEYOND = np.float64(1e100)  # squares of larger values may leave float64

Array = npt.NDArray[Any]
Read = Callable[[tuple[int, ...], tuple[int, ...]], Array]


@dataclass(frozen=True)
class Scale:
    """``(image - offset) / scale`` per channel; a scale of 0 marks a constant channel, which becomes 0."""

    offset: tuple[float, ...]
    scale: tuple[float, ...]

    def apply(self, image: Array) -> npt.NDArray[np.float32]:
        """Normalise an image or any block of it, (C, *spatial) of any real dtype, to finite float32.

        Computed in float64 value by value, so a block equals the same part of the whole. Results are
        clipped to +-1e6. Raises `UsageError` where the number of channels differs.
        """
        if image.shape[0] != len(self.offset):
            raise UsageError(
                f"image has {image.shape[0]} channels, the normalisation {len(self.offset)}: give the same channels"
            )
        result = np.zeros(image.shape, np.float32)
        for channel, target, offset, scale in zip(image, result, self.offset, self.scale, strict=True):
            if scale > 0:
                _normalise(channel.reshape(-1), target.reshape(-1), offset, scale)
        return result


@dataclass(frozen=True)
class Normalisation:
    """How intensities are normalised, per channel; as stored in the model file.

    ``kind``: "image" subtracts the mean of the whole image and divides by its standard deviation;
    "percentile" maps its 1 and 99.8 percentiles to 0 and 1; "dataset" uses the stored ``mean`` and
    ``std`` of the training images. Raises `UsageError` for another kind or missing statistics.
    """

    kind: str = "image"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"normalisation kind {self.kind!r} is unknown; choose one of {', '.join(KINDS)}")
        stored = len(self.mean) > 0 if self.kind == "dataset" else len(self.mean) == 0
        if not stored or len(self.mean) != len(self.std):
            raise UsageError(
                f"normalisation {self.kind!r} with {len(self.mean)} means and {len(self.std)} "
                "standard deviations: 'dataset' needs one of each per channel, the others none"
            )
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std, default=0.0) < 0:
            raise UsageError(f"normalisation mean {self.mean} and std {self.std}: all must be finite, no std below 0")

    def measure(self, image: Array) -> Scale:
        """The scale for a whole image (C, *spatial); raises `DataError` for values that are not finite.

        Where the two percentiles coincide although the image is not constant (a few bright spots on
        black), smallest and largest value take their place. Above 2^25 pixels as `measure_regions`.
        """
        return measure_regions(
            self, lambda start, stop: image[(slice(None), *map(slice, start, stop))], image.shape[1:]
        )

    def apply(self, image: Array) -> npt.NDArray[np.float32]:
        """Normalise a whole image, (C, *spatial) of any real dtype, to finite float32 of the same shape.

        A constant channel becomes 0.
        """
        return self.measure(image).apply(image)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"kind": self.kind, "mean": list(self.mean), "std": list(self.std)}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Normalisation:
        """The inverse of `to_dict`; raises `DataError` for unknown, missing or impossible entries."""
        try:
            kind, mean, std = (values[key] for key in ("kind", "mean", "std"))
            if len(values) > 3:
                raise KeyError(*sorted(set(values) - {"kind", "mean", "std"}))
            return Normalisation(str(kind), tuple(map(float, mean)), tuple(map(float, std)))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"normalisation {values!r} is not kind, mean and std ({error}); the file is damaged or too new"
            ) from error


def measure_regions(normalisation: Normalisation, read: Read, shape: Sequence[int]) -> Scale:
    """The scale for an image of which regions are read: ``read(start, stop)`` gives (C, *spatial) of ``shape``.

    Up to 2^25 pixels from all of them, read in windows of rows; where all channels would take much memory, one after
    the other. Above, from the windows of `sampling.sample_windows`, about
    2^24 pixels that depend on the shape alone, so that an image in memory and the same one in a file
    of any chunks have the same scale. Where a sampled channel is constant, smallest and largest value of the
    whole channel become 0 and 1. Raises `DataError` for values in the sample that are not finite.
    """
    if normalisation.kind == "dataset":
        return Scale(normalisation.mean, normalisation.std)
    statistics = _mean_and_std if normalisation.kind == "image" else _low_and_range
    pairs = [statistics(_checked(channel)) for channel in _channels(read, shape)]
    if is_large(shape) and any(scale == 0 for _, scale in pairs):
        extremes = _extremes(read, shape)
        pairs = [pair if pair[1] > 0 else extreme for pair, extreme in zip(pairs, extremes, strict=True)]
    return Scale(tuple(offset for offset, _ in pairs), tuple(scale for _, scale in pairs))


def _channels(read: Read, shape: Sequence[int]) -> Iterator[Array]:
    """Of each channel the pixels that stand for the image: all in raster order, or its sample."""
    windows = sample_windows(shape) if is_large(shape) else list(row_windows(shape))
    first = read(*windows[0])
    if len(windows) == 1:
        yield from first
        return
    pixels = sum(int(np.prod(np.subtract(stop, start))) for start, stop in windows)
    together = max(1, _TOGETHER // (pixels * first.dtype.itemsize))
    for channel in range(0, len(first), together):
        found = np.empty((min(together, len(first) - channel), pixels), first.dtype)
        done = 0
        for part in chain((first,), (read(*window) for window in windows[1:])):
            flat = part[channel : channel + together].reshape(len(found), -1)
            found[:, done : done + flat.shape[1]] = flat
            done += flat.shape[1]
        yield from found


def _extremes(read: Read, shape: Sequence[int]) -> list[tuple[float, float]]:
    """Per channel the smallest value of the whole image and how far the largest is from it."""
    parts = (read(start, stop) for start, stop in all_windows(shape))
    ranges = np.array([[(float(c.min()), float(c.max())) for c in map(_checked, part)] for part in parts])
    low, high = ranges[..., 0].min(axis=0), ranges[..., 1].max(axis=0)
    return list(zip(low.tolist(), (high - low).tolist(), strict=True))


def dataset_normalisation(images: Iterable[Array]) -> Normalisation:
    """The "dataset" normalisation of these images, each (C, *spatial) with the same number of channels.

    ``mean`` and ``std`` are those of all pixels of all images together, merged from per-image sums.
    """
    merged: list[_Moments] = []
    for image in images:
        found = [_moments(_checked(channel)) for channel in image]
        if merged and len(found) != len(merged):
            raise DataError(f"images have {len(merged)} and {len(found)} channels; give images of the same channels")
        merged = [_merge(a, b) for a, b in zip(merged, found, strict=True)] if merged else found
    if not merged:
        raise DataError("no image to take intensity statistics from; give at least one")
    return Normalisation(
        "dataset", tuple(m.mean for m in merged), tuple(float(np.sqrt(m.squares / m.count)) for m in merged)
    )


@dataclass(frozen=True)
class _Moments:
    count: int
    mean: float
    squares: float  # sum of squared distances from the mean


def _checked(channel: Array) -> Array:
    flat = np.ascontiguousarray(channel).reshape(-1)
    if flat.dtype.kind not in "uifb" or flat.size == 0:
        raise DataError(f"image of type {flat.dtype} and {flat.size} pixels; numbers and at least one pixel are needed")
    if flat.dtype.kind == "f" and not all((np.abs(part) < _BEYOND).all() for part in _parts(flat)):
        raise DataError("image holds NaN, infinite or absurdly large values (1e100 and more); replace them before")
    return flat.view(np.uint8) if flat.dtype == bool else flat


def _moments(flat: Array) -> _Moments:
    if flat.min() == flat.max():
        return _Moments(flat.size, float(flat[0]), 0.0)
    if flat.dtype in _COUNTED:
        return _counted_moments(flat)
    total = sum(float(np.sum(part, dtype=np.float64)) for part in _parts(flat))
    mean = total / flat.size
    squares = sum(float(np.sum(np.square(part.astype(np.float64) - mean))) for part in _parts(flat))
    return _Moments(flat.size, mean, squares)


def _counted_moments(flat: Array) -> _Moments:
    """Moments from a histogram in whole numbers: exact whatever the order of the pixels."""
    counts = np.zeros(np.iinfo(flat.dtype).max + 1, np.int64)
    for part in _parts(flat):
        counts += np.bincount(part, minlength=counts.size)
    values = np.flatnonzero(counts).tolist()
    numbers = [int(counts[v]) for v in values]
    count = sum(numbers)
    total = sum(n * v for n, v in zip(numbers, values, strict=True))
    squares = sum(n * v * v for n, v in zip(numbers, values, strict=True))
    return _Moments(count, total / count, (squares * count - total * total) / count)


def _merge(a: _Moments, b: _Moments) -> _Moments:
    """Moments of both together (Chan, Golub and LeVeque 1979)."""
    count = a.count + b.count
    distance = b.mean - a.mean
    squares = a.squares + b.squares + distance * distance * a.count * b.count / count
    return _Moments(count, a.mean + distance * b.count / count, squares)


def _mean_and_std(flat: Array) -> tuple[float, float]:
    moments = _moments(flat)
    std = float(np.sqrt(moments.squares / moments.count))
    return moments.mean, std


def _low_and_range(flat: Array) -> tuple[float, float]:
    if flat.dtype.itemsize < 4 and flat.dtype.kind == "f":
        flat = flat.astype(np.float32)  # numpy interpolates in the image's own precision
    low, high = np.percentile(flat, PERCENTILES).astype(np.float64).tolist()
    if high <= low:
        low, high = float(flat.min()), float(flat.max())
    return low, high - low


def _parts(flat: Array) -> Iterator[Array]:
    return (flat[start : start + _CHUNK] for start in range(0, flat.size, _CHUNK))


def _normalise(flat: Array, target: npt.NDArray[np.float32], offset: float, scale: float) -> None:
    with np.errstate(over="ignore"):  # infinite quotients are clipped
        for start in range(0, flat.size, _CHUNK):
            part = (flat[start : start + _CHUNK].astype(np.float64) - offset) / scale
            target[start : start + _CHUNK] = np.clip(part, -_LARGEST, _LARGEST)
    if flat.dtype.kind == "f" and not np.isfinite(target).all():
        raise DataError("image holds NaN values; replace them before")
