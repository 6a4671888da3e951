"""Integers only: what a network of unpadded convolutions does to sizes and positions, per axis.

Such a network is a local operator on a grid. Four facts describe it on each axis:

- ``margin``: pixels lost before and after, so ``output = input - sum(margin)``, and output pixel
  ``i`` lies over input pixel ``i + margin[0]``;
- ``period``: pooling makes the operator commute with shifts by multiples of the period only;
- ``smallest``: the smallest admissible input; all others are ``smallest + k * period``;
- ``reach``: how far before and after its own position an output pixel may depend on the input.
  Through the phase of the pooling the reach is larger than the margin.

Knows nothing of arrays' contents, of torch, or of any particular network's weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError

Pair = tuple[int, int]


@dataclass(frozen=True)
class AxisGeometry:
    """Sizes and reach of a local operator on one axis, in pixels (see the module's text)."""

    margin: Pair
    period: int
    smallest: int
    reach: Pair

    def __post_init__(self) -> None:
        if self.period < 1 or min(self.margin) < 0 or self.smallest <= sum(self.margin):
            raise UsageError(
                f"geometry {self} is impossible: period must be at least 1, margins at least 0, "
                "and smallest larger than both margins together"
            )

    def is_admissible(self, size: int) -> bool:
        """Whether an input of ``size`` pixels divides evenly at every level."""
        return size >= self.smallest and (size - self.smallest) % self.period == 0

    def admissible(self, at_least: int) -> int:
        """The smallest admissible input size that is not below ``at_least``."""
        steps = max(0, math.ceil((at_least - self.smallest) / self.period))
        return self.smallest + steps * self.period

    def output_size(self, size: int) -> int:
        """Output size of an admissible input; raises `UsageError` for other sizes."""
        if not self.is_admissible(size):
            raise UsageError(
                f"input size {size} is not admissible; sizes are {self.smallest} + k * {self.period}, "
                f"the next one is {self.admissible(size)}"
            )
        return size - sum(self.margin)

    def input_size(self, output: int) -> int:
        """The smallest admissible input whose output has at least ``output`` pixels."""
        return self.admissible(output + sum(self.margin))


@dataclass(frozen=True)
class Geometry:
    """`AxisGeometry` for each spatial axis, in the order of the array, (Z)YX."""

    axes: tuple[AxisGeometry, ...]

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.axes)

    @property
    def margin(self) -> tuple[Pair, ...]:
        """Pixels lost before and after, per axis."""
        return tuple(axis.margin for axis in self.axes)

    @property
    def period(self) -> tuple[int, ...]:
        """Shifts by multiples of this commute with the operator, per axis."""
        return tuple(axis.period for axis in self.axes)

    @property
    def reach(self) -> tuple[Pair, ...]:
        """Largest distance of dependence before and after a pixel, per axis."""
        return tuple(axis.reach for axis in self.axes)

    @property
    def smallest(self) -> tuple[int, ...]:
        """Smallest admissible input, per axis."""
        return tuple(axis.smallest for axis in self.axes)

    def is_admissible(self, size: Sequence[int]) -> bool:
        """Whether an input of this spatial size can be computed."""
        return all(axis.is_admissible(n) for axis, n in zip(self.axes, size, strict=True))

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Output size of an admissible input size, per axis."""
        return tuple(axis.output_size(n) for axis, n in zip(self.axes, size, strict=True))

    def input_size(self, output: Sequence[int]) -> tuple[int, ...]:
        """The smallest admissible input for at least this output, per axis."""
        return tuple(axis.input_size(n) for axis, n in zip(self.axes, output, strict=True))


def pointwise_geometry(ndim: int = 2) -> Geometry:
    """Geometry of an operator that looks at each pixel alone."""
    return Geometry((AxisGeometry((0, 0), 1, 1, (0, 0)),) * ndim)


def unet_geometry(
    depth: int = 4,
    ndim: int = 2,
    *,
    pooling: Sequence[Sequence[int]] | None = None,
    stem: int | Sequence[int] = 1,
) -> Geometry:
    """Geometry of the U-Net: two unpadded 3x3 convolutions a level, ``depth`` poolings.

    ``pooling`` gives for each level, from the top, the factor on each axis (2, or 1 where an axis
    is not pooled at that level, as thick slices want it); default 2 everywhere. ``stem``: pixels
    that the network takes together before its first level and parts again behind its last, one
    number or one an axis. For depth 4 (Ronneberger et al. 2015, figure 1): margin 92 a side,
    period 16, smallest input 188, reach 107.
    """
    levels = check_pooling(depth, ndim, pooling)
    factors = per_axis(stem, ndim, "stem")
    axes = (_unet_axis([level[axis] for level in levels]) for axis in range(ndim))
    return Geometry(tuple(_coarser(axis, factor) for axis, factor in zip(axes, factors, strict=True)))


def common_geometry(geometries: Sequence[Geometry]) -> Geometry:
    """Geometry of several operators over the same pixels, each given the middle of the input as far as it needs.

    The margin is the largest of all on each side, the period the least common multiple, and an input is
    admissible when what each operator is given of it is. Raises `UsageError` where no input is.
    """
    if not geometries or len({geometry.ndim for geometry in geometries}) > 1:
        raise UsageError(f"geometries of {[g.ndim for g in geometries]} axes: give at least one, all of as many axes")
    return Geometry(tuple(_common_axis(axes) for axes in zip(*(g.axes for g in geometries), strict=True)))


def _common_axis(axes: Sequence[AxisGeometry]) -> AxisGeometry:
    margin = (max(axis.margin[0] for axis in axes), max(axis.margin[1] for axis in axes))
    reach = (max(axis.reach[0] for axis in axes), max(axis.reach[1] for axis in axes))
    period = math.lcm(*(axis.period for axis in axes))
    cuts = [sum(margin) - sum(axis.margin) for axis in axes]
    least = max(axis.smallest + cut for axis, cut in zip(axes, cuts, strict=True))
    for size in range(least, least + period):
        if all(axis.is_admissible(size - cut) for axis, cut in zip(axes, cuts, strict=True)):
            return AxisGeometry(margin, period, size, reach)
    sizes = ", ".join(f"{axis.smallest + cut} + k * {axis.period}" for axis, cut in zip(axes, cuts, strict=True))
    raise UsageError(f"no size of an image suits all these networks: their inputs are {sizes}; leave some out")


@dataclass(frozen=True)
class Frame:
    """How a network is framed on one axis so that it gives back as many pixels as it takes.

    ``cut``: input pixels thrown away before and after; ``pad``: output pixels put back, which stand for
    nothing. Whoever tiles with such a network throws away ``halo`` pixels on either side of each output.
    Input sizes are ``smallest + k * period``, and what is left without the halos is a multiple of the
    period: so tiles laid side by side are exact, and those whose first lies at the image's origin compute
    what `inference.tiling` computes.
    """

    cut: Pair
    pad: Pair
    halo: int
    smallest: int
    period: int


def frame_of(axis: AxisGeometry) -> Frame:
    """The frame with the smallest halo for an axis; U-Net of depth 4: halo 96, sizes 208 + k * 16."""
    margin, period = axis.margin, axis.period
    for before in range(max(0, margin[1] - margin[0]), margin[1] + 2 * period):
        halo = margin[0] + before
        after = (2 * halo - before - axis.smallest) % period
        if margin[1] + after <= halo:
            break
    least = max(2 * halo + 1, axis.smallest + before + after)
    smallest = -(-(least - 2 * halo) // period) * period + 2 * halo
    return Frame((before, after), (margin[0] + before, margin[1] + after), halo, smallest, period)


def per_axis(value: int | Sequence[int], ndim: int, name: str) -> tuple[int, ...]:
    """One number an axis, given as that or as one for all; `UsageError` with ``name`` for anything else."""
    values = (value,) * ndim if isinstance(value, int) else tuple(value)
    if len(values) != ndim or min(values) < 1:
        raise UsageError(f"{name} (={value}) must be one number, or one an axis ({ndim}), each at least 1")
    return values


def _coarser(axis: AxisGeometry, factor: int) -> AxisGeometry:
    """An operator on blocks of ``factor`` pixels, each block's output laid out over its own pixels."""
    margin, reach = ((factor * before, factor * after) for before, after in (axis.margin, axis.reach))
    within = factor - 1  # from the first pixel of a block to its last
    return AxisGeometry(margin, factor * axis.period, factor * axis.smallest, (reach[0] + within, reach[1] + within))


