"""QuPath's GeoJSON: annotations, detections and cells with their classes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from biounet.datasets.outlines import REGION, Floats, Outline, Place, kind_of
from biounet.errors import DataError

_LARGEST = 1 << 30  # bytes of text
_DETECTED = ("detection", "cell")
_OLD_TYPES = {"PathAnnotationObject": "annotation", "PathDetectionObject": "detection", "PathCellObject": "cell"}
_ENCLOSED = 3  # detections in an annotation that make it a region: one or two may be what it corrects
_INFERRED = "an annotation without class around detections is taken as the region in which they were looked for"


def geojson_outlines(path: Path) -> list[Outline]:
    """Every object of a ``.geojson`` or ``.geojson.gz``, in the file's order.

    A collection, a list of features or one feature. Coordinates are pixel corners (x, y), as QuPath writes
    them; holes are holes. The class is ``properties.classification.name`` (or ``properties.classification``),
    the plane ``geometry.plane``, without it the first. Points and lines have no rings. An annotation without class
    around detections is the "region" in which they were looked for, as QuPath's cell detection leaves it. Raises
    `DataError` for other content.
    """
    data = _decompressed(path) if path.suffix.lower() == ".gz" else path.read_bytes()
    try:
        features = _features(json.loads(data))
        return _with_regions(list(_outlines(features)))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        text = " ".join(str(error).split())[:80]
        raise DataError(
            f"{path}: not GeoJSON as QuPath writes it ({type(error).__name__}: {text}); export it again as a "
            "FeatureCollection"
        ) from error


def _decompressed(path: Path) -> bytes:
    with gzip.open(path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise DataError(f"{path}: holds more than {_LARGEST >> 20} MiB of text; split it")
    return data


def _features(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return list(content["features"]) if content["type"] == "FeatureCollection" else [content]


def _outlines(features: list[Any]) -> Iterator[tuple[Outline, str]]:
    """Each object, and what QuPath calls it: "annotation", "detection", "cell" or nothing."""
    for feature in features:
        geometry = feature["geometry"]
        for part in geometry.get("geometries", [geometry]):
            coordinates = part.get("coordinates", [])
            polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(part["type"], [])
            rings = tuple(_ring(ring) for polygon in polygons for ring in polygon)
            properties = feature.get("properties") or {}
            called = str(properties.get("objectType") or _OLD_TYPES.get(str(feature.get("id")), ""))
            yield Outline(rings, _kind(properties), _place(part.get("plane") or {})), called


def _with_regions(found: list[tuple[Outline, str]]) -> list[Outline]:
    """The objects, of which annotations around detections have become regions."""
    detected: dict[Place, list[Floats]] = {}
    for outline, called in found:
        if called in _DETECTED and outline.rings:
            detected.setdefault(outline.place, []).append(outline.rings[0].mean(axis=0))
    centres = {place: np.stack(points) for place, points in detected.items()}
    return [
        replace(outline, kind=REGION, inferred=_INFERRED)
        if called == "annotation"
        and not outline.kind
        and _encloses(outline.rings, centres.get(outline.place), _ENCLOSED)
        else outline
        for outline, called in found
    ]


def _encloses(rings: tuple[Floats, ...], points: Floats | None, count: int) -> bool:
    """Whether at least so many points (n, 2), None for none, lie in polygons, by the even-odd rule."""
    if points is None or not rings:
        return False
    corners = np.concatenate(rings)
    near = points[((points >= corners.min(axis=0)) & (points <= corners.max(axis=0))).all(axis=1)]
    starts, ends = corners, np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    for y, x in near:
        crossed = (starts[:, 0] <= y) != (ends[:, 0] <= y)
        (y0, x0), (y1, x1) = starts[crossed].T, ends[crossed].T
        count -= int(np.count_nonzero(x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x) % 2)
        if count <= 0:
            return True
    return False


def _ring(points: Any) -> Floats:
    array = np.array(points, np.float64)
    if array.ndim != 2 or array.shape[1] < 2 or len(array) < 3:
        raise ValueError(f"a ring of shape {array.shape}")
    return np.ascontiguousarray(array[:, 1::-1])


def _kind(properties: dict[str, Any]) -> str:
    named = properties.get("classification")
    if isinstance(named, dict):
        named = named.get("name") or ": ".join(named.get("names", []))
    return kind_of(str(named or ""))


def _place(plane: dict[str, Any]) -> Place:
    """z and t count from 0; QuPath writes no plane where it is the first."""
    return Place(int(plane.get("z") or 0), int(plane.get("t") or 0))
