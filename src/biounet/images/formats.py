"""Image files of every kind into memory. A new format is one function and one row in ``READERS``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

from biounet.errors import BiounetError, DataError
from biounet.images.allowance import allowed_memory
from biounet.images.arrays import nifti_header, npy_header
from biounet.images.czi import czi_header
from biounet.images.foreign import advice
from biounet.images.image import AXES, Array, Header, Image
from biounet.images.nd2 import nd2_header
from biounet.images.ome_zarr import inner_name, zarr_header
from biounet.images.pictures import jpeg_header, png_header
from biounet.images.slides import slide_header
from biounet.images.tiff import tiff_header

READERS: dict[str, Callable[[Path], Header]] = {
    ".tif": tiff_header,
    ".tiff": tiff_header,
    ".png": png_header,
    ".jpg": jpeg_header,
    ".jpeg": jpeg_header,
    ".npy": npy_header,
    ".nii": nifti_header,
    ".nii.gz": nifti_header,
    ".zarr": zarr_header,
    ".svs": tiff_header,
    ".ndpi": tiff_header,
    ".lsm": tiff_header,
    ".czi": czi_header,
    ".nd2": nd2_header,
    ".mrxs": slide_header,
    ".scn": slide_header,
    ".bif": slide_header,
    ".vms": slide_header,
    ".svslide": slide_header,
}
_FREE = 64 << 20  # bytes that any file may declare: sparse files hold less than they declare
_FIRST_CHANNEL = "_0000"  # nnU-Net's suffix


def read_image(path: str | Path) -> Image:
    """Read one image file of a known format with its axes and pixel size.

    Returns an `Image`: array in native byte order with axes in the order ITCZYX, dtype as stored
    (truth values become uint8), pixel size in um where the file states it. Values that are not finite
    are kept (see `check_finite`). Raises `DataError` in one line for a file that is missing, empty,
    truncated, foreign, damaged, of complex numbers, or that declares more pixels than it can hold.
    """
    path = Path(path)
    return image_of(read_header(path, fits=False), path)


def image_of(header: Header, path: Path) -> Image:
    """The image that a header of ``path`` reads; errors as of `read_image`."""
    check_fits(path, header)
    with reading(path):
        array = native(header.read())
    if array.shape != header.shape:
        raise DataError(f"{path}: declares the shape {header.shape} and holds {array.shape}; the file is damaged")
    order = [header.axes.index(axis) for axis in AXES if axis in header.axes]
    return Image(
        array.transpose(order),
        "".join(header.axes[axis] for axis in order),
        header.pixel_size_um,
        path,
        alpha=header.alpha,
        palette=header.palette,
        notes=header.notes,
        channel_names=header.channel_names,
    )


def read_header(path: str | Path, *, fits: bool = True) -> Header:
    """What an image file says about itself, without reading its pixels.

    Raises `DataError` as `read_image` does, also when the declared size cannot be in the file or, unless
    ``fits`` is False, in the memory of this machine.
    """
    path = Path(path)
    reader = READERS.get(known_suffix(path))
    if reader is None and (what := advice([path])):
        raise DataError(f"{path}: {what}")
    if reader is None:
        raise DataError(f"{path}: not an image format known here; known are {', '.join(READERS)}: convert it")
    with reading(path):
        folder = known_suffix(path) == ".zarr"
        if path.is_dir() and not folder:
            raise DataError(f"{path}: is a folder, an image file is needed; name a file in it")
        if path.stat().st_size == 0 and not path.is_dir():
            raise DataError(f"{path}: is empty (0 bytes); copy or export it again")
        if path.is_file() and folder:
            raise DataError(f"{path}: is a file, OME-Zarr is a folder; unpack it")
        header = reader(path)
        _check_declared(path, header)
        if fits:
            check_fits(path, header)
    return header


def known_suffix(path: str | Path) -> str:
    """The longest known suffix of the name in lower case, "" for files of other kinds.

    An image inside an OME-Zarr folder, as ``plate.zarr/B/03/0``, has the folder's.
    """
    name, parents = Path(path).name.lower(), Path(path).parents
    named_freely = "." not in name or Path(path).parent.name == "labels"  # labels may be called as anything
    if named_freely and any(parent.suffix.lower() == ".zarr" for parent in parents):
        return ".zarr"
    return max((suffix for suffix in READERS if name.endswith(suffix)), key=len, default="")


def stem_name(path: str | Path) -> str:
    """NAME of a file: without its known suffixes (``.tif``, ``.ome.tif``, ``.nii.gz``, ``.ome.zarr``, ``_0000``).

    Of an image inside an OME-Zarr folder: with where it lies, as ``plate_B03_0``.
    """
    name = Path(path).name
    suffix = known_suffix(path)
    if suffix == ".zarr":
        return inner_name(path)
    name = name[: len(name) - len(suffix)] if suffix else Path(name).stem
    if suffix in (".tif", ".tiff") and name.lower().endswith(".ome"):
        name = name[:-4]
    return name.removesuffix(_FIRST_CHANNEL) or name


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a format's library raises on a bad file into one `DataError` of one line."""
    try:
        yield
    except BiounetError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the name") from None
    except PermissionError as error:
        raise DataError(f"{path}: may not be read ({error.strerror}); change its permissions") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory; crop it or take a machine with more") from error
    except Exception as error:
        text = " ".join(str(error).split())[:100]
        raise DataError(
            f"{path}: cannot be read as {known_suffix(path)} ({type(error).__name__}: {text}); it is "
            "damaged, truncated or of another format than its name says: copy or export it again"
        ) from error


def _check_declared(path: Path, header: Header) -> None:
    if header.dtype.kind not in "buif":
        raise DataError(f"{path}: holds values of type {header.dtype}; only real numbers can be used: convert it")
    if 0 in header.shape:
        raise DataError(f"{path}: has no pixels (shape {header.shape}); leave it out")
    declared = header.dtype.itemsize * prod(map(int, header.shape))
    if declared > header.capacity + _FREE:
        raise DataError(
            f"{path}: declares {declared} bytes of pixels (shape {header.shape}), more than a file of "
            "its size can hold; it is damaged: copy or export it again"
        )


def check_fits(path: Path, header: Header) -> None:
    """Raise `DataError` where the whole image is larger than the memory that this process may take."""
    declared = header.dtype.itemsize * prod(map(int, header.shape))
    memory = allowed_memory()
    if memory and declared > memory:
        raise DataError(
            f"{path}: needs {declared / 2**30:.1f} GiB, this machine or container has {memory / 2**30:.1f}; crop it"
        )


def native(array: Array) -> Array:
    """In the byte order of this machine; truth values as uint8."""
    if array.dtype == bool:
        return array.view(np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
