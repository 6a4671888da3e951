"""ImageJ ROIs: ``RoiSet.zip``, ``.roi``, and those stored inside TIFFs."""

from __future__ import annotations

import itertools
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from biounet.datasets.outlines import FARTHEST, Floats, Outline, Place, kind_of
from biounet.errors import DataError

_LARGEST_SET = 512 << 20  # bytes of all ROIs in a zip
_POLYGONS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
_NO_AREA = (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE, ROI_SUBTYPE.ARROW)
_NUMBERING = re.compile(r"([\s_\-.#:]+\d+)+$")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-.*", re.IGNORECASE)
_STEP = {0: 3, 1: 3, 2: 5, 3: 7, 4: 1}  # numbers of a path segment: move, line, curves of order 2 and 3, close


def roi_outlines(path: Path) -> list[Outline]:
    """Every ROI of a ``.zip`` or ``.roi``, in the file's order.

    Polygons, freehand, traced, ellipses, rectangles (rounded and rotated too), ovals and composites; lines,
    points and texts have no rings. The class is the ROI's name without a number at its end ("region-2",
    "neuron_014"), or its group ("group 3"); names that ImageJ gives ("0123-0456") are none. Raises
    `DataError` where there is no ROI at all.
    """
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as file:
            entries = [info for info in file.infolist() if _is_roi(info.filename)]
            if sum(info.file_size for info in entries) > _LARGEST_SET:
                raise DataError(f"{path}: claims more than {_LARGEST_SET >> 20} MiB of ROIs; is it a ROI set?")
            rois = [file.read(info) for info in entries]
    else:
        rois = [path.read_bytes()]
    if not rois:
        raise DataError(f"{path}: holds no ImageJ ROI (NAME.roi); save the ROI Manager's list again")
    return list(_outlines(rois))


def _is_roi(name: str) -> bool:
    """Whether an entry of a zip is a ROI, and not what a Mac adds to one."""
    return name.lower().endswith(".roi") and not name.rpartition("/")[2].startswith(".")


def tiff_outlines(path: Path) -> list[Outline]:
    """The overlay and the selection that ImageJ stored inside a TIFF, as in `roi_outlines`; may be empty."""
    with tifffile.TiffFile(path) as tif:
        metadata = tif.imagej_metadata or {}
    stored: list[bytes] = []
    for key in ("Overlays", "ROI"):
        found = metadata.get(key, [])
        stored += [found] if isinstance(found, bytes) else list(found)
    return list(_outlines(list(dict.fromkeys(stored))))


def has_rois(path: Path) -> bool:
    """Whether ImageJ stored an overlay or a selection inside a TIFF; False also for what is no whole TIFF."""
    try:
        with tifffile.TiffFile(path) as tif:
            return bool({"Overlays", "ROI"} & set(tif.imagej_metadata or {}))
    except Exception:  # whatever tifffile raises on a damaged file: reading it as an image will say so
        return False


def roi_kind(name: str, group: int = 0) -> str:
    """The class that a ROI's name stands for, else its group, "" where it has neither."""
    plain = _NUMBERING.sub("", name.removesuffix(".roi"))
    without = re.sub(r"\d+$", "", plain)
    if kind_of(without) in ("region", "ignore", "background"):
        return kind_of(without)
    if not re.search(r"[^\W\d_]", plain) or _UUID.fullmatch(name):
        return f"group {group}" if group else ""
    return kind_of(plain)


def _outlines(stored: list[bytes]) -> Iterator[Outline]:
    for data in stored:
        roi = ImagejRoi.frombytes(data)
        yield Outline(_rings(roi), roi_kind(roi.name, int(roi.group)), _place(roi))


def _place(roi: Any) -> Place:
    """Positions in the file count from 1; 0 stands for every plane."""
    if roi.z_position > 0 or roi.t_position > 0:
        z, t = (at - 1 if at > 0 else None for at in (roi.z_position, roi.t_position))
        return Place(z, t)
    return Place(stack=roi.position - 1 if roi.position > 0 else None)


def _rings(roi: Any) -> tuple[Floats, ...]:
    """Rings (y, x) of a ROI, none where it encloses no area."""
    if roi.subtype in _NO_AREA:
        return ()
    if roi.roitype in _POLYGONS:
        points = np.asarray(roi.coordinates(), np.float64)
        return (points[:, ::-1],) if len(points) > 2 else ()
    if roi.multi_coordinates is not None:
        return tuple(_path(np.asarray(roi.multi_coordinates, np.float64)))
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        top, left, height, width = _rectangle(roi)
        arc = roi.rounded_rect_arc_size if roi.roitype == ROI_TYPE.RECT else math.inf
        return (_rounded(top, left, height, width, arc),) if min(height, width) > 0 else ()
    return ()


def _rectangle(roi: Any) -> tuple[float, float, float, float]:
    sides = (roi.yd, roi.xd, roi.heightd, roi.widthd)
    if not roi.subpixelrect:
        sides = (roi.top, roi.left, roi.bottom - roi.top, roi.right - roi.left)
    top, left, height, width = (float(side) for side in sides)
    if not max(map(abs, (top, left, height, width))) < FARTHEST:
        raise DataError("a ROI lies absurdly far away or has no size; draw it again")
    return top, left, height, width


def _rounded(top: float, left: float, height: float, width: float, arc: float) -> Floats:
    """A rectangle whose corners are quarters of ellipses at most ``arc`` across; an ellipse at most."""
    ry, rx = min(arc, height) / 2, min(arc, width) / 2
    steps = max(2, math.ceil(math.pi * math.sqrt(max(ry, rx)) * 4)) if arc > 0 else 1  # 0.01 pixels off at most
    turn = np.linspace(0, math.pi / 2, steps) if arc > 0 else np.zeros(1)
    corners = []
    for quarter, (y, x) in enumerate(((1, 1), (1, -1), (-1, -1), (-1, 1))):
        angle = turn + quarter * math.pi / 2
        cy = top + height / 2 + y * (height / 2 - ry)
        cx = left + width / 2 + x * (width / 2 - rx)
        corners.append(np.stack([cy + ry * np.sin(angle), cx + rx * np.cos(angle)], axis=1))
    if arc == 0:
        return np.array([(top, left), (top, left + width), (top + height, left + width), (top + height, left)])
    return np.concatenate(corners)


def _path(numbers: Floats) -> Iterator[Floats]:
    """Rings of a composite: a path of move, line, curve and close segments, (type, x, y, ...)."""
    ring: list[tuple[float, float]] = []
    at = 0
    while at < len(numbers):
        kind = int(numbers[at])
        size = _STEP.get(kind)
        if size is None or at + size > len(numbers):
            raise DataError(f"a composite ROI has a path segment of type {kind} at {at}, which is none; draw it again")
        points = [(float(y), float(x)) for x, y in numbers[at + 1 : at + size].reshape(-1, 2)]
        if kind in (0, 4):
            if len(ring) > 2:
                yield np.array(ring)
            ring = points if kind == 0 else []
        elif kind == 1 or not ring:
            ring += points
        else:
            ring += _curve([ring[-1], *points])
        at += size
    if len(ring) > 2:
        yield np.array(ring)


def _curve(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points on a Bezier curve behind its first one."""
    along = np.linspace(0, 1, 33)[1:, None]
    level = [np.asarray(point)[None] for point in points]
    while len(level) > 1:
        level = [(1 - along) * a + along * b for a, b in itertools.pairwise(level)]
    return [(float(y), float(x)) for y, x in level[0]]
