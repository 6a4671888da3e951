"""The results of a large image: what was found in its items, stacked, read window by window when it is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.exchange.objects import Objects
from biounet.images.regions import Regions
from biounet.images.writing import Read
from biounet.inference.memory import Budget
from biounet.inference.predict import Prediction, show_bytes
from biounet.model_file import Model
from biounet.prediction.found import Found
from biounet.results.export import EXPORTED, objects_of
from biounet.results.ome_zarr import Ids
from biounet.results.request import Request
from biounet.results.stack import Stack, stack_of
from biounet.results.write import Results

Array = npt.NDArray[Any]


def results_of(found: Sequence[Found], request: Request) -> Results:
    """What was found in a file whose pixels stay where they are, a stack of items first where it is one."""
    several = len(found) > 1
    job = found[0].job
    view, model, regions = job.view, job.model, job.view.regions
    stack = stack_of(regions, view.ndim, len(found), request.pixel_size_um)
    shape = stack.shape(view.file_shape)

    def ids(kind: str, readers: list[Read], largest: int) -> Ids:
        return Ids(kind, stack.read(readers), shape, largest, stack.axes, stack.pixel_size_um)

    every = [ids("labels", [one.labels for one in found], max(one.count for one in found))]
    if found[0].classes is not None:
        every.append(ids("classes", [one.by_class for one in found], len(model.classes) - 1))

    def overlaid() -> tuple[Array, Array]:
        seen = found[len(found) // 2].seen
        return seen.image, seen.labels

    masks = job.region.masks if job.region is not None else ()
    return Results(
        regions.source,
        every,
        sum(one.count for one in found) if model.task == "instances" else None,
        len(model.classes),
        _probabilities(found, stack),
        overlaid,
        lambda: [_objects(one, index if several else None, request) for index, one in enumerate(found)],
        np.stack(masks).reshape(shape) if masks else None,
    )


def _probabilities(found: Sequence[Found], stack: Stack) -> Read:
    """Classes first, then the axes of the stack; at another pixel size each pixel has that of the nearest one."""

    def read(start: tuple[int, ...], stop: tuple[int, ...]) -> Array:
        channels = range(start[0], stop[0])
        readers = [stack.read([partial(one.probabilities, channel) for one in found]) for channel in channels]
        return np.stack([of_channel(start[1:], stop[1:]) for of_channel in readers])

    return read


def refuse_too_large(model: Model, regions: Regions, request: Request, budget: Budget) -> None:
    """Raise `UsageError` where objects are to be written for other programs and an item does not fit in memory."""
    if request.shard is not None or not set(request.save) & set(EXPORTED):
        return
    pixel = 12 + 4 * len(model.classes) + regions.dtype.itemsize * len(model.channels)
    needed = math.prod(regions.spatial_shape(model.ndim)) * pixel
    if needed > budget.limit - budget.base:
        raise UsageError(
            f"{regions.source}: objects as {', '.join(EXPORTED)} are traced in memory, about "
            f"{show_bytes(needed + budget.base)} of {show_bytes(budget.limit)}; raise --memory, or save labels and "
            "trace them in parts"
        )


def _objects(one: Found, index: int | None, request: Request) -> Objects:
    """The objects of an item for other programs, which are traced in memory."""
    job, view = one.job, one.job.view
    regions, full, start = view.regions, view.file_shape, (0,) * view.ndim
    classes = range(len(job.model.classes))
    labels = one.labels(start, full).astype(np.int32)
    maps = np.stack([one.probabilities(channel, start, full) for channel in classes])
    pixels = regions.read_item(view.item, ndim=view.ndim)[list(view.channels)]
    prediction = Prediction(labels, maps, job.plan, one.classes)
    return objects_of(job.model, regions, pixels, prediction, index, given=request.pixel_size_um)
