"""Test-time augmentation: the same image mirrored and turned, predicted and averaged.

A mirrored image meets the pooling at another phase, so its prediction is not the mirrored one of
the image. Each view is therefore an image of its own: the whole plane is mirrored or turned first and
then tiled from its own origin, which keeps every view, and so their mean, independent of the tiles.
Ronneberger et al. 2015 average over seven rotated views; turns by other angles than 90 degrees need
interpolation, so they are not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.geometry import Geometry
from biounet.inference.tiling import TilePlan

Array = npt.NDArray[Any]

KINDS = ("none", "flips", "all")
_QUARTER = 90.0


@dataclass(frozen=True)
class View:
    """One way to look at an image: Y and X exchanged or not, then mirrored on some spatial axes."""

    mirror: tuple[bool, ...]
    turn: bool = False

    def apply(self, image: Array) -> Array:
        """The view of an array (..., *spatial), without a copy."""
        turned = np.swapaxes(image, -1, -2) if self.turn else image
        return np.flip(turned, self._axes(image))

    def undo(self, seen: Array) -> Array:
        """The array of a view, as it was before."""
        straight = np.flip(seen, self._axes(seen))
        return np.swapaxes(straight, -1, -2) if self.turn else straight

    def plan(self, plan: TilePlan) -> TilePlan:
        """The tiles of the view of an image, given those of the image."""
        if not self.turn:
            return plan
        return replace(
            plan,
            size=_exchanged(plan.size),
            output=_exchanged(plan.output),
            input=_exchanged(plan.input),
            step=_exchanged(plan.step),
            counts=_exchanged(plan.counts),
        )

    def _axes(self, array: Array) -> tuple[int, ...]:
        first = array.ndim - len(self.mirror)
        return tuple(first + axis for axis, is_mirrored in enumerate(self.mirror) if is_mirrored)


def views(kind: str, geometry: Geometry) -> tuple[View, ...]:
    """The views of a kind, the image itself first: "none"; "flips" on all axes; "all", with quarter turns.

    In 2D that is 1, 4 or 8 views, in 3D 1, 8 or 16, turned in the YX plane. Raises `UsageError` for
    other kinds, and for turns of a network that treats Y and X differently.
    """
    if kind not in KINDS:
        raise UsageError(f"--tta {kind!r} is not known; choose {', '.join(KINDS)}")
    if kind == "none":
        return (View((False,) * geometry.ndim),)
    mirrors = list(itertools.product((False, True), repeat=geometry.ndim))
    if kind == "flips":
        return tuple(View(mirror) for mirror in mirrors)
    if geometry.axes[-1] != geometry.axes[-2]:
        raise UsageError("--tta all turns Y into X, and this network treats them differently; take --tta flips")
    return tuple(View(mirror, turn) for turn in (False, True) for mirror in mirrors)


def unlearnt_views(kind: str, augmentation: Mapping[str, Any]) -> list[str]:
    """What is to be said where a kind has views that a model trained with this ``augmentation`` has never met."""
    unlike = []
    if kind in ("flips", "all") and augmentation.get("mirror") is False:
        unlike.append("mirrored images")
    if kind == "all" and augmentation.get("rotation_degrees", 180.0) < _QUARTER:
        unlike.append("90-degree rotations")
    if not unlike:
        return []
    return [f"--tta {kind} averages over {' and '.join(unlike)}, which this model has not learnt from: it may do worse"]


def _exchanged(values: tuple[int, ...]) -> tuple[int, ...]:
    return (*values[:-2], values[-1], values[-2])
