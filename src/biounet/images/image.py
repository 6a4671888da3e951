"""An image in memory: pixels, what its axes mean, how large a pixel is; and its parts a network sees.

Axes are letters in the fixed order ITCZYX: I separate images (pages whose axes the file does not
state), T time, C channels, Z, Y, X. Y and X are always there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.images.sampling import sample_windows

AXES = "ITCZYX"

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says about its image before any pixel is read.

    ``axes``: a subset of "ITCZYX" in any order, as stored; ``shape`` and ``dtype`` of that array.
    ``pixel_size_um``: for the spatial axes in the order (Z)YX, for YX alone where the file is silent about Z, or None.
    ``capacity``: the most bytes of pixels that a file of this size and compression can hold.
    ``read``: returns the array. ``alpha``: the last channel is transparency. ``palette``: (n, 3) uint8
    colours that the pixels index. ``notes``: what had to be inferred. ``channel_names``: one a channel, ()
    where the file states none. ``affine``: (4, 4), from voxel (x, y, z, 1) to space, of formats that state it.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    capacity: int
    read: Callable[[], Array]
    pixel_size_um: tuple[float, ...] | None = None
    alpha: bool = False
    palette: npt.NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()
    affine: npt.NDArray[np.float64] | None = None

    def size(self, axis: str) -> int:
        """Number of positions on an axis; 1 where the image has no such axis."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def plane_count(self, ndim: int) -> int:
        """How many items `planes` makes of this image."""
        return int(np.prod([self.size(axis) for axis in separate_axes(self.axes, ndim)], dtype=np.int64))

    def spatial_shape(self, ndim: int) -> tuple[int, ...]:
        """(Z)YX of each item that `planes` makes of this image."""
        return tuple(self.size(axis) for axis in spatial_axes(self.axes, ndim))


@dataclass(frozen=True, eq=False)
class Image:
    """Pixels with their meaning; ``axes`` is in the order ITCZYX. Other fields as in `Header`."""

    array: Array
    axes: str
    pixel_size_um: tuple[float, ...] | None
    source: Path
    alpha: bool = False
    palette: npt.NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()
    channel_names: tuple[str, ...] = ()

    def size(self, axis: str) -> int:
        """Number of positions on an axis; 1 where the image has no such axis."""
        return self.array.shape[self.axes.index(axis)] if axis in self.axes else 1

    def pixel_size(self, ndim: int) -> tuple[float, ...] | None:
        """Pixel size in um of the ``ndim`` spatial axes, or None when the file does not state all."""
        known = self.pixel_size_um
        return known[-ndim:] if known is not None and len(known) >= ndim else None


def planes(image: Image, ndim: int) -> list[Array]:
    """The images a network of ``ndim`` spatial axes sees, each (C, *spatial), in the stored dtype.

    2D: every page, time and z plane is an image of its own. 3D: every time point is a volume; pages
    without axes are taken as z, a single plane as a volume of one. A constant transparency channel is
    dropped, indices into a palette become its colours (one channel where all of them are grey).
    """
    if ndim not in (2, 3):
        raise UsageError(f"ndim (={ndim}) must be 2 or 3")
    spatial = spatial_axes(image.axes, ndim)
    array, axes = image.array, image.axes
    for missing in [axis for axis in "C" + spatial if axis not in axes]:
        array, axes = array[None], missing + axes
    separate = separate_axes(image.axes, ndim)
    order = [axes.index(axis) for axis in separate + "C" + spatial]
    array = array.transpose(order)
    found = list(array.reshape(-1, *array.shape[len(separate) :]))
    if image.palette is not None:
        found = _coloured(found, image.palette)
    if drops_alpha(image):
        found = [plane[:-1] for plane in found]
    return found


def drops_alpha(image: Image) -> bool:
    """Whether the image has a transparency channel that says nothing, being the same everywhere.

    Above 2^25 pixels everywhere means in the windows of `sample_windows`.
    """
    if not image.alpha or "C" not in image.axes:
        return False
    alpha = np.moveaxis(image.array, image.axes.index("C"), 0)[-1]
    if alpha.size == 0:
        return True
    parts = [alpha[tuple(map(slice, start, stop))] for start, stop in sample_windows(alpha.shape)]
    return bool(min(part.min() for part in parts) == max(part.max() for part in parts))


def said_of_alpha(constant: bool, *, looked_at: str = "all pixels") -> str:
    """What became of a transparency channel that was ``constant``, or not, where one looked."""
    return f"transparency is the same in {looked_at} and left out" if constant else "transparency is a channel"


def match_channels(image: Array, channels: int, source: str | Path) -> Array:
    """An image (C, *spatial) with the given number of channels: grey is repeated to three.

    Raises `DataError` for any other difference.
    """
    if image.shape[0] == channels:
        return np.ascontiguousarray(image)
    if image.shape[0] == 1 and channels == 3:
        return np.repeat(image, 3, axis=0)
    raise DataError(f"{source}: has {image.shape[0]} channels, not {channels}; give images of one kind")


def check_finite(image: Image, path: str | Path) -> None:
    """Raise `DataError` with the number of pixels that are NaN or infinite, if there are any."""
    if image.array.dtype.kind != "f":
        return
    bad = image.array.size - int(np.count_nonzero(np.isfinite(image.array)))
    if bad:
        raise DataError(
            f"{path}: {bad} of {image.array.size} pixels are NaN or infinite; every pixel must be a number: "
            "replace them (for instance by 0) or leave the image out"
        )


def spatial_axes(axes: str, ndim: int) -> str:
    """The axes that make an item of `planes`: YX, ZYX, or IYX where pages without axes are a volume."""
    if ndim == 2:
        return "YX"
    return "IYX" if "I" in axes and "Z" not in axes else "ZYX"


def separate_axes(axes: str, ndim: int) -> str:
    """The axes along which the items of `planes` lie, outermost first."""
    spatial = spatial_axes(axes, ndim)
    return "".join(axis for axis in AXES if axis in axes and axis != "C" and axis not in spatial)


def _coloured(found: list[Array], palette: npt.NDArray[np.uint8]) -> list[Array]:
    channels = 1 if (palette == palette[:, :1]).all() else 3
    return [np.stack([palette[plane[0], channel] for channel in range(channels)]) for plane in found]
