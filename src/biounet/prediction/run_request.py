"""A request carried out: model opened, engine chosen, inputs found, workers called, files predicted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biounet.errors import UsageError
from biounet.inference.averaging import unlearnt_views
from biounet.inference.engines import Choice, choose_engine
from biounet.inference.exported import open_model
from biounet.model_file import Model
from biounet.prediction.calibrate import crops_of
from biounet.prediction.cluster import Cluster, Recipe
from biounet.prediction.inputs import find_inputs
from biounet.prediction.predict import predict_files
from biounet.prediction.request import Done, Listener, Request

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a request. ``start_up_s``: until the first image; ``compute_s``: from then on."""

    model: Model
    choice: Choice
    results: list[Done]
    start_up_s: float
    compute_s: float


def run_request(
    model: Model | Path,
    inputs: Sequence[str | Path],
    request: Request,
    *,
    network: Factory | None = None,
    listen: Listener | None = None,
    begin: float | None = None,
) -> Outcome:
    """Predict all inputs as the request says. ``listen`` as of `predict_files`; it is told of the engine, too.

    ``network``: the factory of a foreign network. ``begin``: when the program started, of `time.perf_counter`.
    Inputs that fail stand in the results; `predict.refuse_failed` turns them into an error. Raises as `predict_files`,
    and `UsageError` where a cluster is to work on a model that is no file.
    """
    start = time.perf_counter() if begin is None else begin
    notes: list[str] = []
    paths = find_inputs(inputs, wells=request.wells, notes=notes)
    opened = model if isinstance(model, Model) else open_model(model)
    choice = choose(opened, request, network=network)
    for line in (*notes, *_said(choice, opened, request)):
        if listen:
            listen(line, 0, 0)
    with _workers(model, choice, request, network) as cluster:
        ready = time.perf_counter()
        results = predict_files(
            opened, choice, paths, request, start_up_s=ready - start, listen=listen, cluster=cluster
        )
    return Outcome(opened, choice, results, ready - start, time.perf_counter() - ready)


def choose(model: Model, request: Request, *, network: Factory | None = None) -> Choice:
    """The engine that a request asks for."""
    crops = None if request.calibrate is None else crops_of(model, request.calibrate, channels=request.channels)
    return choose_engine(
        model,
        engine=request.engine,
        device=request.device,
        precision=request.precision,
        factory=network,
        calibration=crops,
        least_agreement=request.least_agreement,
    )


def _said(choice: Choice, model: Model, request: Request) -> list[str]:
    engine = choice.engine
    augmentation = model.training.get("settings", {}).get("augmentation", {})
    lines = [*choice.notes, *unlearnt_views(request.tta, augmentation)]
    if choice.agreement is not None:
        lines.append(f"engine {engine.name}, {engine.precision}; against fp32 torch: {choice.agreement}")
    return lines


def _workers(
    model: Model | Path, choice: Choice, request: Request, network: Factory | None
) -> AbstractContextManager[Cluster | None]:
    if request.cluster is None:
        return nullcontext()
    if isinstance(model, Model) or network is not None:
        raise UsageError(
            f"--cluster {request.cluster}: workers open the model by its path; give a model file of a network that "
            "biounet has"
        )
    engine = choice.engine
    return Cluster(request.cluster, Recipe(model.resolve(), engine.name, engine.precision, request.device))
