"""Image formats that are not read here, and what to do with such files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_NAMES = {
    ".lif": "Leica LIF", ".xlef": "Leica XLEF", ".lei": "Leica LEI", ".vsi": "Olympus VSI", ".oib": "Olympus OIB",
    ".oif": "Olympus OIF", ".oir": "Olympus OIR", ".zvi": "Zeiss ZVI", ".ims": "Imaris IMS", ".dv": "DeltaVision DV",
    ".r3d": "DeltaVision R3D", ".stk": "MetaMorph STK", ".flex": "Opera FLEX", ".sld": "SlideBook SLD",
    ".mvd2": "Volocity MVD2", ".lim": "Nikon LIM", ".dm3": "Gatan DM3", ".dm4": "Gatan DM4", ".mrc": "MRC",
    ".dcm": "DICOM", ".ics": "ICS", ".bmp": "BMP", ".gif": "GIF", ".webp": "WebP", ".heic": "HEIC",
}  # fmt: skip


def advice(files: Iterable[Path]) -> str:
    """What to do about the first of ``files`` that is of such a format, "" where none is."""
    for name in map(foreign_format, files):
        if name:
            return f"{name} is not read; open it in Fiji (Bio-Formats) and save it as OME-TIFF"
    return ""


def foreign_format(file: Path) -> str:
    """The format of an image file that is not read here, "" for any other file."""
    return _NAMES.get(file.suffix.lower(), "")
