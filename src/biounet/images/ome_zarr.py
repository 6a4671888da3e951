"""OME-Zarr 0.4 and 0.5: images with their pyramids. All that knows of zarr is here, in `ome_zarr_labels`,
`ome_zarr_list` and `label_origin`.

A ``.zarr`` folder counts as one file. An image inside one (a field of a plate, a series) is named by
the path to its group, as ``plate.zarr/B/03/0``.

Source: https://ngff.openmicroscopy.org, versions 0.4 and 0.5.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from biounet.errors import DataError
from biounet.images.arrays import MissingPackageError
from biounet.images.axes import stated_size
from biounet.images.image import Array, Header
from biounet.images.stored import Cache, Chunked, Stored

_LONGEST_SHOWN = 80  # letters of a name that metadata give
_RATIO = 20_000  # the most bytes that one stored byte can become
_SPARSE = 1 << 30  # bytes that may lie in chunks that are not there, which hold the fill value
_UM = {
    "meter": 1e6, "centimeter": 1e4, "millimeter": 1e3, "micrometer": 1.0, "nanometer": 1e-3,
    "picometer": 1e-6, "angstrom": 1e-4, "inch": 25400.0,
}  # fmt: skip
# what pixels may be packed by; others (numcodecs knows pickle) would let a file run code
_CODECS = {
    "blosc", "bytes", "bz2", "crc32c", "delta", "fixedscaleoffset", "gzip", "lz4", "lzma", "sharding_indexed",
    "shuffle", "transpose", "zlib", "zstd",
}  # fmt: skip


@dataclass(frozen=True)
class Multiscale:
    """What the metadata of an image say. ``group``: its folder; ``version``: "0.4" or "0.5".

    ``axes``: letters of TCZYX as stored. ``paths`` of the levels, ``scales`` and ``translations`` of
    each level per axis, in ``units`` (None where not stated). ``channel_names`` as the display settings give them.
    """

    group: Path
    version: str
    axes: str
    units: tuple[str | None, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, ...], ...]
    translations: tuple[tuple[float, ...] | None, ...]
    channel_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def zarr_format(self) -> int:
        """2 for 0.4, 3 for 0.5."""
        return 2 if self.version == "0.4" else 3


def zarr_header(path: Path) -> Header:
    """An image of an OME-Zarr folder at full resolution, axes as stored, pixel size where it has a unit of length.

    Raises `DataError` for a folder that holds no image of version 0.4 or 0.5, for a plate, and for
    pixels packed in a way that is not known here; `MissingPackageError` without zarr.
    """
    image = read_multiscale(path)
    base = open_level(image, 0)
    count = base.shape[image.axes.index("C")] if "C" in image.axes else 1
    return Header(
        image.axes,
        tuple(base.shape),
        np.dtype(base.dtype),
        _capacity(image.group / image.paths[0], base),
        lambda: np.asarray(open_level(image, 0)[...]),
        pixel_size_um=_pixel_size(image),
        notes=image.notes,
        channel_names=image.channel_names if len(image.channel_names) == count > 1 else (),
    )


def zarr_levels(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """The levels of an image, full resolution first; those after one that is not smaller are left out."""
    image = read_multiscale(path)
    levels: list[Stored] = []
    for number in range(len(image.paths)):
        level = _chunked(open_level(image, number), cache)
        if levels and (level.shape == levels[-1].shape or not _is_reduced(image.axes, levels[-1].shape, level.shape)):
            break
        levels.append(level)
    return levels


def read_multiscale(path: Path) -> Multiscale:
    """The metadata of the first image of an OME-Zarr group; of a set of series the first."""
    attributes, version = read_attributes(path)
    notes: tuple[str, ...] = ()
    if "multiscales" not in attributes and "bioformats2raw.layout" in attributes:
        series = sorted(entry.name for entry in path.iterdir() if entry.name.isdecimal())
        notes = (f"only the first of {len(series)} images in the folder is used",) if len(series) > 1 else ()
        path = path / "0"
        attributes, version = read_attributes(path)
    if "plate" in attributes:
        raise DataError(f"{path}: is a plate, not an image; name its wells or one of its fields, as {path}/A/01/0")
    if not attributes.get("multiscales"):
        raise DataError(f"{path}: has no multiscales metadata; only OME-Zarr images can be read, not plain zarr arrays")
    first = attributes["multiscales"][0]
    letters, units = zip(*(_axis(path, axis) for axis in first.get("axes", ())), strict=True)
    axes = "".join(letters)
    if len(set(axes)) != len(axes) or not set("YX") <= set(axes):
        raise DataError(f"{path}: axes {axes} cannot be told apart; Y and X and at most one each of T, C, Z are needed")
    outer = _transformation(first, "scale") or (1.0,) * len(axes)
    datasets = first["datasets"]
    return Multiscale(
        path,
        version,
        axes,
        units,
        tuple(path_inside(path, str(dataset["path"])) for dataset in datasets),
        tuple(_scale(path, dataset, outer) for dataset in datasets),
        tuple(_transformation(dataset, "translation") for dataset in datasets),
        tuple(str(channel.get("label", "")) for channel in attributes.get("omero", {}).get("channels", ())),
        notes,
    )


def read_attributes(path: Path) -> tuple[dict[str, Any], str]:
    """The OME attributes of a group and their version, "0.4" or "0.5".

    Raises `DataError` where the folder is no group, or of another version.
    """
    if (path / "zarr.json").is_file():
        group = _json(path / "zarr.json")
        found = group.get("attributes", {}).get("ome", {})
        version = str(found.get("version", "0.5")) if found else ""
    elif (path / ".zattrs").is_file():
        found = _json(path / ".zattrs")
        stated = [entry.get("version") for entry in (*found.get("multiscales", ()), found.get("plate", {}))]
        stated += [found.get("well", {}).get("version")]
        version = str(next((one for one in stated if one), "0.4")) if found else ""
    else:
        raise DataError(f"{path}: is no OME-Zarr group (neither zarr.json nor .zattrs is in it); export it again")
    if version not in ("0.4", "0.5"):
        said = f"OME-Zarr {version}" if version else "no OME-Zarr metadata"
        raise DataError(f"{path}: {said}; versions 0.4 and 0.5 can be read: convert it")
    return found, version


def open_level(image: Multiscale, level: int) -> Any:
    """The zarr array of a level, for reading; raises `DataError` for packings that are not known."""
    path = image.group / image.paths[level]
    name = ".zarray" if image.zarr_format == 2 else "zarr.json"
    if not (path / name).is_file():
        raise DataError(f"{path}: has no {name}; the level that the metadata list is not there: copy it again")
    foreign = sorted({codec for codec in _codecs(_json(path / name)) if codec not in _CODECS})
    if foreign:
        raise DataError(f"{path}: pixels are packed by {', '.join(foreign)}; known are {', '.join(sorted(_CODECS))}")
    load_zarr(path)
    array = importlib.import_module("biounet.images.zarr_blosc").open_checked(path, image.zarr_format)
    if array.ndim != len(image.axes):
        raise DataError(f"{path}: array of {array.ndim} axes, the metadata name {image.axes}; export it again")
    return array


def inner_name(path: str | Path) -> str:
    """NAME of an OME-Zarr folder, or of an image inside one: the folder's, the well, and the rest, with ``_``."""
    parts = PurePosixPath(Path(path).as_posix()).parts
    at = max(number for number, part in enumerate(parts) if part.lower().endswith(".zarr"))
    name = parts[at][: -len(".zarr")]
    name = name[:-4] if name.lower().endswith(".ome") else name
    inner = list(parts[at + 1 :])
    if len(inner) > 1 and inner[0].isalpha() and inner[1].isdecimal():
        inner[:2] = [inner[0] + inner[1]]
    return "_".join([name, *inner])


