"""The files of one run: the model ``OUT`` and, in ``OUT.run/``, what belongs to the run and not to the model."""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from biounet.errors import DataError, UsageError
from biounet.images.writing import whole_file
from biounet.training.loop import Event

Existing = Literal["refuse", "resume", "overwrite"]

_STATE, _METRICS = "state.safetensors", "metrics.jsonl"
_LAST, _FACTS, _REPORT = "last.safetensors", "run.json", "report.html"
_FOLDS, _TENSORBOARD = "folds.json", "tensorboard"
_MEMBERS = ("fold-*.safetensors", "all-images.safetensors")  # models of a cross-validation


class RunFiles:
    """Where a run writes; without ``out`` it writes nothing, and every path is None."""

    def __init__(self, out: Path | None) -> None:
        if out is not None and not out.name:
            raise UsageError(f"--out {str(out)!r}: names no file; write one such as model.safetensors")
        self.out = out
        self.folder = None if out is None else out.with_name(out.name + ".run")

    @property
    def state(self) -> Path | None:
        """The state, there while a run is unfinished."""
        return self._path(_STATE)

    @property
    def last(self) -> Path | None:
        """The model of the last step."""
        return self._path(_LAST)

    @property
    def report(self) -> Path | None:
        """The training report."""
        return self._path(_REPORT)

    @property
    def folds(self) -> Path | None:
        """What the folds of a cross-validation have in common, there while it is unfinished."""
        return self._path(_FOLDS)

    @property
    def tensorboard(self) -> Path | None:
        """The folder of TensorBoard's events, where they are asked for."""
        return self._path(_TENSORBOARD)

    def fold(self, number: int) -> RunFiles:
        """The files of a fold, 1, 2, ...: a model of its own, and a run folder beside it."""
        return RunFiles(self._path(f"fold-{number}.safetensors"))

    @property
    def all_images(self) -> RunFiles:
        """The files of the network that learns from all images after the folds, as those of a fold."""
        return RunFiles(self._path("all-images.safetensors"))

    @property
    def is_unfinished(self) -> bool:
        """Whether there is a run to go on with, or a cross-validation."""
        return self.is_unfinished_run or self.is_unfinished_folds

    @property
    def is_unfinished_run(self) -> bool:
        """Whether there is a single run to go on with."""
        return self.state is not None and self.state.exists()

    @property
    def is_unfinished_folds(self) -> bool:
        """Whether there is a cross-validation to go on with."""
        return self.folds is not None and self.folds.exists()

    @property
    def is_finished(self) -> bool:
        """Whether a model is there, and nothing to go on with."""
        return self.out is not None and self.out.exists() and not self.is_unfinished

    def check(self, existing: Existing, *, in_folds: bool = False) -> None:
        """Refuse, before any work, what would replace a model or a run unasked. Changes nothing.

        ``in_folds``: whether a cross-validation is begun or gone on with.
        """
        if self.out is None:
            return
        if self.out.is_dir():
            raise UsageError(f"--out {self.out}: is a folder; name a file, as model.safetensors")
        if existing == "refuse" and (self.out.exists() or self.is_unfinished):
            remedy = "--resume continues its run, " if self.is_unfinished else ""
            raise UsageError(f"--out {self.out}: is there already; {remedy}--overwrite starts anew")
        if existing == "resume" and self.out.exists() and not self.is_unfinished:
            raise UsageError(f"--out {self.out}: its run is finished; --overwrite starts anew")
        if existing == "resume" and (self.is_unfinished_run if in_folds else self.is_unfinished_folds):
            kind = "is a single run: leave out --folds" if in_folds else "is a cross-validation: give its --folds too"
            raise UsageError(f"--out {self.out}: what is unfinished {kind}, or --overwrite to start anew")

    def prepare(self, existing: Existing) -> None:
        """Make the folder; take away what an earlier run left in it, unless that run is resumed.

        A finished model stays where it is until the new one takes its place. Unfinished temporary
        files are what a killed run left, and always go.
        """
        if self.out is None or self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            left = [*self.folder.glob(".*.part.*"), *self.out.parent.glob(f".*.part.{glob.escape(self.out.name)}")]
            if not (existing == "resume" and self.is_unfinished):
                left += [self.folder / name for name in (_STATE, _METRICS, _LAST, _FACTS, _REPORT, _FOLDS)]
                left += [path for name in _MEMBERS for path in self.folder.glob(name)]
                for name in (*(f"{name}.run" for name in _MEMBERS), _TENSORBOARD):
                    for folder in self.folder.glob(name):
                        shutil.rmtree(folder)
            for path in left:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"--out {self.out}: cannot be written ({error.strerror}); choose another place") from error

    def forget_metrics_after(self, step: int) -> None:
        """Drop lines of ``metrics.jsonl`` that a killed run wrote beyond the state it left."""
        path = self._path(_METRICS)
        if path is None or not path.exists():
            return
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
        with whole_file(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add_metric(self, event: Event) -> None:
        """Append an event to ``metrics.jsonl``, one JSON object a line."""
        path = self._path(_METRICS)
        if path is not None:
            line = json.dumps({"event": type(event).__name__, **asdict(event)}, allow_nan=False)
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def metrics(self) -> Sequence[dict[str, Any]]:
        """All events of the run so far, those before a resume included."""
        path = self._path(_METRICS)
        if path is None or not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def scores(self) -> list[tuple[int, float]]:
        """Step and score of every validation of the run so far."""
        scored = [line for line in self.metrics() if line["event"] == "Validated"]
        return [(line["step"], line["scores"]["selection"]) for line in scored]

    def write_facts(self, values: dict[str, Any]) -> None:
        """Add to ``run.json``: what does not belong in a model file, as durations."""
        path = self._path(_FACTS)
        if path is not None:
            values = self.facts() | values
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """The content of ``run.json``, empty where it is missing or damaged."""
        path = self._path(_FACTS)
        try:
            found = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write_folds(self, values: dict[str, Any]) -> None:
        """Write ``folds.json``, from when on there is a cross-validation to go on with."""
        if self.folds is not None:
            with whole_file(self.folds) as temporary:
                temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")

    def read_folds(self) -> dict[str, Any]:
        """What ``folds.json`` says; `DataError` where it is damaged."""
        assert self.folds is not None
        try:
            values = json.loads(self.folds.read_text(encoding="utf-8"))
            return {"facts": dict(values["facts"]), "steps": int(values["steps"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.folds}: cannot be read ({error}); --overwrite starts anew") from error

    def finish(self) -> None:
        """Take the state away: the run is over, and everything else is written."""
        for path in (self.state, self.folds):
            if path is not None:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 60  # a line truncated by a kill
