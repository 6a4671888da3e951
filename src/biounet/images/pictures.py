"""Headers of PNG and JPEG pictures."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from biounet.errors import DataError
from biounet.images.image import Array, Header

_DEFLATE_RATIO = 1040  # no deflate stream expands further
_JPEG_RATIO = 4000
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PALETTE, _WITH_ALPHA = 3, (4, 6)


def png_header(path: Path) -> Header:
    """A PNG of 1 to 16 bits: YX or YXC, uint8 or uint16; indices and palette where it has one."""
    with open(path, "rb") as file:
        start = file.read(33)
    if len(start) < 33 or start[:8] != b"\x89PNG\r\n\x1a\n" or start[12:16] != b"IHDR":
        raise DataError(f"{path}: not a PNG file although its name says so; export the image again")
    width, height, bits, colour = struct.unpack(">IIBB", start[16:26])
    channels = _PNG_CHANNELS.get(colour, 0)
    if not channels or bits not in (1, 2, 4, 8, 16):
        raise DataError(f"{path}: a PNG of colour type {colour} and {bits} bits does not exist; the file is damaged")
    return Header(
        "YX" if channels == 1 else "YXC",
        (height, width) if channels == 1 else (height, width, channels),
        np.dtype(np.uint16 if bits == 16 else np.uint8),
        path.stat().st_size * _DEFLATE_RATIO * 8 // min(bits, 8),
        (lambda: _indices(path)) if colour == _PALETTE else (lambda: _png_pixels(path, channels)),
        alpha=colour in _WITH_ALPHA,
        palette=_palette(path) if colour == _PALETTE else None,
    )


def jpeg_header(path: Path) -> Header:
    """A JPEG, grey or RGB, 8 bits; rotation tags are ignored, as labels drawn on the pixels want it."""
    with JpegImageFile(path) as picture:
        (width, height), mode = picture.size, picture.mode
    if mode not in ("L", "RGB"):
        raise DataError(f"{path}: JPEG of colour mode {mode}; grey or RGB can be read: convert it to one of them")
    return Header(
        "YX" if mode == "L" else "YXC",
        (height, width) if mode == "L" else (height, width, 3),
        np.dtype(np.uint8),
        path.stat().st_size * _JPEG_RATIO,
        lambda: _jpeg_pixels(path),
    )


def _png_pixels(path: Path, channels: int) -> Array:
    # Pillow reduces 16-bit colour to 8 bits, libpng does not
    pixels: Array = imagecodecs.png_decode(path.read_bytes())
    return pixels[..., :channels] if channels > 1 else pixels if pixels.ndim == 2 else pixels[..., 0]


def _indices(path: Path) -> Array:
    with PngImageFile(path) as picture:
        return np.asarray(picture)


def _palette(path: Path) -> npt.NDArray[np.uint8]:
    """256 colours; entries that the file lacks are black."""
    with PngImageFile(path) as picture:
        stored = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(stored)] = stored
    return palette


def _jpeg_pixels(path: Path) -> Array:
    with JpegImageFile(path) as picture:
        return np.asarray(picture)
