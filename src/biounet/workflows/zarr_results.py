"""Labels as OME-Zarr: a folder of their own, or into the input image itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.images.formats import known_suffix, read_header, stem_name
from biounet.images.image import Header, separate_axes, spatial_axes
from biounet.images.ome_zarr_labels import add_zarr_labels, has_zarr_labels, write_zarr_labels
from biounet.images.writing_large import Read
from biounet.workflows.request import Done, Request

Place = Sequence[int]

_OF_KIND = {"labels": "", "classes": "_classes"}


def check_targets(path: Path, request: Request) -> None:
    """Refuse what cannot be written as OME-Zarr, before anything is computed.

    Raises `UsageError` where ``--in-place`` is asked of another format or a result would replace its input,
    `DataError` where the image has labels of that name.
    """
    if request.in_place:
        if known_suffix(path) != ".zarr":
            raise UsageError(f"{path}: --in-place writes into OME-Zarr images only; leave it out, or convert the image")
        if not request.overwrite and has_zarr_labels(path, request.label_name):
            raise DataError(
                f"{path}: has labels {request.label_name!r}; choose another --label-name, or replace them with "
                "--overwrite"
            )
    target = request.out / f"{stem_name(path)}.ome.zarr"
    if "ome-zarr" in request.save and target.resolve() in (path.resolve(), *path.resolve().parents):
        raise UsageError(f"--save ome-zarr: {target} is an input; choose another --out, or write --in-place")


def write_zarr(
    kind: str,
    read: Read,
    shape: tuple[int, ...],
    request: Request,
    done: Done,
    *,
    largest: int,
    size: tuple[float, ...] | None,
    axes: str,
) -> None:
    """Write "labels" or "classes" wherever the request wants OME-Zarr, and note it in ``done``.

    ``read(start, stop)`` gives ids of windows of ``shape``, a stack of items first where ``axes`` begins with T.
    """
    if "ome-zarr" in request.save:
        path = request.out / f"{done.name}{_OF_KIND[kind]}.ome.zarr"
        write_zarr_labels(path, read, shape, largest_id=largest, pixel_size_um=size, axes=axes)
        done.files.append(path.name)
    if request.in_place:
        source = Path(done.input)
        header = read_header(source, fits=False)
        group = add_zarr_labels(
            source,
            request.label_name + _OF_KIND[kind],
            _in_axes(read, header, axes),
            largest_id=largest,
            overwrite=request.overwrite,
        )
        done.files.append(str(group))


def _in_axes(read: Read, header: Header, axes: str) -> Read:
    """The same ids by windows of the image's own axes without channels, as `add_zarr_labels` asks."""
    several = axes.startswith("T")
    ndim = len(axes) - several
    own = "".join(axis for axis in header.axes if axis != "C")
    spatial, separate = spatial_axes(header.axes, ndim), separate_axes(header.axes, ndim)
    counts = [header.size(axis) for axis in separate]

    def in_axes(start: Place, stop: Place) -> npt.NDArray[Any]:
        low, high = dict(zip(own, start, strict=True)), dict(zip(own, stop, strict=True))
        result = np.empty([e - a for a, e in zip(start, stop, strict=True)], np.int32)
        first, last = [low.get(axis, 0) for axis in spatial], [high.get(axis, 1) for axis in spatial]
        for place in product(*(range(low[axis], high[axis]) for axis in separate)):
            item = int(np.ravel_multi_index(place, counts)) if place else 0
            pixels = read((item, *first), (item + 1, *last)) if several else read(tuple(first), tuple(last))
            at = {axis: p - low[axis] for axis, p in zip(separate, place, strict=True)}
            target = result[tuple(at.get(axis, slice(None)) for axis in own)]
            target[...] = pixels.reshape(target.shape)
        return result

    return in_axes
