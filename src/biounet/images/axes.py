"""The axes that a file names, as letters of ITCZYX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from biounet.errors import DataError

_SMALLEST_SIDE, _MOST_CHANNELS = 16, 5


def refuse_channels_last(path: Path, axes: str, shape: tuple[int, ...]) -> None:
    """Raise `DataError` for what would be separate images two to five pixels wide: the last axis is of channels."""
    if axes == "IYX" and 1 < shape[2] <= _MOST_CHANNELS and min(shape[:2]) >= _SMALLEST_SIDE:
        raise DataError(
            f"{path}: {' x '.join(map(str, shape))} values without names of axes, and the last seems to be channels: "
            "save the image with its axes (ImageJ hyperstack or OME-TIFF), in Python with channels first and axes CYX"
        )


def known_axes(path: Path, stored: str, shape: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
    """Axes as letters of ITCZYX, and what had to be inferred; one axis of unknown meaning becomes I.

    ``stored``: a letter for each axis of ``shape``; S (samples of a colour) becomes C. Raises `DataError`
    where they cannot be told apart.
    """
    axes = stored.replace("S", "C").replace("Q", "I")
    foreign = [axis for axis in axes if axis not in "ITCZYX"]
    if len(foreign) == 1 and "I" not in axes:
        axes = axes.replace(foreign[0], "I")
    if len(set(axes)) != len(axes) or not set("YX") <= set(axes) <= set("ITCZYX"):
        raise DataError(
            f"{path}: axes {stored} of shape {shape} cannot be told apart; "
            "save the image with its axes (ImageJ hyperstack or OME-TIFF, letters TZCYX)"
        )
    refuse_channels_last(path, axes, shape)
    if foreign:
        return axes, (f"axis {foreign[0]} taken as separate images",)
    return axes, ()


def stated_size(sizes: Mapping[str, float], axes: str) -> tuple[float, ...] | None:
    """Pixel size for the spatial ones of ``axes``, (Z)YX; for YX alone where Z is not stated, None without these.

    ``sizes``: by axis, in um; one that is 0, negative or no number is none.
    """
    known = {axis: float(size) for axis, size in sizes.items() if 0 < size < math.inf}
    spatial = [axis for axis in "ZYX" if axis in axes and (axis in known or axis != "Z")]
    return tuple(known[axis] for axis in spatial) if set(spatial) <= known.keys() else None