def load_zarr(path: Path) -> Any:
    """The package, which takes a while to load; `MissingPackageError` without it."""
    try:
        return importlib.import_module("zarr")
    except ImportError:
        raise MissingPackageError(f"{path}: OME-Zarr needs a package: pip install 'zarr>=3.1,<3.2'") from None


def _json(file: Path) -> dict[str, Any]:
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise DataError(f"{file}: holds no metadata; the folder is damaged: copy it again")
    return found


def _axis(path: Path, axis: Any) -> tuple[str, str | None]:
    """Letter of TCZYX and unit of an axis."""
    name, kind = str(axis["name"]).upper(), axis.get("type")
    letter = {"time": "T", "channel": "C"}.get(str(kind), name)
    if letter not in tuple("TCZYX"):
        raise DataError(f"{path}: axis {axis['name']!r} of type {kind!r}; t, c, z, y and x can be read")
    return letter, axis.get("unit") if kind == "space" else None


def _transformation(holder: dict[str, Any], kind: str) -> tuple[float, ...] | None:
    steps = holder.get("coordinateTransformations") or ()
    return next((tuple(map(float, step[kind])) for step in steps if step.get("type") == kind and kind in step), None)


def _scale(path: Path, dataset: dict[str, Any], outer: tuple[float, ...]) -> tuple[float, ...]:
    inner = _transformation(dataset, "scale") or (1.0,) * len(outer)
    if len(inner) != len(outer):
        raise DataError(f"{path}: a scale of {len(inner)} numbers for {len(outer)} axes; export it again")
    return tuple(a * b for a, b in zip(inner, outer, strict=True))


