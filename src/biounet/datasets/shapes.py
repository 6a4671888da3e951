"""The CSV that napari writes of a shapes layer."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from biounet.datasets.outlines import FARTHEST, Floats, Outline, Place
from biounet.errors import DataError

_HEADER = ["index", "shape-type", "vertex-index"]
_CLOSED = ("polygon", "rectangle", "ellipse")


def is_shapes_csv(path: Path) -> bool:
    """Whether the first line is that of napari's shapes."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip().split(",")[:3] == _HEADER


def shapes_outlines(path: Path) -> list[Outline]:
    """Polygons, rectangles and ellipses of a napari shapes CSV; lines and paths have no rings.

    Napari counts from pixel centres, so half a pixel is added. Of more than two axes the third last is z, the
    fourth last t. Raises `DataError` for other content.
    """
    corners: dict[int, list[list[float]]] = {}
    types: dict[int, str] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = next(rows)
            if header[:3] != _HEADER or len(header) < 5:
                raise ValueError("not the header index,shape-type,vertex-index,axis-0,axis-1")
            for row in filter(None, rows):
                types[int(float(row[0]))] = row[1]
                corners.setdefault(int(float(row[0])), []).append([float(value) for value in row[3:]])
        return [_outline(types[key], np.array(points)) for key, points in sorted(corners.items())]
    except (ValueError, LookupError, ArithmeticError, StopIteration, csv.Error) as error:
        raise DataError(f"{path}: not a CSV of napari shapes ({error}); save the layer again") from error


def _outline(kind: str, points: Floats) -> Outline:
    if kind not in _CLOSED or len(points) < 3:
        return Outline()
    if not (np.abs(points) < FARTHEST).all():
        raise ValueError("a vertex is no number or lies absurdly far away")
    ring = points[:, -2:] + 0.5
    if kind == "ellipse":  # four corners of the box around it
        centre, first, second = ring[:4].mean(0), (ring[1] - ring[0]) / 2, (ring[2] - ring[1]) / 2
        steps = max(64, math.ceil(16 * math.sqrt(np.abs([first, second]).max())))
        angle = np.linspace(0, 2 * math.pi, steps, endpoint=False)[:, None]
        ring = centre + np.cos(angle) * first + np.sin(angle) * second
    z, t = (round(float(points[0, at])) if points.shape[1] >= -at else None for at in (-3, -4))
    return Outline((ring,), place=Place(z, t))
