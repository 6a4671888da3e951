"""A cross-validation: a run for each fold, an estimate for new images from all of them, and one model of all.

Beside ``OUT`` its run folder keeps ``folds.json`` while it is unfinished, and for each fold a model with a run
folder of its own: whatever was done when it is killed stays done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from biounet.errors import UsageError
from biounet.inference.torch_engine import pick_device
from biounet.model_file import Model, save_model
from biounet.planning.plan import absent_classes
from biounet.training.budget import DEFAULT_BUDGET_S
from biounet.training.estimate import in_words
from biounet.training.events import Finished, InFold, Listener, Noted, Planned, unheard
from biounet.training.fold_ending import fold_figures, held_out, model_of_folds
from biounet.training.fold_job import FoldJob
from biounet.training.fold_report import write_fold_report
from biounet.training.fold_workers import run_side_by_side, threads_of_each
from biounet.training.interrupts import Stop, stop_requests
from biounet.training.run_files import RunFiles
from biounet.training.state import NO_FACTS, differing_facts


class CrossValidation:
    """The folds of a job on one device, or side by side on several.

    ``start``: when it was begun, by `time.perf_counter`, reading the data included.
    """

    def __init__(self, job: FoldJob, devices: Sequence[str], *, listen: Listener, start: float) -> None:
        self.job, self.devices = job, list(devices)[: len(job.splits)]
        self.listen, self.start = listen, start
        self.decided: tuple[str, ...] = ()  # stands in the model file; what follows from the machine does not
        self.said: tuple[str, ...] = ()

    @property
    def folds(self) -> int:
        """How many there are."""
        return len(self.job.splits)

    def begin(self, steps: int | None, budget: float | None) -> None:
        """The number of steps of each fold, which is kept from here on."""
        files = self.job.files
        if files.is_unfinished_folds:
            steps, said = self._resumed(steps, budget)
        else:
            steps, said = self._chosen(steps, budget)
            files.write_folds({"facts": self._facts(), "steps": steps})
        self.job = replace(self.job, steps=steps)
        count = len(self.devices)
        together = (f"{count} folds at a time, on {', '.join(self.devices)}",) if count > 1 else ()
        splits = [f"held back in fold {k}: {split.reason}" for k, split in enumerate(self.job.splits, start=1)]
        splits += [line for k in range(self.folds) for line in self._absent(k)]
        last = ("after the folds a network learns from all images, as long as each of them: it is the model",)
        self.decided = (f"cross-validation in {self.folds} folds", *splits, *(last if self.job.refit else ()))
        self.said = (*self.decided, *together, said)
        self.listen(Planned((*self.job.data.statements, *self.said), steps * self.job.runs))

    def _absent(self, fold: int) -> tuple[str, ...]:
        absent = absent_classes(self.job.data, self.job.settings, self.job.splits[fold].training)
        if not absent:
            return ()
        follows = "it never finds that" if self.job.origin is None else "it may forget that"
        return (f"warning: no image that fold {fold + 1} learns from shows {', '.join(absent)}: {follows}",)

    def expect(self) -> tuple[str, ...]:
        """What a fold decides, and the time, memory and disk that it will take."""
        run = self.job.begun(0, self.devices[0], listen=unheard, files=RunFiles(None))
        run.begin(self.devices[0], self.job.steps, None, origin=self.job.origin_sha256)
        return (*run.plan.statements, *(f"each fold, {text}" for text in run.expect()))

    def go(self) -> Model:
        """Train all folds, or go on with them, and make one model of them, or train one on all images (``refit``).

        Ctrl-C and SIGTERM end each fold under way after its step, with its state and a model; then
        KeyboardInterrupt is raised.
        """
        try:
            with stop_requests() as stop:
                models = self._trained(stop)
                on_all = self._trained_on_all(stop) if self.job.refit else None
        except KeyboardInterrupt:
            self.listen(Noted("interrupted before all was trained: there is no model of all yet"))
            raise
        return self._finish(models, on_all)

    def _trained(self, stop: Stop) -> list[Model]:
        if len(self.devices) > 1:
            found = run_side_by_side(self.job, range(self.folds), self.devices, self.listen)
            return [found[fold] for fold in range(self.folds)]
        models = []
        for fold in range(self.folds):
            _go_on(stop)
            models.append(self.job.run(fold, self.devices[0], listen=self._listener_of(fold), stop=stop))
        return models

    def _trained_on_all(self, stop: Stop) -> Model:
        _go_on(stop)
        return self.job.run_on_all(self.devices[0], listen=self._listener_of(self.folds), stop=stop)

    def _finish(self, models: Sequence[Model], on_all: Model | None) -> Model:
        found = held_out(self.job, models, self.devices[0])
        model = model_of_folds(self.job, models, found, self.decided, on_all=on_all)
        files, report = self.job.files, self.job.files.report
        if files.out and report:
            model = replace(model, sha256=save_model(files.out, model))
            write_fold_report(report, model, seconds=self._seconds(), figures=fold_figures(self.job, models, found))
            files.write_facts({"seconds": self._seconds(), "steps": self.job.steps, "folds": self.folds})
            files.finish()
        for line in in_words(model.training["estimate"], of_score=found.of_score):
            self.listen(Noted(line))
        steps = self.job.steps
        self.listen(Finished(model, files.out, steps, steps, self._seconds(), False, report))
        return model

    def _chosen(self, steps: int | None, budget: float | None) -> tuple[int, str]:
        if steps is not None:
            return steps, f"{steps} steps in each of {self.folds} folds{self._and_after}, as asked"
        budget = DEFAULT_BUDGET_S if budget is None else budget
        rounds = math.ceil(self.folds / len(self.devices)) + self.job.refit
        run = self.job.begun(0, self.devices[0], listen=unheard, files=RunFiles(None))
        run.prepare(self.devices[0], origin=self.job.origin_sha256)
        with _threads(threads_of_each(self.devices)[0]):
            found = run.calibrate((budget - self._seconds()) / rounds)
        return (
            found.steps,
            f"a budget of {budget:g} s, shared by {self.folds} folds{self._and_after}, buys each {found}",
        )

    @property
    def _and_after(self) -> str:
        return " and the network that learns from all images" if self.job.refit else ""

    def _resumed(self, steps: int | None, budget: float | None) -> tuple[int, str]:
        """The number of steps of the cross-validation that is gone on with, which must be the same one."""
        files, known = self.job.files, self.job.files.read_folds()
        if steps is not None and steps != known["steps"]:
            raise UsageError(f"--steps {steps}: the folds to resume have {known['steps']} steps each; leave it out")
        if differing := differing_facts(known["facts"], self._facts()):
            raise UsageError(
                f"{files.folds}: was written with {', '.join(differing[:5])}; give the same options as before, or "
                "--overwrite to start anew"
            )
        done = sum(files.fold(k).is_finished for k in range(1, self.folds + 1))
        kept = "; the number of steps stays as it was, whatever --budget says" if budget is not None else ""
        return known["steps"], f"resumed: {done} of {self.folds} folds of {known['steps']} steps are done{kept}"

    def _facts(self) -> dict[str, Any]:
        return {
            "folds": self.folds,
            "refit": self.job.refit,
            "data": self.job.data.digest,
            "seed": self.job.seed,
            "from": self.job.origin_sha256,
            "settings": self.job.settings.model_dump(mode="json", exclude=NO_FACTS),
        }

    def _listener_of(self, fold: int) -> Listener:
        return lambda event: self.listen(InFold(fold + 1, self.folds, event))

    def _seconds(self) -> float:
        return time.perf_counter() - self.start


def fold_devices(device: str) -> tuple[str, ...]:
    """Devices for folds side by side: those named with commas between, else every GPU where there are several."""
    if "," in device:
        return tuple(pick_device(name.strip()) for name in device.split(","))
    picked = pick_device(device)
    if picked == "cuda" and torch.cuda.device_count() > 1:
        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    return (picked,)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """This many threads of torch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _go_on(stop: Stop) -> None:
    """Raise KeyboardInterrupt where an end was asked for."""
    if stop.is_set():
        raise KeyboardInterrupt
