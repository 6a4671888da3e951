"""COCO: one JSON file with the objects of many images, as polygons or run lengths."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from biounet.datasets.outlines import Mask, Outline, kind_of, masked
from biounet.errors import DataError

_LARGEST_MASK = 1 << 28  # pixels


@dataclass(frozen=True)
class CocoImage:
    """One entry of ``images``: its id as text, the file it names, and its objects."""

    entry: str
    file_name: str
    outlines: tuple[Outline, ...]


def read_coco(path: Path) -> list[CocoImage]:
    """Images and their objects, in the file's order; classes are the categories' names.

    ``segmentation`` may be polygons (x, y from pixel corners, all parts of one object), or run lengths,
    plain or compressed; crowds (``iscrowd``) are unknown, as they are no single objects. Objects with a box
    alone enclose nothing. Raises `DataError` for other content.
    """
    try:
        content = json.loads(path.read_bytes())
        names = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
        objects: dict[Any, list[Outline]] = defaultdict(list)
        for annotation in content["annotations"]:
            kind = "ignore" if annotation.get("iscrowd") else kind_of(names.get(annotation.get("category_id"), ""))
            objects[annotation["image_id"]].append(_outline(annotation.get("segmentation"), kind))
        return [
            CocoImage(str(entry["id"]), str(entry["file_name"]), tuple(_on(entry, objects[entry["id"]])))
            for entry in content["images"]
        ]
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError, OSError) as error:
        text = " ".join(str(error).split())[:80]
        raise DataError(f"{path}: not COCO annotations ({type(error).__name__}: {text}); export them again") from error


def _outline(segmentation: Any, kind: str) -> Outline:
    """One object; of one that has a box alone an outline that encloses nothing."""
    if isinstance(segmentation, dict):
        return masked(_decoded(segmentation["counts"], *segmentation["size"]), kind)
    rings = [np.array(ring, np.float64).reshape(-1, 2)[:, ::-1] for ring in segmentation or []]
    return Outline(tuple(ring for ring in rings if len(ring) > 2), kind, united=True)


def _on(entry: dict[str, Any], outlines: list[Outline]) -> Iterator[Outline]:
    """Objects with the size of the image that the file states, where it states one."""
    stated = (int(entry.get("height") or 0), int(entry.get("width") or 0))
    for outline in outlines:
        yield outline if outline.size or min(stated) < 1 else replace(outline, size=stated)


def _decoded(counts: str | list[int], height: int, width: int) -> Mask:
    """A mask (Y, X) of run lengths down the columns, background first."""
    if not 0 < int(height) * int(width) < _LARGEST_MASK:
        raise ValueError(f"a mask of {height} x {width} pixels")
    runs = np.array(_uncompressed(counts) if isinstance(counts, str) else counts, np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"run lengths of {runs.sum()} pixels for a mask of {height} x {width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _uncompressed(text: str) -> list[int]:
    """Run lengths of COCO's compressed text: five bits a character, low ones first, differences from the third on."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
