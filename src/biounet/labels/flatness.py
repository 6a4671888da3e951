"""Masks are flat, images are not: how a file of one is told from a file of the other."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

A_MASK, AN_IMAGE = 0.65, 0.45  # flatness above which a file looks like a mask, and below which like an image


def flatness(array: npt.NDArray[Any]) -> float:
    """Share of neighbouring pixels along the last axis that are equal, among those that are not both the least value.

    Background is left out, so that a dark image is not taken for a mask. Half for an array of one value, which
    tells nothing.
    """
    here, there, least = array[..., :-1], array[..., 1:], array.min()
    counted = (here > least) | (there > least)
    return float((here == there)[counted].mean()) if counted.any() else 0.5