def _pixel_size(image: Multiscale) -> tuple[float, ...] | None:
    """um for (Z)YX, as far as they have a unit of length; see `stated_size`."""
    steps = zip(image.axes, image.scales[0], image.units, strict=True)
    return stated_size({axis: scale * _UM.get(unit or "", 0.0) for axis, scale, unit in steps}, image.axes)


def path_inside(path: Path, name: str) -> str:
    """A path that the metadata of the group ``path`` name; raises `DataError` where it leads out of the group.

    So it does for what no folder can be called.
    """
    parts = PurePosixPath(name).parts
    outside = not parts or name.startswith("/") or "\\" in name or ":" in name or ".." in parts
    if outside or not _can_be_named(path / name):
        shown = name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}..."
        raise DataError(f"{path}: the metadata name {shown!r}, which is not in the folder; export it again")
    return name


def _can_be_named(path: Path) -> bool:
    """Whether the system can look for such a path at all: not where a name is too long or holds a zero byte."""
    try:
        path.exists()
    except (OSError, ValueError):
        return False
    return True


def _codecs(metadata: Any) -> Iterator[str]:
    """Names of all codecs in the metadata of an array, also of those within others."""
    stages = [metadata.get(key) for key in ("compressor", "filters", "codecs", "index_codecs")]
    for stage in stages:
        for codec in stage if isinstance(stage, list) else [stage]:
            if codec is None:
                continue
            yield str(codec.get("id", codec.get("name"))) if isinstance(codec, dict) else str(codec)
            if isinstance(codec, dict):
                yield from _codecs(codec.get("configuration") or {})


def _chunked(array: Any, cache: Cache) -> Chunked:
    chunk, shape = tuple(map(int, array.chunks)), tuple(map(int, array.shape))

    def decode(position: tuple[int, ...]) -> Array:
        steps = zip(position, chunk, shape, strict=True)
        return np.asarray(array[tuple(slice(at * step, min((at + 1) * step, size)) for at, step, size in steps)])

    return Chunked(shape, np.dtype(array.dtype), chunk, decode, cache)


def _is_reduced(axes: str, before: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    sizes = zip(axes, before, shape, strict=True)
    return all(0 < size <= old and (axis in "ZYX" or size == old) for axis, old, size in sizes)


def _capacity(folder: Path, array: Any) -> int:
    """The most bytes of pixels that the stored chunks can become, and some for chunks that are not there."""
    declared = prod(array.shape) * array.dtype.itemsize
    chunk = prod(array.chunks) * array.dtype.itemsize
    if chunk > max(declared, _SPARSE) * 64:
        raise DataError(f"{folder}: declares chunks of {chunk} bytes; it is damaged: export it again")
    capacity = _SPARSE
    for file in folder.rglob("*"):
        if capacity >= declared:
            break
        if file.is_file():
            capacity += file.stat().st_size * _RATIO
    return int(capacity)
