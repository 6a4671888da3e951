"""Rules for the network: what it takes together, how deep it is, where it pools, how it is conditioned.

Unpadded convolutions read a margin around what they give. In a plane that is a rim, in a volume a shell,
and each further pooling more than doubles its width; so in a volume depth is weighed against the voxels
that the margin costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from biounet.geometry import Geometry, check_pooling, per_axis, unet_geometry
from biounet.planning.fingerprint import Fingerprint
from biounet.planning.rules import Choice, Rule
from biounet.settings import Settings

SIDE = {2: 244, 3: 64}  # of a sample's output behind the stem, in pixels, by the number of axes
_OBJECT_PX = {2: 45.0, 3: 20.0}  # diameter that the median object shall have behind the stem: the reach lies above
_LARGEST_STEM = 4
_DEEPEST = 4  # as in the paper
MOST_INPUT = 12.0  # times the output that an input may be
_STEM, _TILE = "setting network.stem", "setting training.tile"
_THICK = 2.0  # times the finest axis from which on a pixel is not pooled yet


def check_axes(settings: Settings, ndim: int) -> None:
    """Raise `UsageError` for a setting with another number of axes than the images."""
    network = settings.network
    for name, value in ((_STEM, network.stem), (_TILE, settings.training.tile)):
        if value is not None:
            per_axis(value, ndim, name)
    if network.pooling is not None:
        check_pooling(len(network.pooling) if network.depth is None else network.depth, ndim, network.pooling)


def input_size(settings: Settings, found: Fingerprint, geometry: Geometry) -> tuple[int, ...]:
    """Size of a sample's input, in pixels: that of the tile, or of the largest image where it is smaller."""
    sides = [min(n, side) for n, side in zip(found.largest, planned_tile(settings, found), strict=True)]
    return geometry.input_size(sides)


def planned_tile(settings: Settings, found: Fingerprint) -> tuple[int, ...]:
    """Sides of a sample's output, in pixels: those given, or `SIDE` behind the stem, on coarser axes fewer."""
    given, ndim = settings.training.tile, len(found.largest)
    if given is not None:
        return per_axis(given, ndim, _TILE)
    side = SIDE[ndim] * largest_of(settings.network.stem)
    return tuple(max(1, round(side * min(found.spacing) / size)) for size in found.spacing)


def chosen_geometry(settings: Settings, ndim: int) -> Geometry:
    """Geometry of the U-Net of settings whose stem and depth are chosen."""
    network = settings.network
    assert network.depth is not None
    return unet_geometry(network.depth, ndim, pooling=network.pooling, stem=network.stem or 1)


def poolings(depth: int, spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """Factors per level and axis: an axis is pooled while its pixels are less than twice the finest ones.

    So thick slices are left alone until the pixels in the plane have grown to their size.
    """
    sizes, levels = list(spacing), []
    for _ in range(depth):
        finest = min(sizes)
        levels.append(tuple(2 if size < _THICK * finest else 1 for size in sizes))
        sizes = [size * factor for size, factor in zip(sizes, levels[-1], strict=True)]
    return tuple(levels)


def _stem(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.network.stem is not None:
        return None
    key = "network.stem"
    if task == "classes" or found.diameters_px is None:
        return Choice(key, 1, "classes are told apart at full resolution")
    middle, wanted = found.diameters_px[1], _OBJECT_PX[len(found.largest)]
    stem = min(_LARGEST_STEM, max(1, round(middle / wanted)))
    if stem == 1:
        return Choice(key, 1, f"objects of {middle:.0f} px are seen whole at full resolution")
    finest = min(found.spacing)
    value: Any = (
        stem if len(set(found.spacing)) == 1 else tuple(max(1, round(stem * finest / size)) for size in found.spacing)
    )
    return Choice(
        key, value, f"objects of {middle:.0f} px are larger than {wanted:.0f}; {stem} pixels a side together "
        "let the network see them whole, at a fraction of the work"
    )  # fmt: skip


def _depth(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.network.depth is not None:
        return None
    if settings.network.pooling is not None:
        return Choice("network.depth", len(settings.network.pooling), "as many levels as poolings are given")
    if len(found.largest) == 2:
        return Choice("network.depth", _DEEPEST, "as in the paper")
    ratios = {depth: _input_ratio(settings, found, depth) for depth in range(1, _DEEPEST + 1)}
    depth = max((d for d, ratio in ratios.items() if ratio <= MOST_INPUT), default=1)
    reason = f"with its margin a sample has {ratios[depth]:.1f} times the voxels of its output"
    if depth < _DEEPEST:
        reason += f", at depth {depth + 1} it would have {ratios[depth + 1]:.0f} times"
    return Choice("network.depth", depth, reason)


def _pooling(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    depth = settings.network.depth
    if settings.network.pooling is not None or settings.network.name != "unet" or depth is None:
        return None
    levels = poolings(depth, _spacing_behind_stem(settings, found))
    if all(factor == 2 for level in levels for factor in level):
        return None
    said = ":".join(f"{size:.3g}" for size in found.spacing)
    return Choice("network.pooling", levels, f"pixels of {said} are pooled on the finer axes first")


def _batch_norm(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.network.batch_norm is not None:
        return None
    if task == "instances":
        return Choice("network.batch_norm", True, "cells are told apart after fewer steps with it")
    return Choice("network.batch_norm", False, "thin structures between two regions of a class break with it")


def _weight_standardisation(settings: Settings, found: Fingerprint, task: str) -> Choice | None:
    if settings.training.weight_standardisation is not None:
        return None
    if settings.network.name != "unet":
        return Choice("training.weight_standardisation", False, "not tried with this network")
    value = not settings.network.batch_norm
    reason = "conditions the network where batch normalisation is off" if value else "batch normalisation does its work"
    return Choice("training.weight_standardisation", value, reason)


NETWORK_RULES: tuple[Rule, ...] = (_stem, _depth, _pooling, _batch_norm, _weight_standardisation)


def _input_ratio(settings: Settings, found: Fingerprint, depth: int) -> float:
    """Pixels of a sample's input over those of its output, as the network of this depth would have it."""
    levels = poolings(depth, _spacing_behind_stem(settings, found))
    ndim = len(found.largest)
    geometry = unet_geometry(depth, ndim, pooling=levels, stem=settings.network.stem or 1)
    size = input_size(settings, found, geometry)
    return math.prod(size) / math.prod(geometry.output_size(size))


def largest_of(stem: int | tuple[int, ...] | None) -> int:
    """The factor of a stem on the axis on which it is largest."""
    return max(stem) if isinstance(stem, tuple | list) else stem or 1


def _spacing_behind_stem(settings: Settings, found: Fingerprint) -> list[float]:
    factors = per_axis(settings.network.stem or 1, len(found.spacing), _STEM)
    return [size * factor for size, factor in zip(found.spacing, factors, strict=True)]
