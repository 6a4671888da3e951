"""Probabilities of any window of an image that is read in parts, as one pass over the whole would give them.

The same endless plane of mirrored copies as in `tiling`; here only the part of it that a window needs is
read. Also the check of seams: some windows across borders of tiles, computed again as one piece. Imports no
torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.geometry import mirror_indices
from biounet.inference.agreement import largest_difference, same_labels
from biounet.inference.averaging import View, views
from biounet.inference.engines import Engine
from biounet.inference.predict import softmax
from biounet.inference.tiling import TilePlan
from biounet.words import counted

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Place = Sequence[int]
Read = Callable[[Place, Place], Array]

_CHECKED = 32  # pixels about the side of a window that is checked
_TILES_A_CHECK, _MOST_CHECKS = 4, 8


@dataclass(frozen=True, eq=False)
class Source:
    """A normalised image: ``read(start, stop)`` gives float32 (C, *spatial) of a window inside ``shape``."""

    shape: tuple[int, ...]
    read: Read

    @classmethod
    def of(cls, image: Float32) -> Source:
        """An image (C, *spatial) in memory."""
        return cls(image.shape[1:], lambda start, stop: image[(slice(None), *map(slice, start, stop))])


def mirrored_window(source: Source, start: Place, stop: Place) -> Float32:
    """The window start..stop of the mirrored plane, (C, *window) as `geometry.mirrored` of the whole image."""
    places = [mirror_indices(a, e, n) for a, e, n in zip(start, stop, source.shape, strict=True)]
    low, high = [int(p.min()) for p in places], [int(p.max()) + 1 for p in places]
    window = source.read(low, high)
    for axis, (place, first, inside) in enumerate(zip(places, low, zip(start, stop, strict=True), strict=True), 1):
        if (first, first + window.shape[axis]) != inside:
            window = np.take(window, place - first, axis=axis)
    return np.ascontiguousarray(window)


def predict_window(
    engine: Engine, source: Source, start: Place, stop: Place, *, output: Place | None = None, tta: str = "none"
) -> Float32:
    """Probabilities of the window start..stop inside the image, float32 (K, *window).

    ``output``: least side of what is computed at once, so that windows of different size have one shape;
    averaged over views as `predict.predict_probabilities` does.
    """
    looks = views(tta, engine.geometry)
    sides = [e - a for a, e in zip(start, stop, strict=True)]
    sides = [max(pair) for pair in zip(sides, output or sides, strict=True)]
    if len(looks) > 1:  # a mirrored window begins anywhere between two multiples of the period
        sides = [side + axis.period - 1 for side, axis in zip(sides, engine.geometry.axes, strict=True)]
    total: Float32 | None = None
    for view in looks:
        found = view.undo(softmax(_logits(engine, source, view, start, stop, sides)))
        total = found if total is None else total + found
    assert total is not None
    return total if len(looks) == 1 else np.asarray(total / total.sum(axis=0), np.float32)


def _logits(engine: Engine, source: Source, view: View, start: Place, stop: Place, sides: Place) -> Float32:
    """Logits of the window in the view's own coordinates."""
    low, high = _in_view(view, source.shape, start, stop)
    axes = engine.geometry.axes
    if view.turn:
        sides = [*sides[:-2], sides[-1], sides[-2]]
    origin = [a // axis.period * axis.period for a, axis in zip(low, axes, strict=True)]
    needed = [max(side, e - o) for side, e, o in zip(sides, high, origin, strict=True)]
    first = [o - axis.margin[0] for o, axis in zip(origin, axes, strict=True)]
    size = engine.geometry.input_size(needed)
    shape = (*source.shape[:-2], source.shape[-1], source.shape[-2]) if view.turn else source.shape
    back = _in_view(view, shape, first, [f + n for f, n in zip(first, size, strict=True)], undo=True)
    batch = np.ascontiguousarray(view.apply(mirrored_window(source, *back))[None])
    logits = np.asarray(engine(batch)[0])
    kept = tuple(slice(a - o, e - o) for a, e, o in zip(low, high, origin, strict=True))
    return logits[(slice(None), *kept)]


def _in_view(view: View, shape: Place, start: Place, stop: Place, *, undo: bool = False) -> tuple[list[int], list[int]]:
    """Where a window lies in the view, or back; ``shape`` is that of what the window is given in."""
    turn = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2) if view.turn else tuple(range(len(shape)))
    if not undo:  # turned first, then mirrored
        shape, start, stop = ([values[axis] for axis in turn] for values in (shape, start, stop))
    ends = list(zip(shape, start, stop, view.mirror, strict=True))
    low = [n - e if mirror else a for n, a, e, mirror in ends]
    high = [n - a if mirror else e for n, a, e, mirror in ends]
    if undo:
        low, high = ([values[axis] for axis in turn] for values in (low, high))
    return low, high


