"""Scores of objects: the Cell Tracking Challenge's, and those over thresholds of overlap.

IoU is the intersection over union of two objects on the known pixels. A predicted object that touches
unknown pixels is matched like any other, but is no false positive when unmatched (see `overlap`).
Arrays everywhere: ids of objects, 0 background, -1 unknown in the truth, any number of axes.
Scores that have no object to judge are None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from biounet.evaluation.overlap import Indices, Labels, Overlap, overlap

IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))

# Costs of the operations that mend a graph of detections: Matula et al. 2015, table 2.
_SPLIT, _ADD, _DELETE = 5, 10, 1


class Matches(NamedTuple):
    """Matched objects: their positions in the table's id lists, and the IoU of each pair."""

    true: Indices
    predicted: Indices
    iou: npt.NDArray[np.float64]

    def at(self, chosen: npt.NDArray[Any]) -> Matches:
        """The pairs at these indices, or where this is true."""
        return Matches(self.true[chosen], self.predicted[chosen], self.iou[chosen])


def seg(predicted: Labels, true: Labels) -> float | None:
    """The challenge's SEG: mean over true objects of the IoU with their match, 0 where there is none.

    The match of a true object is the predicted object that covers more than half of it. 0 to 1; None
    without true objects. Source: Maska et al. 2014, doi 10.1093/bioinformatics/btu080.
    """
    return seg_of(overlap(predicted, true))


def det(predicted: Labels, true: Labels) -> float | None:
    """The challenge's DET: 1 - min(D, D0) / D0, 0 to 1; None without true objects.

    D = 5 splits + 10 missing + 1 false detections, D0 = 10 true objects. A true object is detected by
    the predicted object that covers more than half of it; one that detects k > 1 of them has to be
    split k - 1 times. Source: Matula et al. 2015, doi 10.1371/journal.pone.0144959.
    """
    return det_of(overlap(predicted, true))


def ap(predicted: Labels, true: Labels, thresholds: Sequence[float] = IOU_THRESHOLDS) -> dict[str, float | None]:
    """TP / (TP + FP + FN) for each IoU threshold, keyed "0.50", ...; 0 to 1.

    TP are the pairs of an optimal matching of objects with at least this IoU. Source: Schmidt et al.
    2018 (StarDist), doi 10.1007/978-3-030-00934-2_30, who call it average precision.
    """
    return matching_scores(overlap(predicted, true), thresholds)["ap"]


def f1(predicted: Labels, true: Labels, thresholds: Sequence[float] = IOU_THRESHOLDS) -> dict[str, float | None]:
    """2 TP / (2 TP + FP + FN) for each IoU threshold, keyed "0.50", ...; 0 to 1. TP as for `ap`."""
    return matching_scores(overlap(predicted, true), thresholds)["f1"]


def pq(predicted: Labels, true: Labels, thresholds: Sequence[float] = IOU_THRESHOLDS) -> dict[str, float | None]:
    """Panoptic quality for each IoU threshold, keyed "0.50", ...: sum of IoU over TP / (TP + FP/2 + FN/2).

    0 to 1, TP as for `ap`. Source: Kirillov et al. 2019, doi 10.1109/CVPR.2019.00963, who ask for an IoU
    above 0.5; here a pair with exactly the threshold counts, as in StarDist.
    """
    return matching_scores(overlap(predicted, true), thresholds)["pq"]


def seg_of(table: Overlap) -> float | None:
    """`seg` from the table."""
    if table.true_count == 0:
        return None
    return float(_covering(table).iou.sum()) / table.true_count


def det_of(table: Overlap) -> float | None:
    """`det` from the table."""
    if table.true_count == 0:
        return None
    found = _covering(table)
    detected = np.unique(found.predicted)
    splits = len(found.true) - len(detected)
    cost = _SPLIT * splits + _ADD * (table.true_count - len(found.true)) + _DELETE * false_positives(table, detected)
    worst = _ADD * table.true_count
    return 1.0 - min(cost, worst) / worst


def matching_scores(table: Overlap, thresholds: Sequence[float] = IOU_THRESHOLDS) -> dict[str, dict[str, float | None]]:
    """`ap`, `f1` and `pq` for each threshold from the table: ``{"ap": {"0.50": ...}, ...}``."""
    scores: dict[str, dict[str, float | None]] = {"ap": {}, "f1": {}, "pq": {}}
    for threshold in thresholds:
        matched = matches(table, threshold)
        hits = len(matched.true)
        wrong = table.true_count - hits + false_positives(table, matched.predicted)
        name, judged = f"{threshold:.2f}", hits + wrong > 0
        scores["ap"][name] = hits / (hits + wrong) if judged else None
        scores["f1"][name] = 2 * hits / (2 * hits + wrong) if judged else None
        scores["pq"][name] = float(matched.iou.sum()) / (hits + wrong / 2) if judged else None
    return scores


def matches(table: Overlap, threshold: float = 0.5) -> Matches:
    """The matching of objects with IoU >= ``threshold`` > 0 that has most pairs, then most IoU.

    Above 0.5 each object has one candidate at most, so that only the few that share candidates are
    given to the solver of the assignment problem.
    """
    pairs = Matches(table.pairs.true, table.pairs.predicted, table.pairs.iou)
    pairs = pairs.at(pairs.iou >= threshold)
    shared = (np.bincount(pairs.true)[pairs.true] > 1) | (np.bincount(pairs.predicted)[pairs.predicted] > 1)
    if not shared.any():
        return pairs
    chosen = ~shared
    for group in _connected(pairs, np.flatnonzero(shared)):
        chosen[group[_assigned(pairs.at(group))]] = True
    return pairs.at(chosen)


def false_positives(table: Overlap, matched: Indices) -> int:
    """Predicted objects that are not among the matched positions and do not touch unknown pixels."""
    wrong = ~table.touches_unknown
    wrong[0] = False
    wrong[matched] = False
    return int(wrong.sum())


def _covering(table: Overlap) -> Matches:
    """Each true object with the predicted object that covers more than half of it, where there is one."""
    pairs = table.pairs
    covers = 2 * pairs.shared > table.true_sizes[pairs.true]
    return Matches(pairs.true[covers], pairs.predicted[covers], pairs.iou[covers])


def _connected(pairs: Matches, indices: Indices) -> list[Indices]:
    """The indices in groups that share no object with each other."""
    true, predicted = pairs.true[indices], pairs.predicted[indices]
    first = int(true.max()) + 1  # predicted objects are numbered behind the true ones
    size = first + int(predicted.max()) + 1
    graph = sparse.coo_array((np.ones(len(true)), (true, predicted + first)), shape=(size, size))
    group = sparse.csgraph.connected_components(graph, directed=False)[1][true]
    order = np.argsort(group, kind="stable")
    return np.split(indices[order], np.flatnonzero(np.diff(group[order])) + 1)


def _assigned(pairs: Matches) -> npt.NDArray[np.bool_]:
    """Which of the pairs are in an optimal matching."""
    true, row = np.unique(pairs.true, return_inverse=True)
    predicted, column = np.unique(pairs.predicted, return_inverse=True)
    # All IoU together weigh less than one pair, so that the number of pairs comes first.
    value = np.zeros((len(true), len(predicted)))
    value[row, column] = 1.0 + pairs.iou / (len(pairs.iou) + 1)
    chosen = np.zeros(value.shape, np.bool_)
    chosen[linear_sum_assignment(value, maximize=True)] = True
    return np.asarray(chosen[row, column])
