"""What an array looks like: a mask, an image, or a mask full of scraps. Knows nothing of files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from biounet.labels.components import components

_PEAK = 0.03  # share of the pixels from which on a value is a true one
_MOST_PEAKS = 6
_SCRAP_PX = 4
_FEWEST_VALUES, _FEWEST_PIECES = 8, 3  # of scraps: values, and pieces a value

Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Scraps:
    """How many values a mask has, how many pixels are scraps, and the values that are true."""

    values: int
    pixels: int
    true: tuple[int, ...]


def scraps(labels: Labels) -> Scraps | None:
    """What JPEG or smooth scaling left in a mask (Z)YX of few values; None for other masks.

    Values that cover 3 % of the pixels are true. All others must be eight values or more, on three pieces a
    value or more, most of them of at most 4 pixels: ids of objects, however small, lie on one piece each.
    """
    values, counts = np.unique(labels, return_counts=True)
    peaks = values[(counts >= _PEAK * labels.size) & (values >= 0)]
    rest = values[(counts < _PEAK * labels.size) & (values >= 0)]
    if not 2 <= len(peaks) <= _MOST_PEAKS or len(rest) < _FEWEST_VALUES:
        return None
    scrap = np.isin(labels, rest)
    pieces = np.bincount(components(np.where(scrap, labels + 1, 0)).ravel())[1:]
    if len(pieces) < _FEWEST_PIECES * len(rest) or np.median(pieces) > _SCRAP_PX:
        return None
    return Scraps(len(values), int(scrap.sum()), tuple(int(v) for v in peaks))
