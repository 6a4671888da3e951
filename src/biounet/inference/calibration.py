"""Crops of training images that a model file carries, so that int8 can be calibrated anywhere.

Int8 needs the range of every tensor on images like those of the training. A few normalised crops in
float16, a megabyte at most, give it; the last ones are kept out to measure what int8 changes, and are of other images.
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

    From as many images as possible, at random places that follow from ``seed``, none twice; sides at most 256 pixels.
    The last ones (`held_out`) are of images that no other crop is of; of a single image, which is cut in two along its
    longest axis, they are of the other half. Fewer than 4 where images are few and small.
    """
    channels, ndim = images[0].shape[0], images[0].ndim - 1
    side = min(_LARGEST_SIDE, int((_BYTES / (2 * _LEAST * channels)) ** (1 / ndim) + 1e-9))
    largest = 2 * channels * max(math.prod(min(side, n) for n in image.shape[1:]) for image in images)
    count = max(1, min(_MOST, _BYTES // largest))
    apart = _held_count(count)
    rng = np.random.default_rng(seed)
    learnt, held = _divided(images, apart, rng)
    first, last = _crops(learnt, count - apart, side, rng), _crops(held, apart, side, rng)
    while len(last) > _held_count(len(first) + len(last)):
        last.pop()
    while len(last) < _held_count(len(first) + len(last)):
        first.pop()
    return (*first, *last)


def for_calibration(crops: Sequence[Array]) -> tuple[Array, ...]:
    """The crops that ranges are taken from: all but those of `held_out`."""
    return tuple(crops[: len(crops) - len(held_out(crops))])


def held_out(crops: Sequence[Array]) -> tuple[Array, ...]:
    """The crops that agreement is measured on: the last quarter, one at least where there are two."""
    return tuple(crops[len(crops) - _held_count(len(crops)) :])


def is_apart(crops: Sequence[Array]) -> bool:
    """Whether no crop of `held_out` is one that was calibrated on, as it may be in model files of before."""
    return not any(np.array_equal(one, other) for one in held_out(crops) for other in for_calibration(crops))


def windows(crops: Sequence[Array], geometry: Geometry) -> list[Float32]:
    """Inputs (1, C, *input) of one size whose output covers every crop, float32, mirrored around it."""
    sides = [max(crop.shape[1 + axis] for crop in crops) for axis in range(geometry.ndim)]
    size = geometry.input_size(sides)
    start = [-before for before, _ in geometry.margin]
    stop = [first + n for first, n in zip(start, size, strict=True)]
    return [mirrored(np.asarray(crop, dtype=np.float32), start, stop)[None] for crop in crops]


def _held_count(count: int) -> int:
    return 0 if count < 2 else max(1, (count + 2) // 4)


def _divided(images: Sequence[Float32], apart: int, rng: np.random.Generator) -> tuple[list[Float32], list[Float32]]:
    """Images, or the halves of one, for calibration and for what ``apart`` crops are kept out of."""
    if len(images) > 1:
        order = [images[int(index)] for index in rng.permutation(len(images))]
        last = len(order) - min(apart, _held_count(len(order)))
        return order[:last], order[last:]
    (image,) = images
    axis = 1 + int(np.argmax(image.shape[1:]))
    middle = -(-image.shape[axis] // 2)
    first, second = np.split(image, [middle], axis=axis)
    return [first], [second] if second.size else []


def _crops(images: Sequence[Float32], count: int, side: int, rng: np.random.Generator) -> list[npt.NDArray[np.float16]]:
    """So many crops of the images in turn, none twice; fewer where there are no more."""
    found: list[npt.NDArray[np.float16]] = []
    taken: set[tuple[int, ...]] = set()
    for turn in range(2 * count if images else 0):
        index = turn % len(images)
        sizes = images[index].shape[1:]
        first = [int(rng.integers(0, max(1, n - side + 1))) for n in sizes]
        if len(found) < count and (index, *first) not in taken:
            taken.add((index, *first))
            part = images[index][(slice(None), *(slice(a, a + side) for a in first))]
            found.append(np.clip(part, -_LARGEST_VALUE, _LARGEST_VALUE).astype(np.float16))
    return found
