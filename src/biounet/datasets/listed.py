"""Layouts in which a file lists what belongs together: a CSV of pairs, and COCO."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from biounet.datasets.coco import read_coco
from biounet.datasets.dataset import Extras, Found, Item, Problem, Source
from biounet.datasets.drawings import OUTLINES
from biounet.errors import DataError
from biounet.images.formats import READERS, stem_name

PAIRS = "pairs.csv"
_IMAGE = ("image", "images", "raw", "file")
_LABELS = ("labels", "label", "mask", "masks", "annotation", "annotations", "rois")
_SUFFIXES = (*READERS, *OUTLINES)


def csv_of_pairs(path: Path) -> Found:
    """Pairs of a CSV, a line each: image, annotation, with commas or semicolons; file names are relative to the CSV.

    With a first line of column names they may be in any order, and ``ignore``, ``region`` and ``classes``
    say more. A folder as annotation holds one mask for every object.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        between = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
        rows = [row for row in csv.reader(lines, delimiter=between) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV of pairs ({error}); write a line image,annotation") from error
    names = _columns(rows[0]) if rows else {}
    items, problems = [], []
    for row in rows[1:] if names else rows:
        cells = {name: row[at].strip() for name, at in (names or {"image": 0, "labels": 1}).items() if at < len(row)}
        files = {name: path.parent / cell for name, cell in cells.items() if cell}
        missing = [str(file) for file in files.values() if not _is_there(file)]
        if missing or not {"image", "labels"} <= set(files):
            fault = f"{missing[0]} is not there" if missing else "a line needs an image and an annotation"
            problems.append(Problem(",".join(row[:2]), fault, "unpaired"))
            continue
        extras = Extras(**{name: Source(files[name]) for name in ("ignore", "region", "classes") if name in files})
        items.append(Item(stem_name(files["image"]), (Source(files["image"]),), Source(files["labels"]), extras))
    return Found(tuple(items), (f"{len(items)} pairs listed in {path.name}",), tuple(problems))


def _columns(row: list[str]) -> dict[str, int]:
    """Where which column is; empty where the first line is a pair already."""
    found: dict[str, int] = {}
    for at, cell in enumerate(cell.strip().lower() for cell in row):
        name = "image" if cell in _IMAGE else "labels" if cell in _LABELS else cell
        if name in ("image", "labels", "ignore", "region", "classes"):
            found.setdefault(name, at)
    return found if {"image", "labels"} <= set(found) else {}


def pairs(folder: Path) -> Found | None:
    """The layout of a folder with ``pairs.csv``."""
    return csv_of_pairs(folder / PAIRS) if (folder / PAIRS).is_file() else None


def coco(folder: Path) -> Found | None:
    """COCO: a JSON file with images and annotations in the folder, or in ``annotations/`` in it."""
    candidates = [*sorted(folder.glob("*.json")), *sorted((folder / "annotations").glob("*.json"))]
    files = [file for file in candidates if _is_coco(file)]
    if not files:
        return None
    if len(files) > 1:
        raise DataError(
            f"{folder}: {files[0].name} and {files[1].name} are both COCO annotations; name the one that is meant"
        )
    return coco_file(files[0])


def coco_file(path: Path) -> Found:
    """The images that one COCO file annotates, looked for beside it, above it and in ``images/``."""
    items, problems = [], []
    places = [path.parent, path.parent / "images", path.parent.parent, path.parent.parent / "images"]
    for entry in read_coco(path):
        image = next(
            (place / entry.file_name for place in places if _is_there(place / entry.file_name, file=True)), None
        )
        if image is None:
            problems.append(Problem(entry.file_name, f"is listed in {path.name} and not there", "unpaired"))
            continue
        items.append(Item(stem_name(image), (Source(image),), Source(path, entry=entry.entry)))
    return Found(tuple(items), (f"{len(items)} images annotated in {path.name} (COCO)",), tuple(problems))


def _is_there(path: Path, *, file: bool = False) -> bool:
    """Whether there is such a file, or, unless ``file``, such a folder; False also for what can be no name."""
    try:
        return path.is_file() if file else path.exists()
    except (OSError, ValueError):
        return False


def _is_coco(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" in content
