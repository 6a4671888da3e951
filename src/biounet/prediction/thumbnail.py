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

    ``maps``: each gives a window of the item, ``(start, stop)``, as labels or probabilities. No window is larger than
    1024 or n a side.
    """
    shape = regions.spatial_shape(ndim)
    step = -(-max(shape[-2:]) // _LARGEST)
    plane = (shape[0] // 2,) if ndim == 3 else ()
    rows, columns = (-(-side // step) for side in shape[-2:])
    picture = np.zeros((len(channels), rows, columns), regions.dtype)
    planes: list[Array] = [np.zeros(0)] * len(maps)
    side = step * max(1, _AT_ONCE // step)
    thinned: tuple[int | slice, ...] = (*(0 for _ in plane), slice(None, None, step), slice(None, None, step))
    for top, left in product(range(0, shape[-2], side), range(0, shape[-1], side)):
        ends = (min(shape[-2], top + side), min(shape[-1], left + side))
        start, stop = (*plane, top, left), (*(z + 1 for z in plane), *ends)
        place = (slice(top // step, (top + side) // step), slice(left // step, (left + side) // step))
        pixels = regions.read(item, start, stop, ndim=ndim)[list(channels)]
        picture[(slice(None), *place)] = pixels[(slice(None), *thinned)]
        for number, read in enumerate(maps):
            window = read(start, stop)[thinned]
            if not planes[number].size:
                planes[number] = np.zeros((rows, columns), window.dtype)
            planes[number][place] = window
    return [picture, *planes]
