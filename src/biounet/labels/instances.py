"""From the probability of a cell class to objects, by steps that each state their reach.

The network is trained with a background line between touching cells, so objects are the components
of the thresholded probability, and what the line took is given back at the end:

    threshold -> fill holes -> drop specks -> [split by growth from seeds] -> components -> give back

Every step either looks at whole pieces (their number, size, contact with the edge), which are joined
across blocks, or is local: a pixel's result depends on pixels at most so many steps away (`reach`). So
blocks give the same objects as the whole image (`joined.join_instances`). An ordinary watershed has no
such bound, therefore touching objects are split by lock-step growth instead. Distances are counted in
steps from face to face (L1), sizes in pixels.

Knows nothing of networks or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cc3d
import edt
import fastremap
import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.labels.components import CONNECTIVITY, components, relabel_by_first_pixel
from biounet.labels.growth import give_back, grow

Mask = npt.NDArray[np.bool_]
Marks = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int32]
Probability = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SplitSettings:
    """How touching objects are split: which seeds, and how far they grow.

    ``seeds``: "probability", pieces where the probability is at least ``level``; or "depth", pieces
    at least ``level`` pixels inside the mask. Seeds below ``smallest_seed_px`` are dropped; each
    grows at most ``reach_px`` steps.
    """

    seeds: Literal["probability", "depth"]
    level: float
    reach_px: int
    smallest_seed_px: int = 1

    def __post_init__(self) -> None:
        if self.seeds not in ("probability", "depth"):
            raise UsageError(f"split.seeds (={self.seeds!r}) must be 'probability' or 'depth'")
        if not (0 < self.level < 1 if self.seeds == "probability" else self.level > 0):
            raise UsageError(
                f"split.level (={self.level}) must lie between 0 and 1 for seeds by probability, "
                "and above 0 pixels for seeds by depth"
            )
        _check_counts(self, "split.", ("reach_px", "smallest_seed_px"))


@dataclass(frozen=True)
class InstanceSettings:
    """The numbers of `instances_from_probabilities`; sizes and steps in pixels."""

    threshold: float = 0.5
    smallest_px: int = 0
    fill_holes_px: int = 0
    give_back_px: int = 0
    split: SplitSettings | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise UsageError(f"threshold (={self.threshold}) must lie between 0 and 1")
        _check_counts(self, "", ("smallest_px", "fill_holes_px", "give_back_px"))


def _check_counts(settings: object, prefix: str, names: Sequence[str]) -> None:
    for name in names:
        if (value := getattr(settings, name)) < 0:
            raise UsageError(f"{prefix}{name} (={value}) must be a number of pixels, 0 or more")


def instances(probability: Probability, settings: InstanceSettings) -> Labels:
    """`instances_from_probabilities` with its numbers taken from ``settings``."""
    return instances_from_probabilities(
        probability,
        threshold=settings.threshold,
        smallest_px=settings.smallest_px,
        fill_holes_px=settings.fill_holes_px,
        give_back_px=settings.give_back_px,
        split=settings.split,
    )


def instances_from_probabilities(
    probability: Probability,
    *,
    threshold: float = 0.5,
    smallest_px: int = 0,
    fill_holes_px: int = 0,
    give_back_px: int = 0,
    split: SplitSettings | None = None,
) -> Labels:
    """Objects of one cell class: int32, 0 background, ids 1..n by first pixel in raster order.

    ``probability``: the class's probability, float, (Z)YX, 0 to 1. Pixels at or above ``threshold``
    are cells; holes of at most ``fill_holes_px`` are filled (`fill_holes`); pieces smaller than
    ``smallest_px`` dropped; touching objects split if ``split`` is given (`split_touching`); and
    objects grown by at most ``give_back_px`` into the line between them (`give_back`).
    Raises `DataError` for values that are not finite, `UsageError` for impossible settings.
    """
    settings = InstanceSettings(threshold, smallest_px, fill_holes_px, give_back_px, split)
    if probability.ndim not in CONNECTIVITY:
        raise UsageError(f"probability of shape {probability.shape} must have 2 or 3 axes, (Z)YX")
    return instances_from_marks(mark(probability, settings), settings)


CELL, SEED = np.uint8(1), np.uint8(2)


def mark(probability: Probability, settings: InstanceSettings) -> Marks:
    """All that objects depend on, pixel by pixel: bit `CELL` from the threshold on, bit `SEED` from a seed's level on.

    uint8 of the same shape; what an image larger than memory keeps instead of its probabilities. Raises
    `DataError` for values that are not finite.
    """
    if not np.isfinite(probability).all():
        raise DataError("probability has values that are not finite (NaN or infinity): predict again")
    marks = (probability >= np.float32(settings.threshold)).view(np.uint8)
    if settings.split is not None and settings.split.seeds == "probability":
        marks = marks | SEED * (probability >= np.float32(settings.split.level))
    return marks


def instances_from_marks(marks: Marks, settings: InstanceSettings) -> Labels:
    """Objects as `instances_from_probabilities` gives them, from `mark`; uint8, (Z)YX."""
    mask = cell_mask(marks, settings)
    split = settings.split
    labels = components(mask) if split is None else split_touching(mask, marks, split, settings.smallest_px)
    return relabel_by_first_pixel(give_back(labels, settings.give_back_px))


def reach(settings: InstanceSettings) -> int:
    """Pixels each way on every axis on which a step may depend that looks at pixels, not at whole pieces.

    The sum over the steps: seeds by depth their level, growth its steps, `give_back` three times its steps.
    Holes, specks and small seeds are told by the size of whole pieces, which are joined across blocks
    (`pieces.find_pieces`).
    """
    total = 3 * settings.give_back_px
    if (split := settings.split) is not None:
        total += split.reach_px + depth_reach(split)
    return total


def depth_reach(split: SplitSettings) -> int:
    """Pixels each way that decide whether one is deep enough for a seed."""
    return math.ceil(split.level) if split.seeds == "depth" else 0


def cell_mask(marks: Marks, settings: InstanceSettings) -> Mask:
    """Pixels that belong to any object: those marked as cell, small holes filled, specks dropped."""
    mask = np.asarray((marks & CELL) > 0)
    return drop_specks(fill_holes(mask, settings.fill_holes_px), settings.smallest_px)


def fill_holes(mask: Mask, largest_px: int) -> Mask:
    """The mask with background pieces of at most ``largest_px`` filled, except at the array's edge.

    Holes are pieces by full connectivity (8 in 2D, 26 in 3D), the counterpart of face connectivity
    for objects: what surrounds such a hole is one face-connected object, so filling never joins
    two cells that only a line parts. ``mask``: bool (Z)YX; returns bool of that shape, the same array where nothing is
    to be filled.
    """
    if largest_px <= 0 or mask.size == 0:
        return mask
    pieces = cc3d.connected_components(
        np.ascontiguousarray(~mask).view(np.uint8), connectivity=CONNECTIVITY[mask.ndim][1], out_dtype=np.uint32
    )
    small = np.bincount(pieces.ravel()) <= largest_px
    small[0] = False
    for axis in range(mask.ndim):
        for side in (0, -1):
            small[fastremap.unique(np.take(pieces, side, axis=axis))] = False
    return np.asarray(mask | small[pieces])


def drop_specks(mask: Mask, smallest_px: int) -> Mask:
    """The mask, bool (Z)YX, without face-connected pieces of fewer than ``smallest_px``; the same array up to 1."""
    return mask if smallest_px <= 1 else _large_pieces(mask, smallest_px) > 0


def _large_pieces(mask: Mask, smallest_px: int) -> Labels:
    """The mask's face-connected pieces of ``smallest_px`` or more, numbered from 1 by first pixel."""
    pieces = components(mask)
    if smallest_px <= 1 or mask.size == 0:
        return pieces
    large = np.bincount(pieces.ravel()) >= smallest_px
    large[0] = False
    return np.asarray((np.cumsum(large, dtype=np.int32) * large)[pieces])


