"""Microscope formats that are not read here, and what to do with such files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_NAMES = {
    ".lif": "Leica LIF", ".xlef": "Leica XLEF", ".lei": "Leica LEI", ".vsi": "Olympus VSI", ".oib": "Olympus OIB",
    ".oif": "Olympus OIF", ".oir": "Olympus OIR", ".zvi": "Zeiss ZVI", ".ims": "Imaris IMS", ".dv": "DeltaVision DV",
    ".r3d": "DeltaVision R3D", ".stk": "MetaMorph STK", ".flex": "Opera FLEX", ".sld": "SlideBook SLD",
    ".mvd2": "Volocity MVD2", ".lim": "Nikon LIM", ".dm3": "Gatan DM3", ".dm4": "Gatan DM4", ".mrc": "MRC",
    ".dcm": "DICOM", ".ics": "ICS",
}  # fmt: skip


def advice(files: Iterable[Path]) -> str:
    """What to do about the first of ``files`` that is of such a format, "" where none is."""
    for file in files:
        if name := _NAMES.get(file.suffix.lower()):
            return f"{name} is not read; open it in Fiji (Bio-Formats) and save it as OME-TIFF"
    return ""
