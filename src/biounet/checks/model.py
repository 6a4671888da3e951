"""Does a model file, or an exported form of one, still compute what it computed when it was made?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biounet.inference.engines import plain_engine
from biounet.inference.exported import open_model
from biounet.inference.proof import TOLERANCE
from biounet.model_file import Model

__all__ = ["TOLERANCE", "ModelCheck", "check_model"]


@dataclass(frozen=True)
class ModelCheck:
    """Outcome of the golden sample: ``difference`` is the largest, as a share of the largest |logit|.

    None where there is no golden sample, or where its logits are not numbers. ``engine``: what computed it,
    "" where nothing did.
    """

    model: Model
    difference: float | None
    passed: bool
    engine: str = ""


def check_model(path: str | Path, *, device: str = "cpu", factory: Callable[..., Any] | None = None) -> ModelCheck:
    """Load a model file or an exported form of one (checksums included) and compute its golden sample.

    A model file is computed by torch, an exported form by the engine it was made for: ONNX Runtime,
    OpenVINO, torch.export. Passes when every logit is within 1e-4 of the largest |logit|. A file without
    golden sample does not pass. Raises `ModelFileError` for a damaged file.
    """
    model = open_model(path)
    if model.golden is None:
        return ModelCheck(model, None, passed=False)
    given, expected = model.golden
    engine = plain_engine(model, device=device, factory=factory)
    computed = engine(given)
    if not (np.isfinite(computed).all() and np.isfinite(expected).all()):
        return ModelCheck(model, None, passed=False, engine=engine.name)
    largest = float(np.abs(expected).max())
    difference = float(np.abs(computed - expected).max()) / max(largest, float(np.finfo(np.float32).tiny))
    return ModelCheck(model, difference, passed=bool(difference <= TOLERANCE), engine=engine.name)
