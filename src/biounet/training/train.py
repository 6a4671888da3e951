"""One training run from a folder to a model file, with a run folder beside it.

``OUT`` is the best model; ``OUT.run/`` holds the state, the last model, ``metrics.jsonl`` and
``run.json``. What happens is told through events; only the command line prints.
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from biounet.errors import BiounetError, UsageError
from biounet.images.writing import whole_file
from biounet.inference.engines import TorchEngine, pick_device
from biounet.model_file import Model, save_model
from biounet.settings import Settings, read_settings
from biounet.training.budget import DEFAULT_BUDGET_S, Calibration, calibrate
from biounet.training.data import Data, TrainingData, read_training_data
from biounet.training.loop import StepDone, Validated, train_steps
from biounet.training.plan import Factory, Plan, make_plan
from biounet.training.state import TrainingState, new_state, read_facts, read_state, write_state
from biounet.training.validate import Validator

Existing = Literal["refuse", "resume", "overwrite"]
_GOLDEN_OUTPUT = 16  # pixels a side


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


TrainEvent = Planned | StepDone | Validated | Finished
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
    device: str = "auto",
    skip_bad: bool = False,
    listen: Listener | None = None,
) -> Model:
    """Train a model and return it (the best by the held-back images).

    ``data``: a folder, a `images.layouts.Dataset` or pairs of arrays (image (C,)(Z)YX, labels
    (Z)YX int). ``out``: where the model file goes; None writes nothing. ``settings``: `Settings` or
    a preset's name. ``steps``, or a ``budget`` in seconds that is turned into steps once; default
    15 minutes. ``existing``: what to do when ``out`` or its run folder is there. ``network``:
    a factory (in_channels, classes) -> module with its ``geometry``, verified before use. ``skip_bad``
    goes on without images that cannot be used.
    ``listen`` is called with every event.

    Same data, settings, seed, steps, machine and thread count: the same file, bit for bit, resumed
    or not. Raises `UsageError` and `DataError`; on KeyboardInterrupt the state and the model are
    written first, then it is raised again.
    """
    start = time.perf_counter()
    if isinstance(settings, str):
        settings = read_settings(settings)
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: must be at least 1")
    files = RunFiles(None if out is None else Path(out))
    files.prepare(existing)
    known = read_training_data(data, settings.data, skip_bad=skip_bad)
    plan = make_plan(known, settings, seed=seed, factory=network)
    run = _Run(known, plan, settings, seed, files, listen or (lambda event: None), start)
    run.begin(device, steps, budget)
    return run.go()


class RunFiles:
    """The files of a run; with ``out`` None nothing is written."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.folder = None if out is None else out.with_name(out.name + ".run")

    @property
    def state(self) -> Path | None:
        """The state file, present while a run is unfinished."""
        return None if self.folder is None else self.folder / "state.safetensors"

    def prepare(self, existing: Existing) -> None:
        """Make the folder, refuse to overwrite a model or run unasked."""
        if self.out is None or self.folder is None:
            return
        if self.out.is_dir():
            raise UsageError(f"--out {self.out}: is a folder; name a file, as model.safetensors")
        unfinished = (self.folder / "state.safetensors").exists()
        if existing == "refuse" and (self.out.exists() or unfinished):
            remedy = "--resume continues its run, " if unfinished else ""
            raise UsageError(f"--out {self.out}: is there already; {remedy}--overwrite starts anew")
        if existing == "resume" and self.out.exists() and not unfinished:
            raise UsageError(f"--out {self.out}: its run is finished; --overwrite starts anew")
        if existing == "overwrite":
            for name in ("state.safetensors", "metrics.jsonl", "last.safetensors", "run.json"):
                (self.folder / name).unlink(missing_ok=True)
            self.out.unlink(missing_ok=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--out {self.out}: cannot be written ({error.strerror})") from error

    def forget_metrics_after(self, step: int) -> None:
        """Drop lines of ``metrics.jsonl`` that a killed run wrote beyond the state it left."""
        if self.folder is None or not (path := self.folder / "metrics.jsonl").exists():
            return
        kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        path.write_text("".join(f"{line}\n" for line in kept))

    def metric(self, event: StepDone | Validated) -> None:
        """Append an event to ``metrics.jsonl``."""
        if self.folder is not None:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"event": type(event).__name__, **asdict(event)}) + "\n")

    def facts(self, values: dict[str, Any]) -> None:
        """Write ``run.json``: what does not belong in a model file, as durations."""
        if self.folder is not None:
            with whole_file(self.folder / "run.json") as temporary:
                temporary.write_text(json.dumps(values, indent=1))


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
            plan.split.validation, plan.normalisation, data.meaning.task, data.classes, plan.precision
        )
        self.state: TrainingState
        self.steps = 0

    def begin(self, device: str, steps: int | None, budget: float | None) -> None:
        """State at its first or resumed step, and the number of steps."""
        network = self.plan.network.to(pick_device(device))
        if self.data.ndim == 2:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        facts = {
            "data": self.data.digest,
            "seed": self.seed,
            "precision": self.plan.precision,
            "settings": self.settings.model_dump(mode="json", exclude={"training": {"state_seconds", "workers"}}),
            "threads": torch.get_num_threads(),
        }
        self.state = new_state(network, self.settings.training, facts)
        path = self.files.state
        resumed = path is not None and path.exists()
        said = list(self.data.statements + self.plan.statements)
        if resumed and path is not None:
            said.append(self._resume(path, steps))
        else:
            said.append(self._choose_steps(steps, budget))
        self.steps = int(self.state.facts["steps"])
        self.files.forget_metrics_after(self.state.step)
        self.listen(Planned(tuple(said), self.steps, self.state.step))

    def _resume(self, path: Path, steps: int | None) -> str:
        facts, step = read_facts(path)
        if steps is not None and steps != facts["steps"]:
            raise UsageError(f"--steps {steps}: the run to resume has {facts['steps']} steps; leave it out")
        self.state.facts["steps"] = facts["steps"]
        read_state(path, self.state)
        threads = facts.get("threads")
        changed = (
            ""
            if threads == torch.get_num_threads()
            else (
                f"; it began with {threads} threads and goes on with {torch.get_num_threads()}, "
                "so the result may differ in rounding"
            )
        )
        return f"resumed at step {step} of {facts['steps']}{changed}"

    def _choose_steps(self, steps: int | None, budget: float | None) -> str:
        if steps is not None:
            self.state.facts["steps"] = steps
            return f"{steps} steps, as asked"
        budget = DEFAULT_BUDGET_S if budget is None else budget
        left = budget - (time.perf_counter() - self.start)
        found: Calibration = calibrate(
            self.state,
            self.plan.sampler,
            self.validator,
            self.settings.training,
            seed=self.seed,
            precision=self.plan.precision,
            budget_s=left,
        )
        self.state.facts["steps"] = found.steps
        return (
            f"a budget of {budget:g} s buys {found.steps} steps of {found.step_seconds:.3g} s "
            f"and {self.settings.training.validations} validations of {found.validation_seconds:.3g} s; "
            f"--steps {found.steps} repeats this run"
        )

    def go(self) -> Model:
        """Train to the end, or until interrupted."""
        with stop_requests() as stop:
            for event in self._events():
                self.files.metric(event)
                self.listen(event)
                if stop.is_set() and self.state.step < self.steps:
                    self._write_state()
                    self._finish(interrupted=True)
                    raise KeyboardInterrupt
        return self._finish(interrupted=False)

    def _events(self) -> Iterator[StepDone | Validated]:
        written = time.perf_counter()
        events = train_steps(
            self.state,
            self.plan.sampler,
            self.validator,
            self.settings.training,
            steps=self.steps,
            seed=self.seed,
            precision=self.plan.precision,
        )
        for event in events:
            if isinstance(event, StepDone) and not math.isfinite(event.loss):
                raise BiounetError(
                    f"the loss became {event.loss} at step {event.step}; lower the rate: --set "
                    f"training.learning_rate={self.settings.training.learning_rate / 3:.1g}"
                )
            yield event
            if time.perf_counter() - written > self.settings.training.state_seconds:
                self._write_state()
                written = time.perf_counter()

    def _write_state(self) -> None:
        if self.files.state is not None:
            write_state(self.files.state, self.state)

    def _finish(self, *, interrupted: bool) -> Model:
        best = self.state.best or self.state.average.state_dict()
        final = {k: v.clone() for k, v in self.state.average.state_dict().items()}
        model = self.model(best, self.state.best_step if self.state.best else self.state.step)
        last = self.model(final, self.state.step, model.postprocessing)
        if self.files.out is not None and self.files.folder is not None:
            save_model(self.files.folder / "last.safetensors", last)
            save_model(self.files.out, model)
            seconds = time.perf_counter() - self.start
            self.files.facts({"seconds": seconds, "steps": self.steps, "step": self.state.step})
            if not interrupted and self.files.state is not None:
                self.files.state.unlink(missing_ok=True)
        seconds = time.perf_counter() - self.start
        self.listen(Finished(model, self.files.out, self.state.step, self.steps, seconds, interrupted))
        return model

    def model(
        self, weights: dict[str, torch.Tensor], step: int, postprocessing: Mapping[str, Any] | None = None
    ) -> Model:
        """The model file's content for these weights: nothing in it depends on time or place.

        Post-processing is tuned on the held-back images unless it is given.
        """
        network: Any = self.state.average
        network.load_state_dict(weights)
        meaning = self.data.meaning
        names = [str(v) for v in meaning.values] if meaning.task == "classes" else ["background", "cell"]
        model = Model(
            network=network.description,
            geometry=self.plan.geometry,
            weights={k: v.detach().cpu().contiguous().numpy() for k, v in weights.items()},
            normalisation=self.plan.normalisation,
            task=meaning.task,
            classes=tuple(names),
            values=tuple(int(v) for v in meaning.values),
            channels=tuple(str(c) for c in range(self.data.channels)),
            pixel_size_um=self.data.examples[0].pixel_size_um,
            postprocessing=self.validator.tune(network) if postprocessing is None else postprocessing,
            training=self._provenance(step),
        )
        return model.with_golden(*_golden(network, self.data.channels, self.plan))

    def _provenance(self, step: int) -> dict[str, Any]:
        return {
            "settings": self.state.facts["settings"],
            "seed": self.seed,
            "steps": self.steps,
            "step": step,
            "score": self.state.best_score,
            "precision": self.plan.precision,
            "data_sha256": self.data.digest,
            "statements": [*self.data.statements, *self.plan.statements],
            "training_images": [e.name for e in self.plan.split.training],
            "validation_images": [e.name for e in self.plan.split.validation],
        }


def _golden(network: nn.Module, channels: int, plan: Plan) -> tuple[Any, Any]:
    """A small smooth random input and its logits in fp32 on the CPU."""
    size = plan.geometry.input_size((_GOLDEN_OUTPUT,) * plan.geometry.ndim)
    rng = np.random.default_rng(0)
    golden = rng.standard_normal((1, channels, *size)).astype(np.float32)
    device = next(network.parameters()).device
    logits = TorchEngine(network, device="cpu")(golden)
    network.to(device)
    return golden, logits


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 60  # a line cut short by a kill


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that a step is finished before a run stops.

    A second one interrupts at once. Outside the main thread signals are not ours to handle.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
