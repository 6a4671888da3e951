"""Masks as the Cell Tracking Challenge takes them: ``01_RES/mask000.tif``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from biounet.errors import DataError
from biounet.exchange.objects import Objects
from biounet.images.writing import whole_file

_FRAME = re.compile(r"^t(\d{3,4})$")


def write_masks(out: str | Path, objects: Sequence[Objects], *, sequence: str = "01", first: int = 0) -> list[Path]:
    """Write the frames of a sequence as ``SEQUENCE_RES/maskTTT.tif`` into the folder ``out``; their paths.

    Images called ``tTTT`` keep their number, others are numbered by time from ``first`` on. uint16 (Z)YX without
    metadata, zlib. For the measure SEG; tracks are not written. Raises `DataError` for more than 65,535 objects.
    """
    written = []
    for index, one in enumerate(objects):
        match = _FRAME.match(one.name)
        frame = int(match[1]) if match and len(objects) == 1 else first + index
        digits = len(match[1]) if match else 3
        if int(one.labels.max(initial=0)) > np.iinfo(np.uint16).max:
            raise DataError(
                f"{one.name}: more than 65,535 objects; the challenge's masks are uint16: save labels instead"
            )
        path = Path(out) / f"{sequence}_RES" / f"mask{frame:0{digits}d}.tif"
        with whole_file(path) as temporary:
            tifffile.imwrite(temporary, one.labels.astype(np.uint16), compression="zlib", photometric="minisblack")
        written.append(path)
    return written
