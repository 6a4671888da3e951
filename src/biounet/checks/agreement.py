"""How much of a mask its image explains, wherever the mask is laid.

Each image gives a few features (brightness, slope and roughness at two scales). The share of the mask's variance that
their best linear combination explains, R^2 = c' S^-1 c with c the correlations of features and mask and S those of the
features among each other, needs no training and no other image. With the Fourier transform c is known for every shift
at once, so a mask that fits elsewhere than where it lies is seen. All is computed on a grid of at most 192 (3D: 64)
points a side, shifts are circular.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

_SIDE = {2: 192, 3: 64}  # points of the grid, at most
_CHANNELS = 3
_RIDGE = 1e-3

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Gridded:
    """An image and its mask on a coarse grid.

    ``features``: (K, *grid), zero mean and unit variance each. ``mask``: share of foreground (*grid) in known
    pixels, of zero mean; 0 where unknown. ``step``: pixels a point.
    """

    features: Floats
    mask: Floats
    step: int


def gridded(image: npt.NDArray[Any], labels: Labels) -> Gridded:
    """Image (C, *spatial) and labels (*spatial, > 0 is foreground, < 0 unknown) on the grid."""
    step = grid_step(labels.shape)
    channels = [_standard(coarse(channel, step)) for channel in image[:_CHANNELS]]
    features = np.stack([feature for channel in channels for feature in _features(channel)])
    known = coarse(labels >= 0, step) > 0.99
    mask = coarse(labels > 0, step)
    mean = float(mask[known].mean()) if known.any() else 0.0
    return Gridded(features, np.where(known, mask - mean, 0).astype(np.float32), step)


def grid_step(shape: Sequence[int]) -> int:
    """Pixels a point of the grid, the same on every axis."""
    return max(1, math.ceil(max(shape) / _SIDE[len(shape)]))


def coarse(array: npt.NDArray[Any], step: int) -> Floats:
    """Means over blocks of ``step`` pixels a side; what is left at the end of an axis is cut off."""
    if step == 1:
        return np.asarray(array, np.float32)
    cut = array[tuple(slice(0, max(1, n // step) * step) for n in array.shape)]
    shape = [k for n in cut.shape for k in ((n // step, step) if n >= step else (1, n))]
    return np.asarray(cut.reshape(shape).mean(axis=tuple(range(1, 2 * array.ndim, 2)), dtype=np.float32))


def _standard(channel: Floats) -> Floats:
    low, high = np.percentile(channel, (0.5, 99.5))
    return _unit(np.clip(channel, low, high))


def _unit(values: Floats) -> Floats:
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread if spread > 1e-6 else 1), np.float32)


def _features(x: Floats) -> Iterator[Floats]:
    near = ndimage.gaussian_filter(x, 1)
    far = ndimage.gaussian_filter(x, 3)
    slope = ndimage.gaussian_filter(ndimage.gaussian_gradient_magnitude(x, 1), 1)
    rough = ndimage.gaussian_filter(np.sqrt(np.maximum(ndimage.gaussian_filter(x * x, 2) - far * far, 0)), 1)
    yield from (_unit(feature) for feature in (near, far, slope, np.log1p(slope), rough))


def explained(pair: Gridded, mask: Floats | None = None) -> Floats:
    """R^2 for every circular shift of the mask (*grid); [0, ...] is where it lies. Zeros for a mask without variance.

    ``mask``: another one of the same shape instead of the pair's own.
    """
    mask = pair.mask if mask is None else mask
    count, variance = mask.size, float((mask * mask).sum())
    if variance < 1e-6 * count:
        return np.zeros(mask.shape, np.float32)
    axes = tuple(range(mask.ndim))
    spectrum = np.conj(fft.rfftn(mask / math.sqrt(variance * count), axes=axes))
    correlations = np.stack([fft.irfftn(fft.rfftn(f) * spectrum, s=mask.shape) for f in pair.features])
    inverse = np.linalg.inv(covariance(pair.features))
    return np.asarray(np.einsum("k...,kl,l...->...", correlations, inverse, correlations), np.float32)


def covariance(features: Floats) -> npt.NDArray[np.float64]:
    """Correlations of features (K, *grid) among each other, a little ridge added."""
    flat = features.reshape(len(features), -1).astype(np.float64)
    return np.asarray(flat @ flat.T / flat.shape[1] + _RIDGE * np.eye(len(flat)))
