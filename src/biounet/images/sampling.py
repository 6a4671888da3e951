"""Which windows stand for an image that is too large to look at every pixel.

A function of the shape alone: the same windows whether the image is in memory or in a file, whatever
its chunks, and on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod

import numpy as np

LARGE = 2**25  # pixels; an image up to here is looked at whole
_SAMPLE = 2**24  # pixels of a larger one that are looked at
_WINDOW = 2**18  # pixels of a window: 512 a side in 2D, 64 in 3D
_ROWS = 2**20  # pixels of a window of rows

Window = tuple[tuple[int, ...], tuple[int, ...]]


def is_large(shape: Sequence[int]) -> bool:
    """Whether an image of this shape (any axes, channels apart) is looked at in samples: above 2^25 pixels."""
    return prod(map(int, shape)) > LARGE


def sample_windows(shape: Sequence[int]) -> list[Window]:
    """Windows (start, stop) that stand for an image of this shape, in raster order, none twice.

    Up to 2^25 pixels one window, the whole image. Above, about 2^24 pixels: windows of 512 pixels a
    side (64 in three axes, thin axes whole) on a grid, one at random in each of equal stretches of
    the grid's raster order, drawn from the shape as seed.
    """
    shape = tuple(map(int, shape))
    if not is_large(shape):
        return [((0,) * len(shape), shape)]
    side = _sides(shape)
    grid = tuple(ceil(size / step) for size, step in zip(shape, side, strict=True))
    count = min(prod(grid), ceil(_SAMPLE / prod(side)))
    draws = np.random.Generator(np.random.PCG64([*shape])).random(count)
    bounds = [index * prod(grid) // count for index in range(count + 1)]
    cells = [low + int(draw * (high - low)) for low, high, draw in zip(bounds, bounds[1:], draws, strict=False)]
    return [_window(shape, side, grid, cell) for cell in cells]


def row_windows(shape: Sequence[int]) -> Iterator[Window]:
    """Windows of whole rows or planes, about 2^20 pixels each, whose pixels one after the other are the image's."""
    size, *inner = map(int, shape)
    if not inner or prod(inner) <= _ROWS:
        step = max(1, _ROWS // max(1, prod(inner)))
        for low in range(0, max(1, size), step):  # an empty image is one window
            yield (low, *(0 for _ in inner)), (min(low + step, size), *inner)
        return
    for index in range(size):
        for start, stop in row_windows(inner):
            yield (index, *start), (index + 1, *stop)


def all_windows(shape: Sequence[int]) -> Iterator[Window]:
    """The whole grid that `sample_windows` draws from: windows that cover the image, each pixel once."""
    shape = tuple(map(int, shape))
    side = _sides(shape)
    grid = tuple(ceil(size / step) for size, step in zip(shape, side, strict=True))
    return (_window(shape, side, grid, cell) for cell in range(prod(grid)))


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of a window of about 2^18 pixels: powers of two, but thin axes as they are."""
    sides, left = [1] * len(shape), _WINDOW
    by_size = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for done, axis in enumerate(by_size):
        share = left ** (1 / (len(shape) - done))
        sides[axis] = min(shape[axis], 2 ** int(np.log2(share) + 1e-9))
        left = max(left // sides[axis], 1)
    return tuple(sides)


def _window(shape: tuple[int, ...], side: tuple[int, ...], grid: tuple[int, ...], cell: int) -> Window:
    start = tuple(int(at) * step for at, step in zip(np.unravel_index(cell, grid), side, strict=True))
    return start, tuple(min(at + step, size) for at, step, size in zip(start, side, shape, strict=True))
