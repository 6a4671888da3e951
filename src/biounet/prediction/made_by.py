"""What decides labels, in plain values: by it tiles and labels are told from those that something else made.

Tiles and memory are not in it, as labels do not depend on them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from biounet.images.label_origin import digest
from biounet.inference.engines import ENGINES, Engine
from biounet.inference.exported import network_digest
from biounet.inference.packages import installed_version
from biounet.model_file import Model, model_digest
from biounet.prediction.calibrate import calibration_images
from biounet.prediction.region import AUTO
from biounet.prediction.source import source_of
from biounet.results.ome_zarr import Targets
from biounet.results.request import Request


def targets(model: Model, engine: Engine, request: Request) -> Targets:
    """Where the results of a request to a model go."""
    several = model.task == "instances" and len(model.classes) > 2
    return Targets(request, made_by(model, engine, request), ("labels", "classes") if several else ("labels",))


def made_by(model: Model, engine: Engine, request: Request) -> dict[str, Any]:
    """Version, model, engine and the options of a request that decide labels; files stand there by their content."""
    region = request.region
    if region is not None and region != AUTO and Path(region).exists():
        region = f"SHA-256 {digest(region)}"
    crops = request.calibrate if engine.precision == "int8" else None
    values = {
        "biounet": installed_version("biounet"),
        "model_sha256": model_digest(model),
        "engine": engine.name,
        "engine_file": engine_digest(request.engine),
        "precision": engine.precision,
        "calibration": None if crops is None else _digests(crops, model),
        "tta": request.tta,
        "channels": request.channels,
        "pixel_size_um": request.pixel_size_um,
        "region": region,
        "postprocessing": dict(model.postprocessing),
    }
    return dict(json.loads(json.dumps(values)))


def _digests(images: str, model: Model) -> list[str]:
    """Of all files of the images that int8 is calibrated on."""
    paths = calibration_images(images, model)
    return [digest(file) for path in paths for file in source_of(path, model).files]


def engine_file(engine: str) -> Path | None:
    """The exported network that is named as an engine; None where one of `ENGINES` is, or "auto"."""
    return None if engine in ("auto", *ENGINES) else Path(engine)


def engine_digest(engine: str) -> str | None:
    """The SHA-256 of the exported network that is named as an engine, if one is."""
    file = engine_file(engine)
    return None if file is None else network_digest(file)
