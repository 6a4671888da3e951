"""A large image and what was found in it, small enough for a screen, read window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.images.regions import Regions
from biounet.labels.blocks import Place

Array = npt.NDArray[Any]

_LARGEST = 1500  # pixels a side of a picture
_AT_ONCE = 1024  # pixels a side that are read in one piece, about


def thumbnail(
    regions: Regions, item: int, channels: Sequence[int], maps: Sequence[Callable[[Place, Place], Array]], *, ndim: int
) -> list[Array]:
    """Image (C, Y, X) and maps (Y, X): every n-th pixel, at most 1500 a side; of a volume the middle plane.

    The image is that of the smallest level of its pyramid that has as many pixels. ``maps``: each gives a window of the
    item, ``(start, stop)``, as labels or probabilities. No window is larger than 1024 or n a side.
    """
    full = regions.spatial_shape(ndim)
    step = -(-max(full[-2:]) // _LARGEST)
    level = max(n for n in range(len(regions.levels)) if max(regions.factors(ndim, n)[-2:]) <= step)

    def pixels(start: Place, stop: Place) -> Array:
        return regions.read(item, start, stop, ndim=ndim, level=level)[list(channels)]

    picture = _thinned(pixels, regions.spatial_shape(ndim, level), full, step=step)
    return [picture, *(_thinned(read, full, full, step=step) for read in maps)]


def _thinned(read: Callable[[Place, Place], Array], shape: Place, full: Place, *, step: int) -> Array:
    """Every ``step``-th pixel of an image of ``full`` from its level of ``shape``, (..., Y, X), window by window."""
    rows, columns = (-(-side // step) for side in full[-2:])
    side = max(1, _AT_ONCE // step)
    result: Array = np.zeros(0)
    for top, left in product(range(0, rows, side), range(0, columns, side)):
        bottom, right = min(top + side, rows), min(left + side, columns)
        taken = [np.arange(top, bottom) * step, np.arange(left, right) * step]
        taken = [*(np.array([n // 2]) for n in full[:-2]), *taken]
        places = [np.minimum(at * n // of, n - 1) for at, n, of in zip(taken, shape, full, strict=True)]
        low = [int(place[0]) for place in places]
        window = read(low, [int(place[-1]) + 1 for place in places])
        lead = window.shape[: window.ndim - len(places)]
        for axis, (place, first) in enumerate(zip(places, low, strict=True), start=len(lead)):
            window = np.take(window, place - first, axis=axis)
        if not result.size:
            result = np.zeros((*lead, rows, columns), window.dtype)
        result[..., top:bottom, left:right] = window.reshape(*lead, bottom - top, right - left)
    return result