def check_pooling(depth: int, ndim: int, pooling: Sequence[Sequence[int]] | None) -> tuple[tuple[int, ...], ...]:
    """The pooling factors per level and axis, defaults filled in, or `UsageError`."""
    if depth < 0 or ndim not in (2, 3):
        raise UsageError(f"depth (={depth}) must be at least 0 and ndim (={ndim}) 2 or 3")
    levels = ((2,) * ndim,) * depth if pooling is None else tuple(tuple(level) for level in pooling)
    if len(levels) != depth or any(len(v) != ndim or not set(v) <= {1, 2} for v in levels):
        raise UsageError(f"pooling (={levels}) must give {depth} levels (the depth) of {ndim} factors, each 1 or 2")
    return levels


_KERNEL = 3
_LOSS = 2 * (_KERNEL - 1)  # two unpadded 3x3 convolutions


def _unet_axis(factors: Sequence[int]) -> AxisGeometry:
    margins = [_LOSS]  # of the part from a level downwards, bottom first
    for factor in reversed(factors):
        margins.append(_LOSS + factor * margins[-1] + _LOSS)
    margin = margins[-1]
    size = _LOSS + 1  # of the tensor that enters the lowest level
    while (smallest := _size_at_top(size, factors)) <= margin:
        size += 1
    period = math.prod(factors)
    half = margin // 2
    spans = [_span(x, x, factors, margins[::-1]) for x in range(half, half + period)]
    before = max(x + half - low for x, (low, _) in enumerate(spans, start=half))
    after = max(high - x - half for x, (_, high) in enumerate(spans, start=half))
    return AxisGeometry((half, half), period, smallest, (before, after))


