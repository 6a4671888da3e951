"""Exact overlap-tile: any local function over an image of any size, tile by tile, without seams.

The image is thought of as an endless plane of mirrored copies. A tile is a window of that plane;
its output covers the window less the margin. Tiles start on multiples of the geometry's period, so
every output pixel is computed from the same input at the same pooling phase whatever the tiling:
equal to one pass over the whole image, up to the rounding of the function itself. Imports no torch.

Source: Ronneberger et al. 2015, figure 2 and section 2. Deviation: the paper's own step of 388 is
no multiple of 16 and does not reproduce the whole image; here the step is 384.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.geometry import AxisGeometry, Geometry, mirrored
from biounet.words import counted

Array = npt.NDArray[Any]
Measure = Callable[[Sequence[Any]], Any]
DEFAULT_TILE = 388  # the paper's output tile
_MOST_TILES = 256  # per axis, that the search for the cheapest plan considers


@dataclass(frozen=True)
class Tile:
    """One window: input start and stop in the mirrored plane, and the part of its output kept.

    ``target`` are slices of the whole output, ``kept`` the same pixels in the tile's own output.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    target: tuple[slice, ...]
    kept: tuple[slice, ...]


@dataclass(frozen=True)
class TilePlan:
    """All tiles of an image: equal in size, ``counts`` of them per axis, ``step`` apart."""

    size: tuple[int, ...]
    output: tuple[int, ...]
    input: tuple[int, ...]
    step: tuple[int, ...]
    counts: tuple[int, ...]
    geometry: Geometry

    def __len__(self) -> int:
        return math.prod(self.counts)

    @property
    def work(self) -> int:
        """Input pixels computed in all, which the time is close to proportional to."""
        return len(self) * math.prod(self.input)

    def __iter__(self) -> Iterator[Tile]:
        for index in np.ndindex(*self.counts):
            yield self.tile(index)

    def tile(self, index: Sequence[int]) -> Tile:
        """The tile at this place of the grid of ``counts``."""
        start, stop, target, kept = [], [], [], []
        for axis, place in enumerate(index):
            origin = place * self.step[axis]
            last = place == self.counts[axis] - 1
            end = self.size[axis] if last else origin + self.step[axis]
            first = origin - self.geometry.axes[axis].margin[0]
            start.append(first)
            stop.append(first + self.input[axis])
            target.append(slice(origin, end))
            kept.append(slice(0, end - origin))
        return Tile(tuple(start), tuple(stop), tuple(target), tuple(kept))

    def __str__(self) -> str:
        output, inputs = ("x".join(map(str, sides)) for sides in (self.output, self.input))
        return f"{counted(len(self), 'tile')} of {output} pixels (input {inputs})"


def plan_tiles(size: Sequence[int], geometry: Geometry, tile: int | Sequence[int] = DEFAULT_TILE) -> TilePlan:
    """Tiles whose output side is as near to ``tile`` as the geometry allows.

    Any ``tile`` >= 1 is taken; a side is never larger than the image needs. ``size``: the image's
    spatial size, each at least 1. Raises `UsageError` for sizes below 1, and where image, tile and geometry differ
    in their number of axes.
    """
    size = tuple(int(n) for n in size)
    wanted = (tile,) * len(size) if isinstance(tile, int) else tuple(tile)
    if len(size) != geometry.ndim or len(wanted) != geometry.ndim:
        raise UsageError(f"image of {len(size)} and tile of {len(wanted)} axes; the geometry has {geometry.ndim}")
    if min(size) < 1 or min(wanted) < 1:
        raise UsageError(f"image size {size} and tile {wanted} must be at least 1 pixel on every axis")
    outputs = tuple(map(_nearest_output, geometry.axes, size, wanted))
    return _plan(size, geometry, outputs)


def cheapest_tiles(
    size: Sequence[int], geometry: Geometry, limit: int, *, work: Measure | None = None, memory: Measure | None = None
) -> TilePlan:
    """The plan of least work in all among those whose tiles need at most ``limit`` of memory.

    ``work`` and ``memory`` of one tile are functions of its input size, given as one integer array
    an axis that broadcast against each other (see `inference.cost`); by default the number of input
    pixels. Equal work is decided by less memory. `UsageError` names the least that would fit.
    """
    size = tuple(int(n) for n in size)
    choices = [_useful_outputs(axis, n) for axis, n in zip(geometry.axes, size, strict=True)]
    inputs = np.meshgrid(
        *([n + sum(axis.margin) for n in outputs] for axis, outputs in zip(geometry.axes, choices, strict=True)),
        indexing="ij", sparse=True,
    )  # fmt: skip
    counts = np.meshgrid(
        *([_steps(axis, n, output)[1] for output in outputs]
          for axis, n, outputs in zip(geometry.axes, size, choices, strict=True)),
        indexing="ij", sparse=True,
    )  # fmt: skip
    needed = np.asarray((memory or _pixels)(inputs))
    total = np.where(needed <= limit, math.prod(counts) * np.asarray((work or _pixels)(inputs), np.float64), np.inf)
    cheapest = np.flatnonzero(total == total.min())
    if not np.isfinite(total.flat[cheapest[0]]):
        raise UsageError(f"a tile of {limit} input pixels is too small; the smallest possible has {needed.min()}")
    best = cheapest[np.argmin(needed.flat[cheapest])]
    place = np.unravel_index(best, total.shape)
    return _plan(size, geometry, tuple(outputs[i] for outputs, i in zip(choices, place, strict=True)))


