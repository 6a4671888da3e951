"""Measurements as CSV: a table for each image, and one for all."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biounet.exchange.measure import Table, measure
from biounet.exchange.objects import Objects
from biounet.images.writing import whole_file

_WHERE = ("image", "t", "z")


def write_table(path: str | Path, objects: Sequence[Objects]) -> int:
    """Write one row an object, of one or several images, and return how many; see `measure.measure`.

    Columns ``image``, and ``t`` and ``z`` (from 0) where images are planes of a stack, come first. A column
    that an image does not have is empty there. Comma and point, UTF-8. Written whole or not at all.
    """
    rows: list[dict[str, Any]] = []
    for one in objects:
        rows += _rows(one, measure(one))
    _write(path, rows)
    return len(rows)


def join_tables(path: str | Path, tables: Sequence[Path]) -> None:
    """Write several tables of `write_table` as one; columns are matched by name and stand in the same order."""
    rows: list[dict[str, str]] = []
    for table in tables:
        with open(table, encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    _write(path, rows)


def _write(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Where an object is comes first, whichever image has it; the rest follows as it first occurs."""
    known = dict.fromkeys(name for row in rows for name in row) or ["image", "id"]
    names = [name for name in _WHERE if name in known] + [name for name in known if name not in _WHERE]
    with (
        whole_file(path) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows(objects: Objects, table: Table) -> list[dict[str, Any]]:
    fixed: dict[str, Any] = {"image": objects.name}
    fixed |= {name: at for name, at in (("t", objects.t), ("z", objects.z)) if at is not None}
    columns = [[_plain(value) for value in column.tolist()] for column in table.values()]
    return [fixed | dict(zip(table, values, strict=True)) for values in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    return float(f"{value:.8g}") if isinstance(value, float) else value
