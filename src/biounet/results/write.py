"""The result files of one image, whichever way it was predicted: names, order, colours and metadata."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.exchange.objects import Objects
from biounet.images.writing import (
    Read,
    write_labels,
    write_labels_in_parts,
    write_png,
    write_probabilities_in_parts,
)
from biounet.images.writing_large import write_large_labels, write_large_probabilities
from biounet.report.pictures import overlay
from biounet.results.export import EXPORTED, export
from biounet.results.ome_zarr import Ids, Targets, write_beside
from biounet.results.request import Done

Array = npt.NDArray[Any]

_SMALL = 1 << 26  # pixels up to which Fiji opens a result without Bio-Formats, and no pyramid is needed


@dataclass(frozen=True, eq=False)
class Results:
    """What was found in one image. Pixels are asked for when they are written: ``read(start, stop)``.

    ``ids``: labels, and classes where there are several kinds of objects; one shape for all, a stack of
    items first where it is one. ``objects``: how many, None for classes. ``probabilities``: of (K, *shape).
    ``region``: a mask that was found in the image, of items like the ids. ``seen()``: image (C, *spatial) and
    labels for an overlay. ``exports()``: the objects for other programs.
    """

    source: Path
    ids: Sequence[Ids]
    objects: int | None
    classes: int
    probabilities: Read
    seen: Callable[[], tuple[Array, Array]]
    exports: Callable[[], Sequence[Objects]]
    region: Array | None = None

    @property
    def labels(self) -> Ids:
        """The labels, which every image has."""
        return self.ids[0]


def write_results(results: Results, targets: Targets, done: Done) -> None:
    """Write what the request names, each file whole or not at all, and note it in ``done``.

    Labels in the image itself come last: where they are there, all else is.
    """
    request = targets.request
    labels = results.labels
    done.empty = not labels.largest
    done.objects = results.objects
    for ids in results.ids:
        if "labels" in request.save and not request.in_place:
            path = request.out / f"{done.name}_{ids.kind}.tif"
            _write_ids(path, ids)
            done.files.append(path.name)
        if "ome-zarr" in request.save:
            done.files.append(write_beside(ids, request.out, done.name))
    if results.region is not None:
        path = request.out / f"{done.name}_region.tif"
        write_labels(path, results.region.astype(np.uint8), axes=labels.axes)
        done.files.append(path.name)
    if "probabilities" in request.save:
        path = request.out / f"{done.name}_probabilities.tif"
        _write_probabilities(path, results)
        done.files.append(path.name)
    if "overlay" in request.save:
        path = request.out / f"{done.name}_overlay.png"
        write_png(path, overlay(*results.seen()))
        done.files.append(path.name)
    if set(request.save) & set(EXPORTED):
        written = export(results.source, results.exports(), request.out, request.save)
        done.files += [str(one.relative_to(request.out)) for one in written]
    if request.in_place:
        targets.write_in_place(results.source, results.ids, done)


def reader_of(array: Array) -> Callable[[Sequence[int], Sequence[int]], Array]:
    """What gives windows of an array in memory, along its last axes; leading ones are kept."""

    def read(start: Sequence[int], stop: Sequence[int]) -> Array:
        window: tuple[Any, ...] = (..., *map(slice, start, stop))
        return np.asarray(array[window])

    return read


def _write_ids(path: Path, ids: Ids) -> None:
    write = write_labels_in_parts if math.prod(ids.shape) <= _SMALL else write_large_labels
    write(path, ids.read, ids.shape, largest_id=ids.largest, pixel_size_um=ids.pixel_size_um, axes=ids.axes)


def _write_probabilities(path: Path, results: Results) -> None:
    """Classes first, then the axes of the labels."""
    labels = results.labels
    shape, axes, size = (results.classes, *labels.shape), f"C{labels.axes}", labels.pixel_size_um
    write = write_probabilities_in_parts if math.prod(shape) <= _SMALL else write_large_probabilities
    write(path, results.probabilities, shape, pixel_size_um=size, axes=axes)
