"""Plates of OME-Zarr 0.4 and 0.5: wells, and the fields in them, each an image.

Source: https://ngff.openmicroscopy.org, versions 0.4 and 0.5.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path

from biounet.errors import DataError, UsageError
from biounet.images.formats import reading
from biounet.images.ome_zarr import inner_name, path_inside, read_attributes


def is_plate(path: str | Path) -> bool:
    """Whether a folder is an OME-Zarr plate."""
    try:
        return "plate" in read_attributes(Path(path))[0]
    except (DataError, OSError, ValueError, AttributeError, TypeError):
        return False


def plate_fields(path: str | Path, wells: str | None = None) -> list[tuple[str, Path]]:
    """The fields of a plate as (NAME, path of the image), well by well in the order of the plate.

    ``wells``: names or patterns with commas, as ``"B03,C*"``; None: all. NAME is that of the plate,
    the well and the field: ``PLATE_B03_0``. Raises `UsageError` for a pattern that no well has, and
    `DataError` where the folder is no plate or a well is not there.
    """
    path = Path(path)
    with reading(path):
        return _fields(path, wells)


def _fields(path: Path, wells: str | None) -> list[tuple[str, Path]]:
    attributes, _ = read_attributes(path)
    if "plate" not in attributes:
        raise DataError(f"{path}: is no OME-Zarr plate; name the folder that has the wells")
    listed = {str(well["path"]).replace("/", ""): str(well["path"]) for well in attributes["plate"].get("wells", ())}
    found: list[tuple[str, Path]] = []
    for well in _chosen(path, list(listed), wells):
        group = path / path_inside(path, listed[well])
        for image in read_attributes(group)[0].get("well", {}).get("images", ()):
            field = path_inside(group, str(image["path"]))
            found.append((f"{inner_name(path)}_{well}_{field}", group / field))
    if not found:
        raise DataError(f"{path}: the plate lists no fields; it is empty or damaged")
    return found


def _chosen(path: Path, listed: list[str], wells: str | None) -> list[str]:
    if wells is None:
        return listed
    chosen: set[str] = set()
    for pattern in (text.strip() for text in wells.split(",")):
        matches = [well for well in listed if fnmatch.fnmatchcase(well.upper(), pattern.upper())]
        if not matches:
            raise UsageError(f"--wells {pattern!r}: not in {path}, which has {', '.join(listed)}")
        chosen |= set(matches)
    return [well for well in listed if well in chosen]
