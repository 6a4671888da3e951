"""Crops of training images that a model file carries, so that int8 can be calibrated anywhere.

Int8 needs the range of every tensor on images like those of the training. A few normalised crops in
float16, a megabyte at most, give it; the last ones are kept out to measure what int8 changes.
Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.geometry import Geometry, mirrored

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

_BYTES = 1_000_000  # of all crops together
_LEAST, _MOST = 4, 8  # crops
_LARGEST_SIDE = 256
_LARGEST_VALUE = 60_000.0  # float16 ends at 65,504


def calibration_crops(images: Sequence[Float32], seed: int = 0) -> tuple[npt.NDArray[np.float16], ...]:
    """At most 8 crops of normalised images (C, *spatial), as float16 and together at most a megabyte.

    From as many images as possible, at random places that follow from ``seed``. At least 4 where the
    images allow it; sides at most 256 pixels.
    """
    channels, ndim = images[0].shape[0], images[0].ndim - 1
    side = min(_LARGEST_SIDE, int((_BYTES / (2 * _LEAST * channels)) ** (1 / ndim) + 1e-9))
    largest = 2 * channels * max(math.prod(min(side, n) for n in image.shape[1:]) for image in images)
    count = max(1, min(_MOST, _BYTES // largest))
    rng = np.random.default_rng(seed)
    order = [int(index) for index in rng.permutation(len(images))]
    return tuple(_crop(images[order[place % len(order)]], side, rng) for place in range(count))


def for_calibration(crops: Sequence[Array]) -> tuple[Array, ...]:
    """The crops that ranges are taken from: all but those of `held_out`."""
    return tuple(crops[: len(crops) - len(held_out(crops))])


def held_out(crops: Sequence[Array]) -> tuple[Array, ...]:
    """The crops that agreement is measured on: the last quarter, one at least where there are two."""
    count = 0 if len(crops) < 2 else max(1, (len(crops) + 2) // 4)
    return tuple(crops[len(crops) - count :])


def windows(crops: Sequence[Array], geometry: Geometry) -> list[Float32]:
    """Inputs (1, C, *input) of one size whose output covers every crop, float32, mirrored around it."""
    sides = [max(crop.shape[1 + axis] for crop in crops) for axis in range(geometry.ndim)]
    size = geometry.input_size(sides)
    start = [-before for before, _ in geometry.margin]
    stop = [first + n for first, n in zip(start, size, strict=True)]
    return [mirrored(np.asarray(crop, dtype=np.float32), start, stop)[None] for crop in crops]


def _crop(image: Float32, side: int, rng: np.random.Generator) -> npt.NDArray[np.float16]:
    places = []
    for n in image.shape[1:]:
        first = int(rng.integers(0, max(1, n - side + 1)))
        places.append(slice(first, first + side))
    part = image[(slice(None), *places)]
    return np.clip(part, -_LARGEST_VALUE, _LARGEST_VALUE).astype(np.float16)
