"""The warping error: what is left after the truth's borders were bent towards the prediction.

Jain et al. 2010, doi 10.1109/CVPR.2010.5539950. The truth is changed pixel by pixel into the prediction,
but only at simple points, so that its topology stays. Displaced borders vanish that way; a merge, a split, and
an object or a hole that the prediction lacks stay as a few differing pixels; one that it adds as its whole area.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from biounet.errors import UsageError
from biounet.evaluation.overlap import Labels, check_pair, known_part
from biounet.evaluation.simple_points import SimplePoints, neighbour_offsets

Mask = npt.NDArray[np.bool_]


def warping_error(predicted: Labels, true: Labels, *, largest_shift_px: float | None = None) -> float | None:
    """Differing pixels that remain after warping, as a share of all known pixels, 0 to 1.

    ``predicted``, ``true``: ids, (Z)YX, 0 background, -1 unknown in the truth; of class masks pass what
    is inside as 1. Touching objects are first parted by a line (`parted`). Foreground is connected by
    faces, what lies beyond the image counts as background, unknown pixels never change. The smallest
    possible error is hard to find; this, like every practical value, is an upper bound of it. The
    challenge's program (Fiji) stops when no differing pixel is simple, which leaves a thin line that lies
    further off than it is wide; here such places are tried again (`rewarped`).

    ``largest_shift_px`` is the geometric constraint, the paper's mask: truth may change only at pixels
    that far, at most, from its borders. Default no constraint, as in the challenge's program (Fiji).
    None where no pixel is known. Raises `UsageError` for arrays of other than 2 or 3 axes.
    """
    check_pair(predicted, true)
    if true.ndim not in (2, 3):
        raise UsageError(f"warping error needs arrays of 2 or 3 axes, got shape {true.shape}")
    known = true >= 0
    if not known.any():
        return None
    target = parted(known_part(predicted, true))
    source = parted(np.where(known, true, np.zeros((), true.dtype)))
    # Unknown pixels are background in both, so that they never have to change.
    allowed = np.ones(true.shape, np.bool_)
    if largest_shift_px is not None:
        allowed = _distance_to_border(source) <= largest_shift_px
    result = rewarped(warped(source, target, allowed), target, allowed)
    return float(np.count_nonzero(result != target) / np.count_nonzero(known))


def parted(labels: Labels) -> Mask:
    """Foreground of a label array, less a line of one pixel where two ids touch by a face.

    The pixel that comes first in raster order is taken away. (Z)YX to booleans of the same shape.
    """
    inside = labels > 0
    result = inside.copy()
    for axis in range(labels.ndim):
        ids, first = np.moveaxis(labels, axis, 0), np.moveaxis(result, axis, 0)
        first[:-1] &= ~((ids[:-1] != ids[1:]) & (ids[:-1] > 0) & (ids[1:] > 0))
    return result


def warped(source: Mask, target: Mask, allowed: Mask) -> Mask:
    """``source`` changed towards ``target`` by flips of simple points where ``allowed``; a new array.

    (Z)YX booleans. Each pixel flips once at most; a pixel is tried again when a neighbour has flipped.
    """
    padded = np.pad(source, 1)
    differs = bytearray(np.pad((source != target) & allowed, 1).tobytes())
    values = bytearray(padded.tobytes())
    strides = [int(step) for step in np.cumprod((1, *padded.shape[:0:-1]))[::-1]]
    steps = [sum(o * s for o, s in zip(offset, strides, strict=True)) for offset in neighbour_offsets(source.ndim)]
    simple = SimplePoints(source.ndim)
    waiting = deque(np.flatnonzero(np.frombuffer(differs, np.uint8)).tolist())
    queued = bytearray(differs)
    while waiting:
        here = waiting.popleft()
        queued[here] = 0
        pattern = 0
        for bit, step in enumerate(steps):
            if values[here + step]:
                pattern |= 1 << bit
        if not simple[pattern]:
            continue
        values[here] ^= 1
        differs[here] = 0
        for step in steps:
            there = here + step
            if differs[there] and not queued[there]:
                queued[there] = 1
                waiting.append(there)
    result = np.frombuffer(values, np.uint8).reshape(padded.shape) > 0
    return result[(slice(1, -1),) * source.ndim].copy()


def rewarped(source: Mask, target: Mask, allowed: Mask) -> Mask:
    """``source`` brought nearer to ``target`` where `warped` left a border displaced; a new array.

    A line of background cannot step over foreground that both have in common. It leaves differences of
    both kinds: background where it was, foreground where it should be (a merge, a split or a hole leaves
    one kind). Around such a place the background is first widened by 1, 2, 4 and 8 pixels, by flips of
    simple points, and then given back in the target's shape; kept where fewer pixels differ afterwards.
    """
    touching = np.ones((3,) * source.ndim, np.bool_)
    result = source
    for width in (1, 2, 4, 8):
        differs = result != target
        # Places that do not touch each other cannot influence each other's flips.
        around = ndimage.binary_dilation(differs, touching, iterations=width)
        places, count = ndimage.label(around, touching)
        displaced = np.isin(np.arange(count + 1), places[differs & target])
        displaced &= np.isin(np.arange(count + 1), places[differs & ~target])
        if not displaced.any():
            continue
        thinner = target & ~displaced[places]
        trial = warped(warped(result, thinner, allowed), target, allowed)
        before = np.bincount(places[differs], minlength=count + 1)
        after = np.bincount(places[trial != target], minlength=count + 1)
        result = np.where((displaced & (after < before))[places], trial, result)
    return result


def _distance_to_border(mask: Mask) -> npt.NDArray[np.float64]:
    """Distance in pixels of each pixel to the nearest one of the other value (infinite without any)."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf)
    distance = ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)
    return np.asarray(distance, np.float64)
