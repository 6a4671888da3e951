"""Label images as int32 ids: 0 background, -1 unknown."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.colours import FILE_NAME, by_colour
from biounet.datasets.dataset import Colour
from biounet.errors import DataError
from biounet.images.formats import known_suffix, read_image
from biounet.images.image import Array, Image, planes

_LARGEST = np.iinfo(np.int32).max

Labels = npt.NDArray[np.int32]


def load_labels(path: str | Path, *, ndim: int | None = None, colours: Sequence[Colour] = ()) -> list[Labels]:
    """Every label image in a file, int32 (Z)YX, ids as they stand, -1 for unknown.

    ``ndim`` None: volumes where the file states a z axis of several planes, else separate pages. Floating point ids
    (ImageJ's 32 bit) are taken where they are whole numbers; indices of palette images are the ids.
    ``colours``: what the colours of RGB and palette images mean (see `colours.by_colour`).

    Raises `DataError` for JPEG (it changes values), colours, fractions, ids below -1 or above 2^31 - 1.
    """
    path = Path(path)
    if known_suffix(path) in (".jpg", ".jpeg"):
        raise DataError(f"{path}: labels in a JPEG are no longer exact; save them as TIFF or PNG")
    image = read_image(path)
    palette = image.palette if colours else None
    indices = Image(image.array, image.axes, None, path, alpha=image.alpha, palette=palette)
    is_volume = "Z" in image.axes and image.array.shape[image.axes.index("Z")] > 1
    found = planes(indices, ndim or (3 if is_volume else 2))
    return [
        by_colour(plane, colours, path) if colours and len(plane) == 3 else as_labels(_one_channel(plane, path), path)
        for plane in found
    ]


def object_kinds(labels: Labels, classes: Labels) -> dict[int, str]:
    """The class of every object by its id, as text: the most frequent value above 0 on its pixels.

    ``labels``: ids, ``classes``: class values, arrays of one shape. Objects without a value have no entry.
    """
    drawn = (labels > 0) & (classes > 0)
    pairs, counts = np.unique(np.stack([labels[drawn], classes[drawn]]), axis=1, return_counts=True)
    order = np.argsort(counts, kind="stable")  # the most frequent comes last and stays
    return {int(pairs[0, k]): str(int(pairs[1, k])) for k in order}


def read_kinds(path: Path) -> dict[int, str]:
    """The class of every object by its id, from a CSV with the columns ``id`` and ``class``.

    Raises `DataError` where these are missing or an id is no number. Empty classes are none.
    """
    try:
        rows = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        if not {"id", "class"} <= set(rows.fieldnames or ()):
            raise KeyError("id", "class")
        return {int(row["id"]): row["class"].strip() for row in rows if row["class"] and row["class"].strip()}
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise DataError(f"{path}: not a list of classes ({error!r}); its columns must be id and class") from error


def as_labels(array: Array, source: str | Path) -> Labels:
    """Whole numbers of any dtype as int32 labels; raises `DataError` for values that are none."""
    if array.dtype.kind == "f":
        fractions = int(np.count_nonzero(~(np.isfinite(array) & (array == np.floor(array)))))
        if fractions:
            raise DataError(
                f"{source}: {fractions} of {array.size} label values are not whole numbers; "
                "labels are ids or class values: is this an image?"
            )
    least, largest = array.min(initial=0), array.max(initial=0)
    if least < -1 or largest > _LARGEST:
        raise DataError(
            f"{source}: label values run from {least:g} to {largest:g}; allowed are -1 (unknown) to "
            f"{_LARGEST}: relabel it"
        )
    return array.astype(np.int32)


def with_unknown(labels: Labels, *, ignore: Labels | None = None, region: Labels | None = None) -> Labels:
    """Labels with -1 where ``ignore`` is not 0 and where ``region`` is 0, arrays of one shape."""
    unknown = np.zeros(labels.shape, bool)
    if ignore is not None:
        unknown |= ignore != 0
    if region is not None:
        unknown |= region == 0
    return np.where(unknown, np.int32(-1), labels)


def _one_channel(plane: npt.NDArray[Any], path: Path) -> Array:
    if plane.shape[0] > 1 and (plane[1:] != plane[:1]).any():
        listed = f"say what each colour means in {FILE_NAME} beside it (a line RRGGBB,name for each), or "
        raise DataError(
            f"{path}: labels in {plane.shape[0]} channels that differ (colours); one value a pixel is needed: "
            f"{listed if len(plane) == 3 else ''}save ids or class values as a grey or palette image"
        )
    result: Array = plane[0]
    return result
