"""The list of labels in the ``labels`` group of an OME-Zarr image, and the places above that list all metadata.

Source: https://ngff.openmicroscopy.org, versions 0.4 and 0.5.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from biounet.images.formats import reading
from biounet.images.ome_zarr import Multiscale, load_zarr, read_multiscale
from biounet.images.writing import clear_leftovers, whole_file


def has_zarr_labels(image: str | Path, name: str) -> bool:
    """Whether an OME-Zarr image has labels of this name, in its list or as a folder."""
    with reading(Path(image)):
        return is_there(read_multiscale(Path(image)), name)


def list_zarr_labels(image: str | Path, name: str) -> Path:
    """Enter labels that are there wherever they should be listed, after an interruption just before that.

    Returns their group.
    """
    with reading(Path(image)):
        source = read_multiscale(Path(image))
    enter_labels(source, name)
    consolidate_again(source, missing=f"labels/{name}")
    return source.group / "labels" / name


def recover_zarr_labels(image: str | Path, name: str) -> None:
    """Remove what a killed writer of labels left in an image; labels that it had moved out of its way come back."""
    with reading(Path(image)):
        source = read_multiscale(Path(image))
    clear_leftovers(source.group / "labels" / name)


def enter_labels(source: Multiscale, name: str) -> None:
    """Put a name on the list, where it is not there yet."""
    labels = source.group / "labels"
    listed, found = read_label_list(labels, source.version)
    if name not in listed:
        _write_list(labels, source.version, [*listed, name], found)


def is_there(source: Multiscale, name: str) -> bool:
    """Whether an image has labels of this name, in its list or as a folder."""
    labels = source.group / "labels"
    return name in read_label_list(labels, source.version)[0] or (labels / name).exists()


def add_attributes(group: Path, version: str, more: dict[str, Any]) -> None:
    """Put more into the attributes of a group."""
    file = group / (".zattrs" if version == "0.4" else "zarr.json")
    found = json.loads(file.read_text(encoding="utf-8"))
    if version != "0.4":
        more = {"attributes": found["attributes"] | more}
    _write_json(file, found | more)


def consolidate_again(source: Multiscale, *, missing: str | None = None) -> None:
    """Groups above that list all metadata below them in one place list the new ones too.

    With ``missing``, a path in the image's group, only those that do not list it.
    """
    for group in (source.group, *source.group.parents):
        known = _consolidated(group, source.version)
        inner = (source.group / (missing or "")).relative_to(group).as_posix()
        there = missing is not None and any(key == inner or key.startswith(f"{inner}/") for key in known or ())
        if known is not None and not there:
            with warnings.catch_warnings():  # that version 3 does not know it yet
                warnings.simplefilter("ignore")
                load_zarr(group).consolidate_metadata(group, zarr_format=source.zarr_format)
        if group.name.lower().endswith(".zarr"):
            break


def read_label_list(labels: Path, version: str) -> tuple[list[str], dict[str, Any]]:
    """The names in a ``labels`` group, and all that its file of attributes says; nothing where there is none."""
    file = labels / (".zattrs" if version == "0.4" else "zarr.json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    holder = found if version == "0.4" else found.get("attributes", {}).get("ome", {})
    return [str(name) for name in holder.get("labels", ())], found


def _write_list(labels: Path, version: str, names: list[str], found: dict[str, Any]) -> None:
    """The names into the group's attributes, all else there kept."""
    if version == "0.4":
        if not (labels / ".zgroup").is_file():
            _write_json(labels / ".zgroup", {"zarr_format": 2})
        _write_json(labels / ".zattrs", found | {"labels": names})
        return
    attributes = found.get("attributes", {})
    ome = {"version": version} | attributes.get("ome", {}) | {"labels": names}
    group = {"zarr_format": 3, "node_type": "group"} | found
    _write_json(labels / "zarr.json", group | {"attributes": attributes | {"ome": ome}})


def _write_json(file: Path, content: dict[str, Any]) -> None:
    with whole_file(file) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


def _consolidated(group: Path, version: str) -> dict[str, Any] | None:
    """All metadata that a group lists by their path below it, None where it lists none."""
    file = group / (".zmetadata" if version == "0.4" else "zarr.json")
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    holder = found if version == "0.4" else found.get("consolidated_metadata") or {}
    return dict(holder["metadata"]) if "metadata" in holder else None
