"""A training with all that it was asked for, before its plan; it can be sent to another process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from biounet.model_file import Model
from biounet.planning.data import TrainingData
from biounet.planning.plan import Factory, make_plan
from biounet.settings import Settings
from biounet.training.events import Listener
from biounet.training.interrupts import Stop
from biounet.training.run import Run
from biounet.training.run_files import Existing, RunFiles
from biounet.training.together import ALONE, Together


@dataclass(frozen=True)
class Job:
    """What `train` was given, the data read. ``start``: when it was begun, by `time.perf_counter`."""

    data: TrainingData
    settings: Settings
    seed: int
    out: Path | None
    existing: Existing
    steps: int | None
    budget: float | None
    origin: Model | None
    network: Factory | None
    start: float

    def begun(self, device: str, *, listen: Listener, together: Together = ALONE) -> Run:
        """The run at its first step, or where it is resumed. Only the first of several processes has files."""
        plan = make_plan(
            self.data, self.settings, seed=self.seed, factory=self.network, device=device, start=self.origin
        )
        files = RunFiles(None if together.rank else self.out)
        files.prepare(self.existing)
        start = min(self.start, time.perf_counter())  # in another process the clock may be another
        run = Run(self.data, plan, seed=self.seed, files=files, listen=listen, start=start, together=together)
        run.begin(device, self.steps, self.budget, origin=self.origin.sha256 if self.origin else None)
        return run

    def run(self, device: str, *, listen: Listener, stop: Stop | None = None, together: Together = ALONE) -> Model:
        """Train to the end and return the model; ends as `Run.go` does."""
        return self.begun(device, listen=listen, together=together).go(stop)
