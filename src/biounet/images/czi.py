"""Zeiss CZI through pylibCZIrw, Zeiss' own reader: mosaics, z-stacks, time series and pyramids, tile by tile."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from biounet.errors import DataError
from biounet.images.axes import stated_size
from biounet.images.image import Array, Header
from biounet.images.optional import load_package
from biounet.images.stored import Cache, Chunked, Stored

_TILE = 1024  # pixels a side that are read together
_RATIO = 20_000  # the most bytes of pixels that one stored byte can become: JPEG XR, zstd, and gaps of mosaics
# what the format calls a pixel, its samples in the order blue, green, red
_PIXELS = {"Gray8": ("u1", 1), "Gray16": ("u2", 1), "Gray32Float": ("f4", 1), "Bgr24": ("u1", 3),
           "Bgr48": ("u2", 3), "Bgr96Float": ("f4", 3)}  # fmt: skip
_FURTHER = "RIHVB"  # dimensions of which only the first position is read: rotations, illuminations, phases, ...


@dataclass(frozen=True)
class _Scene:
    """Where the pixels of a scene lie in the document; ``number`` None where it has no scenes."""

    number: int | None
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class _Document:
    """An open CZI as an array: its axes, and the dimension of the file that each one counts.

    ``first``: the number of the first time, channel and plane in the file.
    """

    reader: Any
    scenes: tuple[_Scene, ...]
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    notes: tuple[str, ...]
    first: Mapping[str, int]

    @property
    def is_colour(self) -> bool:
        return self.axes.endswith("C")

    def level(self, factor: int, cache: Cache) -> Chunked:
        """The array at a resolution ``factor`` times coarser; at edges what does not fill a pixel is left out."""
        spatial = {axis: max(1, size // factor) for axis, size in zip(self.axes, self.shape, strict=True)}
        shape = tuple(spatial[axis] if axis in "YX" else size for axis, size in zip(self.axes, self.shape, strict=True))
        chunk = tuple(
            min(_TILE, size) if axis in "YX" else 3 if axis == "C" and self.is_colour else 1
            for axis, size in zip(self.axes, shape, strict=True)
        )
        return Chunked(shape, self.dtype, chunk, partial(self._decode, factor, shape, chunk), cache)

    def _decode(self, factor: int, shape: tuple[int, ...], chunk: tuple[int, ...], position: tuple[int, ...]) -> Array:
        """The chunk at a place of the grid."""
        start = {axis: at * step for axis, at, step in zip(self.axes, position, chunk, strict=True)}
        size = {axis: min(step, whole - start[axis]) for axis, step, whole in zip(self.axes, chunk, shape, strict=True)}
        scene = self.scenes[start.get("I", 0)]
        region = (scene.x + start["X"] * factor, scene.y + start["Y"] * factor, size["X"] * factor, size["Y"] * factor)
        counted = {axis: start.get(axis, 0) if axis != "C" or not self.is_colour else 0 for axis in "TCZ"}
        plane = {axis: self.first[axis] + at for axis, at in counted.items()}
        pixels = self.reader.read(roi=region, plane=plane, scene=scene.number, zoom=1 / factor)
        return np.asarray(pixels[: size["Y"], : size["X"], ::-1]).reshape([size[axis] for axis in self.axes])


def czi_header(path: Path) -> Header:
    """A CZI image: scenes of one size are separate images (axis I), of several sizes the first is used.

    What no tile of a mosaic covers is 0. Raises `DataError` for channels of different pixel types,
    `MissingPackageError` without pylibCZIrw.
    """
    document = _opened(path)
    size, names = _metadata(document)
    return Header(
        document.axes,
        document.shape,
        document.dtype,
        path.stat().st_size * _RATIO,
        lambda: _pixels(path),
        pixel_size_um=size,
        notes=document.notes,
        channel_names=names,
    )


def czi_levels(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """Full resolution, then the levels of the pyramid that the file holds."""
    document = _opened(path)
    return [document.level(factor, cache) for factor in (1, *_reductions(document))]


def _pixels(path: Path) -> Array:
    document = _opened(path)
    return document.level(1, Cache(0)).read(tuple(slice(0, size) for size in document.shape))


def _opened(path: Path) -> _Document:
    reader = load_package(path, "pylibCZIrw.czi").CziReader(str(path))
    sizes = {axis: int(stop - start) for axis, (start, stop) in reader.total_bounding_box_no_pyramid.items()}
    first = _first(reader)
    kinds = {reader.get_channel_pixel_type(first["C"] + channel) for channel in range(sizes["C"])}
    kind = kinds.pop() if len(kinds) == 1 else ""
    dtype, samples = _PIXELS.get(kind, ("", 0))
    if not samples or (samples > 1 and sizes["C"] > 1):
        found = f"{sizes['C']} channels of {kind}" if kind else f"channels of types {', '.join(sorted(kinds))}"
        raise DataError(f"{path}: {found}; grey channels of one type, or one of colour, can be read: save as OME-TIFF")
    scenes, notes = _scenes(reader)
    notes += tuple(f"only the first of {sizes[axis]} positions of dimension {axis} is used"
                   for axis in _FURTHER if sizes.get(axis, 1) > 1)  # fmt: skip
    counts = {"I": len(scenes), "T": sizes["T"], "C": sizes["C"], "Z": sizes["Z"]}
    axes = "".join(axis for axis, count in counts.items() if count > 1) + "YX" + "C" * (samples > 1)
    counts |= {"Y": scenes[0].height, "X": scenes[0].width} | ({"C": samples} if samples > 1 else {})
    return _Document(reader, scenes, axes, tuple(counts[axis] for axis in axes), np.dtype(dtype), notes, first)


def _first(reader: Any) -> dict[str, int]:
    """The number of the first time, channel and plane, which the reader does not tell: parts of a stack keep theirs."""
    places: set[tuple[int, ...]] = set()

    def note(_: int, block: Any) -> bool:
        place = block.coordinate.to_dict()
        places.add(tuple(place.get(axis, 0) for axis in "TCZ"))
        return True

    reader.enumerate_subblocks(note)
    return {axis: min((place[at] for place in places), default=0) for at, axis in enumerate("TCZ")}


def _scenes(reader: Any) -> tuple[tuple[_Scene, ...], tuple[str, ...]]:
    """The scenes that are used, and what to say of it."""
    found = [_Scene(number, *box) for number, box in sorted(reader.scenes_bounding_rectangle_no_pyramid.items())]
    if not found:
        return (_Scene(None, *reader.total_bounding_rectangle_no_pyramid),), ()
    if len(found) == 1:
        return tuple(found), ()
    if len({(scene.width, scene.height) for scene in found}) == 1:
        return tuple(found), (f"{len(found)} scenes taken as separate images",)
    return (found[0],), (f"only the first of {len(found)} scenes, which differ in size, is used",)


def _reductions(document: _Document) -> list[int]:
    """The whole factors by which levels of the file's pyramid are smaller, in order."""
    found: set[float] = set()

    def note(_: int, block: Any) -> bool:
        found.add(block.get_zoom())
        return True

    document.reader.enumerate_subblocks(note)
    factors = {round(1 / zoom) for zoom in found if 0 < zoom <= 1}
    least = min(document.scenes[0].width, document.scenes[0].height)
    return sorted(factor for factor in factors if 1 < factor <= least)


def _metadata(document: _Document) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Pixel size in um for (Z)YX, and names of the channels, where the file states them."""
    try:
        root = ElementTree.fromstring(document.reader.raw_metadata)
        metres = {
            node.get("Id", ""): float(node.findtext("Value", "0"))
            for node in root.iterfind("./Metadata/Scaling/Items/Distance")
        }
    except (ElementTree.ParseError, ValueError):
        return None, ()
    size = stated_size({axis: 1e6 * metre for axis, metre in metres.items()}, document.axes)
    names = [node.get("Name", "") for node in root.iterfind(
        "./Metadata/Information/Image/Dimensions/Channels/Channel")]  # fmt: skip
    count = document.shape[document.axes.index("C")] if "C" in document.axes and not document.is_colour else 0
    return size, tuple(names) if len(names) == count and all(names) else ()
