"""Scores of the segmentation as a partition: do two pixels that belong together stay together?

After Arganda-Carreras et al. 2015, doi 10.3389/fnana.2015.00142. With p_ij the share of pixels that lie
in predicted segment i and true segment j, s_i and t_j its row and column sums:

    V_rand = sum p_ij^2  / (alpha sum s_i^2 + (1 - alpha) sum t_j^2)
    V_info = I(S; T)     / ((1 - alpha) H(S) + alpha H(T)),            alpha = 0.5

Both are F-scores of a split part (lowered by cutting a true segment in two) and a merge part (lowered by
joining two). Only pixels inside a true segment count ("foreground-restricted"). A predicted background
pixel there is a segment of its own, as in the challenge's program; scikit-image takes all of them as one
segment, and leaves out the pairing of a pixel with itself, which the formula of the paper includes.

Thinning: a broad predicted border should cost nothing, so before the comparison the cells flood it.
The challenge's program (Fiji) floods by a classic watershed with 4-neighbours, which leaves a dam of one
pixel. Here each border pixel goes to the nearest cell (Euclidean distance) and no dam is left, so that no
pixel of a true segment stays background when there is any cell at all, in 2D and 3D alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.errors import DataError
from biounet.evaluation.overlap import Counts, Labels, Overlap, check_pair, known_part, overlap
from biounet.labels.components import components

PROBABILITY_THRESHOLDS = tuple(k / 10 for k in range(1, 10))


class Parts(NamedTuple):
    """An F-score and its two parts, each 0 to 1 with 1 for a perfect prediction; None if undefined."""

    score: float | None
    split: float | None
    merge: float | None


_UNDEFINED = Parts(None, None, None)


def v_rand(predicted: Labels, true: Labels) -> Parts:
    """Rand F-score with the predicted borders thinned (see the module's text).

    ``predicted``: ids of the cells, 0 the border; ``true``: ids, 0 outside all segments, -1 unknown; any
    number of axes. Of class masks pass the components (`biounet.evaluation.scores.segments_of`).
    Undefined where the truth has no segment; exactly 1 for a perfect prediction.
    """
    return rand_parts(overlap(flooded(predicted, true), true))


def v_info(predicted: Labels, true: Labels) -> Parts:
    """Information-theoretic F-score with the predicted borders thinned; arrays as for `v_rand`.

    Where truth and prediction are one segment each, all entropies are 0 and the score is 1.
    """
    return information_parts(overlap(flooded(predicted, true), true))


def rand_error(
    predicted: npt.NDArray[np.generic],
    true: Labels,
    *,
    thresholds: Sequence[float] = PROBABILITY_THRESHOLDS,
) -> float | None:
    """1 - the Rand F-score without thinning, 0 to 1; the ISBI 2012 challenge's first Rand error.

    ``predicted``: ids (integers), or the probability of being inside a cell (floats, 0 to 1, in the shape
    of ``true``), from which the best of the ``thresholds`` is taken, cells being the face-connected
    components of ``probability > threshold``. ``true`` as for `v_rand`. Undefined without true segments.
    """
    if predicted.dtype.kind != "f":
        score = rand_parts(overlap(predicted, true)).score
        return None if score is None else 1.0 - score
    if predicted.shape != true.shape:
        raise DataError(
            f"probabilities of the inside class have shape {predicted.shape}, true labels {true.shape}: "
            "they must be equal; give the one class alone"
        )
    inside = np.where(true < 0, np.zeros((), predicted.dtype), predicted)
    scores = [rand_parts(overlap(components(inside > t), true)).score for t in thresholds]
    defined = [score for score in scores if score is not None]
    return 1.0 - max(defined) if defined else None


def rand_parts(table: Overlap) -> Parts:
    """Rand F-score, split and merge part of a table, without thinning."""
    shared, predicted, true, alone = _segments(table)
    if len(true) == 0:
        return _UNDEFINED
    # Integers, hence exactly 1 for a perfect prediction in whatever order its ids come.
    both = _squares(shared) + alone
    of_predicted, of_true = _squares(predicted) + alone, _squares(true)
    return Parts(2 * both / (of_predicted + of_true), both / of_true, both / of_predicted)


def information_parts(table: Overlap) -> Parts:
    """Information-theoretic F-score, split and merge part of a table, without thinning."""
    shared, predicted, true, _ = _segments(table)
    if len(true) == 0:
        return _UNDEFINED
    total = int(true.sum())
    # Times the number of pixels; a segment of one pixel adds 1 log 1 = 0, so `alone` is not needed.
    whole = total * math.log(total)
    of_predicted, of_true = whole - _logs(predicted), whole - _logs(true)
    mutual = max(0.0, of_predicted + of_true - (whole - _logs(shared)))
    return Parts(_share(2 * mutual, of_predicted + of_true), _share(mutual, of_predicted), _share(mutual, of_true))


def flooded(predicted: Labels, true: Labels) -> Labels:
    """The prediction with its background given to the nearest cell, at all pixels inside true segments.

    Arrays as for `v_rand`. Other background pixels stay, since no foreground-restricted score sees them;
    predicted pixels where the truth is unknown become background and flood nothing.
    """
    check_pair(predicted, true)
    cells = known_part(predicted, true)
    dry = (true > 0) & (cells == 0)
    if not dry.any() or not cells.any():
        return cells
    nearest = ndimage.distance_transform_edt(cells == 0, return_distances=False, return_indices=True)
    result = cells.copy()
    result[dry] = cells[tuple(axis[dry] for axis in nearest)]
    return result


def _segments(table: Overlap) -> tuple[Counts, Counts, Counts, int]:
    """Within true segments: pixels of each overlap, predicted segment, true segment; lone pixels."""
    inside = table.true_index > 0
    predicted, counts = table.predicted_index[inside], table.counts[inside]
    sizes = np.bincount(predicted, weights=counts, minlength=1).astype(np.int64)
    return counts[predicted > 0], sizes[1:][sizes[1:] > 0], table.true_sizes[1:], int(sizes[0])


def _squares(counts: Counts) -> int:
    return sum(count * count for count in counts.tolist())  # of Python's integers, which do not overflow


def _logs(counts: Counts) -> float:
    # Correctly rounded, so that equal sizes give equal sums in whatever order they come.
    return math.fsum(count * math.log(count) for count in counts.tolist())


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 1.0