def split_touching(mask: Mask, marks: Marks, split: SplitSettings, smallest_px: int = 0) -> Labels:
    """Labels (int32) of the mask's objects, parted where seeds say so.

    Seeds are numbered by first pixel and grown in lock step (`grow`) through the mask. What no seed
    reaches within ``reach_px``, or lies in a piece without seed, forms objects of its own, from
    ``smallest_px`` on. The seeds' numbers decide ties, so blocks take them from the seeds of the whole
    image.
    """
    seeds = find_seeds(mask, marks, split)
    grown = grow(seeds, mask, split.reach_px)
    rest = _large_pieces(mask & (grown == 0), smallest_px)
    rest[rest > 0] += seeds.max(initial=0)
    return np.maximum(grown, rest)  # they have no pixel in common


def find_seeds(mask: Mask, marks: Marks, split: SplitSettings) -> Labels:
    """The seeds, numbered by first pixel: pieces of `inner_pixels` of ``smallest_seed_px`` or more."""
    return _large_pieces(inner_pixels(mask, marks, split), split.smallest_seed_px)


def inner_pixels(mask: Mask, marks: Marks, split: SplitSettings) -> Mask:
    """Pixels of the mask that may be seeds: marked so, or deep enough. Reach: `depth_reach`.

    The depth of a pixel is the Euclidean distance to the nearest background pixel; beyond the edge
    of the array nothing is known, so the edge counts as no background.
    """
    if split.seeds == "probability":
        return np.asarray(mask & ((marks & SEED) > 0))
    return np.asarray(mask & (_depth(mask) >= split.level))


def _depth(mask: Mask) -> npt.NDArray[np.float32]:
    return np.asarray(edt.edt(np.ascontiguousarray(mask), black_border=False), dtype=np.float32)
