"""When a run ends early: no better score on the held-back images for many validations.

Follows from the state, the settings and the number of steps alone, so that a resumed run ends where an
uninterrupted one does.
"""

from __future__ import annotations

from biounet.settings import TrainingSettings
from biounet.training.state import TrainingState


def patience(settings: TrainingSettings) -> int | None:
    """Validations without a better score after which a run ends; None: it never ends early.

    A cosine schedule gains the most at its end, when the rate is small, so by default nothing cuts it short.
    A constant rate has no such end: half of the validations without gain are enough.
    """
    if settings.patience is not None:
        return settings.patience
    return None if settings.schedule == "cosine" else max(1, settings.validations // 2)


def is_in_vain(state: TrainingState, due: frozenset[int], settings: TrainingSettings) -> bool:
    """Whether the last validations, at the steps ``due``, brought no better score for as long as patience lasts."""
    allowed = patience(settings)
    return allowed is not None and sum(state.gain_step < step <= state.step for step in due) >= allowed


def said_of_early_end(step: int, steps: int, settings: TrainingSettings) -> str:
    """That a run ended early, why, and what to do about it."""
    return (
        f"stopped early at step {step} of {steps}: no better score on the held-back images in {patience(settings)} "
        f"validations; --set training.patience={settings.validations} goes to the end"
    )
