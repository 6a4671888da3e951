"""Labels of annotated images by one model or several that are averaged, as `predict` would make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biounet.datasets.examples import Example
from biounet.errors import UsageError
from biounet.evaluation.truths import Truth
from biounet.images.image import Image
from biounet.images.regions import regions_of
from biounet.inference.engines import Engine
from biounet.inference.predict import plan_for, segment, softmax
from biounet.inference.tiling import predict_tiled
from biounet.labels.components import relabel_by_first_pixel
from biounet.model_file import Model
from biounet.prediction.inputs import select_channels
from biounet.prediction.view import View, open_view
from biounet.results.write import reader_of


def predict_averaged(models: Sequence[Model], engines: Sequence[Engine], truth: Truth) -> Any:
    """Labels int32 (*spatial) of the image of ``truth`` by the mean probabilities of several models.

    Objects are then made with the post-processing of the first. An image of another pixel size is resampled to that of
    the models, and the labels back. Raises `UsageError` where the truth comes without its image.
    """
    views = [_view(model, truth) for model in models]
    view = views[0]
    if any(one.shape != view.shape for one in views):
        raise UsageError("models that learnt at different pixel sizes cannot be averaged; compare them apart")
    total: Any = 0.0
    for model, engine, own in zip(models, engines, views, strict=True):
        image, plan = model.normalisation.apply(own.read_all()), plan_for(own.shape, engine)
        total = total + softmax(predict_tiled(engine, image, engine.geometry, plan=plan))
    labels = segment(models[0], np.asarray(total / len(models), dtype=np.float32))
    if view.is_of_file:
        return labels
    labels = view.on_file(reader_of(labels))((0,) * view.ndim, view.file_shape)
    return relabel_by_first_pixel(labels) if models[0].task == "instances" else labels


def _view(model: Model, truth: Truth) -> View:
    """The image of a truth as the model sees it."""
    if truth.image is None:
        raise UsageError(f"{truth.name}: a model needs the image too; give a data folder with images and annotations")
    example, axes = truth.example, "CZYX" if truth.image.ndim > 3 else "CYX"
    image = Image(truth.image, axes, example.pixel_size_um, Path(example.name), channel_names=example.channel_names)
    view, _ = open_view(model, regions_of(image), 0)
    return view


def channels_of(model: Model, example: Example) -> Any:
    """The image (C, *spatial) with the channels that the model learnt from."""
    return select_channels(example.image, model, None, Path(example.name), stated=example.channel_names)
