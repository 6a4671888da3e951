"""Results as files: whole or not at all, and never a black picture in a viewer."""

from __future__ import annotations

import colorsys
import math
import os
import re
import secrets
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from biounet.errors import BiounetError, UsageError

Array = npt.NDArray[Any]
Read = Callable[[tuple[int, ...], tuple[int, ...]], Array]

LARGEST_UINT16 = 65535
SOFTWARE = "biounet"  # as TIFFs name what wrote them
_IMAGEJ_LIMIT = 4_000_000_000  # bytes; ImageJ's own TIFFs end at 4 GiB
_STRIP = 1 << 18  # bytes of a strip before it is compressed
_AT_ONCE = 1 << 20  # pixels that are asked for at once, about


@contextmanager
def whole_file(path: str | Path, *, lasting: bool = True) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name once it is complete.

    The block writes the file at the path it is given. On leaving without an error the content is
    forced to disk and renamed over ``path`` in one step; on any error it is removed and ``path`` stays
    as it was. The temporary name keeps the suffix. Missing folders are made. Not ``lasting``: the content
    is not forced to disk, so a failure of power (not of the program) may leave a damaged file.
    Raises `BiounetError` where the system refuses to write (full disk, no permission).
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(6)}.part.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if lasting:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if lasting:
            _sync_folder(path.parent)
    except OSError as error:
        raise BiounetError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """A temporary folder beside ``path`` that takes its name once it is complete; as `whole_file`.

    A folder of that name is replaced: it is there, whole, until the new one is complete.
    """
    path = Path(path)
    mark = secrets.token_hex(6)
    temporary, old = (path.with_name(f".{mark}.{state}.{path.name}") for state in ("part", "old"))
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise BiounetError(
            f"{path}: cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        if old.exists() and not path.exists():  # interrupted between the two steps, in whatever way
            os.replace(old, path)
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def clear_leftovers(path: str | Path) -> None:
    """Remove what a killed `whole_folder` of this path left beside it; a folder that it had moved away comes back."""
    path = Path(path)
    for other in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        left = re.fullmatch(rf"\.[0-9a-f]{{12}}\.(part|old)\.{re.escape(path.name)}", other.name)
        if left and left[1] == "old" and not path.exists():
            os.replace(other, path)
        elif left:
            shutil.rmtree(other, ignore_errors=True)


def write_labels(
    path: str | Path,
    labels: npt.NDArray[np.integer[Any]],
    *,
    pixel_size_um: Sequence[float] | None = None,
    axes: str | None = None,
) -> None:
    """Write ids as a TIFF that Fiji and napari open in colour: uint16, float32 beyond 65,535.

    ``labels``: non-negative integers, (Z)YX, or (T)(Z)YX with ``axes`` naming them; default "YX" or
    "ZYX". ``pixel_size_um`` belongs to the spatial axes in the same order, or to YX alone. ImageJ has no 32-bit label
    images, hence float32, which holds ids below 2^24 exactly. The colour table has black for 0, and
    the display range is 0 to 255, so each id below 255 has its own colour and higher ids share white.
    Raises `UsageError` for negative ids (unknown is no result), ids beyond 2^24 or unfitting axes.
    """
    axes = axes or {2: "YX", 3: "ZYX"}.get(labels.ndim, "")
    largest, least = int(labels.max(initial=0)), int(labels.min(initial=0))
    if least < 0 or largest > 2**24:
        raise UsageError(f"labels from {least} to {largest} for {path}: ids must lie between 0 and 2^24")
    read = _windows_of(labels)
    write_labels_in_parts(path, read, labels.shape, largest_id=largest, pixel_size_um=pixel_size_um, axes=axes)


def write_labels_in_parts(
    path: str | Path,
    read: Read,
    shape: Sequence[int],
    *,
    largest_id: int,
    pixel_size_um: Sequence[float] | None = None,
    axes: str | None = None,
) -> None:
    """The file that `write_labels` writes, without all ids in memory; none is above ``largest_id``.

    ``read(start, stop)`` gives the ids of that region of ``shape``; it is asked for whole rows, page by page in raster
    order. Raises `UsageError` as `write_labels` does, and for ids above ``largest_id``.
    """
    axes = axes or {2: "YX", 3: "ZYX"}.get(len(shape), "")
    if not 0 <= largest_id <= 2**24:
        raise UsageError(f"labels up to {largest_id} for {path}: ids must lie between 0 and 2^24")
    ids = checked_ids(Path(path), read, largest_id)
    dtype = np.dtype(np.uint16 if largest_id <= LARGEST_UINT16 else np.float32)
    display = {"LUTs": [colour_table()], "Ranges": (0.0, 255.0), "min": 0.0, "max": 255.0, "mode": "color"}
    _write_tiff(path, ids, shape, dtype=dtype, axes=axes, pixel_size_um=pixel_size_um, display=display)


def checked_ids(path: Path, read: Read, largest_id: int) -> Read:
    """The same function, raising `UsageError` where it gives ids below 0 or above ``largest_id``."""

    def checked(start: tuple[int, ...], stop: tuple[int, ...]) -> Array:
        ids = read(start, stop)
        least, largest = int(ids.min()), int(ids.max())
        if least < 0 or largest > largest_id:
            raise UsageError(f"{path}: ids from {least} to {largest} at {start}; between 0 and {largest_id} was said")
        return ids

    return checked


def is_written_here(path: str | Path) -> bool:
    """Whether a TIFF is as biounet wrote it: whatever else saves it again leaves its own name, or none, in it."""
    try:
        with tifffile.TiffFile(path) as file:
            return bool(file.pages.first.software == SOFTWARE)
    except (OSError, ValueError, IndexError, KeyError, TypeError, struct.error, tifffile.TiffFileError):
        return False


def write_probabilities(
    path: str | Path,
    probabilities: npt.NDArray[np.float32],
    *,
    pixel_size_um: Sequence[float] | None = None,
    axes: str | None = None,
) -> None:
    """Write class probabilities as a float32 TIFF of the same shape, shown from 0 to 1.

    ``probabilities``: (C, (T), (Z), Y, X), or what ``axes`` names; default "CYX", "CZYX" or "CTZYX".
    """
    read, shape = _windows_of(probabilities), probabilities.shape
    write_probabilities_in_parts(path, read, shape, pixel_size_um=pixel_size_um, axes=axes)


def write_probabilities_in_parts(
    path: str | Path,
    read: Read,
    shape: Sequence[int],
    *,
    pixel_size_um: Sequence[float] | None = None,
    axes: str | None = None,
) -> None:
    """The file that `write_probabilities` writes, without all of them in memory; ``read`` as `write_labels_in_parts`.

    It is asked for one class at a time.
    """
    axes = axes or {3: "CYX", 4: "CZYX", 5: "CTZYX"}.get(len(shape), "")
    display = {"min": 0.0, "max": 1.0, "mode": "grayscale"}
    dtype = np.dtype(np.float32)
    _write_tiff(path, read, shape, dtype=dtype, axes=axes, pixel_size_um=pixel_size_um, display=display)


def write_png(path: str | Path, picture: npt.NDArray[np.uint8]) -> None:
    """Write a picture, RGB (Y, X, 3) or grey (Y, X), uint8, as PNG."""
    from PIL import Image

    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise UsageError(f"picture of shape {picture.shape} and type {picture.dtype}: uint8 (Y, X) or (Y, X, 3)")
    with whole_file(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")


def colour_table() -> npt.NDArray[np.uint8]:
    """256 different colours, (3, 256): black, 254 bright ones unlike those before, white at the end."""
    bright = []
    for index in range(254):
        hue = index * 0.618034 % 1.0  # golden section: each hue far from the last few
        saturation, value = ((1.0, 1.0), (0.55, 1.0), (1.0, 0.7))[index % 3]
        bright.append(colorsys.hsv_to_rgb(hue, saturation, value))
    table = np.array([(0.0, 0.0, 0.0), *bright, (1.0, 1.0, 1.0)])
    return np.asarray(np.rint(table.T * 255), np.uint8)


def _windows_of(array: Array) -> Read:
    return lambda start, stop: array[tuple(map(slice, start, stop))]


def _write_tiff(
    path: str | Path,
    read: Read,
    shape: Sequence[int],
    *,
    dtype: np.dtype[Any],
    axes: str,
    pixel_size_um: Sequence[float] | None,
    display: dict[str, Any],
) -> None:
    """ImageJ TIFF; OME-TIFF where ImageJ's would change the order of axes or be too large."""
    shape = tuple(map(int, shape))
    if len(axes) != len(shape) or set(axes) - set("TCZYX") or axes[-2:] != "YX":
        raise UsageError(f"axes {axes!r} for shape {shape}: one letter of TCZYX each, YX last")
    sizes = spatial_sizes(axes, pixel_size_um)
    in_order = axes == "".join(a for a in "TZCYX" if a in axes)
    columns = len(shape) > 2 and shape[-1] == 1  # tifffile cannot read these back from ImageJ's kind
    small = math.prod(shape) * dtype.itemsize < _IMAGEJ_LIMIT
    imagej = in_order and not columns and small
    rows = min(max(1, _STRIP // (shape[-1] * dtype.itemsize)), shape[-2])
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {"compression": "zlib", "predictor": False, "photometric": "minisblack"}
    options |= {"shape": shape, "dtype": dtype, "rowsperstrip": rows}
    if imagej:
        metadata |= display
        if sizes:
            metadata |= {"unit": "um"} | ({"spacing": sizes["Z"]} if "Z" in sizes else {})
            options["resolution"] = (1 / sizes["X"], 1 / sizes["Y"])
    else:
        metadata |= {f"PhysicalSize{axis}": size for axis, size in sizes.items()}
        metadata |= {f"PhysicalSize{axis}Unit": "µm" for axis in sizes}
        options["bigtiff"] = not small
    with whole_file(path) as temporary:
        kind: dict[str, Any] = {"imagej": imagej, "ome": not imagej, "software": SOFTWARE}
        tifffile.imwrite(temporary, _strips(read, shape, dtype, rows), metadata=metadata, **kind, **options)


def _strips(read: Read, shape: tuple[int, ...], dtype: np.dtype[Any], rows: int) -> Iterator[bytes]:
    """Compressed strips of ``rows`` rows, page by page; several of them are read at once."""
    height, width = shape[-2:]
    band = rows * max(1, _AT_ONCE // (rows * width))
    for page in np.ndindex(*shape[:-2]):
        for y in range(0, height, band):
            stop = min(y + band, height)
            pixels = read((*page, y, 0), (*(at + 1 for at in page), stop, width))
            pixels = np.ascontiguousarray(pixels.reshape(stop - y, width), dtype)
            for first in range(0, stop - y, rows):
                yield packed(pixels[first : first + rows])


def packed(pixels: Array) -> bytes:
    """Compressed as TIFF's zlib."""
    return bytes(imagecodecs.deflate_encode(pixels.tobytes(), 6))  # libdeflate: zlib's format in half its time


def spatial_sizes(axes: str, pixel_size_um: Sequence[float] | None) -> dict[str, float]:
    """Pixel sizes in um by the letter of their axis, two of them those of Y and X.

    Raises `UsageError` where they do not fit the axes.
    """
    if pixel_size_um is None:
        return {}
    spatial = [axis for axis in axes if axis in ("YX" if len(pixel_size_um) == 2 else "ZYX")]
    if len(spatial) != len(pixel_size_um) or not all(0 < size < np.inf for size in pixel_size_um):
        raise UsageError(
            f"pixel size {tuple(pixel_size_um)} um for axes {axes}: one size above 0 for each of {''.join(spatial)}"
        )
    return dict(zip(spatial, map(float, pixel_size_um), strict=True))


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to disk, where the system knows how to (not on Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
