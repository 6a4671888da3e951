"""Annotations that are no label images: outlines in files, and a mask for every object.

They have no size of their own, so they are painted at the size of their image (`outlines.paint`). A new
kind of file is one function and one row in ``OUTLINES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from biounet.datasets.annotation import load_labels
from biounet.datasets.coco import read_coco
from biounet.datasets.dataset import Source
from biounet.datasets.geojson import geojson_outlines
from biounet.datasets.outlines import Outline, Painted, masked, paint
from biounet.datasets.rois import roi_outlines, tiff_outlines
from biounet.datasets.shapes import is_shapes_csv, shapes_outlines
from biounet.errors import DataError
from biounet.images.formats import known_suffix, reading
from biounet.images.image import Header

INSIDE = "rois inside"  # `Source.entry` of a TIFF whose stored ROIs are the annotation

OUTLINES: dict[str, Callable[[Path], Sequence[Outline]]] = {
    ".zip": roi_outlines,
    ".roi": roi_outlines,
    ".geojson": geojson_outlines,
    ".geojson.gz": geojson_outlines,
    ".csv": shapes_outlines,
}


def outline_suffix(path: str | Path) -> str:
    """The longest known suffix of a file of outlines in lower case, "" for others."""
    name = Path(path).name.lower()
    return max((suffix for suffix in OUTLINES if name.endswith(suffix)), key=len, default="")


def outline_files(folder: Path) -> list[Path]:
    """Files of outlines in the order of their names; of CSV only napari's shapes."""
    found = [entry for entry in sorted(folder.iterdir()) if outline_suffix(entry) and not entry.name.startswith(".")]
    return [file for file in found if file.is_file() and (file.suffix.lower() != ".csv" or is_shapes_csv(file))]


def is_drawing(source: Source) -> bool:
    """Whether a source is outlines, or a folder of masks, instead of a label image."""
    return source.entry is not None or bool(outline_suffix(source.path)) or _is_masks(source)


def drawing_header(source: Source, image: Header) -> Header:
    """The header that the painted annotation of this image has: its size without channels, int32."""
    sizes = [(axis, size) for axis, size in zip(image.axes, image.shape, strict=True) if axis != "C"]
    axes, shape = "".join(axis for axis, _ in sizes), tuple(size for _, size in sizes)
    return replace(image, axes=axes, shape=shape, dtype=np.dtype(np.int32), alpha=False, palette=None, notes=())


def drawn_planes(source: Source, image: Header) -> list[int] | None:
    """The 2D planes of a stack on which something is drawn; None where it is meant for every one.

    Raises `DataError` for a plane that the image does not have.
    """
    if _is_masks(source):
        return None
    places = {outline.place for outline in _outlines(source) if outline.has_area}
    drawn = [place.planes(image) for place in places]
    if None in drawn or image.plane_count(2) == 1:
        return None
    found = sorted({plane for planes in drawn for plane in planes or ()})
    if found and found[-1] >= image.plane_count(2):
        raise DataError(
            f"{source.path}: an outline lies on plane {found[-1] + 1} of the stack, which has "
            f"{image.plane_count(2)}; is this its image?"
        )
    return found


def painted(source: Source, image: Header) -> Painted:
    """The annotation of one plane of an image (``source.page``), at its size (Y, X).

    Raises `DataError` where the file, or a mask in the folder, does not fit.
    """
    shape, page = image.spatial_shape(2), source.page or 0
    one = image.plane_count(2) == 1
    if _is_masks(source):
        here = _masks(source.path)
    else:
        here = [outline for outline in _outlines(source) if one or outline.place.is_on(image, page)]
    try:
        return paint(here, shape)
    except DataError as error:
        raise DataError(f"{source.path}: {error}") from error


def _outlines(source: Source) -> Sequence[Outline]:
    with reading(source.path):
        changed = source.path.stat().st_mtime_ns  # a file written anew is read anew
        if source.entry is None:
            return _of_file(source.path, changed)
        if source.entry == INSIDE:
            return _inside(source.path, changed)
        return _of_coco(source.path, changed)[source.entry]


@lru_cache(8)
def _of_file(path: Path, changed: int) -> Sequence[Outline]:
    return OUTLINES[outline_suffix(path)](path)


@lru_cache(8)
def _inside(path: Path, changed: int) -> Sequence[Outline]:
    return tiff_outlines(path)


@lru_cache(2)
def _of_coco(path: Path, changed: int) -> Mapping[str, Sequence[Outline]]:
    return {image.entry: image.outlines for image in read_coco(path)}


def _is_masks(source: Source) -> bool:
    """Whether a source is a folder of masks; an OME-Zarr folder is one label image."""
    return source.path.is_dir() and not known_suffix(source.path)


def _masks(folder: Path) -> list[Outline]:
    """One object for every mask image of a folder, in the order of names: where it is not 0."""
    files = [file for file in sorted(folder.iterdir()) if known_suffix(file) and not file.name.startswith(".")]
    return [masked(plane > 0) for file in files for plane in load_labels(file, ndim=2)]
