"""Scores as CSV files, one row for each image or each object, for a spreadsheet or a statistics program."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from biounet.evaluation.files import Evaluation
from biounet.evaluation.object_errors import object_table
from biounet.evaluation.overlap import Labels, known_part
from biounet.evaluation.scores import Scores, Task, segments_of
from biounet.evaluation.summary import flatten
from biounet.images.writing import whole_file

Row = dict[str, Any]


def image_row(scores: Scores) -> Row:
    """Scores as one flat row: nested names are joined by a dot, as ``ap.0.50`` and ``errors.merges``."""
    return {".".join(path): value for path, value in flatten(scores)}


def object_rows(predicted: Labels, true: Labels, task: Task) -> list[Row]:
    """`object_table` of two label images (Z)YX; in a class image the components are the objects."""
    return object_table(segments_of(known_part(predicted, true), task), segments_of(true, task))


def write_tables(folder: str | Path, evaluation: Evaluation) -> None:
    """Write ``images.csv`` and ``objects.csv`` of an evaluation into a folder, which is made."""
    folder, task = Path(folder), evaluation.meaning.task
    images = evaluation.result["images"]
    write_csv(folder / "images.csv", [image_row(scores) for scores in images])
    rows = [{"image": p.name} | row for p in evaluation.pairs for row in object_rows(p.predicted, p.true, task)]
    write_csv(folder / "objects.csv", rows)


def write_csv(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows under a header of all their keys, in the order they first occur; None is left empty.

    UTF-8 with a mark at its start, by which spreadsheets know it; whole or not at all.
    """
    rows = list(rows)
    header: Sequence[str] = list(dict.fromkeys(key for row in rows for key in row))
    with (
        whole_file(path) as temporary,
        temporary.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
