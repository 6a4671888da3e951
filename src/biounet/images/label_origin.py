"""What made labels in OME-Zarr: a record in the attributes of their group, under ``biounet``.

The record holds digests of the pixels that it speaks of. Labels that were edited since, or whose image is another
one now, have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biounet.images.formats import reading
from biounet.images.ome_zarr import read_multiscale

_KEY = "biounet"


@dataclass(frozen=True)
class Origin:
    """``made_by``: model, settings and versions that decide labels; ``result``: what was said of them. Plain values."""

    made_by: Mapping[str, Any]
    result: Mapping[str, Any]


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files in a folder."""
    path = Path(path)
    if path.is_file():
        return _of_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {_of_file(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def own_attributes(labels: Path) -> dict[str, Any]:
    """What to add to the attributes of a group of its own, so that `is_zarr_written_here` knows it again.

    ``labels``: the array of full resolution, as a folder.
    """
    return {_KEY: {"labels_sha256": digest(labels)}}


def is_zarr_written_here(group: str | Path) -> bool:
    """Whether a folder of labels is as `ome_zarr_labels.write_zarr_labels` left it, whose pixels nobody has changed."""
    group = Path(group)
    try:
        record = _record(group, "0.5")
        return record is not None and record.get("labels_sha256") == digest(group / "0")
    except (OSError, ValueError, AttributeError):
        return False


def origin_attributes(image: Path, labels: Path, origin: Origin) -> dict[str, Any]:
    """What to add to the attributes of a group. ``image``, ``labels``: arrays of full resolution, as folders."""
    record = {"made_by": dict(origin.made_by), "result": dict(origin.result), "image_sha256": digest(image)}
    return {_KEY: record | own_attributes(labels)[_KEY]}


def recorded_result(image: str | Path, name: str, made_by: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The result recorded in labels of this name that ``made_by`` made in an OME-Zarr image; None where it did not.

    None as well where labels or image were changed since: all pixels of both are read for that.
    """
    with reading(Path(image)):
        source = read_multiscale(Path(image))
        group = source.group / "labels" / name
        record = _record(group, source.version)
        if record is None or record.get("made_by") != made_by:
            return None
        if record["labels_sha256"] != digest(group / "0"):
            return None
        if record["image_sha256"] != digest(source.group / source.paths[0]):
            return None
        result: Mapping[str, Any] = record["result"]
        return result


def _record(group: Path, version: str) -> dict[str, Any] | None:
    """The record in the attributes of a group, None where there is none."""
    file = group / (".zattrs" if version == "0.4" else "zarr.json")
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    record = (found if version == "0.4" else found.get("attributes", {})).get(_KEY)
    return record if isinstance(record, dict) else None


def _of_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
