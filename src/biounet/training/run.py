"""One run from its plan to its model: begun or resumed, trained to its end or until interrupted, finished."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from biounet.errors import BiounetError, UsageError
from biounet.inference.memory import peak_bytes
from biounet.inference.predict import show_bytes
from biounet.model_file import Model, save_model
from biounet.planning.data import TrainingData
from biounet.planning.plan import Plan
from biounet.training.assemble import best_weights, last_weights, provenance
from biounet.training.batch_statistics import settle_batch_norm, steps_with_batch_statistics
from biounet.training.budget import DEFAULT_BUDGET_S, Calibration, asked_budget, calibrate
from biounet.training.ending import best_model, model_with
from biounet.training.events import Finished, Listener, Noted, Planned
from biounet.training.interrupts import Stop, stop_requests
from biounet.training.loop import Event, StepDone, Validated, train_steps, validation_steps
from biounet.training.pace import Pace, Seldom, said_of_rise
from biounet.training.patience import said_of_early_end
from biounet.training.report import (
    Progress,
    held_back_figures,
    running_figures,
    write_report,
    write_running_report,
)
from biounet.training.run_files import RunFiles
from biounet.training.state import (
    MAY_DIFFER,
    NO_FACTS,
    TrainingState,
    new_state,
    pack_state,
    read_facts,
    read_state,
    unpack_state,
    write_state,
)
from biounet.training.together import ALONE, Together
from biounet.training.validate import MOST_PICTURES, Validator

_REPORT_SHARE = 0.02  # of a run's time, for the report while it trains
_COPIES = 7  # of the weights in a run folder: the state holds them, two moments, average and best; and the last model


class Run:
    """A run in its folder. ``start``: when it was begun, by `time.perf_counter`, reading the data included.

    ``is_fold``: whether it is one of a cross-validation, whose decisions are tuned for all folds at their end.
    Where nothing is held back nothing is validated, and the last weights are the best.
    ``together``: the processes that train it; only the first has ``files`` and a listener.
    """

    def __init__(
        self,
        data: TrainingData,
        plan: Plan,
        *,
        seed: int,
        files: RunFiles,
        listen: Listener,
        start: float,
        is_fold: bool = False,
        together: Together = ALONE,
    ) -> None:
        self.data, self.plan, self.settings, self.seed = data, plan, plan.settings, seed
        self.files, self.listen, self.start, self.is_fold = files, listen, start, is_fold
        self.together = together
        self.training = plan.settings.training
        if not plan.split.validation:
            self.training = self.training.model_copy(update={"validations": 0})
        self.validator = Validator(
            plan.split.validation,
            plan.normalisation,
            data.meaning.task,
            data.classes,
            plan.precision,
            cell_classes=data.meaning.cell_classes,
        )
        self.state: TrainingState
        self.steps = 0
        self.said = ""  # how the number of steps came about
        self.pace = Pace()
        self.report_turn = Seldom(_REPORT_SHARE)
        self.written = start  # when the state was last written

    def score(self, network: nn.Module) -> dict[str, float]:
        """Scores on the held-back images, batch statistics settled before, by the first process for all."""
        return self.together.of_first(lambda: self._score(network))

    def _score(self, network: nn.Module) -> dict[str, float]:
        if self.state.step <= steps_with_batch_statistics(self.steps, self.training):
            settle_batch_norm(network, self.plan.sampler, seed=self.seed, precision=self.plan.precision)
        return self.validator(network)

    def begin(self, device: str, steps: int | None, budget: float | None, *, origin: str | None) -> None:
        """State at its first or resumed step, and the number of steps, which is kept from here on.

        ``origin``: SHA-256 of the model that this run goes on from.
        """
        self.prepare(device, origin=origin)
        resumed = self.together.of_first(lambda: self._resumed(steps, budget))
        said = resumed or self._choose_steps(steps, budget)
        self._share_state()
        if not resumed:
            self.files.write_facts({"budget_s": asked_budget(steps, budget)})
            self._write_state()
        self.steps = int(self.state.facts["steps"])
        self.files.forget_metrics_after(self.state.step)
        self.said = said
        statements = (*self.data.statements, *self.plan.statements, self.needs(), said)
        self.listen(Planned(statements, self.steps, self.state.step))

    def prepare(self, device: str, *, origin: str | None) -> None:
        """The state before the first step, its number of steps left open."""
        network = self.plan.network.to(device)
        if self.data.ndim == 2:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        facts = {
            "data": self.data.digest,
            "split": self.plan.split.facts,  # a folder or a list given as --validation may hold other names by now
            "seed": self.seed,
            "from": origin,
            "network": network.description,
            "precision": self.plan.precision,
            "settings": self.settings.model_dump(mode="json", exclude=NO_FACTS),
            "threads": torch.get_num_threads(),
            "processes": self.together.size,
            "device": device,
        }
        self.state = new_state(network, self.settings.training, facts)

    def _resumed(self, steps: int | None, budget: float | None) -> str | None:
        """The state read from its file, and words for it; None where there is none to go on with."""
        path = self.files.state
        return self._resume(path, steps, budget) if path is not None and self.files.is_unfinished_run else None

    def _share_state(self) -> None:
        """What the first process has begun or read, for all; the same data and settings are demanded of each."""
        if self.together.size == 1:
            return
        steps, packed = self.together.of_first(lambda: (self.state.facts["steps"], pack_state(self.state)))
        if self.together.rank:
            self.state.facts["steps"] = steps
            unpack_state(packed, self.state, "the first process")

    def _resume(self, path: Path, steps: int | None, budget: float | None) -> str:
        facts, step = read_facts(path)
        if steps is not None and steps != facts["steps"]:
            raise UsageError(f"--steps {steps}: the run to resume has {facts['steps']} steps; leave it out")
        self.state.facts["steps"] = facts["steps"]
        read_state(path, self.state)
        said = f"resumed at step {step} of {facts['steps']}"
        if budget is not None:
            said += "; the number of steps stays as it was, whatever --budget says"
        now = self.state.facts
        changed = {n: f"{n} {facts.get(n)} (now {now[n]})" for n in MAY_DIFFER if facts.get(n) != now[n]}
        if changed:
            drawn = " and in what dropout leaves out" if "device" in changed else ""
            said += f"; it began with {', '.join(changed.values())}, so the result may differ in rounding{drawn}"
        return said

    def _choose_steps(self, steps: int | None, budget: float | None) -> str:
        seconds = asked_budget(steps, budget)
        if seconds is None:
            self.state.facts["steps"] = steps
            return f"{steps} steps, as asked"
        found = self.calibrate(seconds - self._seconds())
        self.state.facts["steps"] = found.steps
        return f"a budget of {seconds:g} s buys {found}"

    def calibrate(self, budget_s: float) -> Calibration:
        """The steps that a budget in seconds, from now on, buys; found by timing some on a copy."""
        found = calibrate(
            self.state,
            self.plan.sampler,
            self.score,
            self.training,
            seed=self.seed,
            precision=self.plan.precision,
            budget_s=budget_s,
            dice=self.settings.loss.dice or 0.0,
            together=self.together,
        )
        self.pace = Pace(found.step_seconds, found.validation_seconds)
        return found

    def expect(self) -> tuple[str, ...]:
        """Time, memory and disk that this run will take, from steps that were timed on a copy."""
        if self.pace.step_s is None:
            self.calibrate(DEFAULT_BUDGET_S)
        step_s, validations = self.pace.step_s or 0.0, min(self.steps, self.training.validations)
        seconds = self.steps * step_s + validations * self.pace.validation_s
        return (
            f"expected: {seconds / 60:.1f} min for {self.steps} steps of {step_s:.3g} s and {validations} validations, "
            "and what tuning the post-processing takes",
            self.needs(),
        )

    def needs(self) -> str:
        """Disk that this run will take, and memory where steps were timed."""
        size = 4 * sum(p.numel() for p in self.plan.network.parameters())
        disk = f"disk: a model of about {show_bytes(size)} and at most {show_bytes(_COPIES * size)} beside it"
        if self.pace.step_s is None:
            return disk
        return f"memory: about {show_bytes(peak_bytes())}, as the timed steps took; {disk}"

    def go(self, stop: Stop | None = None) -> Model:
        """Train to the end, until nothing improves, or until interrupted.

        That is by Ctrl-C and SIGTERM, or by ``stop`` where one is given.
        """
        due = validation_steps(self.steps, self.training.validations)
        with nullcontext(stop) if stop is not None else stop_requests() as stop, closing(self._events()) as events:
            for event in events:
                self._refuse_divergence(event)
                self.files.add_metric(event)
                self.listen(event)
                if said := self.pace.heard(event, time.perf_counter()):
                    self.listen(Noted(said))
                if isinstance(event, Validated):
                    self._show()
                if isinstance(event, StepDone) and event.step in due:
                    continue  # its scores come next: a state written between would lose them
                if self.together.any(stop.is_set()) and self.state.step < self.steps:
                    self._write_state()
                    self.together.of_first(lambda: self._finish(interrupted=True))
                    raise KeyboardInterrupt
                if time.perf_counter() - self.written > self.settings.training.state_seconds:
                    self._write_state()
        self._write_state()
        if self.state.step < self.steps:
            self.listen(Noted(said_of_early_end(self.state.step, self.steps, self.settings.training)))
        return self.together.of_first(lambda: self._finish(interrupted=False))

    def _events(self) -> Generator[Event, None, None]:
        return train_steps(
            self.state,
            self.plan.sampler,
            self.score,
            self.training,
            steps=self.steps,
            seed=self.seed,
            precision=self.plan.precision,
            dice=self.settings.loss.dice or 0.0,
            together=self.together,
        )

    def _refuse_divergence(self, event: Event) -> None:
        numbers = [event.loss] if isinstance(event, StepDone) else list(event.scores.values())
        if not all(map(math.isfinite, numbers)):
            rate = self.settings.training.learning_rate
            raise BiounetError(
                f"the training diverged: after step {event.step} the loss is no number any more; lower the "
                f"learning rate from {rate:g}: --set training.learning_rate={rate / 10:.1g} --overwrite"
            )

    def _show(self) -> None:
        """The report as far as the run has come, where it is its turn."""
        begin = time.perf_counter()
        if self.files.report is None or not self.report_turn.is_due(begin):
            return
        known = provenance(self.state, self.data, self.plan, self.state.best_step)
        progress = Progress(self.files.metrics(), self.state.step, self.steps, self._seconds())
        figures = running_figures(self.validator, self.data.ndim)
        write_running_report(self.files.report, known, self.data.meaning.task, progress, figures)
        self.report_turn.took(begin, time.perf_counter())

    def _write_state(self) -> None:
        if self.files.state is not None:
            write_state(self.files.state, self.state)
        self.written = time.perf_counter()

    def _finish(self, *, interrupted: bool) -> Model:
        """Best and last model, report and facts; then the state of a finished run goes."""
        last = last_weights(self.state)
        context = (self.data, self.plan, self.validator)
        tunes = not self.is_fold
        made = best_model(self.state, best_weights(self.state), *context, tunes=tunes)
        model = made.model
        out, beside, report = self.files.out, self.files.last, self.files.report
        if out and beside and report:
            model = replace(model, sha256=save_model(out, model))
            held_back = self.plan.split.validation[:MOST_PICTURES]
            figures = held_back_figures(model, held_back, made.probabilities[:MOST_PICTURES])
            by = model.postprocessing
            save_model(beside, model_with(self.state, last, *context, postprocessing=by, tunes=tunes))
            progress = Progress(self.files.metrics(), self.state.step, self.steps, self._seconds(), interrupted)
            write_report(report, model, progress, figures)
            self.files.write_facts({"seconds": self._seconds(), "steps": self.steps, "step": self.state.step})
            if not interrupted:
                self.files.finish()
        self.listen(Finished(model, out, self.state.step, self.steps, self._seconds(), interrupted, report))
        if not (interrupted or self.is_fold):
            said = said_of_rise(self.files.scores(), out, schedule=self.training.schedule)
            if said:
                self.listen(Noted(said))
        return model

    def _seconds(self) -> float:
        return time.perf_counter() - self.start
