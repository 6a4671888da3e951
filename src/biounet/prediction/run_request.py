"""A request carried out: model opened, engine chosen, inputs found, workers called, files predicted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.errors import UsageError
from biounet.inference.averaging import unlearnt_views
from biounet.inference.engines import Choice, choose_engine
from biounet.inference.exported import open_model
from biounet.model_file import Model
from biounet.prediction.calibrate import crops_of
from biounet.prediction.cluster import Cluster, Recipe, packed
from biounet.prediction.inputs import find_inputs
from biounet.prediction.made_by import engine_digest, engine_file
from biounet.prediction.predict import predict_files
from biounet.results.request import Done, Listener, Request

Factory = Callable[..., Any]
Crops = tuple[npt.NDArray[np.float16], ...]


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
    opened = model if isinstance(model, Model) else open_model(model)
    paths = find_inputs(inputs, model=opened, wells=request.wells, notes=notes)
    crops = _crops(opened, request)
    choice = _choose(opened, request, crops, network)
    for line in (*notes, *_said(choice, opened, request)):
        if listen:
            listen(line, 0, 0)
    path = model if isinstance(model, Path) and network is None else None
    with _workers(path, opened, choice, request=request, crops=crops) as cluster:
        ready = time.perf_counter()
        results = predict_files(
            opened, choice, paths, request, start_up_s=ready - start, listen=listen, cluster=cluster
        )
    return Outcome(opened, choice, results, ready - start, time.perf_counter() - ready)


def choose(model: Model, request: Request, *, network: Factory | None = None) -> Choice:
    """The engine that a request asks for."""
    return _choose(model, request, _crops(model, request), network)


def _crops(model: Model, request: Request) -> Crops | None:
    """Of the images that int8 is to be calibrated on, where some are named."""
    if request.calibrate is None:
        return None
    return crops_of(model, request.calibrate, channels=request.channels, pixel_size_um=request.pixel_size_um)


def _choose(model: Model, request: Request, crops: Crops | None, network: Factory | None) -> Choice:
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
        agreement = choice.agreement
        lines.append(f"engine {engine.name}, {engine.precision}; against {agreement.reference}: {agreement}")
    return lines


def _workers(
    path: Path | None, model: Model, choice: Choice, *, request: Request, crops: Crops | None
) -> AbstractContextManager[Cluster | None]:
    """``path``: of the model's file, None where workers could not make its network of one."""
    if request.cluster is None:
        return nullcontext()
    if path is None:
        raise UsageError(
            f"--cluster {request.cluster}: workers open the model by its path; give a model file of a network that "
            "biounet has"
        )
    file = engine_file(request.engine)
    recipe = Recipe(
        path.resolve(),
        choice.engine.name if file is None else str(file.resolve()),
        choice.engine.precision,
        request.device,
        calibration=None if crops is None else tuple(map(packed, crops)),
        least_agreement=request.least_agreement,
        sha256=(model.sha256, engine_digest(request.engine)),
    )
    return Cluster(request.cluster, recipe)