@dataclass(frozen=True)
class SeamCheck:
    """What was found where tiles meet: the largest difference of a probability, and labels that differ.

    ``windows`` of ``pixels`` in all were computed again as one piece each; 0 windows where there is one tile.
    """

    windows: int
    pixels: int
    largest_difference: float
    labels_changed: int

    def __str__(self) -> str:
        if not self.windows:
            return "one tile, no seams"
        return (
            f"{counted(self.windows, 'window')} across seams computed again as one piece: largest "
            f"difference of a probability {self.largest_difference:.1e}, {self.labels_changed} of {self.pixels} "
            "labels changed"
        )

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, which knows no infinity: None in its place."""
        finite = math.isfinite(self.largest_difference)
        return {
            "windows": self.windows,
            "pixels": self.pixels,
            "largest_difference": self.largest_difference if finite else None,
            "labels_changed": self.labels_changed,
        }


def seam_windows(plan: TilePlan, *, seed: int = 0) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Windows inside the image across borders of tiles, chosen at random: one in four tiles has one, eight at most."""
    seams = [axis for axis, count in enumerate(plan.counts) if count > 1]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(min(_MOST_CHECKS, math.ceil(len(plan) / _TILES_A_CHECK)) if seams else 0):
        crossed = int(rng.choice(seams))
        start, stop = [], []
        for axis, (size, period) in enumerate(zip(plan.size, plan.geometry.period, strict=True)):
            half = max(1, _CHECKED // 2 // period) * period
            if axis == crossed:
                middle = int(rng.integers(1, plan.counts[axis])) * plan.step[axis]
            else:
                middle = int(rng.integers(0, size // period + 1)) * period
            start.append(max(0, middle - half))
            stop.append(min(size, middle + half))
            if start[-1] >= stop[-1]:
                start[-1] = max(0, (size - 1) // period * period)
                stop[-1] = size
        found.append((tuple(start), tuple(stop)))
    return found


def check_seams(engine: Engine, source: Source, plan: TilePlan, probabilities: Read, *, tta: str = "none") -> SeamCheck:
    """Compute `seam_windows` again and compare with the ``probabilities(start, stop)`` that tiles gave."""
    return compare_seams(_pairs(engine, source, plan, probabilities, tta))


def _pairs(
    engine: Engine, source: Source, plan: TilePlan, probabilities: Read, tta: str
) -> Iterator[tuple[Float32, Array]]:
    for start, stop in seam_windows(plan):
        yield predict_window(engine, source, start, stop, tta=tta), probabilities(start, stop)


def compare_seams(pairs: Iterator[tuple[Float32, Array]]) -> SeamCheck:
    """`SeamCheck` of pairs of probabilities (K, *window): as one piece, and from tiles.

    Numbers that are not finite, as where a tile is missing, are infinitely far off, and their labels changed.
    """
    windows = pixels = changed = 0
    largest = 0.0
    for whole, tiled in pairs:
        windows += 1
        pixels += math.prod(whole.shape[1:])
        largest = max(largest, largest_difference(whole, tiled))
        changed += whole[0].size - same_labels(whole, tiled, axis=0)
    return SeamCheck(windows, pixels, largest, changed)
