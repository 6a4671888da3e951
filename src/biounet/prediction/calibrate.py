"""Crops for int8 from images that a user names, for model files that carry none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.images.regions import regions_of
from biounet.inference.calibration import calibration_crops
from biounet.model_file import Model
from biounet.prediction.inputs import find_inputs
from biounet.prediction.source import source_of
from biounet.prediction.view import open_view

_MOST_IMAGES = 16


def calibration_images(images: str, model: Model) -> list[Path]:
    """The images of a file, folder or pattern that crops are taken from: 16 at most, evenly chosen."""
    paths = find_inputs([images], model=model)
    return paths[:: -(-len(paths) // _MOST_IMAGES)]


def crops_of(
    model: Model,
    images: str,
    *,
    channels: Sequence[int | str] | None = None,
    pixel_size_um: tuple[float, ...] | None = None,
) -> tuple[npt.NDArray[np.float16], ...]:
    """Normalised crops of `calibration_images`, float16 (C, *spatial).

    ``channels`` and ``pixel_size_um``: as for prediction. Raises `DataError` where images cannot be used.
    """
    found: list[npt.NDArray[Any]] = []
    for path in calibration_images(images, model):
        regions = regions_of(source_of(path, model).image())
        for item in range(regions.item_count(model.ndim)):
            view, _ = open_view(model, regions, item, channels=channels, pixel_size_um=pixel_size_um)
            found.append(view.read_all())
    chosen = found[:: -(-len(found) // _MOST_IMAGES)]
    return calibration_crops([model.normalisation.apply(one) for one in chosen])
