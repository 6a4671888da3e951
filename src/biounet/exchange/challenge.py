"""Masks as the Cell Tracking Challenge takes them: ``01_RES/mask000.tif``, one file a frame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

from biounet.errors import DataError
from biounet.exchange.objects import Objects
from biounet.images.writing import whole_file

_FRAME = re.compile(r"t(\d{3,4})")
_LARGEST_ID = np.iinfo(np.uint16).max


def frame_number(name: str) -> str | None:
    """The digits of an image called ``tTTT``, which is one frame of a sequence; None for other names."""
    match = _FRAME.fullmatch(name)
    return None if match is None else match[1]


def write_masks(out: str | Path, objects: Sequence[Objects], *, sequence: str = "01", first: int = 0) -> list[Path]:
    """Write the objects of one file as ``SEQUENCE_RES/maskTTT.tif`` into the folder ``out``, a mask a frame; the paths.

    A file called ``tTTT`` is one frame and keeps its number; of others each time is one, numbered from ``first`` on.
    Planes of one frame are joined to a volume, with ids that go on from plane to plane. uint16 (Z)YX without metadata,
    zlib. For the measure SEG; tracks are not written. Raises `DataError` for more than 65,535 objects in a frame.
    """
    digits = frame_number(objects[0].name) if objects else None
    frames: dict[int, list[Objects]] = {}
    for one in objects:
        frames.setdefault(0 if digits is not None else one.t or 0, []).append(one)
    written = []
    for time, planes in sorted(frames.items()):
        labels = _joined([one.labels for one in planes], planes[0].name)
        number = f"{first + time:03d}" if digits is None else digits
        path = Path(out) / f"{sequence}_RES" / f"mask{number}.tif"
        with whole_file(path) as temporary:
            tifffile.imwrite(temporary, labels, compression="zlib", photometric="minisblack", metadata=None)
        written.append(path)
    return written


def _joined(planes: Sequence[npt.NDArray[np.int32]], name: str) -> npt.NDArray[np.uint16]:
    """One plane or volume as it is; several planes as a volume, the ids of each beyond those of the planes before."""
    largest = [int(plane.max(initial=0)) for plane in planes]
    if sum(largest) > _LARGEST_ID:
        raise DataError(
            f"{name}: more than 65,535 objects in a frame; the challenge's masks are uint16: save labels instead"
        )
    before = accumulate(largest, initial=0)
    joined = [np.where(plane > 0, plane + n, 0).astype(np.uint16) for plane, n in zip(planes, before, strict=False)]
    return joined[0] if len(joined) == 1 else np.stack(joined)
