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
from biounet.images.sampling import all_windows
from biounet.images.writing import Read
from biounet.inference.memory import Budget
from biounet.inference.predict import show_bytes
from biounet.model_file import Model
from biounet.prediction.found import Found
from biounet.prediction.view import View
from biounet.results.export import EXPORTED, objects_of
from biounet.results.ome_zarr import Ids
from biounet.results.request import Request
from biounet.results.stack import Stack, stack_of
from biounet.results.write import Results

Array = npt.NDArray[Any]

# Bytes a pixel that measuring and tracing objects takes, with what allocators keep of the tiles before. It depends on
# how long the outlines are: measured were up to 63 where an object has 80 pixels, and about 20 where it has 500
_TRACED = 72
_BAND = 1 << 22  # pixels that are read at once, in whole rows or planes


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
    """Raise `UsageError` where objects are to be written for other programs and do not fit in memory.

    Labels and pixels of all items are held, and what one of them is traced by.
    """
    if request.shard is not None or not set(request.save) & set(EXPORTED):
        return
    held = regions.item_count(model.ndim) * (4 + regions.dtype.itemsize * len(model.channels))
    needed = math.prod(regions.spatial_shape(model.ndim)) * (held + _TRACED)
    if needed > budget.left:
        raise UsageError(
            f"{regions.source}: objects as {', '.join(EXPORTED)} are traced in memory, about "
            f"{show_bytes(needed + budget.limit - budget.left)} of {show_bytes(budget.limit)}; raise --memory, or take "
            "--save labels, which are written in parts"
        )


def _objects(one: Found, index: int | None, request: Request) -> Objects:
    """The objects of an item for other programs, which are traced in memory."""
    job, view = one.job, one.job.view
    labels = np.empty(view.file_shape, np.int32)
    for start, stop in all_windows(labels.shape):  # not at once, as the grid that they are read from may be finer
        labels[tuple(map(slice, start, stop))] = one.labels(start, stop)
    return objects_of(
        job.model,
        view.regions,
        _pixels(view),
        labels=labels,
        classes=one.classes,
        probabilities=one.probabilities,
        index=index,
        given=request.pixel_size_um,
    )


def _pixels(view: View) -> Array:
    """The model's channels of an item, (C, *spatial), of which the file may have more: read in bands."""
    shape, regions = view.file_shape, view.regions
    pixels = np.empty((len(view.channels), *shape), regions.dtype)
    band = max(1, _BAND // math.prod(shape[1:]))
    for first in range(0, shape[0], band):
        start, stop = (first, *(0,) * (view.ndim - 1)), (min(first + band, shape[0]), *shape[1:])
        pixels[:, first : stop[0]] = regions.read(view.item, start, stop, ndim=view.ndim)[list(view.channels)]
    return pixels
