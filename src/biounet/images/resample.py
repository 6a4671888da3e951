"""An image at another pixel size, window by window: every window is that part of the whole.

One factor for the whole image: pixel ``i`` of the result lies at ``(i + 0.5) * size / new_size - 0.5`` of the
original. Linear interpolation, with the kernel widened when the image shrinks, so that no detail is skipped
(as Pillow's BILINEAR does). Ids take the nearest pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError

Array = npt.NDArray[Any]
Place = Sequence[int]
Read = Callable[[Place, Place], Array]


def resized_shape(shape: Place, factors: Sequence[float]) -> tuple[int, ...]:
    """Shape of an image whose sides grow by ``factors``, at least 1 each."""
    if len(factors) != len(shape) or not all(0 < factor < math.inf for factor in factors):
        raise UsageError(f"factors {tuple(factors)} for shape {tuple(shape)}: one above 0 for each axis")
    return tuple(max(1, round(n * factor)) for n, factor in zip(shape, factors, strict=True))


def resample_window(read: Read, shape: Place, new_shape: Place, start: Place, stop: Place) -> npt.NDArray[np.float32]:
    """The window start..stop of the image resampled to ``new_shape``, float32 (C, *window).

    ``read(start, stop)`` gives (C, *spatial) of the original of ``shape``. Beyond the edge its outermost
    pixels go on.
    """
    taps = [_taps(n, new, a, e) for n, new, a, e in zip(shape, new_shape, start, stop, strict=True)]
    low = [int(places.min()) for places, _ in taps]
    stored = read(low, [int(places.max()) + 1 for places, _ in taps])
    result = np.empty((len(stored), *(e - a for a, e in zip(start, stop, strict=True))), np.float32)
    for channel, target in zip(stored, result, strict=True):  # one at a time in float32
        window = channel.astype(np.float32)
        for axis, ((places, weights), first) in enumerate(zip(taps, low, strict=True)):
            window = _resampled(window, axis, places - first, weights)
        target[...] = window
    return result


def _resampled(
    window: npt.NDArray[np.float32], axis: int, places: npt.NDArray[np.intp], weights: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """A channel along one axis, each new pixel the sum of those at its places, times their weights."""
    across = (slice(None),) + (None,) * (window.ndim - axis - 1)
    result = np.zeros((*window.shape[:axis], places.shape[1], *window.shape[axis + 1 :]), np.float32)
    for place, weight in zip(places, weights, strict=True):
        part = np.take(window, place, axis=axis)
        part *= weight[across]
        result += part
    return result


def _taps(size: int, new: int, start: int, stop: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Original positions and their weights for each new one, both (taps, stop - start)."""
    step = size / new
    reach = max(1.0, step)
    centre = (np.arange(start, stop) + 0.5) * step - 0.5
    places = np.floor(centre - reach)[None] + np.arange(math.floor(2 * reach) + 2)[:, None]
    weights = np.maximum(0.0, 1 - np.abs(places - centre) / reach)
    weights /= weights.sum(axis=0)
    return np.clip(places, 0, size - 1).astype(np.intp), weights.astype(np.float32)


def nearest_window(read: Read, shape: Place, new_shape: Place, start: Place, stop: Place) -> Array:
    """The window start..stop of ids (*spatial) of ``shape`` brought to ``new_shape``, each from the nearest pixel.

    ``read(start, stop)`` gives ids (..., *spatial) of a window; leading axes are kept. Beyond ``new_shape`` the
    outermost pixels go on.
    """
    ends = zip(shape, new_shape, start, stop, strict=True)
    places = [np.minimum((np.arange(a, e) * 2 + 1) * n // (2 * new), n - 1) for n, new, a, e in ends]
    low = [int(place[0]) for place in places]
    window = read(low, [int(place[-1]) + 1 for place in places])
    lead = window.ndim - len(places)
    for axis, (place, first) in enumerate(zip(places, low, strict=True), start=lead):
        window = np.take(window, place - first, axis=axis)
    return window
