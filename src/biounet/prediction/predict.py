"""From files to files: every input's labels under its NAME, whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from biounet.errors import BiounetError, PartialError, UsageError
from biounet.exchange.tables import join_tables
from biounet.inference.averaging import views
from biounet.inference.engines import Choice, Engine
from biounet.model_file import Model
from biounet.prediction.cluster import Cluster
from biounet.prediction.inputs import find_inputs
from biounet.prediction.pipeline import Pipeline
from biounet.results.export import check_frames
from biounet.results.gallery import Gallery
from biounet.results.page import write_prediction_page
from biounet.results.request import Done, Listener, Request
from biounet.results.run_file import write_run

__all__ = ["Done", "Request", "find_inputs", "predict_files", "refuse_failed"]


def predict_files(
    model: Model,
    engine: Engine | Choice,
    inputs: Sequence[Path],
    request: Request,
    *,
    start_up_s: float = 0.0,
    listen: Listener | None = None,
    cluster: Cluster | None = None,
) -> list[Done]:
    """Predict every input and write its results and ``run.json``.

    The next file is read and the last one written while one is computed, and small images of one
    size go through the engine together; neither changes a result. ``listen(text, done, all)`` is told
    each plan and each finished batch of tiles (with an empty text). An input that fails is reported in
    its `Done` and the others are done; `refuse_failed` turns that into an error. Raises the error
    itself when there was only one input, and `UsageError` where the folder for the results cannot be
    made.
    """
    choice = engine if isinstance(engine, Choice) else Choice(engine)
    begin = time.perf_counter()
    check_frames(inputs, request.save)
    _make_folder(request.out)
    views(request.tta, model.geometry)  # refuses what cannot be meant before anything is read
    gallery = Gallery(model, inputs if request.report and request.shard is None else ())
    pipeline = Pipeline(model, choice.engine, request, listen or (lambda text, done, total: None), cluster, gallery)
    files = pipeline.run(inputs)
    for file in files:
        if file.error is not None and len(inputs) == 1:
            raise file.error
    results = [file.done for file in files]
    try:
        if "table" in request.save and request.shard is None:
            tables = [request.out / file for done in results for file in done.files if file.endswith("_objects.csv")]
            join_tables(request.out / "objects.csv", tables)
        values = write_run(model, choice, request, results, start_up_s, time.perf_counter() - begin)
        if request.report and request.shard is None:
            write_prediction_page(request.out / "report.html", values, results, gallery.figures, request.command)
    except BiounetError as error:
        if all(file.error is None for file in files):
            raise
        pipeline.listen(f"failed: {error}", 0, 0)  # the disk is full, most likely, and the inputs failed before
    return results


def refuse_failed(results: Sequence[Done]) -> None:
    """Raise `PartialError` where inputs failed, naming the first."""
    failed = [done.error for done in results if done.error]
    if failed:
        rest = "the rest is done" if len(failed) < len(results) else "nothing is done"
        raise PartialError(f"{len(failed)} of {len(results)} inputs failed, {rest}; first: {failed[0]}")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made a folder ({error.strerror}); name another") from error
