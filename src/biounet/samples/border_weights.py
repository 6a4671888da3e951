"""The weights w(x) of the loss: class balance, and the gaps between cells.

Ronneberger et al. 2015, equation 2 (arXiv 1505.04597), with w_0 = 10 and sigma = 5 px:

    w(x) = w_c(x) + w_0 * exp(-(d1(x) + d2(x))^2 / (2 sigma^2))        reading "multiply": the paper
    w(x) = w_c(x) + w_0 + exp(-(d1(x) + d2(x))^2 / (2 sigma^2))        reading "sum": as it is sometimes misprinted

d1 and d2 are the distances to the nearest and the second nearest cell. The exponential is far
below any effect a few sigma away from a gap, so it is computed only in a band, and not with one
distance map per cell: cells that can meet in a band get different colours, and a few maps tell all
colours apart. Beyond that, exact. Knows nothing of deformation or of the network.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import edt
import fastremap
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.errors import DataError, UsageError
from biounet.labels.targets import Labels, as_labels

Floats = npt.NDArray[np.float32]
Reading = Literal["multiply", "sum"]

TOLERANCE = 5e-5
_LARGEST_RADIUS = 64  # pixels; beyond, the general distance transform is faster
_STRIP = 200_000  # pixels
_BLOCK = 64  # cells
_MANY = 500  # neighbours a cell: colours save nothing any more


def border_weights(
    labels: npt.NDArray[Any],
    w0: float = 10.0,
    sigma: float = 5.0,
    *,
    spacing: Sequence[float] | None = None,
    tolerance: float = TOLERANCE,
) -> Floats:
    """The border term w0 * exp(-(d1 + d2)^2 / (2 sigma^2)) alone, float32, shape of ``labels``.

    ``labels``: integers, YX or ZYX; ids > 0 are cells (an id in several pieces is one cell), 0
    background, -1 unknown. d1 and d2 are Euclidean distances between pixel centres to the nearest
    pixel of the nearest and of the second nearest cell, so 1 beside a cell (the paper: "to the
    border of the cell"). ``spacing``: size of a pixel per axis (default 1); ``sigma`` is in its unit.

    Zero on cells, on unknown pixels, where fewer than two cells exist, and where the term is below
    ``tolerance`` (d1 + d2 > `band`). The paper does not say whether the term holds on cells; here
    it does not, since it is meant for the background between them.

    Raises `UsageError` for other dimensions or numbers out of range, `DataError` for labels that
    are not integers.
    """
    array = as_labels(labels)
    pixel = _check_spacing(array.ndim, spacing)
    unit = float(pixel[-1])  # lengths are in pixels of the last axis from here on
    reach, sigma, pixel = band(w0, sigma, tolerance) / unit, sigma / unit, pixel / unit
    result = np.zeros(array.shape, np.float32)
    cells, boxes = _cells(array)
    if reach < 2 * pixel.min() or len(boxes) < 2:
        return result
    colours = _colours(boxes * pixel[:, None], reach)
    window = _window(boxes[colours > 0], array.shape, reach / 2 / pixel)
    if window is None:
        return result
    table = np.concatenate([[0], colours]).astype(np.min_scalar_type(colours.max()))
    total = _sum_of_two_nearest(table[cells[window]], int(colours.max()), pixel, reach)
    inside = (total <= reach) & (array[window] == 0)
    np.multiply(total, total, out=total)
    total *= -0.5 / sigma**2
    np.exp(total, out=total)
    total *= w0
    np.copyto(result[window], total, where=inside)
    return result


def band(w0: float, sigma: float, tolerance: float = TOLERANCE) -> float:
    """The d1 + d2 beyond which the border term is below ``tolerance``, in the unit of ``sigma``.

    sigma * sqrt(2 ln(w0 / tolerance)), 24.7 for the paper's numbers; 0 when w0 is below the
    tolerance. A weight depends on cells up to this distance and no further.
    """
    if not (sigma > 0 and tolerance > 0 and w0 >= 0):
        raise UsageError(f"border weights need sigma (={sigma}) > 0, tolerance (={tolerance}) > 0 and w0 (={w0}) >= 0")
    return sigma * math.sqrt(2 * math.log(w0 / tolerance)) if w0 > tolerance else 0.0


def class_weights(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """w_c: inverse class frequency, float64 (classes,), mean 1 over the annotated pixels.

    ``counts``: annotated pixels per class over the whole training set, never of one tile, so that
    a pixel's weight does not depend on what happens to lie beside it. With N pixels in the K
    classes present, w_k = N / (K n_k). The paper says only that w_c balances the class frequencies.

    A class without a pixel gets 0: no target ever carries it, and the formula's infinity would
    turn the loss into nan. Raises `DataError` when nothing is annotated.
    """
    pixels = np.asarray(counts, np.float64)
    present = pixels > 0
    if pixels.ndim != 1 or not present.any():
        raise DataError(f"class counts {pixels.tolist()} hold no annotated pixel: annotate some of each class")
    weights = np.zeros_like(pixels)
    weights[present] = pixels.sum() / (present.sum() * pixels[present])
    return weights


def weight_map(
    labels: Labels | None,
    targets: Labels,
    class_weights: Sequence[float] | npt.NDArray[np.float64],
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    reading: Reading = "multiply",
    spacing: Sequence[float] | None = None,
) -> Floats:
    """The full w(x), float32, shape of ``targets``; the two readings stand in the module's text.

    ``labels``: instances after carving, or None in a class model, which has no cells and so no
    border term. ``targets``: class of each pixel, -1 unknown; ``class_weights``: w_c by class, as
    `class_weights` gives it. Zero on unknown pixels. In the reading "sum", w_0 counts on every
    annotated pixel and the exponential where the border term is defined.
    """
    if reading not in ("multiply", "sum"):
        raise UsageError(f"reading (={reading!r}) of the weight formula must be 'multiply' or 'sum'")
    table = np.append(np.asarray(class_weights, np.float32), np.float32(0))  # index -1: unknown
    if targets.size and int(targets.max()) >= len(table) - 1:
        raise DataError(f"class {int(targets.max())} has no weight: classes are 0..{len(table) - 2}")
    weights = table[targets]
    if labels is None:
        return weights
    if reading == "multiply":
        weights += border_weights(labels, w0, sigma, spacing=spacing)
        return weights
    weights += border_weights(labels, 1.0, sigma, spacing=spacing)
    np.add(weights, np.float32(w0), out=weights, where=targets >= 0)
    return weights


def _check_spacing(ndim: int, spacing: Sequence[float] | None) -> npt.NDArray[np.float64]:
    if ndim not in (2, 3):
        raise UsageError(f"border weights need labels of 2 or 3 axes, got {ndim}")
    pixel = np.ones(ndim) if spacing is None else np.asarray(spacing, np.float64)
    if pixel.shape != (ndim,) or not (pixel > 0).all():
        raise UsageError(f"spacing (={spacing}) must give {ndim} positive numbers, one an axis")
    return pixel


def _cells(labels: Labels) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.intp]]:
    """Ids renumbered to 1..n, and each cell's first and last pixel, shape (n, ndim, 2)."""
    cells, _ = fastremap.renumber(np.maximum(labels, 0))
    found = ndimage.find_objects(cells)
    boxes = [[(axis.start, axis.stop - 1) for axis in box] for box in found]
    return cells, np.array(boxes, np.intp).reshape(-1, labels.ndim, 2)


def _window(
    boxes: npt.NDArray[np.intp], shape: Sequence[int], extra: npt.NDArray[np.float64]
) -> tuple[slice, ...] | None:
    """The part of the plane within ``extra`` of any of the boxes."""
    if not len(boxes):
        return None
    first = np.maximum(boxes[:, :, 0].min(0) - np.ceil(extra), 0).astype(int)
    last = np.minimum(boxes[:, :, 1].max(0) + np.ceil(extra), np.subtract(shape, 1)).astype(int)
    return tuple(slice(low, high + 1) for low, high in zip(first.tolist(), last.tolist(), strict=True))


def _colours(boxes: npt.NDArray[np.float64], reach: float) -> npt.NDArray[np.intp]:
    """Colours 1..k, so that cells whose boxes lie within ``reach`` differ; 0 for a cell alone.

    Where d1 + d2 <= reach the two nearest cells lie within reach of each other, so they differ.
    Greedy, from the top of the plane downwards; ``boxes`` (n, ndim, 2) in the unit of ``reach``. Where
    cells have hundreds of neighbours (scattered pieces), every cell gets its own colour.
    """
    order = np.argsort(boxes[:, 0, 0], kind="stable")
    first, last = boxes[order, :, 0], boxes[order, :, 1]
    furthest = np.maximum.accumulate(last[:, 0])
    colours, met = np.zeros(len(boxes), np.intp), np.zeros(len(boxes), bool)
    for start in range(0, len(boxes), _BLOCK):
        stop = min(start + _BLOCK, len(boxes))
        low = int(np.searchsorted(furthest, first[start, 0] - reach))
        gap = np.maximum(first[start:stop, None] - last[low:stop], first[low:stop] - last[start:stop, None])
        near = (np.maximum(gap, 0) ** 2).sum(-1) <= reach**2
        np.fill_diagonal(near[:, start - low :], False)
        if np.count_nonzero(near) > _MANY * len(near):
            return np.arange(1, len(boxes) + 1)
        met[start:stop] |= near.any(1)
        met[low:stop] |= near.any(0)
        for cell in range(start, stop):
            taken = set(colours[low:cell][near[cell - start, : cell - low]].tolist())
            colours[cell] = next(colour for colour in itertools.count(1) if colour not in taken)
    result = np.empty_like(colours)
    result[order] = np.where(met, colours, 0)
    return result


def _sum_of_two_nearest(
    colours: npt.NDArray[np.integer[Any]], count: int, pixel: npt.NDArray[np.float64], reach: float
) -> Floats:
    """d1 + d2 to the two nearest of the colours 1..count, float32; some value > reach where above it.

    Colours are written with a few digits of base 2 or 3. Two colours differ in some digit, so the
    second nearest colour is the nearest, over all digits, of the second nearest values of a digit.
    """
    seconds = []
    for digit_of in _digits(count):
        digits = digit_of[colours]
        values = range(1, int(digit_of.max()) + 1)
        nearest, *rest = (_squared_distance(digits != value, pixel, reach) for value in values)
        second = np.full_like(nearest, _largest(nearest.dtype))
        for distance in rest:
            np.minimum(second, np.maximum(nearest, distance), out=second)
            np.minimum(nearest, distance, out=nearest)
        seconds.append(second)
    total: Floats = np.sqrt(functools.reduce(np.minimum, seconds), dtype=np.float32)
    total += np.sqrt(nearest, dtype=np.float32)
    return total


def _largest(dtype: np.dtype[Any]) -> float:
    return np.inf if dtype.kind == "f" else float(np.iinfo(dtype).max)


def _digits(count: int) -> list[npt.NDArray[np.uint8]]:
    """Tables from colour 0..count to its digits (from 1; 0 for colour 0), fewest values in all."""
    choices = []
    for threes in range(math.ceil(math.log(count, 3)) + 1):
        twos = max(0, math.ceil(math.log2(count / 3**threes)))
        choices.append((3,) * threes + (2,) * twos)
    tables, rest = [], np.arange(-1, count)
    for base in min(choices, key=sum):
        table = (rest % base + 1).astype(np.uint8)
        table[0] = 0
        tables.append(table)
        rest = rest // base
    return tables


def _squared_distance(outside: npt.NDArray[np.bool_], pixel: npt.NDArray[np.float64], reach: float) -> npt.NDArray[Any]:
    """Squared distance to the nearest False; where d1 + d2 must exceed ``reach``, some large value."""
    radii = np.floor((reach - pixel.min()) / pixel).astype(int).tolist()  # d2, as d1 is a pixel or more
    if max(radii) <= _LARGEST_RADIUS:
        return _squared_distance_within(outside, pixel, radii)
    squared = edt.edtsq(outside, anisotropy=tuple(pixel.tolist()), black_border=False, parallel=1)
    return np.asarray(squared, np.float32)


def _squared_distance_within(
    outside: npt.NDArray[np.bool_], pixel: npt.NDArray[np.float64], radii: Sequence[int]
) -> npt.NDArray[Any]:
    """Squared distance to the nearest False, exact up to ``radii`` pixels on each axis, above that larger.

    The separable transform: nearest pixel on each line of the last axis (pixel size 1), then the
    min-plus convolution with a parabola on the other axes. Within a short radius several times
    faster than a general one, in 16-bit integers where all pixel sizes are 1 even more so.
    """
    far = radii[-1] + 1
    along = outside.view(np.uint8) * np.uint8(far)
    step = 1
    while step < far:  # a cone is the min-plus product of cones of 1, 2, 4, ... pixels
        np.minimum(along[..., step:], along[..., :-step] + np.uint8(step), out=along[..., step:])
        np.minimum(along[..., :-step], along[..., step:] + np.uint8(step), out=along[..., :-step])
        step *= 2
    squares: npt.NDArray[Any] = np.multiply(along, along, dtype=np.uint16 if (pixel == 1).all() else np.float32)
    for axis in reversed(range(outside.ndim - 1)):
        squares = _under_parabolas(squares, axis, radii[axis], size=float(pixel[axis]), far=far**2)
    return squares


def _under_parabolas(squares: npt.NDArray[Any], axis: int, radius: int, *, size: float, far: int) -> npt.NDArray[Any]:
    """Smallest squares[x + k] + (k size)^2 over |k| <= radius on one axis; ``far`` outside the array."""
    lines = np.moveaxis(squares, axis, 0)
    padded = np.full((len(lines) + 2 * radius, *lines.shape[1:]), far, squares.dtype)
    padded[radius : radius + len(lines)] = lines
    result = padded[radius : radius + len(lines)].copy()
    rows = max(1, _STRIP * len(lines) // max(1, lines.size))
    for start in range(0, len(lines), rows):  # strips that stay in the cache
        best = result[start : start + rows]
        top, bottom = radius + start, radius + start + len(best)
        for shift in range(1, radius + 1):
            side = np.minimum(padded[top - shift : bottom - shift], padded[top + shift : bottom + shift])
            side += squares.dtype.type((shift * size) ** 2)
            np.minimum(best, side, out=best)
    return np.moveaxis(result, 0, axis)