def _size_at_top(bottom: int, factors: Sequence[int]) -> int:
    size = bottom
    for factor in reversed(factors):
        size = size * factor + _LOSS
    return size


def _span(first: int, last: int, factors: Sequence[int], margins: Sequence[int]) -> Pair:
    """Input pixels on which outputs first..last depend, walking back through one level."""
    if not factors:
        return first, last + _LOSS
    factor = factors[0]
    last += _LOSS  # decoder convolutions
    below = _span(first // factor, last // factor, factors[1:], margins[1:])
    crop = factor * margins[1] // 2
    low = min(below[0] * factor, first + crop)
    high = max(below[1] * factor + factor - 1, last + crop)
    return low, high + _LOSS  # encoder convolutions


def mirror_indices(start: int, stop: int, size: int) -> npt.NDArray[np.intp]:
    """Positions start..stop-1 of an endless line of mirrored copies of ``size`` pixels.

    The mirror does not repeat the edge (``... 2 1 0 1 2 ...``) and goes on as often as needed; a
    side of one pixel is constant. The paper: "the missing context is extrapolated by mirroring".
    """
    if size < 1:
        raise UsageError(f"size (={size}) must be at least 1")
    positions = np.arange(start, stop, dtype=np.intp)
    if size == 1:
        return np.zeros_like(positions)
    turn = 2 * (size - 1)
    positions %= turn
    return np.minimum(positions, turn - positions)


def mirrored(array: npt.NDArray[Any], start: Sequence[int], stop: Sequence[int]) -> npt.NDArray[Any]:
    """The window start..stop (trailing axes) of the endlessly mirrored array, contiguous.

    ``array`` has shape (..., *spatial); leading axes are kept. start and stop may lie outside.
    The result may share memory with ``array``.
    """
    lead = array.ndim - len(start)
    result = array
    for axis, (first, last) in enumerate(zip(start, stop, strict=True), start=lead):
        size = array.shape[axis]
        if 0 <= first and last <= size:
            result = result[(slice(None),) * axis + (slice(first, last),)]
        else:
            result = np.take(result, mirror_indices(first, last, size), axis=axis)
    return np.ascontiguousarray(result)
