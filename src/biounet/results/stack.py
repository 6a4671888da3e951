"""The items of a file in its results: along which axes they lie, how large their pixels are, and where each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.images.image import Image
from biounet.images.regions import Regions
from biounet.images.writing import Read


@dataclass(frozen=True)
class Stack:
    """Results of one file: ``axes``, (T)(Z)YX; items lie along the first ``counts`` of them, one item along none.

    ``pixel_size_um``: of the spatial ones among ``axes``, or None. Of the planes of a z stack whose distance is not
    stated it has YX alone.
    """

    axes: str
    counts: tuple[int, ...]
    pixel_size_um: tuple[float, ...] | None

    def shape(self, item: Sequence[int]) -> tuple[int, ...]:
        """Shape of the results, of items of shape ``item``."""
        return (*self.counts, *item)

    def read(self, readers: Sequence[Read]) -> Read:
        """What gives windows of all items, each with a reader, as one array of `shape`."""
        along = len(self.counts)
        if not along:
            return readers[0]

        def window(start: tuple[int, ...], stop: tuple[int, ...]) -> npt.NDArray[Any]:
            places = product(*map(range, start[:along], stop[:along]))
            items = [readers[int(np.ravel_multi_index(place, self.counts))] for place in places]
            read = np.stack([one(start[along:], stop[along:]) for one in items])
            return read.reshape(*(b - a for a, b in zip(start[:along], stop[:along], strict=True)), *read.shape[1:])

        return window


def stack_of(image: Image | Regions, ndim: int, items: int, given: tuple[float, ...] | None = None) -> Stack:
    """How the ``items`` of ``ndim`` axes that `planes` makes of an image lie in results.

    The planes of a z stack lie along Z, those of several times along T and Z, all else (times, volumes, pages without
    axes) along T. ``given``: pixel size in place of what the file states.
    """
    size, spatial = pixel_size(image, given, ndim), "ZYX"[-ndim:]
    if items == 1:
        return Stack(spatial, (), size)
    depth = image.size("Z") if ndim == 2 else 1
    if depth == 1:
        return Stack(f"T{spatial}", (items,), size)
    stated = image.pixel_size(3)
    size = size if size is None or stated is None else (stated[0], *size)
    times = items // depth
    return Stack("ZYX", (depth,), size) if times == 1 else Stack("TZYX", (times, depth), size)


def pixel_size(image: Image | Regions, given: tuple[float, ...] | None, ndim: int) -> tuple[float, ...] | None:
    """Pixel size in um per spatial axis: what was given, else what the file states, else None."""
    if given is None:
        return image.pixel_size(ndim)
    if len(given) not in (1, ndim):
        raise UsageError(f"--pixel-size with {len(given)} numbers: give one, or one for each of {ndim} axes")
    return given * ndim if len(given) == 1 else given


def place_in_stack(image: Image | Regions, ndim: int, index: int | None) -> tuple[int | None, int | None]:
    """z and t from 0 of an item, None where the image has no such axis or is one item (``index`` None)."""
    if index is None:
        return None, None
    if ndim == 3 or "Z" not in image.axes:
        return None, index
    depth = image.size("Z")
    return index % depth, index // depth if "T" in image.axes or "I" in image.axes else None
