"""What a plan chooses from the fingerprint of the data, each choice with its reason.

A setting that is None is chosen here; any value that a user gives stays. Everything follows from
data and settings, so the same data give the same plan. What of it was measured, and what not yet,
stands in docs/results.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from biounet.geometry import Geometry
from biounet.settings import NETWORK_TAKES, Settings
from biounet.training.fingerprint import Fingerprint

_OBJECT_PX = 45.0  # diameter that the median object shall have behind the stem
_LARGEST_STEM = 4
_DEPTH_3D = 2  # the margin of depth 3 costs 41 times the volume at 36x50x35 voxels
_ABSENT = frozenset({"stem", "depth", "batch_norm"})  # settings of a network that some have not
_OUTPUT = 244  # side of a sample's output behind the stem, in pixels


@dataclass(frozen=True)
class Choice:
    """One setting, by its dotted name, with the value chosen and why."""

    key: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value}: {self.reason}"


def choose(settings: Settings, found: Fingerprint, *, task: str) -> tuple[Settings, tuple[Choice, ...]]:
    """Settings without any None that a plan decides, and the choices that were made, in order.

    ``task``: "instances" or "classes". Settings that have a value are left alone.
    """
    chosen: list[Choice] = []
    ndim = len(found.largest)
    takes = NETWORK_TAKES[settings.network.name]
    for rule in (_stem, _depth, _batch_norm, _weight_standardisation, _tile):
        choice = rule(settings, found, task, ndim)
        if choice is not None and choice.key.removeprefix("network.") not in _ABSENT.difference(takes):
            settings = with_value(settings, choice.key, choice.value)
            chosen.append(choice)
    return settings, tuple(chosen)


def with_value(settings: Settings, key: str, value: Any) -> Settings:
    """Settings with one value replaced, named as in ``network.depth``."""
    section, _, name = key.partition(".")
    group = getattr(settings, section)
    return settings.model_copy(update={section: group.model_copy(update={name: value})})


def reach_warning(geometry: Geometry, found: Fingerprint) -> str | None:
    """Words where large objects exceed what an output pixel can see, with the remedy."""
    if found.diameters_px is None:
        return None
    reach, large = min(max(axis) for axis in geometry.reach), found.diameters_px[2]
    if large <= reach:
        return None
    return (
        f"warning: large objects ({large:.0f} px) exceed the network's reach ({reach} px), so their middle may stay "
        "empty; give a larger stem or depth, as --set network.stem=3"
    )


def _stem(settings: Settings, found: Fingerprint, task: str, ndim: int) -> Choice | None:
    if settings.network.stem is not None:
        return None
    key = "network.stem"
    if task == "classes" or found.diameters_px is None:
        return Choice(key, 1, "classes are told apart at full resolution")
    middle = found.diameters_px[1]
    stem = min(_LARGEST_STEM, max(1, round(middle / _OBJECT_PX)))
    if stem == 1:
        return Choice(key, 1, f"objects of {middle:.0f} px are seen whole at full resolution")
    finest = min(found.spacing)
    value: Any = (
        stem if len(set(found.spacing)) == 1 else tuple(max(1, round(stem * finest / size)) for size in found.spacing)
    )
    return Choice(
        key, value, f"objects of {middle:.0f} px are larger than {_OBJECT_PX:.0f}; {stem} pixels a side together "
        "let the network see them whole, at a fraction of the work"
    )  # fmt: skip


def _depth(settings: Settings, found: Fingerprint, task: str, ndim: int) -> Choice | None:
    if ndim == 2 or settings.network.pooling is not None or settings.network.depth <= _DEPTH_3D:
        return None
    reason = "in 3D the margin of a deeper network costs more volume than the image has"
    return Choice("network.depth", _DEPTH_3D, reason)


def _batch_norm(settings: Settings, found: Fingerprint, task: str, ndim: int) -> Choice | None:
    if settings.network.batch_norm is not None:
        return None
    if task == "instances":
        return Choice("network.batch_norm", True, "cells are told apart after fewer steps with it")
    return Choice("network.batch_norm", False, "thin structures between two regions of a class break with it")


def _weight_standardisation(settings: Settings, found: Fingerprint, task: str, ndim: int) -> Choice | None:
    if settings.training.weight_standardisation is not None:
        return None
    if settings.network.name != "unet":
        return Choice("training.weight_standardisation", False, "not tried with this network")
    value = not settings.network.batch_norm
    reason = "conditions the network where batch normalisation is off" if value else "batch normalisation does its work"
    return Choice("training.weight_standardisation", value, reason)


def _tile(settings: Settings, found: Fingerprint, task: str, ndim: int) -> Choice | None:
    if settings.training.tile is not None:
        return None
    stem = settings.network.stem
    largest = max(stem) if isinstance(stem, tuple | list) else stem or 1
    return Choice("training.tile", _OUTPUT * largest, f"{_OUTPUT} pixels a side behind the stem")
