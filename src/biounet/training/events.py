"""What a training tells whoever listens; only the command line prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from biounet.model_file import Model
from biounet.training.loop import StepDone, Validated


@dataclass(frozen=True)
class Planned:
    """What was inferred and decided before the first step, a line each."""

    statements: tuple[str, ...]
    steps: int
    resumed_at: int = 0


@dataclass(frozen=True)
class Finished:
    """The run is over. ``interrupted``: by Ctrl-C or SIGTERM, and can be resumed."""

    model: Model
    out: Path | None
    step: int
    steps: int
    seconds: float
    interrupted: bool = False
    report: Path | None = None


@dataclass(frozen=True)
class Noted:
    """Something to say while it trains, or at its end."""

    text: str


@dataclass(frozen=True)
class InFold:
    """What happened in a fold of a cross-validation, 1 to ``folds``; one more is the run on all images after them."""

    fold: int
    folds: int
    event: TrainEvent

    @property
    def name(self) -> str:
        """Which run of them it is, in words."""
        return f"fold {self.fold}/{self.folds}" if self.fold <= self.folds else "all images"


TrainEvent = Planned | StepDone | Validated | Noted | Finished | InFold
Listener = Callable[[TrainEvent], None]


def unheard(event: TrainEvent) -> None:
    """A listener where nobody listens."""
