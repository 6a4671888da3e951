"""Crops for int8 from images that a user names, for model files that carry none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.images.image import check_finite, planes
from biounet.inference.calibration import calibration_crops
from biounet.model_file import Model
from biounet.prediction.inputs import find_inputs, select_channels
from biounet.prediction.source import source_of

_MOST_IMAGES = 16


def calibration_images(images: str, model: Model) -> list[Path]:
    """The images of a file, folder or pattern that crops are taken from: 16 at most, evenly chosen."""
    paths = find_inputs([images], model=model)
    return paths[:: -(-len(paths) // _MOST_IMAGES)]


def crops_of(
    model: Model, images: str, *, channels: Sequence[int | str] | None = None
) -> tuple[npt.NDArray[np.float16], ...]:
    """Normalised crops of `calibration_images`, float16 (C, *spatial).

    ``channels``: as for prediction. Raises `DataError` where images cannot be used.
    """
    found: list[npt.NDArray[Any]] = []
    for path in calibration_images(images, model):
        image = source_of(path, model).image()
        check_finite(image, path)
        stated = image.channel_names
        found += [select_channels(plane, model, channels, path, stated=stated) for plane in planes(image, model.ndim)]
    chosen = found[:: -(-len(found) // _MOST_IMAGES)]
    return calibration_crops([model.normalisation.apply(one) for one in chosen])
