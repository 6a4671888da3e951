"""Pictures as data addresses inside a page, as large as the page's limit allows."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

_SIDES = (2048, 1600, 1280, 1024, 800, 640, 480, 360, 256, 160, 96, 48)


def embed(pictures: Sequence[Picture], budget: int) -> list[str]:
    """``data:`` addresses of pictures (Y, X, 3 or 4) that together take at most ``budget`` characters.

    Layers with transparency are PNG; the others PNG too where that is small, else JPEG. Where all
    do not fit, every picture with a side above a common limit is made smaller, and the limit is
    lowered until they do; the last limit (48 pixels) is kept whatever it takes.
    """
    encoded: list[str] = []
    for side in _SIDES:
        encoded = [_address(_at_most(picture, side)) for picture in pictures]
        if sum(map(len, encoded)) <= budget:
            break
    return encoded


def _at_most(picture: Picture, side: int) -> Picture:
    """The picture with its longer side at most ``side``, by averaging (colours weighted by opacity)."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX), dtype=np.uint8)


def _address(picture: Picture) -> str:
    png = _encoded(picture, "PNG", optimize=True)
    if picture.shape[2] == 4 or len(png) < 200_000:
        return f"data:image/png;base64,{base64.b64encode(png).decode()}"
    jpeg = _encoded(picture, "JPEG", quality=88, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _encoded(picture: Picture, form: str, **options: object) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(buffer, format=form, **options)
    return buffer.getvalue()
