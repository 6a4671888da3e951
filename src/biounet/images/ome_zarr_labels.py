"""Labels as OME-Zarr, block by block: a folder of their own, or into an image's ``labels`` group.

Source: https://ngff.openmicroscopy.org, versions 0.4 and 0.5.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from biounet.errors import DataError, UsageError
from biounet.images.formats import read_header, reading
from biounet.images.label_origin import Origin, origin_attributes, own_attributes
from biounet.images.ome_zarr import Multiscale, load_zarr, open_level, read_multiscale
from biounet.images.ome_zarr_list import add_attributes, consolidate_again, enter_labels, is_there
from biounet.images.regions import level_factor
from biounet.images.writing import (
    LARGEST_UINT16,
    Read,
    checked_ids,
    colour_table,
    spatial_sizes,
    whole_folder,
)

_SMALL = 1024  # pixels a side at which a pyramid ends
_KINDS = {"T": "time", "C": "channel"}  # other axes are of space


@dataclass(frozen=True)
class _Level:
    """Where the pixels of a level lie; one entry an axis."""

    shape: tuple[int, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...] | None


@dataclass(frozen=True)
class _Grid:
    """What the metadata of a label image will say."""

    axes: str
    units: tuple[str | None, ...]
    levels: tuple[_Level, ...]
    version: str
    inside: bool = False  # of an image

    @property
    def zarr_format(self) -> int:
        return 2 if self.version == "0.4" else 3


def write_zarr_labels(
    path: str | Path,
    read: Read,
    shape: Sequence[int],
    *,
    largest_id: int,
    pixel_size_um: Sequence[float] | None = None,
    axes: str | None = None,
    tile: int = 1024,
    pyramid: bool = True,
) -> None:
    """Write ids as an OME-Zarr 0.5 label image, a folder of its own; one that is there is replaced.

    ``read(start, stop)`` gives the int32 ids of that region of ``shape``, (Z)YX or what ``axes`` names
    (of TZYX, YX last); it is asked once for each chunk of ``tile`` pixels a side of a plane, in raster
    order. Stored as uint16, uint32 beyond 65,535, with colours, scale in um where ``pixel_size_um``
    is given, and levels of every second pixel down to 1024 a side. The folder appears when it is
    complete, and `label_origin.is_zarr_written_here` knows it. Raises `UsageError` for ids outside 0 to
    ``largest_id``, and `BiounetError` where the disk refuses.
    """
    axes = axes or {2: "YX", 3: "ZYX"}.get(len(shape), "")
    if len(axes) != len(shape) or set(axes) - set("TZYX") or axes[-2:] != "YX" or min(shape, default=0) < 1:
        raise UsageError(f"axes {axes!r} for shape {tuple(shape)}: one letter of TZYX each, YX last, none empty")
    sizes = spatial_sizes(axes, pixel_size_um)
    levels = [_Level(tuple(map(int, shape)), tuple(sizes.get(axis, 1.0) for axis in axes), None)]
    while pyramid and max(levels[-1].shape[-2:]) > _SMALL:
        levels.append(_half(levels[-1]))
    grid = _Grid(axes, tuple("micrometer" if axis in sizes else None for axis in axes), tuple(levels), "0.5")
    with whole_folder(path) as temporary:
        _write(temporary, checked_ids(Path(path), read, largest_id), grid, largest_id, tile)
        add_attributes(temporary, grid.version, own_attributes(temporary / "0"))


def add_zarr_labels(
    image: str | Path,
    name: str,
    read: Read,
    *,
    largest_id: int,
    tile: int = 1024,
    overwrite: bool = False,
    origin: Origin | None = None,
) -> Path:
    """Write ids into the ``labels`` group of an OME-Zarr image, in its own version, and enter them in its list.

    ``read(start, stop)`` counts in the image's axes without channels, at full resolution; levels, scales,
    units and translations are the image's. Otherwise as `write_zarr_labels`. Other labels are not touched.
    ``origin``: what made them, which `label_origin.recorded_result` tells. Returns the new group. Raises `DataError`
    where labels of this name are there and ``overwrite`` is False.
    """
    read_header(image, fits=False)  # refuses what declares more than it can hold
    with reading(Path(image)):
        source = read_multiscale(Path(image))
        labels = source.group / "labels"
        grid = _without_channels(source)
        there = is_there(source, name)
    if not re.fullmatch(r"\w[\w .-]*", name):
        raise UsageError(f"labels {name!r}: letters, digits, space, '_', '.' and '-' make a name in a zarr group")
    if there and not overwrite:
        raise DataError(f"{labels / name}: labels of this name are there; choose another name or overwrite them")
    with whole_folder(labels / name) as temporary:
        ids = checked_ids(labels / name, read, largest_id)
        _write(temporary, ids, grid, largest_id, tile)
        if origin is not None:
            record = origin_attributes(source.group / source.paths[0], temporary / "0", origin)
            add_attributes(temporary, source.version, record)
    enter_labels(source, name)
    consolidate_again(source)
    return labels / name


def _write(folder: Path, read: Read, grid: _Grid, largest_id: int, tile: int) -> None:
    """The group of a label image with all its levels, each made of the one before."""
    zarr = load_zarr(folder)
    group = zarr.open_group(folder, mode="w", zarr_format=grid.zarr_format, attributes=_attributes(grid, largest_id))
    dtype = np.dtype(np.uint16 if largest_id <= LARGEST_UINT16 else np.uint32)
    before: Any = None
    for number, level in enumerate(grid.levels):
        chunk = (*(1 for _ in level.shape[:-2]), *(min(tile, size) for size in level.shape[-2:]))
        options = _options(zarr, grid)
        array = group.create_array(str(number), shape=level.shape, chunks=chunk, dtype=dtype, fill_value=0, **options)
        for start, stop in _blocks(level.shape, chunk):
            pixels = read(start, stop) if before is None else _reduced(before, level.shape, start, stop)
            size = [high - low for low, high in zip(start, stop, strict=True)]
            array[tuple(map(slice, start, stop))] = pixels.reshape(size).astype(dtype)
        before = array


def _blocks(shape: tuple[int, ...], chunk: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    for start in product(*(range(0, size, step) for size, step in zip(shape, chunk, strict=True))):
        yield start, tuple(min(low + step, size) for low, step, size in zip(start, chunk, shape, strict=True))


def _reduced(before: Any, shape: tuple[int, ...], start: tuple[int, ...], stop: tuple[int, ...]) -> Any:
    """Part of a level, of the pixels of the level above that begin where its pixels do."""
    wanted = []
    for size, reduced, low, high in zip(before.shape, shape, start, stop, strict=True):
        places = np.arange(low, high) * level_factor(size, reduced)
        wanted.append(np.minimum(places.astype(np.int64), size - 1))
    part = before[tuple(slice(int(places[0]), int(places[-1]) + 1) for places in wanted)]
    return part[np.ix_(*(places - places[0] for places in wanted))]


def _half(level: _Level) -> _Level:
    """Every second pixel along Y and X."""
    rows, columns = level.shape[-2:]
    scale = (*level.scale[:-2], 2 * level.scale[-2], 2 * level.scale[-1])
    return _Level((*level.shape[:-2], ceil(rows / 2), ceil(columns / 2)), scale, level.translation)


def _attributes(grid: _Grid, largest_id: int) -> dict[str, Any]:
    axes = []
    for letter, unit in zip(grid.axes, grid.units, strict=True):
        axis = {"name": letter.lower(), "type": _KINDS.get(letter, "space")}
        axes.append(axis | ({"unit": unit} if unit else {}))
    multiscale = {"axes": axes, "datasets": [_dataset(number, level) for number, level in enumerate(grid.levels)]}
    colours = colour_table().T.tolist()
    label = {
        "colors": [{"label-value": i, "rgba": [*colours[i], 255]} for i in range(1, min(largest_id, 254) + 1)],
        **({"source": {"image": "../../"}} if grid.inside else {}),
    }
    if grid.version == "0.4":
        return {"multiscales": [multiscale | {"version": "0.4"}], "image-label": label | {"version": "0.4"}}
    return {"ome": {"version": grid.version, "multiscales": [multiscale], "image-label": label}}


def _dataset(number: int, level: _Level) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(level.scale)}]
    if level.translation is not None:
        steps.append({"type": "translation", "translation": list(level.translation)})
    return {"path": str(number), "coordinateTransformations": steps}


def _without_channels(source: Multiscale) -> _Grid:
    kept = [at for at, axis in enumerate(source.axes) if axis != "C"]
    axes = "".join(source.axes[at] for at in kept)
    if axes[-2:] != "YX":
        raise DataError(f"{source.group}: axes {source.axes}; labels are written where Y and X come last")
    levels: list[_Level] = []
    for number, (scale, moved) in enumerate(zip(source.scales, source.translations, strict=True)):
        shape = open_level(source, number).shape
        if levels and any(shape[at] > size for at, size in zip(kept, levels[-1].shape, strict=True)):
            raise DataError(f"{source.group}: level {number} is larger than the one before it; export it again")
        translation = None if moved is None else tuple(moved[at] for at in kept)
        levels.append(_Level(tuple(int(shape[at]) for at in kept), tuple(scale[at] for at in kept), translation))
    return _Grid(axes, tuple(source.units[at] for at in kept), tuple(levels), source.version, inside=True)


def _options(zarr: Any, grid: _Grid) -> dict[str, Any]:
    """How chunks are named and packed: as the versions recommend, folders by axis, and blosc, which all read."""
    if grid.version == "0.4":
        blosc = importlib.import_module("numcodecs").Blosc
        packing = blosc(cname="zstd", clevel=3, shuffle=blosc.SHUFFLE)
        return {"compressors": packing, "chunk_key_encoding": {"name": "v2", "separator": "/"}}
    packing = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    names = {"dimension_names": tuple(grid.axes.lower())}
    return {"compressors": packing, "chunk_key_encoding": {"name": "default", "separator": "/"}} | names
