"""QuPath's GeoJSON of segmented objects, written one after the other."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from biounet.exchange.measure import Table, measure
from biounet.exchange.objects import Objects, Plane, planes_of
from biounet.exchange.tracing import Points, Traced, trace
from biounet.images.writing import colour_table, whole_file
from biounet.labels.kinds import ids_of

MOST_ANNOTATIONS = 5000


def write_geojson(path: str | Path, objects: Sequence[Objects]) -> int:
    """Write every object as a feature of a FeatureCollection for QuPath, and return how many.

    Polygons (x, y) run along pixel edges, with holes; objects in parts are MultiPolygons. ``properties``
    hold name, class with a colour, and the measurements of `measure.measure`; ``plane`` is written in stacks.
    Up to 5,000 objects are annotations, which one can edit in QuPath, more are detections, which it draws
    faster. A name that ends with ``.gz`` is compressed. Objects are written as they are traced, so the text is
    never in memory as a whole. Written whole or not at all.
    """
    count = sum(len(ids_of(plane.labels)) for plane in planes_of(objects))
    kind = "annotation" if count <= MOST_ANNOTATIONS else "detection"
    with whole_file(path) as temporary:
        opened: Any = gzip.open if str(path).lower().endswith(".gz") else open
        extra = {"compresslevel": 3} if opened is gzip.open else {}
        with opened(temporary, "wt", encoding="utf-8", newline="\n", **extra) as file:
            file.write('{"type": "FeatureCollection", "features": [')
            for index, text in enumerate(_features(objects, kind)):
                file.write(",\n" if index else "\n")
                file.write(text)
            file.write("\n]}\n")
    return count


def _features(objects: Sequence[Objects], kind: str) -> Iterator[str]:
    measured: dict[int, Mapping[int, str]] = {}
    for plane in planes_of(objects):
        one = plane.objects
        if id(one) not in measured:
            measured = {id(one): _measurements(measure(one))}
        place = hashlib.md5(f"{one.name} {plane.z} {plane.t}".encode(), usedforsecurity=False).hexdigest()
        colours = {name: _colour(number) for number, name in enumerate(one.class_names)}
        for traced in trace(plane.labels):
            yield _feature(traced, plane, kind, place, measured[id(one)][traced.id], colours)


def _feature(
    traced: Traced, plane: Plane, kind: str, place: str, measurements: str, colours: Mapping[str, list[int]]
) -> str:
    polygons = [[_closed(ring) for ring in piece] for piece in traced.pieces]
    several = len(polygons) > 1
    shape, coordinates = ("MultiPolygon", polygons) if several else ("Polygon", polygons[0])
    where = (
        ""
        if plane.z is None and plane.t is None
        else f', "plane": {{"c": -1, "z": {plane.z or 0}, "t": {plane.t or 0}}}'
    )
    name = plane.objects.class_of(traced.id)
    named = f', "classification": {{"name": {json.dumps(name)}, "color": {colours[name]}}}' if name else ""
    number = f"{place[:8]}-{place[8:12]}-8{place[12:15]}-8{place[15:18]}-{traced.id:012x}"
    return (
        f'{{"type": "Feature", "id": "{number}", '
        f'"geometry": {{"type": "{shape}", "coordinates": {coordinates}{where}}}, '
        f'"properties": {{"objectType": "{kind}", "name": "{traced.id}"{named}, "measurements": {measurements}}}}}'
    )


def _closed(ring: Points) -> list[list[int]]:
    points: list[list[int]] = ring[:, ::-1].tolist()
    points.append(points[0])
    return points


def _measurements(table: Table) -> dict[int, str]:
    """The numbers of each object by its id, as JSON."""
    columns = {name: column for name, column in table.items() if name not in ("id", "class")}
    keys = [json.dumps(name) for name in columns]
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return {
        int(number): "{" + ", ".join(f"{key}: {value:.8g}" for key, value in zip(keys, row, strict=True)) + "}"
        for number, row in zip(table["id"], rows, strict=True)
    }


def _colour(number: int) -> list[int]:
    return [int(value) for value in colour_table()[:, number % 255]]
