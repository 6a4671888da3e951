"""Labels as OME-Zarr: a folder of their own, or into the input image itself, where each says what made it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import DataError, UsageError
from biounet.images.formats import known_suffix, read_header, stem_name
from biounet.images.image import Header, separate_axes, spatial_axes
from biounet.images.label_origin import Origin, is_zarr_written_here, recorded_result
from biounet.images.ome_zarr_labels import add_zarr_labels, write_zarr_labels
from biounet.images.ome_zarr_list import has_zarr_labels, list_zarr_labels, recover_zarr_labels
from biounet.images.writing import Read, is_written_here
from biounet.results.request import Done, Request

Place = Sequence[int]

_OF_KIND = {"labels": "", "classes": "_classes"}  # of the names of labels inside an image
_OME_ZARR = ".ome.zarr"


@dataclass(frozen=True, eq=False)
class Ids:
    """Ids of an image. ``kind``: "labels" or "classes"; ``read(start, stop)`` gives windows of ``shape``, int32.

    ``largest``: none is larger. ``axes``: of (T)(Z)YX, see `stack.Stack`. ``pixel_size_um``: per spatial
    axis, of YX alone, or None.
    """

    kind: str
    read: Read
    shape: tuple[int, ...]
    largest: int
    axes: str
    pixel_size_um: tuple[float, ...] | None


@dataclass(frozen=True)
class Targets:
    """Where the results of a request go, and what is recorded in labels that are written into images.

    ``made_by``: what decides labels, in plain values. ``kinds``: of `Ids` that there will be.
    """

    request: Request
    made_by: Mapping[str, Any]
    kinds: tuple[str, ...]

    def check(self, path: Path) -> None:
        """Refuse what cannot be written as OME-Zarr, before anything is computed; what a kill left is mended.

        Raises `UsageError` where ``--in-place`` is asked of another format, `DataError` where labels of that name, in
        the image or in the folder of results, were made by something else.
        """
        request = self.request
        for file in self._files(stem_name(path)) if not request.overwrite else ():
            written_here = is_zarr_written_here if file.suffix == ".zarr" else is_written_here
            if file.exists() and not written_here(file):
                raise DataError(
                    f"{file}: is there, and biounet did not write it, or it was edited since; move it away, take "
                    "another --out, or replace it with --overwrite"
                )
        if request.in_place and known_suffix(path) != ".zarr":
            raise UsageError(f"{path}: --in-place writes into OME-Zarr images only; leave it out, or convert the image")
        for kind in self.kinds if request.in_place else ():
            recover_zarr_labels(path, self._name(kind))
            there = has_zarr_labels(path, self._name(kind)) and not request.overwrite
            if there and self._recorded(path, kind) is None:
                raise DataError(
                    f"{path}: has labels {self._name(kind)!r} that this model did not make with these settings, or "
                    "that were changed since; choose another --label-name, or replace them with --overwrite"
                )

    def done_before(self, path: Path, *, blocks: Path) -> Done | None:
        """What became of an image whose labels in it are those that would be made now; None where there is work to do.

        There is work, too, where another file that is wanted is not in the folder of results. What an interruption
        left in ``blocks`` is removed, and labels that it left unlisted are listed.
        """
        if not self.request.in_place:
            return None
        recorded = [self._recorded(path, kind) for kind in self.kinds]
        said = dict(recorded[0] or {})
        if None in recorded or set(said.pop("save")) != set(self.request.save):
            return None
        beside = said.pop("files")
        if not all((self.request.out / file).exists() for file in beside):
            return None
        files = [*beside, *(str(list_zarr_labels(path, self._name(kind))) for kind in self.kinds)]
        shutil.rmtree(blocks, ignore_errors=True)
        said["shape"] = tuple(said["shape"])
        return Done(str(path), stem_name(path), files=files, done_before=True, **said)

    def write_in_place(self, source: Path, several: Sequence[Ids], done: Done) -> None:
        """Write ids into the image with what made them; labels last: where they are, all else is."""
        header = read_header(source, fits=False)
        result = {
            "objects": done.objects,
            "empty": done.empty,
            "shape": list(done.shape),
            "plan": done.plan,
            "save": list(self.request.save),
            "files": list(done.files),
        }
        groups = {}
        for ids in reversed(several):
            groups[ids.kind] = add_zarr_labels(
                source,
                self._name(ids.kind),
                _in_axes(ids.read, header, ids.axes),
                largest_id=ids.largest,
                overwrite=self.request.overwrite or self._recorded(source, ids.kind) is not None,
                origin=Origin(self.made_by, result),
            )
        done.files += [str(groups[kind]) for kind in self.kinds]

    def _files(self, name: str) -> list[Path]:
        """Ids of an image in the folder of results, as TIFF and as OME-Zarr."""
        save = self.request.save
        endings = [".tif"] * ("labels" in save and not self.request.in_place) + [_OME_ZARR] * ("ome-zarr" in save)
        return [self.request.out / f"{name}_{kind}{ending}" for kind in self.kinds for ending in endings]

    def _name(self, kind: str) -> str:
        return self.request.label_name + _OF_KIND[kind]

    def _recorded(self, path: Path, kind: str) -> Mapping[str, Any] | None:
        return recorded_result(path, self._name(kind), self.made_by)


def write_beside(ids: Ids, out: Path, name: str) -> str:
    """Write a folder of its own into ``out``; its name."""
    path = out / f"{name}_{ids.kind}{_OME_ZARR}"
    write_zarr_labels(path, ids.read, ids.shape, largest_id=ids.largest, pixel_size_um=ids.pixel_size_um, axes=ids.axes)
    return path.name


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
