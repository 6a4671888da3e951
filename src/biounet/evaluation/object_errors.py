"""What went wrong, by name: merges, splits, misses and spurious objects; and object by object.

A predicted object covers a true one when more than half of the true object lies in it, and is part of a
true one when more than half of its own known pixels lie in it. Then

- merges: for each predicted object that covers k > 1 true objects, k - 1;
- splits: for each true object that k > 1 predicted objects are part of, k - 1;
- misses: true objects of which the objects that cover it or are part of it hold at most half;
- spurious: predicted objects that cover none, are part of none and do not touch unknown pixels.

Arrays as in `biounet.evaluation.objects`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from biounet.evaluation.overlap import Indices, Labels, Overlap, overlap

Flags = npt.NDArray[np.bool_]


def object_errors(predicted: Labels, true: Labels) -> dict[str, int]:
    """Number of ``merges``, ``splits``, ``misses`` and ``spurious`` objects (see the module's text)."""
    return object_errors_of(overlap(predicted, true))


def object_errors_of(table: Overlap) -> dict[str, int]:
    """`object_errors` from the table."""
    found = links(table)
    return {
        "merges": _more_than_one(table.pairs.predicted[found.covers]),
        "splits": _more_than_one(table.pairs.true[found.part]),
        "misses": int(found.missed[1:].sum()),
        "spurious": int(found.spurious.sum()),
    }


class Links(NamedTuple):
    """Which overlaps count, as truth values: of pairs, true and predicted positions of the table.

    ``covers``: the predicted object covers more than half of the true one. ``part``: more than half of
    the predicted object lies in the true one. ``missed``: true objects not half of which is held by
    either. ``spurious``: predicted objects in neither, unless they touch unknown pixels.
    """

    covers: Flags
    part: Flags
    missed: Flags
    spurious: Flags


def links(table: Overlap) -> Links:
    """What every count and picture of objects' errors rests on."""
    pairs = table.pairs
    covers = 2 * pairs.shared > table.true_sizes[pairs.true]
    part = 2 * pairs.shared > table.predicted_sizes[pairs.predicted]
    linked = covers | part
    held = np.bincount(pairs.true[linked], weights=pairs.shared[linked], minlength=len(table.true_ids))
    spurious = ~table.touches_unknown
    spurious[0] = False
    spurious[pairs.predicted[linked]] = False
    return Links(covers, part, 2 * held <= table.true_sizes, spurious)


def object_table(predicted: Labels, true: Labels) -> list[dict[str, Any]]:
    """One row for each object, for a table or a CSV file.

    First the true objects by id, each with the predicted object of largest IoU (``predicted``, None where
    nothing overlaps); then the predicted objects that are nobody's best, with ``true`` None. Sizes in
    known pixels; ``iou`` 0 to 1; ``kind`` as in `kinds_of_objects`, "spurious" or None for predicted
    objects alone; ``touches_unknown`` tells which predicted objects are never false.
    """
    table = overlap(predicted, true)
    found = links(table)
    kinds = _kinds(table, found)
    partner, iou = _best_partners(table)
    rows = [_row(table, t, int(partner[t]), float(iou[t]), kinds[t]) for t in range(1, len(table.true_ids))]
    left = np.setdiff1d(np.arange(1, len(table.predicted_ids)), partner)
    return rows + [_row(table, 0, int(p), 0.0, "spurious" if found.spurious[p] else None) for p in left]


def kinds_of_objects(predicted: Labels, true: Labels) -> tuple[dict[int, str], npt.NDArray[np.int64]]:
    """For each true id "correct", "missed", "merged" or "split"; and the ids of spurious objects.

    An object is merged when the predicted object that covers it covers others too, split when several
    predicted objects are part of it. One that is both counts as merged. Spurious objects touch no
    unknown pixel.
    """
    table = overlap(predicted, true)
    found = links(table)
    of_true = dict(zip(table.true_ids[1:].tolist(), _kinds(table, found)[1:], strict=True))
    return of_true, table.predicted_ids[found.spurious]


def _best_partners(table: Overlap) -> tuple[Indices, Any]:
    """For each true position the predicted position of largest IoU (0 where none), and that IoU."""
    pairs = table.pairs
    partner = np.zeros(len(table.true_ids), np.intp)
    iou = np.zeros(len(table.true_ids))
    order = np.argsort(pairs.iou, kind="stable")  # the best is written last
    partner[pairs.true[order]] = pairs.predicted[order]
    iou[pairs.true[order]] = pairs.iou[order]
    return partner, iou


def _kinds(table: Overlap, found: Links) -> list[str]:
    """The kind of each true position; that of the background means nothing."""
    pairs, size = table.pairs, len(table.true_ids)
    covered = np.bincount(pairs.predicted[found.covers], minlength=len(table.predicted_ids))
    merged = np.zeros(size, bool)
    merged[pairs.true[found.covers & (covered[pairs.predicted] > 1)]] = True
    split = np.bincount(pairs.true[found.part], minlength=size) > 1
    return [str(kind) for kind in np.select([found.missed, merged, split], ["missed", "merged", "split"], "correct")]


def _row(table: Overlap, true: int, predicted: int, iou: float, kind: str | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "true": int(table.true_ids[true]) or None,
        "predicted": int(table.predicted_ids[predicted]) or None,
        "true_pixels": int(table.true_sizes[true]) if true else None,
        "predicted_pixels": int(table.predicted_sizes[predicted]) if predicted else None,
        "iou": iou,
        "touches_unknown": bool(table.touches_unknown[predicted]),
    }


def _more_than_one(owners: Indices) -> int:
    return len(owners) - len(np.unique(owners))
