"""Measurements of objects, all of them at once instead of one after the other.

Every column has its unit in its name. Positions count from the outer corner of the first pixel, as in ImageJ
and QuPath: the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from biounet.exchange.objects import Objects
from biounet.exchange.tracing import trace

Labels = npt.NDArray[np.int32]
Column = npt.NDArray[Any]
Table = dict[str, Column]

_SQUARE = 1e-3  # pixels whose sides differ by less are square
# Perimeter by the neighbours of edge pixels, 10 for diagonal, 2 for direct ones, 1 for the pixel itself:
# Benkrid and Crookes 2000, "Design and FPGA implementation of a perimeter estimator"
_LENGTHS = np.zeros(50)
_LENGTHS[[5, 7, 15, 17, 25, 27]] = 1
_LENGTHS[[21, 33]] = math.sqrt(2)
_LENGTHS[[13, 23]] = (1 + math.sqrt(2)) / 2


def measure(objects: Objects) -> Table:
    """One row an object, by id, as columns of equal length.

    2D: ``area``, ``perimeter``, ``centroid_y`` and ``_x``, ``major_axis`` and ``minor_axis`` (of the ellipse
    with the same second moments), ``solidity`` (area by that of the convex hull of the pixels, at most 1);
    3D: ``volume``, centroid, three axes. ``mean_intensity_CHANNEL``, ``class``, ``probability`` (mean over the
    object) and ``touches_border`` (0 or 1) where they are known. Lengths stand in ``_px`` and, where the
    pixel size is known, in ``_um``; the perimeter of pixels that are not square has none in um.
    """
    labels = objects.labels
    runs = _runs(labels)
    count = np.bincount(runs.ids, weights=runs.lengths, minlength=1).astype(np.int64)
    numbers = np.flatnonzero(count)
    table: Table = {"id": numbers}
    if objects.classes is not None or objects.class_of(1 if objects.classes is None else 0):
        table["class"] = np.array([objects.class_of(int(i)) for i in numbers], object)
    size = objects.pixel_size_um
    units = [("px", (1.0,) * labels.ndim)] + ([("um", size)] if size is not None else [])
    table |= _extent(count[numbers], units)
    if labels.ndim == 2:
        table |= _outline(labels, numbers, count, size)
    table |= _moments(runs, count, labels.shape, units)
    if objects.image is not None:
        names = objects.channels or tuple(map(str, range(len(objects.image))))
        for name, channel in zip(names, objects.image, strict=True):
            sums = np.bincount(runs.ids, weights=_sums(channel, runs), minlength=1)
            table[f"mean_intensity_{name}"] = sums[numbers] / count[numbers]
    if objects.probability is not None:
        table["probability"] = objects.probability[numbers]
    table["touches_border"] = np.isin(numbers, _at_border(labels)).astype(np.int64)
    return table


def _extent(pixels: Column, units: list[tuple[str, tuple[float, ...]]]) -> Table:
    name, power = ("area", "2") if len(units[0][1]) == 2 else ("volume", "3")
    return {f"{name}_{unit}{power}": pixels if unit == "px" else pixels * math.prod(size) for unit, size in units}


def _outline(labels: Labels, numbers: Column, count: Column, size: tuple[float, ...] | None) -> Table:
    """Perimeter and solidity."""
    perimeter = _perimeters(labels, len(count))[numbers]
    table = {"perimeter_px": perimeter}
    if size is not None and abs(size[0] / size[1] - 1) < _SQUARE:
        table["perimeter_um"] = perimeter * size[1]
    hulls = np.ones(len(count))
    for traced in trace(labels):
        corners = np.concatenate([piece[0] for piece in traced.pieces])
        hulls[traced.id] = cv2.contourArea(cv2.convexHull(corners))
    return table | {"solidity": (count / hulls)[numbers]}


def _perimeters(labels: Labels, size: int) -> npt.NDArray[np.float64]:
    """Perimeter of each id in pixels, see ``_LENGTHS``; what lies outside the image is no object."""
    padded = np.pad(labels, 1)
    own = padded[1:-1, 1:-1]
    inner = own > 0
    for y, x in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inner = inner & (padded[y : y + labels.shape[0], x : x + labels.shape[1]] == own)
    edges = np.pad(np.where(inner, 0, own), 1)
    at = np.flatnonzero(edges)
    values, width = edges.reshape(-1), edges.shape[1]
    kind = np.ones(len(at), np.int64)
    for step, weight in ((1, 2), (width, 2), (width + 1, 10), (width - 1, 10)):
        for neighbour in (at + step, at - step):
            kind += weight * (values[neighbour] == values[at])
    return np.asarray(np.bincount(values[at], weights=_LENGTHS[kind], minlength=size), np.float64)


class _Runs(NamedTuple):
    """Stretches of one id along the last axis: where they begin in the flat array, how long they are, the id.

    They are a tenth of the pixels, and sums over a stretch of positions are known beforehand.
    """

    starts: Column
    lengths: Column
    ids: Labels


def _runs(labels: Labels) -> _Runs:
    flat = labels.reshape(-1)
    new = np.ones(flat.shape, bool)
    new[1:] = flat[1:] != flat[:-1]
    new[:: max(1, labels.shape[-1])] = True
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=flat.size)
    ids = flat[starts]
    return _Runs(starts[ids > 0], lengths[ids > 0], ids[ids > 0])


def _sums(channel: Column, runs: _Runs) -> Column:
    """Sum of the channel's values over each run."""
    if not len(runs.starts):
        return np.zeros(0)
    edges = np.stack([runs.starts, runs.starts + runs.lengths], axis=1).reshape(-1)
    padded = np.append(channel.reshape(-1), channel.dtype.type(0))  # an edge may lie behind the last pixel
    return np.asarray(np.add.reduceat(padded, edges, dtype=np.float64)[::2])


