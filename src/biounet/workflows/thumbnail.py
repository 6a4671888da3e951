"""A large image and its labels small enough for a screen, read window by window."""

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
    regions: Regions, item: int, channels: Sequence[int], labels: Callable[[Place, Place], Array], *, ndim: int
) -> tuple[Array, npt.NDArray[np.int32]]:
    """Image (C, Y, X) and labels (Y, X): every n-th pixel, at most 1500 a side; of a volume the middle plane.

    ``labels(start, stop)`` gives the ids of a window of the item. No window is larger than 1024 or n a side.
    """
    shape = regions.spatial_shape(ndim)
    step = -(-max(shape[-2:]) // _LARGEST)
    plane = (shape[0] // 2,) if ndim == 3 else ()
    rows, columns = (-(-side // step) for side in shape[-2:])
    picture = np.zeros((len(channels), rows, columns), regions.dtype)
    ids = np.zeros((rows, columns), np.int32)
    side = step * max(1, _AT_ONCE // step)
    thinned: tuple[int | slice, ...] = (*(0 for _ in plane), slice(None, None, step), slice(None, None, step))
    for top, left in product(range(0, shape[-2], side), range(0, shape[-1], side)):
        ends = (min(shape[-2], top + side), min(shape[-1], left + side))
        start, stop = (*plane, top, left), (*(z + 1 for z in plane), *ends)
        place = (slice(top // step, (top + side) // step), slice(left // step, (left + side) // step))
        pixels = regions.read(item, start, stop, ndim=ndim)[list(channels)]
        picture[(slice(None), *place)] = pixels[(slice(None), *thinned)]
        ids[place] = labels(start, stop)[thinned]
    return picture, ids
