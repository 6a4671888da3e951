"""Random smooth deformation from a coarse grid of vectors, and warping of images and labels.

Ronneberger et al. 2015, section 3.1: "random displacement vectors on a coarse 3 by 3 grid", Gaussian
with 10 px standard deviation, per-pixel displacements by bicubic interpolation. Outside the image
the image is mirrored without repeating the edge, and labels are unknown (-1). n-D throughout.
Knows nothing of windows, networks or training.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.errors import UsageError
from biounet.labels.targets import UNKNOWN, Labels, as_labels

Floats = npt.NDArray[np.float32]

_ORDERS = (1, 3)
_LARGEST_CV2_SIDE = 32766  # cv2.remap keeps positions in 16 bits


def displacement_field(
    shape: Sequence[int], *, rng: np.random.Generator, grid: int = 3, std_px: float | Sequence[float] = 10.0
) -> Floats:
    """A random smooth displacement for each pixel, float32 (ndim, *shape), in pixels, axes (Z)YX.

    ``grid``^ndim vectors at equal steps from corner to corner, each component drawn from a Gaussian
    with standard deviation ``std_px`` (a number, or one an axis), first axis first and in raster
    order; between them `spline_field`. Neighbouring vectors that differ by more than their distance
    fold the image: keep ``std_px`` below about a fifth of (size - 1) / (grid - 1).

    Raises `UsageError` for an empty shape, ``grid`` < 2 or a negative ``std_px``.
    """
    ndim = len(shape)
    std = np.broadcast_to(np.asarray(std_px, np.float64), (ndim,))
    if not (std >= 0).all():
        raise UsageError(f"std_px (={std_px}) of the deformation must be at least 0")
    _check_grid(shape, grid)
    vectors = rng.standard_normal((ndim,) + (grid,) * ndim) * std.reshape((ndim,) + (1,) * ndim)
    return spline_field(vectors, shape)


def spline_field(vectors: npt.NDArray[Any], shape: Sequence[int]) -> Floats:
    """Interpolating cubic splines through values on a grid, float32 (lead, *shape).

    ``vectors``: (lead, grid, ..., grid), the grid's corners lying on the corners of ``shape``. The
    tensor product of natural cubic splines (second derivative zero at both ends; the paper says
    "bicubic" and leaves the ends open): equal to the vectors at the grid points, and to a linear
    function wherever they are. An axis of one pixel takes the middle of the grid.
    """
    field: Floats = np.asarray(vectors, np.float32)
    for axis in range(field.ndim - 1, 0, -1):
        grid, size = field.shape[axis], int(shape[axis - 1])
        _check_grid((size,), grid)
        before, after = field.shape[:axis], field.shape[axis + 1 :]
        values = field.reshape(-1, grid, int(np.prod(after, dtype=np.intp)))
        # einsum, not a matrix product: its rounding depends neither on threads nor on the library
        field = np.einsum("ik,lkr->lir", _spline_matrix(size, grid), values).reshape(*before, size, *after)
    return np.asarray(field, np.float32)


@functools.lru_cache(maxsize=128)
def _spline_matrix(size: int, grid: int) -> Floats:
    """Matrix (size, grid), read-only: values on the grid to a natural cubic spline at each pixel."""
    bending = np.zeros((grid, grid))  # second derivatives at the grid points, zero at the ends
    if grid > 2:
        inner = np.arange(grid - 2)
        second_difference = np.zeros((grid - 2, grid))
        for offset, factor in enumerate((1.0, -2.0, 1.0)):
            second_difference[inner, inner + offset] = 6 * factor
        continuity = 4 * np.eye(grid - 2) + np.eye(grid - 2, k=1) + np.eye(grid - 2, k=-1)
        bending[1:-1] = np.linalg.solve(continuity, second_difference)
    position = np.linspace(0, grid - 1, size) if size > 1 else np.array([(grid - 1) / 2])
    left = np.minimum(position.astype(int), grid - 2)
    right_part = (position - left)[:, None]
    left_part = 1 - right_part
    value = np.eye(grid)
    matrix = left_part * value[left] + right_part * value[left + 1]
    matrix += (left_part**3 - left_part) / 6 * bending[left]
    matrix += (right_part**3 - right_part) / 6 * bending[left + 1]
    result: Floats = matrix.astype(np.float32)
    result.setflags(write=False)
    return result


def elastic_deformation(
    image: npt.NDArray[Any],
    labels: npt.NDArray[Any] | None = None,
    *,
    rng: np.random.Generator,
    grid: int = 3,
    std_px: float | Sequence[float] = 10.0,
    order: int = 1,
    ndim: int | None = None,
) -> tuple[Floats, Labels | None]:
    """One random deformation of an image and its labels: float32 (C,)(Z)YX and int32 (Z)YX or None.

    ``ndim`` is the number of spatial axes, by default those of ``labels``, without labels all of
    ``image``. Parameters as in `displacement_field`, `warp_image` and `warp_labels`: the image is
    interpolated and mirrored outside, the labels come from the nearest pixel and are -1 (unknown)
    where that lies outside.

    Raises `UsageError` when image and labels do not lie on the same pixels.
    """
    ndim = ndim or (image.ndim if labels is None else labels.ndim)
    shape = image.shape[image.ndim - ndim :]
    if labels is not None and labels.shape != shape:
        raise UsageError(f"image {image.shape} and labels {labels.shape} must have the same (Z)YX size")
    coordinates = displacement_field(shape, rng=rng, grid=grid, std_px=std_px)
    coordinates += np.indices(shape, dtype=np.float32)
    warped = warp_image(image, coordinates, order=order)
    return warped, None if labels is None else warp_labels(labels, coordinates)


def warp_image(image: npt.NDArray[Any], coordinates: Floats, *, order: int = 1) -> Floats:
    """``image`` at ``coordinates``, float32 (..., *out), mirrored outside as often as needed.

    ``image``: (..., *spatial), any real dtype. ``coordinates``: (ndim, *out), in pixels of the last
    ndim axes of the image. ``order`` 1 interpolates linearly, 3 with cubic splines (slower).

    In 2D and order 1, cv2.remap computes it, which before OpenCV 5 rounds positions to 1/32 px: the
    result differs from exact interpolation by at most 1/64 of the largest step between neighbours,
    per axis. Whole positions are exact. Raises `UsageError` for another order.
    """
    if order not in _ORDERS:
        raise UsageError(f"order (={order}) of the interpolation must be 1 (linear) or 3 (cubic)")
    ndim = len(coordinates)
    lead, spatial = image.shape[: image.ndim - ndim], image.shape[image.ndim - ndim :]
    planes = np.ascontiguousarray(image, np.float32).reshape(-1, *spatial)
    result = np.empty((len(planes), *coordinates.shape[1:]), np.float32)
    if order == 1 and _fits_remap(spatial, coordinates):
        y, x = np.ascontiguousarray(coordinates, np.float32)
        for plane, out in zip(planes, result, strict=True):
            cv2.remap(plane, x, y, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REFLECT_101)
    else:
        for plane, out in zip(planes, result, strict=True):
            ndimage.map_coordinates(plane, coordinates, output=out, order=order, mode="mirror")
    return result.reshape(*lead, *coordinates.shape[1:])


def _fits_remap(spatial: Sequence[int], coordinates: Floats) -> bool:
    if len(spatial) != 2 or max(*spatial, *coordinates.shape[1:]) > _LARGEST_CV2_SIDE:
        return False
    return float(coordinates.min()) > -_LARGEST_CV2_SIDE and float(coordinates.max()) < _LARGEST_CV2_SIDE


def warp_labels(labels: npt.NDArray[Any], coordinates: Floats) -> Labels:
    """``labels`` at the pixel nearest to ``coordinates``, int32 (*out); -1 (unknown) outside.

    ``labels``: integers (*spatial); ``coordinates``: (ndim, *out) in pixels. A pixel reaches half a
    pixel beyond its centre, so outside begins there. Ids are never mixed and never pass through
    floating point; unknown stays unknown. Halfway positions take the even pixel.
    """
    array = as_labels(labels)
    position = np.zeros(coordinates.shape[1:], np.intp)
    outside = np.zeros(coordinates.shape[1:], bool)
    for size, coordinate in zip(array.shape, coordinates, strict=True):
        index = np.rint(coordinate).astype(np.int32)
        outside |= (index < 0) | (index >= size)
        position *= size
        position += index
    position[outside] = 0
    result = array.ravel().take(position)
    result[outside] = UNKNOWN
    return result


def _check_grid(shape: Sequence[int], grid: int) -> None:
    if grid < 2 or min(shape, default=0) < 1:
        raise UsageError(f"grid (={grid}) must be at least 2 and every side of {tuple(shape)} at least 1")
