"""Labels of annotated images by one model or several that are averaged, as `predict` would make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biounet.datasets.examples import Example
from biounet.errors import UsageError
from biounet.evaluation.truths import Truth
from biounet.images.resample import nearest_window, resample_window, resized_shape
from biounet.inference.engines import Engine
from biounet.inference.predict import plan_for, segment, softmax
from biounet.inference.tiling import predict_tiled
from biounet.labels.components import relabel_by_first_pixel
from biounet.model_file import Model
from biounet.prediction.inputs import select_channels
from biounet.prediction.scale import scale_factors
from biounet.results.write import reader_of


def predict_averaged(models: Sequence[Model], engines: Sequence[Engine], truth: Truth) -> Any:
    """Labels int32 (*spatial) of the image of ``truth`` by the mean probabilities of several models.

    Objects are then made with the post-processing of the first. An image of another pixel size is resampled to that of
    the models, and the labels back. Raises `UsageError` where the truth
    comes without its image.
    """
    if truth.image is None:
        raise UsageError(f"{truth.name}: a model needs the image too; give a data folder with images and annotations")
    size, grid = truth.example.pixel_size_um, truth.image.shape[1:]
    shape = resized_shape(grid, scale_factors(models[0], size))
    total: Any = 0.0
    for model, engine in zip(models, engines, strict=True):
        if resized_shape(grid, scale_factors(model, size)) != shape:
            raise UsageError("models that learnt at different pixel sizes cannot be averaged; compare them apart")
        image = _resampled(channels_of(model, truth.example), shape)
        plan = plan_for(shape, engine)
        total = total + softmax(predict_tiled(engine, model.normalisation.apply(image), engine.geometry, plan=plan))
    labels = segment(models[0], np.asarray(total / len(models), dtype=np.float32))
    if shape == grid:
        return labels
    labels = nearest_window(reader_of(labels), shape, grid, (0,) * len(grid), grid)
    return relabel_by_first_pixel(labels) if models[0].task == "instances" else labels


def _resampled(image: Any, shape: tuple[int, ...]) -> Any:
    """An image (C, *spatial) at the pixel size of the model, as `predict` brings it there."""
    grid = image.shape[1:]
    if shape == grid:
        return image

    return resample_window(reader_of(image), grid, shape, (0,) * len(shape), shape)


def channels_of(model: Model, example: Example) -> Any:
    """The image (C, *spatial) with the channels that the model learnt from."""
    return select_channels(example.image, model, None, Path(example.name), stated=example.channel_names)
