"""Which objects were merged, split, missed or made up: `object_errors`, object by object."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.evaluation.overlap import overlap


def kinds_of_objects(
    predicted: npt.NDArray[Any], true: npt.NDArray[Any]
) -> tuple[dict[int, str], npt.NDArray[np.int64]]:
    """For each true id "correct", "missed", "merged" or "split"; and the ids of spurious objects.

    Definitions as in `biounet.evaluation.object_errors`: an object is merged when the predicted
    object that covers it covers others too, split when several predicted objects are part of it.
    One that is both counts as merged. Spurious objects touch no unknown pixel.
    """
    table = overlap(predicted, true)
    pairs = table.pairs
    covers = 2 * pairs.shared > table.true_sizes[pairs.true]
    part = 2 * pairs.shared > table.predicted_sizes[pairs.predicted]
    linked = covers | part
    size = len(table.true_ids)
    covered = np.bincount(pairs.predicted[covers], minlength=len(table.predicted_ids))
    merged = np.zeros(size, bool)
    merged[pairs.true[covers & (covered[pairs.predicted] > 1)]] = True
    split = np.bincount(pairs.true[part], minlength=size) > 1
    held = np.bincount(pairs.true[linked], weights=pairs.shared[linked], minlength=size)
    missed = 2 * held <= table.true_sizes
    kinds = np.select([missed, merged, split], ["missed", "merged", "split"], "correct")
    alone = ~table.touches_unknown
    alone[0] = False
    alone[pairs.predicted[linked]] = False
    of_true = {int(i): str(kind) for i, kind in zip(table.true_ids[1:], kinds[1:], strict=True)}
    return of_true, table.predicted_ids[alone]
