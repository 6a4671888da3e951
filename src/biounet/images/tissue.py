"""Where in an image there is something to look at: tissue, told from empty glass in a small overview.

Otsu's threshold (1979, doi 10.1109/TSMC.1979.4310076) of colourfulness or brightness, smoothed by opening
and closing. A function of the image alone; knows nothing of models.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.images.regions import Regions

Mask = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]

_SIDE = 1024  # pixels of an overview at most
_WINDOW = 512  # pixels a side that are read at once
_COLOURFUL = 1 / 16  # of the brightness: three channels that differ by less are taken as grey


@dataclass(frozen=True, eq=False)
class Tissue:
    """``mask`` of an overview, bool (Z)YX; each of its pixels stands for ``factors`` pixels of the image.

    ``how`` it was decided, in words.
    """

    mask: Mask
    factors: tuple[int, ...]
    how: str


def find_tissue(regions: Regions, item: int, *, ndim: int) -> Tissue:
    """The part of an item that is not background, with a margin of one pixel of the overview.

    The overview has at most 1024 pixels a side of a plane: means of pixels, at the smallest level of the pyramid
    that is large enough. Of three channels that differ, their colourfulness (largest less smallest) is high in
    tissue; otherwise brightness tells, and what prevails at the edge of the image is background. An image
    without contrast is tissue everywhere.
    """
    seen, factors = _overview(regions, item, ndim)
    value, what = _measure(seen)
    if value.min() == value.max():
        return Tissue(np.ones(value.shape, bool), factors, "no contrast, all of it")
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(value, (0,) * (ndim - 2) + (1, 1), mode="nearest")
    level = float(threshold_otsu(smooth))
    mask = smooth > level
    if what == "brightness" and _edge(mask).mean() > 0.5:
        mask, what = ~mask, "darkness"
    return Tissue(_cleaned(mask), factors, what)


def _measure(seen: Float32) -> tuple[Float32, str]:
    """One value a pixel of an overview (C, *spatial), and what it is."""
    if len(seen) == 3:
        colour = seen.max(axis=0) - seen.min(axis=0)
        if colour.max() >= _COLOURFUL * np.abs(seen).max() and colour.min() < colour.max():
            return np.asarray(colour, np.float32), "colour"
    low = seen.reshape(len(seen), -1).min(axis=1).reshape(-1, *(1,) * (seen.ndim - 1))
    high = seen.reshape(len(seen), -1).max(axis=1).reshape(low.shape)
    return np.asarray(((seen - low) / np.maximum(high - low, 1e-12)).mean(axis=0), np.float32), "brightness"


def _edge(mask: Mask) -> Mask:
    """The outermost pixels of each plane."""
    return np.concatenate(
        [mask[..., side, :].ravel() for side in (0, -1)] + [mask[..., side].ravel() for side in (0, -1)]
    )


def _cleaned(mask: Mask) -> Mask:
    """Specks removed, gaps closed, and one pixel more; the image goes on beyond its edge as it is there."""
    from scipy import ndimage

    lead = (1,) * (mask.ndim - 2)
    square, disk = np.ones((*lead, 3, 3), bool), np.ones((*lead, 5, 5), bool)
    disk[..., [0, 0, -1, -1], [0, -1, 0, -1]] = False
    edge = 4
    padded = np.pad(mask, [(0, 0)] * len(lead) + [(edge, edge)] * 2, mode="edge")
    opened = ndimage.binary_opening(padded, square)
    closed = ndimage.binary_closing(opened if opened.any() else padded, disk)
    return np.asarray(ndimage.binary_dilation(closed, square)[..., edge:-edge, edge:-edge])


def _overview(regions: Regions, item: int, ndim: int) -> tuple[Float32, tuple[int, ...]]:
    """Means of blocks of pixels, (C, *spatial) float32, and by how much it is smaller than the image."""
    step = max(1, ceil(max(regions.spatial_shape(ndim)[-2:]) / _SIDE))
    level, factors = 0, (1,) * ndim
    for number in range(len(regions.levels)):
        found = regions.factors(ndim, number)
        whole = tuple(map(int, found))
        if whole == found and whole[-1] == whole[-2] <= step:
            level, factors = number, whole
    rest = ceil(step / factors[-1])
    shape = regions.spatial_shape(ndim, level)
    small = (*shape[:-2], *(ceil(n / rest) for n in shape[-2:]))
    seen = np.empty((regions.channels(), *small), np.float32)
    side = max(1, _WINDOW // rest)
    for start in product(*(range(0, n, d) for n, d in zip(small, (1,) * (ndim - 2) + (side, side), strict=True))):
        stop = (*(a + 1 for a in start[:-2]), *(min(n, a + side) for n, a in zip(small[-2:], start[-2:], strict=True)))
        low = (*start[:-2], *(a * rest for a in start[-2:]))
        high = (*stop[:-2], *(min(n, e * rest) for n, e in zip(shape[-2:], stop[-2:], strict=True)))
        pixels = regions.read(item, low, high, ndim=ndim, level=level)
        seen[(slice(None), *map(slice, start, stop))] = _means(pixels, rest)
    return seen, (*factors[:-2], factors[-2] * rest, factors[-1] * rest)


def _means(pixels: npt.NDArray[Any], step: int) -> Float32:
    """Means over squares of ``step`` pixels of the last two axes, the last square perhaps smaller."""
    values = np.nan_to_num(pixels.astype(np.float64), posinf=0.0, neginf=0.0)
    for axis in (-2, -1):
        n = values.shape[axis]
        starts = np.arange(0, n, step)
        counts = np.diff(np.append(starts, n)).astype(np.float64)
        values = np.add.reduceat(values, starts, axis=axis)
        values /= counts[:, None] if axis == -2 else counts
    return values.astype(np.float32)
