"""What a prediction costs: parameters, seconds per megapixel and memory, each model in a process of its own."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.inference.engines import make_engine
from biounet.inference.memory import peak_bytes, process_bytes
from biounet.inference.predict import plan_for
from biounet.inference.tiling import predict_tiled
from biounet.model_file import load_model


def prediction_cost(files: Sequence[Path], image: npt.NDArray[Any], *, device: str = "auto") -> dict[str, Any]:
    """Cost of predicting one image (C, *spatial) with a model, or with several whose probabilities are averaged.

    Returns ``parameters`` (of all together), ``seconds_per_megapixel`` (from normalised image to
    logits, after one run to warm up; of volumes per million voxels) and ``memory_bytes``: by how much
    the process grew at its peak, on the CPU, beyond what it took with the models loaded; None where the
    system does not say.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as executor:
        return executor.submit(_measure, [str(file) for file in files], image, device).result()


def _measure(files: list[str], image: npt.NDArray[Any], device: str) -> dict[str, Any]:
    models = [load_model(file) for file in files]
    engines = [make_engine(model, device=device) for model in models]
    normalised = [model.normalisation.apply(image) for model in models]
    before = process_bytes()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        for engine, ready in zip(engines, normalised, strict=True):
            predict_tiled(engine, ready, engine.geometry, plan=plan_for(ready.shape[1:], engine))
        times.append(time.perf_counter() - start)
    pixels = int(np.prod(image.shape[1:]))
    return {
        "parameters": sum(value.size for model in models for value in model.weights.values()),
        "seconds_per_megapixel": times[-1] / pixels * 1e6,
        "memory_bytes": None if sys.platform == "win32" else max(0, peak_bytes() - before),
    }
