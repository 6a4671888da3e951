"""``run.json``: how results came about."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from biounet.images.writing import whole_file
from biounet.inference.engines import ENGINES, Choice
from biounet.inference.packages import installed_version
from biounet.model_file import Model
from biounet.prediction.request import Done, Request
from biounet.report.methods import methods_text


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
        "task": model.task,
        "classes": list(model.classes),
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
    with whole_file(request.out / "run.json") as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return values


def _settings(request: Request) -> dict[str, Any]:
    """Every option, but where results went and what was typed."""
    return {name: value for name, value in asdict(request).items() if name not in ("out", "command")}


def _packages(engine: str) -> tuple[str, ...]:
    """What a result may depend on besides the usual; "torch" is usual."""
    kind = ENGINES.get(engine)
    return () if kind is None or engine == "torch" else kind.packages
