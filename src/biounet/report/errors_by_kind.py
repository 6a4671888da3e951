"""Which objects were merged, split, missed or made up: `object_errors`, object by object."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.evaluation.object_errors import links
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
    found, pairs = links(table), table.pairs
    size = len(table.true_ids)
    covered = np.bincount(pairs.predicted[found.covers], minlength=len(table.predicted_ids))
    merged = np.zeros(size, bool)
    merged[pairs.true[found.covers & (covered[pairs.predicted] > 1)]] = True
    split = np.bincount(pairs.true[found.part], minlength=size) > 1
    kinds = np.select([found.missed, merged, split], ["missed", "merged", "split"], "correct")
    of_true = {int(i): str(kind) for i, kind in zip(table.true_ids[1:], kinds[1:], strict=True)}
    return of_true, table.predicted_ids[found.spurious]
