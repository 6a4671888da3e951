"""QuPath's GeoJSON: annotations, detections and cells with their classes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from biounet.datasets.outlines import Floats, Outline, Place, kind_of
from biounet.errors import DataError

_LARGEST = 1 << 30  # bytes of text


def geojson_outlines(path: Path) -> list[Outline]:
    """Every object of a ``.geojson`` or ``.geojson.gz``, in the file's order.

    A collection, a list of features or one feature. Coordinates are pixel corners (x, y), as QuPath writes
    them; holes are holes. The class is ``properties.classification.name`` (or ``properties.classification``),
    the plane ``geometry.plane``, without it the first. Points and lines have no rings. Raises `DataError` for
    other content.
    """
    data = _decompressed(path) if path.suffix.lower() == ".gz" else path.read_bytes()
    try:
        return list(_outlines(_features(json.loads(data))))
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


def _outlines(features: list[Any]) -> Iterator[Outline]:
    for feature in features:
        geometry = feature["geometry"]
        for part in geometry.get("geometries", [geometry]):
            coordinates = part.get("coordinates", [])
            polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(part["type"], [])
            rings = tuple(_ring(ring) for polygon in polygons for ring in polygon)
            yield Outline(rings, _kind(feature.get("properties") or {}), _place(part.get("plane") or {}))


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
