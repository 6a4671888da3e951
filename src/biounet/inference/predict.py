"""From an image and a model to probabilities and labels, at any size, on arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.images.allowance import allowed_memory
from biounet.inference.averaging import views
from biounet.inference.engines import Engine
from biounet.inference.tiling import TilePlan, cheapest_tiles, plan_tiles, predict_alike
from biounet.labels.instances import InstanceSettings, SplitSettings, instances
from biounet.labels.kinds import object_classes
from biounet.model_file import Model
from biounet.words import counted

Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_WORK_AT_ONCE = 4e9  # operations of one call, below which a call's own cost shows
_MOST_AT_ONCE = 32  # tiles
_DEFAULT_SHARE = 4  # of all memory that tiles may take unasked: a quarter


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    ``labels``: int32 (*spatial), instance ids or class ids. ``probabilities``: float32
    (classes, *spatial), summing to 1 over classes. ``plan``: the tiles it was computed by. ``classes``:
    where objects are of several classes, the class of each by its id, int32, 0 for id 0.
    """

    labels: Labels
    probabilities: Float32
    plan: TilePlan
    classes: Labels | None = None


def predict_array(
    model: Model,
    engine: Engine,
    image: npt.NDArray[Any],
    *,
    plan: TilePlan | None = None,
    tta: str = "none",
    progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Labels and probabilities of one image (C, *spatial) or, with one channel, (*spatial).

    Intensities are normalised over the whole image, never per tile. ``tta``: the views that
    probabilities are averaged over, see `averaging.views`. Raises `DataError` when the channels are
    not those of the model or values are not finite.
    """
    image = with_channels(image, model)
    plan = plan or plan_for(image.shape[1:], engine)
    (probabilities,) = predict_probabilities(
        engine, [model.normalisation.apply(image)], plan, tta=tta, progress=progress
    )
    return prediction_of(model, probabilities, plan)


def prediction_of(model: Model, probabilities: Float32, plan: TilePlan) -> Prediction:
    """Labels, and for a model of several cell classes the class of each object, beside the probabilities.

    ``probabilities``: float32 (K, *spatial), kept as they are. Labels are int32 (*spatial), classes int32 by id, from
    0 for background on, or None; ``plan``: by which they were computed. Raises `DataError` where those of an
    instance model are not finite.
    """
    labels = segment(model, probabilities)
    several = model.task == "instances" and len(model.classes) > 2
    classes = object_classes(labels, probabilities) if several else None
    return Prediction(labels, probabilities, plan, classes)


def predict_probabilities(
    engine: Engine,
    images: Sequence[Float32],
    plan: TilePlan,
    *,
    tta: str = "none",
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Float32]:
    """Probabilities (K, *spatial) of normalised images (C, *spatial) of one size, averaged over views."""
    looks = views(tta, engine.geometry)
    results: list[Float32] = []
    for number, view in enumerate(looks):

        def told(done: int, total: int, before: int = number) -> None:
            if progress:
                progress(before * total + done, len(looks) * total)

        seen = [view.apply(image) for image in images]
        found = [softmax(n) for n in predict_alike(engine, seen, view.plan(plan), batch=batch, progress=told)]
        if len(looks) == 1:
            return found
        results = results or [np.zeros((len(f), *plan.size), np.float32) for f in found]
        for total, one in zip(results, found, strict=True):
            total += view.undo(one)
    for total in results:
        total /= total.sum(axis=0)
    return results


def with_channels(image: npt.NDArray[Any], model: Model) -> npt.NDArray[Any]:
    """The image as (C, *spatial) with the model's number of channels, or `DataError`."""
    array = np.asarray(image)
    if array.ndim == model.ndim:
        array = array[None]
    channels = len(model.channels)
    if array.ndim != model.ndim + 1 or array.shape[0] != channels:
        raise DataError(
            f"image of shape {np.shape(image)}: the model takes {counted(channels, 'channel')} "
            f"({', '.join(model.channels)}) and {model.ndim} spatial axes, (C, *spatial)"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(f"image has {bad} values that are NaN or infinite; replace them and predict again")
    return array


def segment(model: Model, probabilities: Float32) -> Labels:
    """Labels of probabilities (K, *spatial): objects, or the most probable class."""
    if model.task == "classes":
        return np.asarray(probabilities.argmax(axis=0), dtype=np.int32)
    return instances(1 - probabilities[0], instance_settings(model.postprocessing))


def instance_settings(values: Any) -> InstanceSettings:
    """`InstanceSettings` from the plain values in a model file."""
    given = dict(values)
    split = given.pop("split", None)
    return InstanceSettings(**given, split=None if split is None else SplitSettings(**split))


def softmax(logits: Float32) -> Float32:
    """Pixel-wise softmax over the first axis, float32, computed in place of its own copy."""
    result: Float32 = np.subtract(logits, logits.max(axis=0), dtype=np.float32)
    np.exp(result, out=result)
    result /= result.sum(axis=0)
    return result


def plan_for(size: Sequence[int], engine: Engine, *, tile: int | None = None, memory: int | None = None) -> TilePlan:
    """Tiles for an image: of the side asked for, or the cheapest within the memory (bytes).

    Without a limit a quarter of `total_memory` is used. Raises `UsageError` with the least
    memory that would do when a limit is too small for a single tile.
    """
    limit = memory if memory is not None else total_memory() // _DEFAULT_SHARE
    if tile is not None:
        plan = plan_tiles(size, engine.geometry, tile)
        needed = tile_memory(plan, engine)
        if memory is not None and needed > memory:
            raise UsageError(
                f"--tile {tile} needs about {show_bytes(needed)} a tile, --memory allows {show_bytes(memory)}; "
                "lower --tile or leave it out"
            )
        return plan
    try:
        return cheapest_tiles(size, engine.geometry, limit, work=engine.cost.work, memory=engine.cost.memory)
    except UsageError:
        smallest = tile_memory(plan_tiles(size, engine.geometry, 1), engine)
        raise UsageError(
            f"--memory {show_bytes(limit)} is too small for one tile; the least is {show_bytes(smallest)}"
        ) from None


def tiles_at_once(plan: TilePlan, engine: Engine, *, memory: int | None = None) -> int:
    """How many tiles go through the engine in one call: several where they are small, within the memory.

    One by one where the engine gains nothing (`engines.Engine.batches`). Otherwise it follows from the
    plan, the network and the limit alone. On CPUs results are the same bits as one by one.
    """
    if not engine.batches:
        return 1
    limit = memory if memory is not None else total_memory() // _DEFAULT_SHARE
    fitting = limit // max(1, tile_memory(plan, engine))
    worth = int(_WORK_AT_ONCE // float(engine.cost.work(plan.input)))
    return max(1, min(fitting, worth, _MOST_AT_ONCE))


def tile_memory(plan: TilePlan, engine: Engine) -> int:
    """Bytes that computing one tile of the plan takes, about."""
    return int(engine.cost.memory(plan.input))


def total_memory() -> int:
    """The memory of the machine, or of the container or job, in bytes (8 GB where the system does not say)."""
    return allowed_memory() or 8 * 10**9


def parse_bytes(text: str, option: str) -> int:
    """Bytes of a text such as 2GB, 512MiB or 1.5e9; `UsageError` otherwise."""
    found = re.fullmatch(r"\s*([\d.]+(?:E\d+)?)\s*([KMGT]?I?B?)\s*", text.upper())
    unit = found.group(2) if found else ""
    unit = unit + "B" if unit and not unit.endswith("B") else unit
    try:
        value = round(float(found.group(1)) * _UNITS[unit]) if found else 0
    except (ValueError, KeyError, OverflowError):
        value = 0
    if value < 1:
        raise UsageError(f"{option} {text!r}: write a size such as 2GB or 512MB")
    return value


def show_bytes(count: int) -> str:
    """A size for people, rounded up to three digits so that it is enough: 1.5 GB, 320 MB."""
    quantum = 10 ** max(0, len(str(count)) - 3)
    count = -(-count // quantum) * quantum
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.10g} {unit}"
    return f"{count} B"
