"""A time budget turned, once, into a number of steps by timing some real steps on a copy."""

from __future__ import annotations

import copy
import math
import re
import time
from contextlib import closing
from dataclasses import dataclass

from biounet.errors import UsageError
from biounet.samples.sampler import Sampler
from biounet.settings import TrainingSettings
from biounet.training.batches import batches
from biounet.training.loop import Validate, train_step
from biounet.training.state import TrainingState, make_optimizer
from biounet.training.together import ALONE, Together
from biounet.words import counted

DEFAULT_BUDGET_S = 900.0  # on a CPU, where neither --budget nor --steps is given
_WARM_UP, _TIMED_STEPS = 3, 12  # the first ones make buffers, and find batches that were made ahead
_TIMING_SHARE = 0.05  # of the budget, after which timing ends early
_FINISHING_SHARE = 0.03  # of the budget, for tuning and writing at the end

_UNITS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Calibration:
    """Seconds per step and per validation, and the number of steps they allow beside so many validations."""

    steps: int
    step_seconds: float
    validation_seconds: float
    validations: int

    def __str__(self) -> str:
        validating = self.validations * self.validation_seconds
        hint = ""
        if validating > self.steps * self.step_seconds and self.validations > 1:
            fewer = max(1, self.validations // 4)
            hint = f"; validations take most of the time, --set training.validations={fewer} leaves more for steps"
        return (
            f"{counted(self.steps, 'step')} of {self.step_seconds:.3g} s and "
            f"{counted(self.validations, 'validation')} of {self.validation_seconds:.3g} s; "
            f"--steps {self.steps} repeats this run{hint}"
        )


def parse_duration(text: str) -> float:
    """Seconds of a text such as 15min, 90s or 1.5h; `UsageError` otherwise."""
    found = re.fullmatch(r"\s*([\d.]+)\s*(s|sec|m|min|h)\s*", text.lower())
    try:
        seconds = float(found.group(1)) * _UNITS[found.group(2)] if found else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise UsageError(f"--budget {text!r}: write a time such as 15min, 90s or 2h")
    return seconds


def asked_budget(steps: int | None, budget: float | None) -> float | None:
    """Seconds that a run was given, by default or by its user; None where ``steps`` were."""
    return None if steps is not None else DEFAULT_BUDGET_S if budget is None else budget


def calibrate(
    state: TrainingState,
    sampler: Sampler,
    validate: Validate,
    settings: TrainingSettings,
    *,
    seed: int,
    precision: str,
    budget_s: float,
    dice: float = 0.0,
    together: Together = ALONE,
) -> Calibration:
    """Steps that fit into ``budget_s`` seconds, counted from now. The state is left as it was.

    Batches are made beside the steps, as in the run that follows, so a step is timed with what of
    that it has to wait for, and no more. Processes ``together`` time the same steps, and the first one decides.
    """
    start = time.perf_counter()
    network = copy.deepcopy(state.network)
    trial = TrainingState(network, copy.deepcopy(state.average), make_optimizer(network, settings), {})
    ends: list[float] = []
    stream = batches(
        sampler,
        seed=seed,
        samples=together.part(settings.batch_size),
        first=0,
        stop=_WARM_UP + _TIMED_STEPS,
        workers=settings.workers,
    )
    with closing(stream):
        for batch in stream:
            train_step(
                trial,
                batch,
                settings,
                rate=settings.learning_rate,
                seed=seed,
                precision=precision,
                dice=dice,
                together=together,
            )
            ends.append(time.perf_counter())
            if len(ends) > _WARM_UP and together.any(ends[-1] - start > _TIMING_SHARE * budget_s):
                break
    step_seconds = (ends[-1] - ends[_WARM_UP - 1]) / (len(ends) - _WARM_UP)
    began = time.perf_counter()
    validate(trial.average)
    validation_seconds = time.perf_counter() - began
    left = budget_s * (1 - _FINISHING_SHARE) - (time.perf_counter() - start)
    steps = _affordable(left, step_seconds, validation_seconds, settings.validations)
    found = Calibration(steps, step_seconds, validation_seconds, min(steps, settings.validations))
    return together.of_first(lambda: found)


def _affordable(seconds: float, step_s: float, validation_s: float, validations: int) -> int:
    """Steps for which there is time beside the validations, at least one; of few steps each is validated."""
    steps = int((seconds - validations * validation_s) / step_s)
    if steps < validations:
        steps = int(seconds / (step_s + validation_s))
    return max(1, steps)
