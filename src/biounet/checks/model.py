"""Does a model file still compute what it computed when it was made?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from biounet.inference.engines import make_engine
from biounet.model_file import Model, load_model

TOLERANCE = 1e-4  # of the largest |logit|


@dataclass(frozen=True)
class ModelCheck:
    """Outcome of the golden sample: ``difference`` is the largest, as a share of the largest |logit|.

    None where there is no golden sample, or where its logits are not numbers.
    """

    model: Model
    difference: float | None
    passed: bool


def check_model(path: str | Path, *, device: str = "cpu", factory: Callable[..., Any] | None = None) -> ModelCheck:
    """Load a model file (checksum included) and compute its golden sample.

    Passes when every logit is within 1e-4 of the largest |logit|. A file without golden sample does
    not pass. Raises `ModelFileError` for a damaged file.
    """
    model = load_model(path)
    if model.golden is None:
        return ModelCheck(model, None, passed=False)
    given, expected = model.golden
    computed = make_engine(model, engine="torch", device=device, factory=factory)(given)
    if not (np.isfinite(computed).all() and np.isfinite(expected).all()):
        return ModelCheck(model, None, passed=False)
    largest = float(np.abs(expected).max())
    difference = float(np.abs(computed - expected).max()) / max(largest, float(np.finfo(np.float32).tiny))
    return ModelCheck(model, difference, passed=bool(difference <= TOLERANCE))