def predict_tiled(
    function: Callable[[Array], Any],
    image: Array,
    geometry: Geometry,
    *,
    tile: int | Sequence[int] = DEFAULT_TILE,
    plan: TilePlan | None = None,
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Array:
    """Apply a local function to a whole image as if in one pass, tile by tile.

    ``function`` maps a batch (N, C, *input) to (N, K, *output) as ``geometry`` declares: numpy in,
    anything numpy can read out; the image's dtype is passed on. ``image``: (C, *spatial) or
    (*spatial), down to one pixel a side; ``tile``: side(s) of a tile's output, moved to the nearest
    possible, or a ``plan``. ``progress(done, all)`` is called after every batch.

    Returns (K, *spatial) in the dtype of the function's output. Raises `UsageError` where the
    function's output has not the size that the geometry declares.
    """
    image = np.asarray(image)
    if image.ndim == geometry.ndim:
        image = image[None]
    if image.ndim != geometry.ndim + 1:
        raise UsageError(f"image of shape {image.shape}; need (C, *spatial), {geometry.ndim} spatial axes")
    plan = plan or plan_tiles(image.shape[1:], geometry, tile)
    return predict_alike(function, [image], plan, batch=batch, progress=progress)[0]


def predict_alike(
    function: Callable[[Array], Any],
    images: Sequence[Array],
    plan: TilePlan,
    *,
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Array]:
    """`predict_tiled` of several images (C, *spatial) of one size; a batch may hold tiles of several."""
    results: list[Array] = []
    places = ((index, tile) for index in range(len(images)) for tile in plan)
    done, total = 0, len(images) * len(plan)
    while group := list(itertools.islice(places, batch)):
        inputs = np.stack([mirrored(images[index], t.start, t.stop) for index, t in group])
        outputs = np.asarray(function(inputs))
        if outputs.shape[2:] != plan.output or len(outputs) != len(group):
            raise UsageError(
                f"the function gave shape {outputs.shape} for an input of {inputs.shape}; "
                f"its geometry declares {(len(group), 'K', *plan.output)}"
            )
        results = results or [np.empty((outputs.shape[1], *plan.size), outputs.dtype) for _ in images]
        for (index, tile), output in zip(group, outputs, strict=True):
            results[index][(slice(None), *tile.target)] = output[(slice(None), *tile.kept)]
        done += len(group)
        if progress:
            progress(done, total)
    return results


def _plan(size: tuple[int, ...], geometry: Geometry, outputs: tuple[int, ...]) -> TilePlan:
    pairs = [_steps(axis, n, output) for axis, n, output in zip(geometry.axes, size, outputs, strict=True)]
    inputs = tuple(n + sum(axis.margin) for axis, n in zip(geometry.axes, outputs, strict=True))
    return TilePlan(size, outputs, inputs, tuple(s for s, _ in pairs), tuple(c for _, c in pairs), geometry)


def _steps(axis: AxisGeometry, size: int, output: int) -> tuple[int, int]:
    """Step and number of tiles of this output on an axis."""
    step = max(output // axis.period * axis.period, axis.period)
    return step, 1 if size <= output else 1 + math.ceil((size - output) / step)


def _pixels(size: Sequence[Any]) -> Any:
    return math.prod(size)


def _nearest_output(axis: AxisGeometry, size: int, wanted: int) -> int:
    whole = axis.output_size(axis.input_size(size))
    first = _first_output(axis)
    steps = max(0, round((wanted - first) / axis.period))
    return min(whole, first + steps * axis.period)


def _first_output(axis: AxisGeometry) -> int:
    """The smallest output that advances by a period, as a tile that is not the only one must."""
    first = axis.smallest - sum(axis.margin)
    return first + max(0, math.ceil((axis.period - first) / axis.period)) * axis.period


def _useful_outputs(axis: AxisGeometry, size: int) -> list[int]:
    """Output sizes worth trying, largest first: the smallest for each number of tiles."""
    outputs = [axis.output_size(axis.input_size(size))]
    first = _first_output(axis)
    rest = first % axis.period  # what a tile computes beyond its step; only the last one keeps it
    for count in range(2, _MOST_TILES + 1):
        needed = math.ceil((size + (count - 1) * rest) / count)
        output = first + max(0, math.ceil((needed - first) / axis.period)) * axis.period
        if output < outputs[-1]:
            outputs.append(output)
        if output == first:
            break
    if first < outputs[-1]:
        outputs.append(first)
    return outputs