def _moments(runs: _Runs, count: Column, shape: tuple[int, ...], units: list[tuple[str, tuple[float, ...]]]) -> Table:
    """Centroid and axes of the ellipse with the same second moments: 4 standard deviations, in 3D sqrt(20)."""
    numbers = np.flatnonzero(count)
    number = count[numbers]
    ids, lengths = runs.ids, runs.lengths
    places = [place.astype(np.float64) + 0.5 for place in np.unravel_index(runs.starts, shape)]
    places[-1] += (lengths - 1) / 2  # the middle of the run
    means = [np.bincount(ids, weights=place * lengths, minlength=1) / np.maximum(count, 1) for place in places]
    apart = [place - mean[ids] for place, mean in zip(places, means, strict=True)]
    within = lengths * (lengths.astype(np.float64) ** 2 - 1) / 12
    ndim = len(shape)
    covariance = np.empty((len(numbers), ndim, ndim))
    for a in range(ndim):
        for b in range(a, ndim):
            moments = apart[a] * apart[b] * lengths + (within if a == b == ndim - 1 else 0)
            moment = np.bincount(ids, weights=moments, minlength=1)[numbers] / number
            covariance[:, a, b] = covariance[:, b, a] = moment
    table: Table = {}
    for unit, size in units:
        for axis, mean, pixel in zip("zyx"[-ndim:], means, size, strict=True):
            table[f"centroid_{axis}_{unit}"] = mean[numbers] * pixel
    for unit, size in units:
        variances = np.linalg.eigvalsh(covariance * np.outer(size, size))[:, ::-1]
        lengths = _FULL_AXIS[ndim] * np.sqrt(np.maximum(variances, 0))
        for name, length in zip(_AXIS_NAMES[ndim], lengths.T, strict=True):
            table[f"{name}_axis_{unit}"] = length
    return table


_FULL_AXIS = {2: 4.0, 3: math.sqrt(20)}
_AXIS_NAMES = {2: ("major", "minor"), 3: ("major", "middle", "minor")}


def _at_border(labels: Labels) -> Column:
    sides = [np.take(labels, side, axis=axis).reshape(-1) for axis in range(labels.ndim) for side in (0, -1)]
    return np.unique(np.concatenate(sides)) if labels.size else np.zeros(0, np.int64)
