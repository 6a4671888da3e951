"""Pictures to look at: images, objects, classes, errors and maps as uint8 RGB, with numpy.

Arrays come in as everywhere, images (C,)(Z)YX and labels (Z)YX; pictures go out as (Y, X, 3) or, for
layers to be stacked, (Y, X, 4). Of a volume the middle plane is shown. Three channels are taken for
red, green and blue; of any other number the first is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fastremap
import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.evaluation.object_errors import kinds_of_objects

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Okabe and Ito's colours, told apart with any kind of colour vision.
ERROR_COLOURS: Mapping[str, Colour] = {
    "correct": (0, 158, 115),
    "missed": (213, 94, 0),
    "spurious": (86, 180, 233),
    "merged": (204, 121, 167),
    "split": (240, 228, 66),
}
WRONG_CLASS: Mapping[str, Colour] = {"wrong class": (213, 94, 0)}
_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 26, 108), (71, 47, 125), (65, 68, 135),
        (57, 86, 140), (49, 104, 142), (42, 120, 142), (35, 136, 142),
        (31, 152, 139), (34, 168, 132), (53, 183, 121), (84, 197, 104),
        (122, 209, 81), (165, 219, 54), (210, 226, 27), (253, 231, 37),
    ]
)  # fmt: skip
_UNKNOWN = (235, 70, 50)  # seen on grey


def middle_plane(array: npt.NDArray[Any], ndim: int) -> npt.NDArray[Any]:
    """The middle plane (..., Y, X) of an array whose last ``ndim`` axes, 2 or 3, are space."""
    return np.asarray(array[..., array.shape[-3] // 2, :, :] if ndim == 3 else array)


def step_for(labels: npt.NDArray[Any], side: int) -> int:
    """Every how-manyth pixel of (Z)YX is shown so that a picture has at most ``side`` pixels a side."""
    return max(1, -(-int(max(labels.shape[-2:])) // side))


def reduced(image: npt.NDArray[Any], ndim: int, step: int) -> npt.NDArray[Any]:
    """The middle plane ((C,)Y,X) of an image by means of ``step`` times ``step`` pixels; same dtype.

    As many pixels as ``labels[..., ::step, ::step]`` has: the last ones may be means of fewer.
    """
    plane = middle_plane(image, ndim)
    if step == 1:
        return plane
    over = [(0, 0)] * (plane.ndim - 2) + [(0, -n % step) for n in plane.shape[-2:]]
    padded = np.pad(plane, over, mode="edge")
    height, width = (n // step for n in padded.shape[-2:])
    blocks = padded.reshape(*padded.shape[:-2], height, step, width, step)
    means: npt.NDArray[Any] = blocks.mean((-3, -1), dtype=np.float32).astype(image.dtype)
    return means


def to_grey8(image: npt.NDArray[Any], *, percentiles: tuple[float, float] = (0.3, 99.7)) -> Picture:
    """Grey values stretched for display: uint8, same shape; real dtype, any shape.

    The two ``percentiles`` of the finite values become 0 and 255. A constant image becomes mid grey;
    values that are not finite become 0.
    """
    finite = np.isfinite(image)
    values = image[finite].astype(np.float32)
    if not values.size:
        return np.zeros(image.shape, np.uint8)
    low, high = (float(p) for p in np.percentile(values, percentiles))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.where(finite, 128, 0).astype(np.uint8)
    stretched = (np.where(finite, image, low).astype(np.float32) - low) / (high - low)
    return np.where(finite, np.rint(255 * np.clip(stretched, 0, 1)), 0).astype(np.uint8)


def to_rgb(image: npt.NDArray[Any], ndim: int = 2) -> Picture:
    """An image (C,)(Z)YX with ``ndim`` axes of space as a picture (Y, X, 3).

    Each channel is stretched on its own over what is shown, unless an image of three channels is
    uint8: then its colours are kept.
    """
    if image.ndim not in (ndim, ndim + 1):
        raise UsageError(f"image of shape {image.shape} must have {ndim} axes, or {ndim + 1} with channels")
    plane = middle_plane(image, ndim)
    if plane.ndim == 3 and plane.shape[0] == 3:
        channels = list(plane) if plane.dtype == np.uint8 else [to_grey8(channel) for channel in plane]
    else:
        channels = [to_grey8(plane if plane.ndim == 2 else plane[0])] * 3
    return np.stack(channels, axis=-1).astype(np.uint8)


def colours(ids: npt.NDArray[np.integer[Any]]) -> Picture:
    """A colour for each id, uint8 (..., 3): the same id has the same colour in every picture.

    Hues go on by the golden section, so that ids close to each other differ most. Id 0 is black,
    negative ids (unknown) are red.
    """
    index = np.maximum(ids, 1).astype(np.float64)
    saturation = np.array([0.75, 0.55, 0.95])[(np.maximum(ids, 0) % 3).astype(np.intp)]
    phase = (index[..., None] * 0.6180339887498949 + np.array([0.0, 2 / 3, 1 / 3])) % 1.0
    wave = np.clip(np.abs(phase * 6 - 3) - 1, 0, 1)
    rgb: npt.NDArray[np.float64] = np.rint(255 * (1 - saturation[..., None] * (1 - wave)))
    rgb[ids == 0] = 0
    rgb[ids < 0] = _UNKNOWN
    return rgb.astype(np.uint8)


def label_layer(labels: npt.NDArray[Any], *, outlines: bool = True, fill: float = 0.25, line_px: int = 1) -> Picture:
    """Objects or classes (Z)YX as a transparent layer (Y, X, 4).

    Each id is filled with its colour at opacity ``fill`` (0 to 1) and, with ``outlines``, drawn
    around in full colour ``line_px`` wide, inside the object. Unknown pixels (-1) are hatched red.
    """
    plane = middle_plane(labels, labels.ndim)
    ids, inverse = fastremap.unique(np.ascontiguousarray(plane), return_inverse=True)
    layer = np.zeros((*plane.shape, 4), np.uint8)
    layer[..., :3] = colours(ids)[inverse.reshape(plane.shape)]
    layer[..., 3] = np.where(plane > 0, round(255 * fill), 0)
    if outlines:
        layer[_edges(plane, line_px) & (plane > 0), 3] = 255
    diagonals = np.add.outer(np.arange(plane.shape[0]), np.arange(plane.shape[1]))
    layer[(plane < 0) & (diagonals % 6 < 2), 3] = 200
    return layer


def task_layer(labels: npt.NDArray[Any], task: str) -> Picture:
    """`label_layer` for task "instances", for "classes" filled without outlines."""
    return label_layer(labels) if task == "instances" else label_layer(labels, outlines=False, fill=0.45)


def _edges(plane: npt.NDArray[Any], line_px: int) -> npt.NDArray[np.bool_]:
    """Pixels within ``line_px`` of a pixel with another id, by face steps."""
    edges = np.zeros(plane.shape, bool)
    edges[1:] |= plane[1:] != plane[:-1]
    edges[:-1] |= plane[1:] != plane[:-1]
    edges[:, 1:] |= plane[:, 1:] != plane[:, :-1]
    edges[:, :-1] |= plane[:, 1:] != plane[:, :-1]
    for _ in range(line_px - 1):
        wider = edges.copy()
        wider[1:] |= edges[:-1]
        wider[:-1] |= edges[1:]
        wider[:, 1:] |= edges[:, :-1]
        wider[:, :-1] |= edges[:, 1:]
        edges = wider
    return edges


def overlay(image: npt.NDArray[Any], labels: npt.NDArray[Any], *, outlines: bool = True, fill: float = 0.2) -> Picture:
    """Objects over their image: (Y, X, 3). Image (C,)(Z)YX, labels (Z)YX; see `label_layer`.

    Lines get wider in large pictures, one more pixel every 1,000. Raises `UsageError` for shapes
    that do not belong together.
    """
    if image.shape[image.ndim - labels.ndim :] != labels.shape or labels.ndim not in (2, 3):
        raise UsageError(f"image of shape {image.shape} and labels of shape {labels.shape} do not fit")
    line_px = 1 + max(labels.shape[-2:]) // 1000
    layer = label_layer(labels, outlines=outlines, fill=fill, line_px=line_px)
    return stack(to_rgb(image, labels.ndim), layer)


def stack(picture: Picture, *layers: Picture) -> Picture:
    """Layers (Y, X, 4) laid over a picture (Y, X, 3), in this order."""
    result = picture.astype(np.float32)
    for layer in layers:
        opacity = layer[..., 3:].astype(np.float32) / 255
        result += opacity * (layer[..., :3] - result)
    return np.rint(result).astype(np.uint8)


def error_layer(predicted: npt.NDArray[Any], true: npt.NDArray[Any], *, step: int = 1) -> Picture:
    """Objects by what happened to them, as a transparent layer (Y, X, 4), in `ERROR_COLOURS`.

    True objects are coloured as correct, missed, merged or split (merged before split where both
    hold), predicted objects without a true one as spurious; outlines are the true objects' and the
    spurious ones'. The kinds are those that `biounet.evaluation.object_errors` counts. Of large images every
    ``step``-th pixel is drawn.
    """
    of_true, spurious = kinds_of_objects(predicted, true)
    plane_true, plane_found = (middle_plane(a, a.ndim)[::step, ::step] for a in (true, predicted))
    alone = np.isin(plane_found, spurious) & (plane_true <= 0)
    shown = np.where(alone, -1 - plane_found.astype(np.int64), np.maximum(plane_true, 0))
    ids, inverse = fastremap.unique(np.ascontiguousarray(shown), return_inverse=True)
    kinds = ["spurious" if i < 0 else of_true.get(int(i), "correct") for i in ids]
    palette = np.array([ERROR_COLOURS[kind] for kind in kinds], np.uint8).reshape(-1, 3)
    layer = np.zeros((*shown.shape, 4), np.uint8)
    layer[..., :3] = palette[inverse.reshape(shown.shape)]
    layer[..., 3] = np.where(shown != 0, 90, 0)
    layer[_edges(shown, 1) & (shown != 0), 3] = 255
    return layer


def wrong_class_layer(predicted: npt.NDArray[Any], true: npt.NDArray[Any]) -> Picture:
    """Known pixels (Z)YX whose class is wrong, as a transparent layer (Y, X, 4), in `WRONG_CLASS`."""
    wrong = middle_plane((predicted != true) & (true >= 0), true.ndim)
    layer = np.zeros((*wrong.shape, 4), np.uint8)
    layer[wrong] = (*WRONG_CLASS["wrong class"], 200)
    return layer


def error_picture(
    image: npt.NDArray[Any], predicted: npt.NDArray[Any], true: npt.NDArray[Any]
) -> tuple[Picture, dict[str, Colour]]:
    """Errors by kind over the image, (Y, X, 3), and the legend: colour of each kind. See `error_layer`."""
    return stack(to_rgb(image, true.ndim), error_layer(predicted, true)), dict(ERROR_COLOURS)


def heat(values: npt.NDArray[Any], *, limits: tuple[float, float] | None = None) -> Picture:
    """A map (Z)YX of weights or probabilities in colours from dark violet over green to yellow.

    ``limits`` are the values of the first and last colour (default: the least and greatest finite
    value). Values that are not finite are black; a constant map has the first colour.
    """
    plane = middle_plane(values, values.ndim).astype(np.float32)
    finite = np.isfinite(plane)
    if limits is None:
        limits = (float(plane[finite].min()), float(plane[finite].max())) if finite.any() else (0.0, 1.0)
    low, high = limits
    scaled = np.clip((np.where(finite, plane, low) - low) / (high - low), 0, 1) if high > low else plane * 0
    places = np.linspace(0, 1, len(_VIRIDIS))
    rgb = np.stack([np.interp(scaled, places, _VIRIDIS[:, c]) for c in range(3)], axis=-1)
    return np.where(finite[..., None], np.rint(rgb), 0).astype(np.uint8)


def side_by_side(pictures: Sequence[Picture], captions: Sequence[str] = (), *, gap_px: int = 8) -> Picture:
    """Pictures (Y, X, 3) in a row on white, tops aligned, each with its caption above if given."""
    if not pictures or (captions and len(captions) != len(pictures)):
        raise UsageError(f"{len(pictures)} pictures and {len(captions)} captions: one each, at least one picture")
    head = _CAPTION_PX if captions else 0
    height = head + max(p.shape[0] for p in pictures)
    width = sum(p.shape[1] for p in pictures) + gap_px * (len(pictures) - 1)
    canvas = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for number, picture in enumerate(pictures):
        right = left + picture.shape[1]
        canvas[head : head + picture.shape[0], left:right] = picture
        if captions:
            canvas[:head, left:right] = _caption(captions[number], picture.shape[1])
        left = right + gap_px
    return canvas


_CAPTION_PX = 22


def _caption(text: str, width: int) -> Picture:
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    # pillow's own font has no umlauts, matplotlib brings one that has nearly every letter
    font = ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 13)
    line = Image.new("RGB", (width, _CAPTION_PX), "white")
    ImageDraw.Draw(line).text((2, 3), text, fill=(30, 30, 30), font=font)
    return np.asarray(line, dtype=np.uint8)
