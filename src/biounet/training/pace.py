"""How a run gets on: whether the machine became slower than was reckoned with, and whether more steps would pay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biounet.training.loop import Event, StepDone

_SLOWER = 1.25  # times the seconds reckoned with, from which it is said
_RISE = 0.01  # of the score between the last third of the run and its end, from which more steps are worth a word
_FEWEST = 4  # validations that show a curve


class Seldom:
    """Work beside a run that may take this ``share`` of its time: whether it is its turn again."""

    def __init__(self, share: float) -> None:
        self._share, self._next = share, -math.inf

    def is_due(self, now: float) -> bool:
        """At this time in seconds."""
        return now >= self._next

    def took(self, begin: float, end: float) -> None:
        """When it was done."""
        self._next = end + (end - begin) / self._share


@dataclass
class Pace:
    """Follows the events of a run. ``step_s``, ``validation_s``: seconds reckoned with, None where none were."""

    step_s: float | None = None
    validation_s: float = 0.0
    _steps: int = 0
    _validations: int = 0
    _first: float | None = None
    _said: float = 1.0

    def heard(self, event: Event, now: float) -> str | None:
        """Take an event at this time in seconds; at validations, what is to be said of the speed, if anything."""
        if self._first is None:
            self._first = now
            return None
        if isinstance(event, StepDone):
            self._steps += 1
            return None
        self._validations += 1
        if self.step_s is None:
            return None
        expected = self._steps * self.step_s + self._validations * self.validation_s
        slower = (now - self._first) / expected if expected > 0 else 1.0
        if slower < _SLOWER * self._said:
            return None
        self._said = slower
        left = slower * (event.steps - event.step) * self.step_s
        return (
            f"the machine is {slower:.1f} times slower than when the budget was turned into steps; the run goes on "
            f"with its {event.steps} steps, about {left / 60:.0f} min more"
        )


def said_of_rise(scores: Sequence[tuple[int, float]], out: Path | None, *, schedule: str) -> str | None:
    """The command that trains further, where the score on the held-back images still rose at the end of a run.

    ``scores``: steps and what was selected by, of the whole run, also of what came before it was resumed.
    ``schedule``: of the learning rate; where it falls to 0, the score rises at the end of most runs.
    """
    last = scores[-1][0] if scores else 0
    early = [score for step, score in scores if step <= last * 2 / 3]
    late = [score for step, score in scores if step > last * 2 / 3]
    if out is None or len(scores) < _FEWEST or not early or not max(late) - max(early) >= _RISE:
        return None
    falls = ", in part because the learning rate falls to 0 there in every run" if schedule == "cosine" else ""
    return (
        f"the score on the held-back images still rose ({max(early):.3f} after two thirds of the run, {max(late):.3f} "
        f"at its end{falls}); more steps may pay: train the same data with --from {out} --budget 15min and another "
        "--out"
    )
