"""The one table that almost every score is computed from: which ids lie on which, in pixels.

Knows nothing of scores, files or images.

Unknown pixels (truth -1) are not in the table, so nothing that a prediction says there can change a
score. This leaves one question open: an object that reaches into the unknown may be right there. The
rule, everywhere in this room: a predicted object whose known part touches an unknown pixel (corners
included) can match, but is never counted as a false positive. An object that lies mostly under unknown
is thereby never one, and the rule itself looks at known pixels only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError

Labels = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]
Counts = npt.NDArray[np.int64]

UNKNOWN = -1
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Overlap:
    """Sparse contingency table of a predicted and a true label array, over the known pixels.

    ``true_ids`` and ``predicted_ids`` ascend and begin with 0, the background, which is listed even
    where it has no pixel; positions 1, 2, ... are the objects. Cell ``k`` says that ``counts[k]`` > 0
    pixels have the true id at position ``true_index[k]`` and the predicted id at position
    ``predicted_index[k]``. ``touches_unknown`` holds, per predicted id, whether its known part touches
    an unknown pixel.
    """

    true_ids: Counts
    predicted_ids: Counts
    true_index: Indices
    predicted_index: Indices
    counts: Counts
    touches_unknown: npt.NDArray[np.bool_]

    @cached_property
    def pixels(self) -> int:
        """Number of known pixels."""
        return int(self.counts.sum())

    @cached_property
    def true_sizes(self) -> Counts:
        """Known pixels of each true id."""
        return _sums(self.true_index, self.counts, len(self.true_ids))

    @cached_property
    def predicted_sizes(self) -> Counts:
        """Known pixels of each predicted id."""
        return _sums(self.predicted_index, self.counts, len(self.predicted_ids))

    @property
    def true_count(self) -> int:
        """Number of true objects."""
        return len(self.true_ids) - 1

    @property
    def predicted_count(self) -> int:
        """Number of predicted objects that have a known pixel."""
        return len(self.predicted_ids) - 1

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of a true and a predicted object that share a known pixel."""
        both = (self.true_index > 0) & (self.predicted_index > 0)
        true, predicted, shared = self.true_index[both], self.predicted_index[both], self.counts[both]
        union = self.true_sizes[true] + self.predicted_sizes[predicted] - shared
        return Pairs(true, predicted, shared, shared / union)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Overlapping objects: positions in the two id lists, shared pixels, intersection over union."""

    true: Indices
    predicted: Indices
    shared: Counts
    iou: npt.NDArray[np.float64]


def overlap(predicted: Labels, true: Labels) -> Overlap:
    """Contingency table of two label arrays of one shape, any number of axes.

    ``predicted``: integers or booleans, 0 background, ids above. ``true``: the same, and -1 where the
    truth is unknown. Raises `DataError` for arrays that differ in shape, hold fractions, ids below
    these or above 2147483647.
    """
    check_pair(predicted, true)
    lengths, predicted_runs, true_runs = _runs(predicted.ravel(), true.ravel())
    known = true_runs >= 0
    # Both ids are below 2^31, so that a pair fits into one integer.
    keys = (true_runs[known].astype(np.int64) << 32) | predicted_runs[known].astype(np.int64)
    cells, cell_of_run = np.unique(keys, return_inverse=True)
    counts = _sums(cell_of_run, lengths[known], len(cells))
    true_ids, true_index = _positions(cells >> 32)
    predicted_ids, predicted_index = _positions(cells & (2**32 - 1))
    touching = np.isin(predicted_ids, _beside_unknown(predicted, true))
    return Overlap(true_ids, predicted_ids, true_index, predicted_index, counts, touching)


def check_pair(predicted: Labels, true: Labels) -> None:
    """Raise `DataError` unless the two arrays can be compared (see `overlap`)."""
    if predicted.shape != true.shape:
        raise DataError(
            f"predicted labels have shape {predicted.shape}, true labels {true.shape}: "
            "they must be equal; crop or resample one of them"
        )
    for name, array, least in (("predicted", predicted, 0), ("true", true, UNKNOWN)):
        if array.dtype.kind not in "iub":
            raise DataError(f"{name} labels are {array.dtype}: ids must be integers; convert them first")
        if array.size and (int(array.min()) < least or int(array.max()) > _LARGEST_ID):
            raise DataError(
                f"{name} labels hold values from {array.min()} to {array.max()}: ids must lie between "
                f"{least} and {_LARGEST_ID}; relabel them"
            )


def known_part(predicted: Labels, true: Labels) -> Labels:
    """The prediction with background wherever the truth is unknown; a copy only where needed."""
    unknown = true < 0
    if not unknown.any():
        return predicted
    return np.where(unknown, np.zeros((), predicted.dtype), predicted)


def _runs(predicted: Labels, true: Labels) -> tuple[Counts, Labels, Labels]:
    """Stretches of equal id pairs along the flat arrays: sorting these is far less than all pixels."""
    if predicted.size == 0:
        return np.zeros(0, np.int64), predicted, true
    changes = (predicted[1:] != predicted[:-1]) | (true[1:] != true[:-1])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    lengths = np.diff(starts, append=predicted.size)
    return lengths.astype(np.int64), predicted[starts], true[starts]


def _sums(index: npt.NDArray[Any], values: Counts, size: int) -> Counts:
    # Sums of pixel counts stay far below 2^53, so that float64 is exact here.
    return np.bincount(index.ravel(), weights=values, minlength=size).astype(np.int64)


def _positions(ids_of_cells: Counts) -> tuple[Counts, Indices]:
    ids = np.unique(np.append(ids_of_cells, 0))
    return ids, np.searchsorted(ids, ids_of_cells)


def _beside_unknown(predicted: Labels, true: Labels) -> Labels:
    """Ids of the predicted objects with a known pixel that touches an unknown one."""
    unknown = true < 0
    if not unknown.any():
        return np.zeros(0, predicted.dtype)
    near = unknown
    for axis in range(unknown.ndim):
        wider = near.copy()
        source, target = np.moveaxis(near, axis, 0), np.moveaxis(wider, axis, 0)
        target[1:] |= source[:-1]
        target[:-1] |= source[1:]
        near = wider
    beside = np.unique(predicted[near & ~unknown])
    return beside[beside > 0]
