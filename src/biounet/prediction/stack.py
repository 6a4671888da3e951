"""The items of a file one behind the other: where each lies, what their axis is called, how large their pixels are."""

from __future__ import annotations

from biounet.images.image import Image
from biounet.images.regions import Regions
from biounet.prediction.scale import pixel_size


def stack_axes(
    image: Image | Regions, ndim: int, items: int, given: tuple[float, ...] | None = None
) -> tuple[str, tuple[float, ...] | None]:
    """The axes of results, (T)(Z)YX, and the pixel size in um of the spatial ones among them, or None.

    ``items`` of ``ndim`` axes, where there are several, lie along Z if they are the planes of one z stack, else along
    T: times, pages, or the planes of several times. ``given``: pixel size in place of what the file states. Of the
    planes of a z stack whose distance is not stated, the size has YX alone.
    """
    size, spatial = pixel_size(image, given, ndim), "ZYX"[-ndim:]
    if items == 1:
        return spatial, size
    if ndim == 3 or image.size("Z") != items:
        return f"T{spatial}", size
    stated = image.pixel_size(3)
    return "ZYX", size if size is None or stated is None else (stated[0], *size)


def place_in_stack(image: Image | Regions, ndim: int, index: int | None) -> tuple[int | None, int | None]:
    """z and t from 0 of an item, None where the image has no such axis or is one item (``index`` None)."""
    if index is None:
        return None, None
    if ndim == 3 or "Z" not in image.axes:
        return None, index
    depth = image.size("Z")
    return index % depth, index // depth if "T" in image.axes or "I" in image.axes else None
