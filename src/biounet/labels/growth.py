"""Objects grown pixel by pixel in lock step: to split what touches, and to give back the line between.

Each pixel's result depends only on pixels a stated number of steps away (the reach), so blocks read with
their reach around them give what the whole image gives. Distances are counted in steps from face to face (L1).
"""

from __future__ import annotations

from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]


def grow(labels: Labels, into: Mask, steps: int) -> Labels:
    """Objects grown in lock step through the pixels of ``into``, at most ``steps`` from face to face.

    An unlabelled pixel takes, in the first step in which any face neighbour has a label, the lowest
    of its neighbours' labels. Labels outside ``into`` stay. Reach: ``steps``. Only the pixels of the
    last step are looked at in the next, so the work is that of the pixels gained.

    ``labels``: int32, 0 where there is no object; ``into``: bool, of the same shape (Z)YX. Returns int32 of that shape,
    a new array.
    """
    padded = np.pad(labels, 1)
    free = np.pad(into & (labels == 0), 1)  # unlabelled until the end of the step in which it is reached
    front = np.flatnonzero(_beside(free) & (padded > 0)) if steps > 0 else np.zeros(0, np.intp)
    flat, is_free = padded.reshape(-1), free.reshape(-1)
    offsets = _offsets(padded)
    for _ in range(steps):
        if not front.size:
            break
        values, reached = flat.take(front), []
        for offset in offsets:  # from one side no pixel is reached twice
            places = front + offset
            inside = np.flatnonzero(is_free.take(places))
            places, own = places.take(inside), values.take(inside)
            before = flat.take(places)
            new = before == 0
            flat[places] = np.minimum(own, before, out=own, where=~new)
            reached.append(places.compress(new))
        front = np.concatenate(reached)
        is_free[front] = False
    return padded[(slice(1, -1),) * labels.ndim].copy()


def give_back(labels: Labels, steps: int) -> Labels:
    """The line between touching objects given back: objects grown by at most ``steps``.

    Only narrow gaps are given back: background whose two nearest objects are d1 and d2 face steps
    away with ``d1 + d2 - 1 <= 2 * steps + 1`` (the gap's width), so that the outer edge of an
    object stays as it was found. Growing everywhere, or where the probability is not much below
    the threshold, scored lower on cells carved with a line of two pixels. Ties go to the lowest
    label. Reach: ``3 * steps``.

    ``labels``: int32 (Z)YX, 0 where there is no object. Returns int32 of that shape, the same array for 0 ``steps``.
    """
    if steps <= 0:
        return labels
    return grow(labels, _narrow_gaps(labels, 2 * steps + 1), steps)


def _narrow_gaps(labels: Labels, width: int) -> Mask:
    """Background between two different objects that is at most ``width`` pixels across, by face steps.

    Where the highest and the lowest label within ``distance`` differ, the second object is at most so far away.
    """
    highest, lowest = (np.pad(ids, 1, constant_values=none) for ids, none in _extremes(labels))
    spare = np.empty_like(highest)
    near = []  # by distance, from 1 on: whether any object is so near
    narrow = np.zeros(highest.shape, bool)
    for distance in range(1, width + 1):
        highest, spare = _spread(highest, np.maximum, spare), highest
        lowest, spare = _spread(lowest, np.minimum, spare), lowest
        nearest = width + 1 - distance  # as far as the first object may be
        if nearest > distance:
            near.append(highest > 0)
        elif nearest == distance:  # the second is no farther, so the first is not either
            narrow = lowest < highest
        else:
            narrow |= (lowest < highest) & near[nearest - 1]
    return np.asarray(narrow[(slice(1, -1),) * labels.ndim] & (labels == 0))


def _extremes(labels: Labels) -> list[tuple[npt.NDArray[Any], int]]:
    """Objects' ids twice, other pixels 0 and the dtype's largest number; in the smallest dtype that tells ids apart."""
    ids = np.maximum(labels, 0)
    if ids.max(initial=0) >= np.iinfo(np.uint16).max:
        ids, _ = fastremap.renumber(ids, preserve_zero=True)
    dtype = np.uint16 if ids.max(initial=0) < np.iinfo(np.uint16).max else np.int32
    ids, none = ids.astype(dtype), int(np.iinfo(dtype).max)
    return [(ids, 0), (np.where(ids > 0, ids, dtype(none)), none)]


def _spread(values: npt.NDArray[Any], extremum: np.ufunc, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The largest or smallest value of each pixel and its face neighbours, into ``out``; the border stays as it is."""
    np.copyto(out, values)
    source, result = values.reshape(-1), out.reshape(-1)
    for side in _offsets(values)[::2]:  # of the flat array, whose border of one pixel keeps lines apart
        extremum(result[side:], source[:-side], out=result[side:])
        extremum(result[:-side], source[side:], out=result[:-side])
    for axis in range(values.ndim):
        for end in (0, -1):
            border = (slice(None),) * axis + (end,)
            out[border] = values[border]
    return out


def _offsets(array: npt.NDArray[Any]) -> list[int]:
    """From a pixel to its face neighbours in the flat array: ahead and back, axis by axis."""
    return [sign * stride // array.itemsize for stride in array.strides for sign in (1, -1)]


def _beside(mask: Mask) -> Mask:
    """Pixels with a face neighbour in the mask."""
    result = np.zeros_like(mask)
    for axis in range(mask.ndim):
        ahead = (slice(None),) * axis + (slice(1, None),)
        behind = (slice(None),) * axis + (slice(None, -1),)
        result[ahead] |= mask[behind]
        result[behind] |= mask[ahead]
    return result
