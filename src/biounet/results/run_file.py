"""``run.json``: how results came about."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from biounet.images.writing import whole_file
from biounet.inference.engines import ENGINES, Choice
from biounet.inference.packages import installed_version
from biounet.model_file import Model
from biounet.report.methods import methods_of_average, methods_text
from biounet.results.request import Done, Request


def write_run(
    model: Model,
    choice: Choice,
    request: Request,
    results: Sequence[Done],
    start_up_s: float,
    compute_s: float,
) -> dict[str, Any]:
    """Write ``run.json``: inputs, settings, versions, plans, checks and timings; returns its content."""
    engine = choice.engine
    packages = ["biounet", "numpy", "tifffile", "torch", *_packages(engine.name)]
    values = {
        "model_sha256": model.sha256,
        **_legend(model),
        "engine": engine.name,
        "precision": engine.precision,
        "agreement": None if choice.agreement is None else choice.agreement.to_dict(),
        "notes": list(choice.notes),
        "settings": _settings(request) | {"postprocessing": dict(model.postprocessing)},
        "versions": {name: installed_version(name) or None for name in packages}
        | {"python": platform.python_version()},
        "seconds": {"start_up": start_up_s, "compute": compute_s},
        "methods": methods_text(model),
        "inputs": [asdict(done) for done in results],
    }
    _write(request.out, values)
    return values


def write_legend(folder: Path, models: Sequence[Model]) -> None:
    """Write a ``run.json`` of labels by several averaged models, or one: what made them, and what their values mean."""
    versions = {"biounet": installed_version("biounet")}
    hashes = ", ".join(model.sha256 for model in models)
    methods = methods_of_average(models)
    _write(folder, {"model_sha256": hashes, **_legend(models[0]), "versions": versions, "methods": methods})


def _legend(model: Model) -> dict[str, Any]:
    """What the values of predicted labels mean, and what was unknown in training; `evaluation.legend` reads it."""
    return {
        "task": model.task,
        "ndim": model.ndim,
        "classes": list(model.classes),
        "values": list(model.values),
        "unlabelled": model.unlabelled,
    }


def _write(folder: Path, values: Mapping[str, Any]) -> None:
    with whole_file(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")


def _settings(request: Request) -> dict[str, Any]:
    """Every option, but where results went and what was typed."""
    return {name: value for name, value in asdict(request).items() if name not in ("out", "command")}


def _packages(engine: str) -> tuple[str, ...]:
    """What a result may depend on besides the usual; "torch" is usual."""
    kind = ENGINES.get(engine)
    return () if kind is None or engine == "torch" else kind.packages
