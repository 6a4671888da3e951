"""Pictures as data addresses inside a page, as large as the page's limit allows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

LARGEST_SIDE = 2048
SMALLEST_SIDE = 48
_SMALL_PIXELS = 400_000


def embed(pictures: Sequence[Picture], budget: int) -> list[str]:
    """``data:`` addresses of pictures (Y, X, 3 or 4) that together take at most ``budget`` characters.

    Small pictures are PNG, exact; large ones JPEG, or PNG of 256 colours where they have
    transparency. Where all do not fit, pictures with a side above a common limit are made smaller,
    and the limit is lowered until they fit, but not below 48 pixels, whatever they take then.
    """
    side = LARGEST_SIDE
    while True:
        encoded = [_address(_at_most(picture, side)) for picture in pictures]
        taken = sum(map(len, encoded))
        if taken <= budget or side == SMALLEST_SIDE:
            return encoded
        largest = max(max(picture.shape[:2]) for picture in pictures)
        share = math.sqrt(max(budget, 0) / taken)
        side = max(SMALLEST_SIDE, int(min(side, largest) * min(0.9, share)))


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
    form, content = _encoded(picture)
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def _encoded(picture: Picture) -> tuple[str, bytes]:
    """Format and bytes: of the exact PNG where the picture is small, else of what takes less room."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    if picture.shape[2] == 3 and (picture == picture[..., :1]).all():
        image = image.convert("L")
    if picture.shape[0] * picture.shape[1] <= _SMALL_PIXELS:
        return "png", _saved(image, "PNG")
    if picture.shape[2] == 4:
        return "png", _saved(image.quantize(256, method=Image.Quantize.FASTOCTREE), "PNG")
    return "jpeg", _saved(image, "JPEG", quality=88)


def _saved(image: Any, form: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()
