"""ImageJ's ``RoiSet.zip`` of segmented objects."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from biounet.exchange.objects import Objects, Plane, planes_of
from biounet.exchange.tracing import Points, Traced, trace
from biounet.images.writing import whole_file

_LARGEST_COORDINATE = 32_000  # 16-bit coordinates end at 32,767
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write_rois(path: str | Path, objects: Sequence[Objects]) -> int:
    """Write a ROI for every object and return how many: for the ROI Manager of ImageJ and Fiji.

    Of one ring, a traced ROI; with holes or several parts, a composite. Outlines run along pixel edges, so
    ImageJ fills the same pixels again. Names are unique: class, a number of five digits, and z and t in
    stacks; the objects of a volume have one ROI a slice. The number of the class is the ROI's group, which
    gives it a colour. Written whole or not at all.
    """
    count = 0
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for plane in planes_of(objects):
            for traced in trace(plane.labels):
                roi = _roi(traced)
                roi.name = _name(plane, traced.id)
                roi.group = 0 if plane.objects.classes is None else int(plane.objects.classes[traced.id]) % 256
                _place(roi, plane)
                file.writestr(f"{roi.name}.roi", roi.tobytes())
                count += 1
    return count


def _name(plane: Plane, number: int) -> str:
    """Class and number: read again, the class is what is left without the numbers at the end."""
    kind = re.sub(r"[\s_\-.#:]+(?=\d)", "", plane.objects.class_of(number)).replace("/", "_")
    kind = f"class{kind}" if kind.isdecimal() else kind
    parts = [kind] if kind else []
    parts.append(f"{number:05d}")
    parts += [f"{at + 1:04d}" for at in (plane.z, plane.t) if at is not None]
    return "-".join(parts)


def _place(roi: ImagejRoi, plane: Plane) -> None:
    """A slice of a plain stack; z and t of a hyperstack, which a file of several channels is, on every channel."""
    places = [at for at in (plane.z, plane.t) if at is not None]
    if len(places) == 1 and plane.objects.file_channels == 1:
        roi.position = places[0] + 1
    elif places:
        roi.z_position, roi.t_position = (plane.z or 0) + 1, (plane.t or 0) + 1


def _roi(traced: Traced) -> ImagejRoi:
    rings = [ring for piece in traced.pieces for ring in piece]
    points = np.concatenate(rings)
    roi = ImagejRoi()
    (roi.top, roi.left), (roi.bottom, roi.right) = points.min(0).tolist(), points.max(0).tolist()
    if len(rings) == 1 and max(roi.bottom, roi.right) < _LARGEST_COORDINATE:
        roi.roitype = ROI_TYPE.TRACED
        roi.integer_coordinates = (points - (roi.top, roi.left))[:, ::-1].astype(np.int32)
        roi.n_coordinates = len(points)
        return roi
    roi.roitype = ROI_TYPE.RECT
    roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
    roi.shape_roi_size = len(roi.multi_coordinates)
    return roi


def _path(ring: Points) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A ring as a path of ImageJ's composites: move, lines, close."""
    segments = np.empty((len(ring), 3), np.float32)
    segments[:, 0] = _LINE
    segments[0, 0] = _MOVE
    segments[:, 1:] = ring[:, ::-1]
    return np.append(segments.reshape(-1), np.float32(_CLOSE))
