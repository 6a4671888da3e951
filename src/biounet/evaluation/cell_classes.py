"""Scores of objects class by class, where objects have classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fastremap
import numpy as np

from biounet.evaluation.objects import matching_scores, seg_of
from biounet.evaluation.overlap import UNKNOWN, Labels, overlap

Kinds = Mapping[int, str]


def cell_class_scores(
    predicted: Labels, true: Labels, kinds: tuple[Kinds, Kinds], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """`seg`, `pq`, `ap`, `f1` and counts of the objects of each class, under its name.

    ``predicted``, ``true``: ids (Z)YX, 0 background, -1 unknown in the truth. ``kinds``: the class of each
    object by id, of the prediction and of the truth. Objects of other classes are background here: one that
    was found but taken for another class is a miss in its class and spurious in the other. True objects
    without class are unknown.
    """
    result = {}
    for name in names:
        table = overlap(_only(predicted, kinds[0], name, 0), _only(true, kinds[1], name, UNKNOWN))
        matching = matching_scores(table)
        result[name] = {
            "seg": seg_of(table),
            "pq": matching["pq"]["0.50"],
            "ap": matching["ap"],
            "f1": matching["f1"],
            "objects": {"true": table.true_count, "predicted": table.predicted_count},
        }
    return result


def mean_class_pq(scores: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean of `pq` over the classes where it is defined; None where it is nowhere."""
    defined = [entry["pq"] for entry in scores.values() if entry["pq"] is not None]
    return float(np.mean(defined)) if defined else None


def _only(labels: Labels, kinds: Kinds, name: str, without: int) -> Labels:
    """Objects of one class; those of others become 0, those without class ``without``."""
    ids = [int(i) for i in fastremap.unique(labels)]
    table = {i: (i if kinds[i] == name else 0) if i in kinds else (i if i <= 0 else without) for i in ids}
    return np.asarray(fastremap.remap(np.asarray(labels, np.int32), table))
