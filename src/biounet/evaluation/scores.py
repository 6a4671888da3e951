"""All scores of one image, under the names they have in JSON.

What they mean for the two kinds of labels:

| name | instances (ids) | classes (class ids, 0 the background) |
|---|---|---|
| pixel_error | foreground against background | wrong class |
| dice, iou | foreground against background | mean over the classes above 0 that occur |
| classes | seg, pq, ap, f1 and counts of each class of objects, where they have classes | dice and iou of each class, the background too |
| rand_error, v_rand, v_info, seg, det, pq, pq_by_iou, ap, f1, errors, objects | the ids as given | the face-connected components of all classes above 0 together |
| warping_error | foreground, touching ids parted by a line | all classes above 0 together |

Pixels where the truth is -1 are unknown and take no part in anything. None: nothing there to score.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.evaluation import object_errors, objects, pixels, rand
from biounet.evaluation.boundaries import warping_error
from biounet.evaluation.cell_classes import Kinds, cell_class_scores
from biounet.evaluation.overlap import Labels, Overlap, check_pair, known_part, overlap
from biounet.labels.components import components

Task = Literal["instances", "classes"]
Scores = dict[str, Any]

LOWER_IS_BETTER = frozenset({"pixel_error", "rand_error", "warping_error", "merges", "splits", "misses", "spurious"})


def evaluate_pair(
    predicted: Labels,
    true: Labels,
    *,
    task: Task,
    probabilities: npt.NDArray[np.floating[Any]] | None = None,
    classes: Sequence[str] | None = None,
    warping: bool = True,
    kinds: tuple[Kinds, Kinds] | None = None,
    unscored: Sequence[str] = (),
) -> Scores:
    """All scores of one predicted label image against the truth (see the module's text).

    ``predicted``, ``true``: (Z)YX integers; 0 background, above it ids of objects (task "instances") or
    classes (task "classes"), -1 in the truth: unknown. ``probabilities``: (C,)(Z)YX, 0 to 1, of all
    classes with the background first, or of the inside alone; `rand_error` then takes the best of nine
    thresholds instead of the labels. ``classes``: names of the class ids 0, 1, ... ``warping``: whether
    to compute `warping_error`, the one slow score. ``kinds``: of instances, the name of the class of each
    object by id, of the prediction and of the truth; ``classes`` are then the names to score. ``unscored``: of classes
    of pixels those that the annotation never has: their pixels are wrong, their own dice and iou undefined.

    Values are float, int, dict or None (undefined), ready for JSON. Besides the scores, ``objects``
    counts the ``true`` and ``predicted`` objects. Raises `DataError` for arrays that do not fit, and
    `UsageError` for another task.
    """
    check_pair(predicted, true)
    predicted = known_part(predicted, true)
    cells, truth = segments_of(predicted, task), segments_of(true, task)
    table = overlap(cells, truth)
    scores = _class_scores(predicted, true, classes, unscored) if task == "classes" else _foreground_scores(table)
    if task == "instances" and kinds is not None:
        scores["classes"] = cell_class_scores(predicted, true, kinds, classes or ())
    scores |= _partition_scores(cells, truth, probabilities)
    if warping:
        scores["warping_error"] = warping_error(cells, truth)
    return scores | _object_scores(table)


def segments_of(labels: Labels, task: Task) -> Labels:
    """What counts as one segment: the ids as given, or the components of a class image.

    ``labels``: (Z)YX. For "classes" the face-connected components of everything above class 0, as int32
    ids in raster order, with -1 kept; for "instances" the array itself.
    """
    if task == "instances":
        return labels
    if task != "classes":
        raise UsageError(f'task (={task!r}) must be "instances" or "classes"')
    segments = components(labels > 0)
    segments[labels < 0] = -1
    return segments


def inside_probability(
    probabilities: npt.NDArray[np.floating[Any]], shape: tuple[int, ...]
) -> npt.NDArray[np.floating[Any]]:
    """Probability of any class but the background, in the ``shape`` of the labels.

    ``probabilities``: that shape already (returned as it is), or one axis more in front for the classes.
    Raises `DataError` for other shapes.
    """
    if probabilities.shape == shape:
        return probabilities
    if probabilities.shape[1:] == shape:
        return np.asarray(1 - probabilities[0])
    raise DataError(
        f"probabilities have shape {probabilities.shape}, labels {shape}: they must be equal, or have one "
        "axis of classes in front; predict again with --save labels,probabilities"
    )


def _foreground_scores(table: Overlap) -> Scores:
    return {
        "pixel_error": pixels.pixel_error_of(table),
        "dice": pixels.dice_of(table),
        "iou": pixels.iou_of(table),
    }


def _class_scores(predicted: Labels, true: Labels, classes: Sequence[str] | None, unscored: Sequence[str]) -> Scores:
    table = overlap(predicted, true)
    by_class = pixels.class_scores_of(table, classes)
    by_class |= {name: {"dice": None, "iou": None} for name in unscored}
    foreground = list(by_class.values())[1:]
    return {
        "pixel_error": pixels.class_error_of(table),
        "dice": _mean(entry["dice"] for entry in foreground),
        "iou": _mean(entry["iou"] for entry in foreground),
        "classes": by_class,
    }


def _partition_scores(cells: Labels, truth: Labels, probabilities: npt.NDArray[np.floating[Any]] | None) -> Scores:
    source = cells if probabilities is None else inside_probability(probabilities, truth.shape)
    thinned = overlap(rand.flooded(cells, truth), truth)
    return {
        "rand_error": rand.rand_error(source, truth),
        "v_rand": rand.rand_parts(thinned).score,
        "v_info": rand.information_parts(thinned).score,
    }


def _object_scores(table: Overlap) -> Scores:
    matching = objects.matching_scores(table)
    return {
        "seg": objects.seg_of(table),
        "det": objects.det_of(table),
        "pq": matching["pq"]["0.50"],
        "pq_by_iou": matching["pq"],
        "ap": matching["ap"],
        "f1": matching["f1"],
        "errors": object_errors.object_errors_of(table),
        "objects": {"true": table.true_count, "predicted": table.predicted_count},
    }


def _mean(values: Any) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
