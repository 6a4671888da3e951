"""What objects can be saved as. A new kind is one function and one row in ``EXPORTS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from biounet.exchange.geojson import write_geojson
from biounet.exchange.objects import Objects
from biounet.exchange.rois import write_rois
from biounet.exchange.tables import write_table

# the name on the command line: how NAME goes on, and what writes it
EXPORTS: dict[str, tuple[str, Callable[[Path, Sequence[Objects]], int]]] = {
    "rois": ("_rois.zip", write_rois),
    "geojson": (".geojson", write_geojson),
    "geojson.gz": (".geojson.gz", write_geojson),
    "table": ("_objects.csv", write_table),
}


def save_objects(out: Path, name: str, kinds: Sequence[str], objects: Sequence[Objects]) -> list[Path]:
    """Write the objects of one file, planes of a stack in turn, as each of ``kinds``; the paths written."""
    written = []
    for kind in kinds:
        if kind in EXPORTS:
            suffix, write = EXPORTS[kind]
            path = out / f"{name}{suffix}"
            write(path, objects)
            written.append(path)
    return written
