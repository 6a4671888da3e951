"""Scores that compare pixel with pixel.

Convention for empty images: where neither array has a pixel of the class in question there is nothing
to score, and the value is undefined (None), to be left out of means. Where only one of them has, dice
and iou are 0. Without any known pixel everything is undefined.
"""

from __future__ import annotations

from collections.abc import Sequence

from biounet.errors import DataError
from biounet.evaluation.overlap import Labels, Overlap, overlap


def pixel_error(predicted: Labels, true: Labels) -> float | None:
    """Share of the known pixels where exactly one of the two is foreground (id above 0), 0 to 1.

    Arrays as in `overlap`. For class ids see `class_error`; for a two-valued mask they are the same.
    """
    return pixel_error_of(overlap(predicted, true))


def dice(predicted: Labels, true: Labels) -> float | None:
    """2 |P and T| / (|P| + |T|) of the two foregrounds (ids above 0), 0 to 1; None if both are empty.

    Arrays as in `overlap`. Source: Dice 1945, doi 10.2307/1932409.
    """
    return dice_of(overlap(predicted, true))


def iou(predicted: Labels, true: Labels) -> float | None:
    """|P and T| / |P or T| of the two foregrounds (ids above 0), 0 to 1; None if both are empty.

    Arrays as in `overlap`. Also known as the Jaccard index.
    """
    return iou_of(overlap(predicted, true))


def class_error(predicted: Labels, true: Labels) -> float | None:
    """Share of the known pixels with the wrong class, 0 to 1. Arrays of class ids as in `overlap`."""
    return class_error_of(overlap(predicted, true))


def class_scores(
    predicted: Labels, true: Labels, classes: Sequence[str] | None = None
) -> dict[str, dict[str, float | None]]:
    """Dice and iou of each class against all others: ``{name: {"dice": ..., "iou": ...}}``.

    Arrays of class ids as in `overlap`, class 0 the background, which is scored like any other.
    ``classes`` names the ids 0, 1, ...; by default they are named by their number, up to the largest
    that occurs. Raises `DataError` where an id has no name.
    """
    return class_scores_of(overlap(predicted, true), classes)


def pixel_error_of(table: Overlap) -> float | None:
    """`pixel_error` from the table."""
    differs = (table.true_index > 0) != (table.predicted_index > 0)
    return _ratio(int(table.counts[differs].sum()), table.pixels)


def dice_of(table: Overlap) -> float | None:
    """`dice` from the table."""
    shared, true, predicted = _foreground(table)
    return _ratio(2 * shared, true + predicted)


def iou_of(table: Overlap) -> float | None:
    """`iou` from the table."""
    shared, true, predicted = _foreground(table)
    return _ratio(shared, true + predicted - shared)


def class_error_of(table: Overlap) -> float | None:
    """`class_error` from the table."""
    differs = table.true_ids[table.true_index] != table.predicted_ids[table.predicted_index]
    return _ratio(int(table.counts[differs].sum()), table.pixels)


def class_scores_of(table: Overlap, classes: Sequence[str] | None = None) -> dict[str, dict[str, float | None]]:
    """`class_scores` from the table."""
    largest = int(max(table.true_ids[-1], table.predicted_ids[-1]))
    names = [str(k) for k in range(largest + 1)] if classes is None else list(classes)
    if largest >= len(names):
        raise DataError(
            f"class id {largest} has no name among the {len(names)} classes {names}: "
            f"ids must be 0 to {len(names) - 1}; name all classes or map the values"
        )
    true = dict(zip(table.true_ids.tolist(), table.true_sizes.tolist(), strict=True))
    predicted = dict(zip(table.predicted_ids.tolist(), table.predicted_sizes.tolist(), strict=True))
    same = table.true_ids[table.true_index] == table.predicted_ids[table.predicted_index]
    agreed = table.true_ids[table.true_index[same]]
    right = dict(zip(agreed.tolist(), table.counts[same].tolist(), strict=True))
    scores = {}
    for k, name in enumerate(names):
        shared, total = right.get(k, 0), true.get(k, 0) + predicted.get(k, 0)
        scores[name] = {"dice": _ratio(2 * shared, total), "iou": _ratio(shared, total - shared)}
    return scores


def _foreground(table: Overlap) -> tuple[int, int, int]:
    """Foreground pixels: shared, of the truth, of the prediction."""
    true = table.true_index > 0
    predicted = table.predicted_index > 0
    counts = table.counts
    return int(counts[true & predicted].sum()), int(counts[true].sum()), int(counts[predicted].sum())


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
