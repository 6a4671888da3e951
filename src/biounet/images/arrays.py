"""Headers of ``.npy`` arrays and of NIfTI volumes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biounet.errors import DataError
from biounet.images.axes import refuse_channels_last
from biounet.images.image import Array, Header
from biounet.images.stored import Cache, Mapped, Stored, Whole

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
    refuse_channels_last(path, axes, array.shape)
    return Header(axes, array.shape, array.dtype, array.nbytes, lambda: np.array(array))


def npy_stored(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """The values of an ``.npy`` file where they lie."""
    array = np.lib.format.open_memmap(path, mode="r")
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return [Mapped(path, array.offset, array.shape, array.dtype, fortran)]


def nifti_header(path: Path) -> Header:
    """A NIfTI volume as stored, without reorientation: YX, ZYX or TZYX, spacing kept.

    Needs nibabel; raises `MissingPackageError` without it. Scaled integers become float64.
    """
    stored = _loaded(path)
    shape = tuple(int(n) for n in stored.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3, 4):
        raise DataError(f"{path}: NIfTI of shape {stored.shape}; 2 to 4 axes (x, y, z, time) can be read")
    axes = "XYZT"[: len(shape)]
    zooms = [float(zoom) for zoom in stored.header.get_zooms()[: min(len(shape), 3)]]
    factor = _UM.get(stored.header.get_xyzt_units()[0], 1e3)
    known = all(0 < zoom < np.inf for zoom in zooms)
    first = np.asanyarray(stored.dataobj[(slice(0, 1),) * len(stored.shape)])  # scaled as the file says
    size = path.stat().st_size * (_GZIP_RATIO if path.name.lower().endswith(".gz") else 1)
    return Header(
        axes,
        shape,
        first.dtype,
        size * first.itemsize // stored.get_data_dtype().itemsize,
        lambda: np.asanyarray(stored.dataobj).reshape(shape),
        pixel_size_um=tuple(zoom * factor for zoom in reversed(zooms)) if known else None,
        affine=np.asarray(stored.affine, np.float64),
    )


def nifti_stored(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """The volume through its proxy, which reads parts of files that are not compressed."""
    proxy = _loaded(path).dataobj
    if path.name.lower().endswith(".gz"):
        return [Whole(header.shape, header.dtype, header.read)]
    return [_Proxied(proxy, header.shape, header.dtype)]


@dataclass(frozen=True, eq=False)
class _Proxied:
    """A NIfTI volume; ``dtype`` is that of scaled values where the file scales them."""

    proxy: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def chunk(self) -> tuple[int, ...]:
        return (1,) * len(self.shape)

    def read(self, index: tuple[slice, ...]) -> Array:
        rest = (slice(0, 1),) * (len(self.proxy.shape) - len(self.shape))
        found: Array = np.asanyarray(self.proxy[index + rest])
        return found.reshape([part.stop - part.start for part in index])


def _loaded(path: Path) -> Any:
    try:
        nibabel = importlib.import_module("nibabel")
    except ImportError:
        raise MissingPackageError(f"{path}: NIfTI needs a package: pip install nibabel") from None
    with nibabel.imageglobals.LoggingOutputSuppressor():  # it mends odd headers aloud
        return nibabel.load(path)
