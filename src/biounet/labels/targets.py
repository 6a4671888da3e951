"""From a label image to what the network is trained on: the line between cells, and class ids.

Labels are int32, 0 background, -1 unknown. Carving is done after deformation, so that the line has
the same width everywhere. Knows nothing of weights, images or networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import fastremap
import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError

Labels = npt.NDArray[np.int32]
Task = Literal["instances", "classes"]

UNKNOWN = -1


def as_labels(labels: npt.NDArray[Any]) -> Labels:
    """``labels`` as int32; raises `DataError` for an array that does not hold integers."""
    array = np.asarray(labels)
    if array.dtype == np.int32:
        return array
    if array.dtype != bool and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"labels have dtype {array.dtype}; they must be integers: 0 background, -1 unknown")
    limits = np.iinfo(np.int32)
    for extreme in (int(array.min(initial=0)), int(array.max(initial=0))):
        if not limits.min <= extreme <= limits.max:
            raise DataError(f"label {extreme} does not fit into int32: renumber the objects")
    return array.astype(np.int32)


def carve(labels: npt.NDArray[Any], width: int = 2) -> Labels:
    """A copy of ``labels`` with a line of background between touching instances.

    ``labels``: integers of any shape, n-D, ids > 0 are instances. ``width`` is in pixels, and is
    the width of the line where two instances touch; in volumes in voxels along every axis, however far
    planes lie apart. The instance with the lower id loses
    ceil(width / 2) layers, the other floor(width / 2): a pixel becomes 0 when a different instance
    lies in the box of that radius around it. So diagonal contact counts, instances closer together
    than a radius are thinned too, and even widths do not depend on the numbering. From width 1 on
    no two instances share a face or a corner afterwards. Parts thinner than the line vanish.
    Unknown pixels stay as they are and carve nothing. Width 0 changes nothing.

    Ronneberger et al. 2015, section 3: the "separation border" between touching cells (computed
    there with morphological operations that are not given). Raises `UsageError` for width < 0.
    """
    array = as_labels(labels)
    if width < 0:
        raise UsageError(f"the width of the line between cells (={width}) must be at least 0 pixels")
    positive = array > 0
    highest = _window_extremum(array, (width + 1) // 2, np.maximum)
    lowest = _window_extremum(np.where(positive, array, np.iinfo(np.int32).max), width // 2, np.minimum)
    lost = positive & ((highest > array) | (lowest < array))
    return np.where(lost, np.int32(0), array)


def _window_extremum(values: Labels, radius: int, extremum: np.ufunc) -> Labels:
    """Largest or smallest value in the box of ``radius`` around each pixel (separable)."""
    result = values
    for axis in range(values.ndim if radius else 0):
        source, result = result, result.copy()
        for shift in range(1, radius + 1):
            lower = (slice(None),) * axis + (slice(None, -shift),)
            upper = (slice(None),) * axis + (slice(shift, None),)
            extremum(result[lower], source[upper], out=result[lower])
            extremum(result[upper], source[lower], out=result[upper])
    return result


def class_targets(labels: npt.NDArray[Any], *, task: Task, classes_of: Mapping[int, int] | None = None) -> Labels:
    """Class of each pixel, int32, shape of ``labels``: what the cross-entropy compares with.

    ``task`` "classes": labels are classes already and come back unchanged. ``task`` "instances":
    every id > 0 becomes 1, or ``classes_of[id]`` where several cell classes exist (a class from 1
    on, or -1 for a cell of unknown class). 0 stays background and -1 unknown.

    Raises `DataError` when an id has no class, `UsageError` for another task.
    """
    array = as_labels(labels)
    if task == "classes":
        return array.copy()
    if task != "instances":
        raise UsageError(f"task (={task!r}) must be 'instances' or 'classes'")
    if classes_of is None:
        return np.minimum(array, np.int32(1))
    table = {int(cell): int(kind) for cell, kind in classes_of.items()} | {0: 0, UNKNOWN: UNKNOWN}
    missing = [int(cell) for cell in fastremap.unique(array) if int(cell) not in table]
    if missing:
        raise DataError(f"instance {missing[0]} has no class: classes_of must name a class for every id")
    return np.asarray(fastremap.remap(array, table), dtype=np.int32)
