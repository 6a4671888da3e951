"""Connected components with face connectivity, numbered by their first pixel in raster order."""

from __future__ import annotations

from typing import Any

import cc3d
import fastremap
import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError

CONNECTIVITY = {2: (4, 8), 3: (6, 26)}  # by faces, and by corners too; by number of axes

Labels = npt.NDArray[np.int32]


def components(array: npt.NDArray[Any]) -> Labels:
    """Components of equal non-zero values that touch by a face, as int32 ids 1..n, 0 elsewhere.

    ``array``: (Z)YX, boolean or integer. Values below zero (unknown) count as background. Ids run
    in raster order of each component's first pixel. Raises `UsageError` for other numbers of axes.
    """
    if array.ndim not in CONNECTIVITY:
        raise UsageError(f"components needs an array of 2 or 3 axes, got shape {array.shape}")
    values = array if array.dtype == bool else np.where(array > 0, array, 0)
    if values.dtype == bool:
        values = values.view(np.uint8)
    if values.size == 0:
        return np.zeros(array.shape, np.int32)
    found = cc3d.connected_components(
        np.ascontiguousarray(values), connectivity=CONNECTIVITY[array.ndim][0], out_dtype=np.uint32
    )
    return np.asarray(found.astype(np.int32))  # by faces cc3d numbers them so


def relabel_by_first_pixel(labels: Labels) -> Labels:
    """The same objects with ids 1..n in raster order of their first pixel; 0 and -1 are kept."""
    if labels.size == 0:
        return labels.astype(np.int32)
    ids, first = fastremap.unique(labels, return_index=True)
    order = ids[np.argsort(first, kind="stable")]
    order = order[order > 0]
    mapping = {int(old): new for new, old in enumerate(order, start=1)} | {0: 0, -1: -1}
    return np.asarray(fastremap.remap(labels, mapping, preserve_missing_labels=True), dtype=np.int32)
