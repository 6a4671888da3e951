"""Whole slides through OpenSlide: MIRAX and others that are no plain TIFFs, tile by tile at every level."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from biounet.images.image import Array, Header
from biounet.images.optional import load_package
from biounet.images.stored import Cache, Chunked, Stored

_TILE = 1024  # pixels a side that are read together
_RATIO = 20_000  # the most bytes of pixels that one stored byte can become: JPEG, and parts that were not scanned


def slide_header(path: Path) -> Header:
    """A slide at full resolution as YXC, uint8 RGB; what was not scanned has the background's colour, else white.

    Raises `MissingPackageError` without openslide.
    """
    slide = _opened(path)
    width, height = slide.dimensions
    return Header(
        "YXC",
        (int(height), int(width), 3),
        np.dtype(np.uint8),
        _stored_bytes(path) * _RATIO,
        lambda: _pixels(path),
        pixel_size_um=_pixel_size(slide),
    )


def slide_levels(path: Path, header: Header, cache: Cache) -> list[Stored]:
    """All levels of the slide, full resolution first."""
    slide = _opened(path)
    return [_level(slide, number, cache) for number in range(slide.level_count)]


def _opened(path: Path) -> Any:
    return load_package(path, "openslide").OpenSlide(str(path))


def _pixels(path: Path) -> Array:
    level = _level(_opened(path), 0, Cache(0))
    return level.read(tuple(slice(0, size) for size in level.shape))


def _level(slide: Any, number: int, cache: Cache) -> Chunked:
    width, height = map(int, slide.level_dimensions[number])
    chunk = (min(_TILE, height), min(_TILE, width), 3)
    return Chunked((height, width, 3), np.dtype(np.uint8), chunk, partial(_decode, slide, number, chunk), cache)


def _decode(slide: Any, number: int, chunk: tuple[int, ...], position: tuple[int, ...]) -> Array:
    """The tile at a place of the grid, on the background's colour; places are counted at full resolution."""
    y, x = position[0] * chunk[0], position[1] * chunk[1]
    width, height = slide.level_dimensions[number]
    across, down = slide.dimensions[0] / width, slide.dimensions[1] / height
    size = (min(chunk[1], width - x), min(chunk[0], height - y))
    tile = np.asarray(slide.read_region((round(x * across), round(y * down)), number, size), np.uint16)
    alpha = tile[..., 3:]
    return ((tile[..., :3] * alpha + _background(slide) * (255 - alpha) + 127) // 255).astype(np.uint8)


def _background(slide: Any) -> Array:
    stated = slide.properties.get("openslide.background-color", "ffffff")
    return np.frombuffer(bytes.fromhex(stated), np.uint8).astype(np.uint16)


def _pixel_size(slide: Any) -> tuple[float, ...] | None:
    try:
        found = tuple(float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "yx")
    except (KeyError, ValueError):
        return None
    return found if all(0 < size < np.inf for size in found) else None


def _stored_bytes(path: Path) -> int:
    """Of the file and of the folder of its name beside it, where MIRAX keeps the pixels."""
    beside = path.with_suffix("")
    inside = sum(file.stat().st_size for file in beside.iterdir()) if beside.is_dir() else 0
    return path.stat().st_size + inside
