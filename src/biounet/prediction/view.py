"""One plane or volume of an open image as a model sees it: its channels, at its pixel size, window by window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError
from biounet.images.regions import Regions
from biounet.images.resample import nearest_window, resample_window, resized_shape
from biounet.labels.blocks import Place
from biounet.model_file import Model
from biounet.prediction.inputs import said_of_grey, select_channels
from biounet.prediction.scale import choose_level

Array = npt.NDArray[Any]
Read = Callable[[Place, Place], Array]


@dataclass(frozen=True, eq=False)
class View:
    """``channels`` of an ``item`` of an open image, on a grid of ``shape``.

    ``level``: of the pyramid that is read; its pixels, ``level_shape``, are resampled to ``shape``.
    """

    regions: Regions
    item: int
    channels: tuple[int, ...]
    level: int
    level_shape: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Spatial axes, 2 or 3."""
        return len(self.shape)

    @property
    def file_shape(self) -> tuple[int, ...]:
        """(Z)YX of the item as its file has it, at full resolution."""
        return self.regions.spatial_shape(self.ndim)

    @property
    def covered(self) -> tuple[int, ...]:
        """How many of these pixels the grid covers: a level may leave out the last few, or go beyond them."""
        factors = self.regions.factors(self.ndim, self.level)
        return tuple(round(n * factor) for n, factor in zip(self.level_shape, factors, strict=True))

    @property
    def is_of_file(self) -> bool:
        """Whether this grid is the file's own, at full resolution."""
        return self.shape == self.covered == self.file_shape

    def read(self, start: Place, stop: Place) -> Array:
        """Pixels of a window, (C, *window), before normalisation.

        Raises `DataError` for pixels that are no numbers.
        """
        if self.level_shape == self.shape:
            return self._stored(start, stop)
        return resample_window(self._stored, self.level_shape, self.shape, start, stop)

    def read_all(self) -> Array:
        """All pixels, (C, *shape)."""
        return self.read((0,) * self.ndim, self.shape)

    def on_file(self, read: Read) -> Read:
        """What reads the nearest pixels of this grid, (..., *window), for windows of the file's own grid."""
        if self.is_of_file:
            return read
        covered = self.covered
        return lambda start, stop: nearest_window(read, self.shape, covered, start, stop)

    def _stored(self, start: Place, stop: Place) -> Array:
        window = self.regions.read(self.item, start, stop, ndim=self.ndim, level=self.level)[list(self.channels)]
        if window.dtype.kind == "f" and not np.isfinite(window).all():
            raise DataError(
                f"{self.regions.source}: pixels from {tuple(start)} to {tuple(stop)} are NaN or infinite; "
                "every pixel must be a number: replace them (for instance by 0)"
            )
        return window


def open_view(
    model: Model,
    regions: Regions,
    item: int,
    *,
    channels: Sequence[int | str] | None = None,
    pixel_size_um: tuple[float, ...] | None = None,
) -> tuple[View, list[str]]:
    """The item in the model's channels and at its pixel size, as near as 5 %, and what is to be said of that.

    ``channels``: as of `select_channels`; ``pixel_size_um``: as ``given`` of `choose_level`, which raise what is wrong.
    """
    notes = said_of_grey(model, regions.channels())
    places = _model_channels(model, regions, channels)
    level, factors = choose_level(model, regions, pixel_size_um, notes)
    level_shape = regions.spatial_shape(model.ndim, level)
    return View(regions, item, places, level, level_shape, resized_shape(level_shape, factors)), notes


def _model_channels(model: Model, regions: Regions, channels: Sequence[int | str] | None) -> tuple[int, ...]:
    """Positions of the model's channels in the file, chosen as `select_channels` does."""
    places = np.arange(regions.channels()).reshape(-1, *(1,) * model.ndim)
    chosen = select_channels(places, model, channels, regions.source, stated=regions.channel_names)
    return tuple(int(place) for place in chosen.ravel())
