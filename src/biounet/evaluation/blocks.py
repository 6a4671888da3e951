"""Scores of parts of an image, for intervals where there are too few images to resample.

Blocks of one image resemble each other more than images do, so an interval over blocks tells how the score
varies within these images, not how it would on others: it is narrower than one over images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.evaluation.overlap import Labels, check_pair
from biounet.evaluation.scores import Scores, evaluate_pair

_BLOCKS_IN_ALL = 16


@dataclass(frozen=True)
class Scored:
    """Scores of each image by name, and, where images are few, of blocks of all of them in turn."""

    images: list[tuple[str, Scores]]
    blocks: list[Scores]


def blocks_per_image(images: int) -> int:
    """Into how many blocks each of so many images is cut, for about 16 blocks in all."""
    if images < 1:
        raise UsageError(f"number of images (={images}) must be at least 1")
    return math.ceil(_BLOCKS_IN_ALL / images)


def cut(shape: Sequence[int], count: int) -> list[tuple[slice, ...]]:
    """At least ``count`` blocks that tile an array of this shape, as slices in raster order.

    The longest side is divided again and again, so blocks are as square as can be. Fewer where the array
    has not enough pixels. Raises `UsageError` for a count below 1.
    """
    if count < 1:
        raise UsageError(f"number of blocks (={count}) must be at least 1")
    pieces = [1] * len(shape)
    while math.prod(pieces) < min(count, math.prod(shape)):
        axis = max(range(len(shape)), key=lambda a: shape[a] / pieces[a])
        pieces[axis] += 1
    edges = [np.linspace(0, n, k + 1).round().astype(int) for n, k in zip(shape, pieces, strict=True)]
    return [
        tuple(slice(int(edges[a][i]), int(edges[a][i + 1])) for a, i in enumerate(place))
        for place in np.ndindex(*pieces)
    ]


def block_scores(
    predicted: Labels,
    true: Labels,
    count: int,
    *,
    probabilities: npt.NDArray[np.floating[Any]] | None = None,
    **given: Any,
) -> list[Scores]:
    """`evaluate_pair` on each of at least ``count`` blocks of a pair; ``given``: its other arguments.

    An object on an edge belongs to each block with its part there.
    """
    check_pair(predicted, true)
    return [
        evaluate_pair(
            predicted[block],
            true[block],
            probabilities=None if probabilities is None else probabilities[_last_axes(block)],
            **given,
        )
        for block in cut(true.shape, count)
    ]


def _last_axes(block: tuple[slice, ...]) -> tuple[Any, ...]:
    return (..., *block)
