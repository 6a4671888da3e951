"""Headers of ``.npy`` arrays and of NIfTI volumes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from biounet.errors import DataError
from biounet.images.image import Header

_GZIP_RATIO = 1040  # deflate cannot do better
_UM = {"meter": 1e6, "mm": 1e3, "micron": 1.0, "unknown": 1e3}  # NIfTI volumes without a unit are in mm


class MissingPackageError(DataError):
    """A format needs a package that is not installed; the same for every file of that format."""


def npy_header(path: Path) -> Header:
    """A NumPy array without pickles: YX, YXC where the last axis has 3 or 4 values, else pages.

    Raises `DataError` for arrays of fewer than 2 or more than 3 axes.
    """
    array = np.lib.format.open_memmap(path, mode="r")  # never unpickles
    if array.ndim not in (2, 3):
        raise DataError(
            f"{path}: array of shape {array.shape}; an .npy file names no axes, so only 2 or 3 can be told: "
            "save it as TIFF with axes"
        )
    coloured = array.ndim == 3 and array.shape[2] in (3, 4) and min(array.shape[:2]) > 4
    axes = "YX" if array.ndim == 2 else "YXC" if coloured else "IYX"
    return Header(axes, array.shape, array.dtype, array.nbytes, lambda: np.array(array))


def nifti_header(path: Path) -> Header:
    """A NIfTI volume as stored, without reorientation: YX, ZYX or TZYX, spacing kept.

    Needs nibabel; raises `MissingPackageError` without it. Scaled integers become float64.
    """
    try:
        nibabel = importlib.import_module("nibabel")
    except ImportError:
        raise MissingPackageError(f"{path}: NIfTI needs a package: pip install nibabel") from None
    with nibabel.imageglobals.LoggingOutputSuppressor():  # it mends odd headers aloud
        stored: Any = nibabel.load(path)
    shape = tuple(int(n) for n in stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3, 4):
        raise DataError(f"{path}: NIfTI of shape {stored.shape}; 2 to 4 axes (x, y, z, time) can be read")
    axes = "XYZT"[: len(shape)]
    zooms = [float(zoom) for zoom in stored.header.get_zooms()[: min(len(shape), 3)]]
    factor = _UM.get(stored.header.get_xyzt_units()[0], 1e3)
    known = all(0 < zoom < np.inf for zoom in zooms)
    size = path.stat().st_size * (_GZIP_RATIO if path.name.lower().endswith(".gz") else 1)
    return Header(
        axes,
        shape,
        np.dtype(stored.get_data_dtype()),
        size,
        lambda: np.asanyarray(stored.dataobj).reshape(shape),
        pixel_size_um=tuple(zoom * factor for zoom in reversed(zooms)) if known else None,
    )
