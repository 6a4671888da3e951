"""One training run from a folder to a model file, with a run folder beside it.

``OUT`` is the best model; ``OUT.run/`` holds the state, the last model, ``metrics.jsonl``, ``run.json``
and ``report.html``. What happens is told through events; only the command line prints.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biounet.errors import BiounetError, UsageError
from biounet.inference.exported import open_model
from biounet.inference.memory import peak_bytes
from biounet.inference.predict import show_bytes
from biounet.inference.torch_engine import pick_device
from biounet.model_file import Model, save_model
from biounet.settings import Settings, read_settings
from biounet.training.assemble import assemble_model, best_weights, last_weights, provenance
from biounet.training.batch_statistics import settle_batch_norm
from biounet.training.budget import DEFAULT_BUDGET_S, Calibration, calibrate
from biounet.training.data import Data, TrainingData, read_training_data
from biounet.training.interrupts import stop_requests
from biounet.training.loop import Event, StepDone, Validated, train_steps, validation_steps
from biounet.training.pace import Pace
from biounet.training.plan import Factory, Plan, make_plan
from biounet.training.priors import best_share, take_back
from biounet.training.report import MOST_PICTURES, Progress, held_back_figures, write_report
from biounet.training.run_files import Existing, RunFiles
from biounet.training.state import MAY_DIFFER, TrainingState, new_state, read_facts, read_state, write_state
from biounet.training.validate import Validator

_COPIES = 7  # of the weights in a run folder: the state holds them, two moments, average and best; and the last model


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


TrainEvent = Planned | StepDone | Validated | Noted | Finished
Listener = Callable[[TrainEvent], None]


def train(
    data: Data,
    out: str | Path | None = None,
    *,
    settings: Settings | str = "standard",
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    existing: Existing = "refuse",
    network: Factory | None = None,
    start_from: Model | str | Path | None = None,
    device: str = "auto",
    skip_bad: bool = False,
    listen: Listener | None = None,
) -> Model:
    """Train a model and return it (the best by the held-back images).

    ``data``: a folder, a `images.layouts.Dataset` or pairs of arrays (image (C,)(Z)YX, labels
    (Z)YX int). ``out``: where the model file goes; None writes nothing. ``settings``: `Settings` or
    a preset's name. ``steps``, or a ``budget`` in seconds that is turned into steps once; default
    15 minutes. ``existing``: what to do when ``out`` or its run folder is there. ``network``:
    a factory (in_channels, classes) -> module with its ``geometry``, verified before use.
    ``start_from``: a model (or its file) to go on from, with a fresh optimiser and schedule.
    ``skip_bad`` goes on without images that cannot be used.
    ``listen`` is called with every event.

    Same data, settings, seed, steps, machine and thread count: the same file, bit for bit, resumed
    or not. Raises `UsageError` and `DataError`, and `BiounetError` where the loss diverges. Ctrl-C and
    SIGTERM end the run after its step: state and model are written, then KeyboardInterrupt is raised.
    """
    start = time.perf_counter()
    if isinstance(settings, str):
        settings = read_settings(settings)
    _check_numbers(steps, budget, seed)
    files = RunFiles(None if out is None else Path(out))
    files.check(existing)
    device = pick_device(device)
    known = read_training_data(data, settings.data, skip_bad=skip_bad)
    origin = _origin(start_from)
    plan = make_plan(known, settings, seed=seed, factory=network, device=device, start=origin)
    files.prepare(existing)
    run = _Run(known, plan, plan.settings, seed, files, listen or (lambda event: None), start)
    run.begin(device, steps, budget, origin=origin.sha256 if origin else None)
    return run.go()


def rehearse(
    data: Data,
    *,
    settings: Settings | str = "standard",
    steps: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    device: str = "auto",
    start_from: Model | str | Path | None = None,
) -> Planned:
    """The plan that `train` would follow, with the time, memory and disk it would take; nothing is trained or written.

    Some steps are timed on a copy, also where ``steps`` are given. Arguments and errors as of `train`.
    """
    start = time.perf_counter()
    if isinstance(settings, str):
        settings = read_settings(settings)
    _check_numbers(steps, budget, seed)
    device = pick_device(device)
    known = read_training_data(data, settings.data, skip_bad=False)
    origin = _origin(start_from)
    plan = make_plan(known, settings, seed=seed, device=device, start=origin)
    run = _Run(known, plan, plan.settings, seed, RunFiles(None), lambda event: None, start)
    run.begin(device, steps, budget, origin=None)
    expected = run.expect()
    return Planned((*known.statements, *plan.statements, run.said, *expected), run.steps)


def _origin(start_from: Model | str | Path | None) -> Model | None:
    """The model to go on from, which needs its weights."""
    origin = start_from if isinstance(start_from, Model | None) else open_model(start_from)
    if origin is not None and origin.exported is not None:
        raise UsageError(f"--from {origin.exported.file} is an exported form; give the model file it was made from")
    return origin


def _check_numbers(steps: int | None, budget: float | None, seed: int) -> None:
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: must be at least 1")
    if budget is not None and not 0 < budget < math.inf:
        raise UsageError(f"--budget {budget}: must be a time in seconds above 0")
    if steps is not None and budget is not None:
        raise UsageError(f"--steps {steps} and --budget {budget} exclude each other; give one")
    if seed < 0:
        raise UsageError(f"--seed {seed}: must be at least 0")


class _Run:
    """What `train` does, step by step."""

    def __init__(
        self,
        data: TrainingData,
        plan: Plan,
        settings: Settings,
        seed: int,
        files: RunFiles,
        listen: Listener,
        start: float,
    ) -> None:
        self.data, self.plan, self.settings, self.seed = data, plan, settings, seed
        self.files, self.listen, self.start = files, listen, start
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
        self.written = start  # when the state was last written

    def score(self, network: nn.Module) -> dict[str, float]:
        """Scores on the held-back images, batch statistics settled before."""
        settle_batch_norm(network, self.plan.sampler, seed=self.seed, precision=self.plan.precision)
        return self.validator(network)

    def begin(self, device: str, steps: int | None, budget: float | None, *, origin: str | None) -> None:
        """State at its first or resumed step, and the number of steps, which is kept from here on.

        ``origin``: SHA-256 of the model that this run goes on from.
        """
        network = self.plan.network.to(device)
        if self.data.ndim == 2:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        facts = {
            "data": self.data.digest,
            "seed": self.seed,
            "from": origin,
            "network": network.description,
            "precision": self.plan.precision,
            "settings": self.settings.model_dump(mode="json", exclude={"training": {"state_seconds", "workers"}}),
            "threads": torch.get_num_threads(),
            "device": device,
        }
        self.state = new_state(network, self.settings.training, facts)
        if self.files.is_unfinished and self.files.state is not None:
            said = self._resume(self.files.state, steps, budget)
        else:
            said = self._choose_steps(steps, budget)
            self._write_state()
        self.steps = int(self.state.facts["steps"])
        self.files.forget_metrics_after(self.state.step)
        self.said = said
        self.listen(Planned((*self.data.statements, *self.plan.statements, said), self.steps, self.state.step))

    def _resume(self, path: Path, steps: int | None, budget: float | None) -> str:
        facts, step = read_facts(path)
        if steps is not None and steps != facts["steps"]:
            raise UsageError(f"--steps {steps}: the run to resume has {facts['steps']} steps; leave it out")
        self.state.facts["steps"] = facts["steps"]
        read_state(path, self.state)
        said = f"resumed at step {step} of {facts['steps']}"
        if budget is not None:
            said += "; the number of steps stays as it was, whatever --budget says"
        changed = [
            f"{n} {facts.get(n)} (now {self.state.facts[n]})" for n in MAY_DIFFER if facts.get(n) != self.state.facts[n]
        ]
        if changed:
            said += f"; it began with {', '.join(changed)}, so the result may differ in rounding"
        return said

    def _choose_steps(self, steps: int | None, budget: float | None) -> str:
        if steps is not None:
            self.state.facts["steps"] = steps
            return f"{steps} steps, as asked"
        budget = DEFAULT_BUDGET_S if budget is None else budget
        found = self._calibrate(budget - self._seconds())
        self.state.facts["steps"] = found.steps
        return (
            f"a budget of {budget:g} s buys {found.steps} steps of {found.step_seconds:.3g} s "
            f"and {self.settings.training.validations} validations of {found.validation_seconds:.3g} s; "
            f"--steps {found.steps} repeats this run"
        )

    def _calibrate(self, budget_s: float) -> Calibration:
        found = calibrate(
            self.state,
            self.plan.sampler,
            self.score,
            self.settings.training,
            seed=self.seed,
            precision=self.plan.precision,
            budget_s=budget_s,
        )
        self.pace = Pace(found.step_seconds, found.validation_seconds)
        return found

    def expect(self) -> tuple[str, ...]:
        """Time, memory and disk that this run will take, from steps that were timed on a copy."""
        if self.pace.step_s is None:
            self._calibrate(DEFAULT_BUDGET_S)
        step_s, validations = self.pace.step_s or 0.0, min(self.steps, self.settings.training.validations)
        seconds = self.steps * step_s + validations * self.pace.validation_s
        values = sum(p.numel() for p in self.plan.network.parameters())
        return (
            f"expected: {seconds / 60:.1f} min for {self.steps} steps of {step_s:.3g} s and {validations} validations, "
            "and what tuning the post-processing takes",
            f"memory: about {show_bytes(peak_bytes())}, as the timed steps took; disk: a model of about "
            f"{show_bytes(4 * values)} and at most {show_bytes(_COPIES * 4 * values)} beside it",
        )

    def go(self) -> Model:
        """Train to the end, or until interrupted."""
        due = validation_steps(self.steps, self.settings.training.validations)
        with stop_requests() as stop, closing(self._events()) as events:
            for event in events:
                self._refuse_divergence(event)
                self.files.add_metric(event)
                self.listen(event)
                if said := self.pace.heard(event, time.perf_counter()):
                    self.listen(Noted(said))
                if isinstance(event, StepDone) and event.step in due:
                    continue  # its scores come next: a state written between would lose them
                if stop.is_set() and self.state.step < self.steps:
                    self._write_state()
                    self._finish(interrupted=True)
                    raise KeyboardInterrupt
                if time.perf_counter() - self.written > self.settings.training.state_seconds:
                    self._write_state()
        self._write_state()
        return self._finish(interrupted=False)

    def _events(self) -> Generator[Event, None, None]:
        return train_steps(
            self.state,
            self.plan.sampler,
            self.score,
            self.settings.training,
            steps=self.steps,
            seed=self.seed,
            precision=self.plan.precision,
        )

    def _refuse_divergence(self, event: Event) -> None:
        numbers = [event.loss] if isinstance(event, StepDone) else list(event.scores.values())
        if not all(map(math.isfinite, numbers)):
            rate = self.settings.training.learning_rate
            raise BiounetError(
                f"the training diverged: after step {event.step} the loss is no number any more; lower the "
                f"learning rate from {rate:g}: --set training.learning_rate={rate / 10:.1g} --overwrite"
            )

    def _write_state(self) -> None:
        if self.files.state is not None:
            write_state(self.files.state, self.state)
        self.written = time.perf_counter()

    def _finish(self, *, interrupted: bool) -> Model:
        """Best and last model, report and facts; then the state of a finished run goes."""
        last, last_step = last_weights(self.state)
        model = self._model(*best_weights(self.state))
        out, beside, report = self.files.out, self.files.last, self.files.report
        if out and beside and report:
            model = replace(model, sha256=save_model(out, model))
            seen = self.validator.probabilities(self.state.average, precision="fp32", first=MOST_PICTURES)
            figures = held_back_figures(model, self.plan.split.validation[:MOST_PICTURES], seen)
            save_model(beside, self._model(last, last_step, model.postprocessing))
            progress = Progress(self.files.metrics(), self.state.step, self.steps, self._seconds())
            write_report(report, model, progress, figures)
            self.files.write_facts({"seconds": self._seconds(), "steps": self.steps, "step": self.state.step})
            if not interrupted:
                self.files.finish()
        self.listen(Finished(model, out, self.state.step, self.steps, self._seconds(), interrupted, report))
        if not interrupted and (said := self.pace.still_rises(out)):
            self.listen(Noted(said))
        return model

    def _seconds(self) -> float:
        return time.perf_counter() - self.start

    def _model(self, weights: dict[str, torch.Tensor], step: int, postprocessing: Any = None) -> Model:
        """The model of these weights, which ``state.average`` holds afterwards.

        Post-processing is tuned on the held-back images unless it is given. Batch statistics are settled
        also where these weights were never scored, as when a run is interrupted.
        """
        network = self.state.average
        network.load_state_dict(weights)
        settle_batch_norm(network, self.plan.sampler, seed=self.seed, precision=self.plan.precision)
        training = provenance(self.state, self.data, self.plan, step)
        training["class_weights_taken_back"] = self._take_back_class_weights(network)
        if postprocessing is None:
            postprocessing = self.validator.tune(network)
            training["validation_scores"] = self.validator.final_scores(network, postprocessing)
        return assemble_model(network, self.data, self.plan, postprocessing=postprocessing, training=training)

    def _take_back_class_weights(self, network: nn.Module) -> float:
        """For classes: as much as the held-back images want (see `priors`); the share of it."""
        head = getattr(network, "head", None)
        if self.data.meaning.task != "classes" or getattr(head, "bias", None) is None or head is None:
            return 0.0
        weights = self.plan.sampler.class_weights
        found = self.validator.probabilities(network)
        share = best_share(found, [e.labels for e in self.plan.split.validation], weights)
        take_back(head, weights, share)
        return share
