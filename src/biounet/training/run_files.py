"""The files of one run: the model ``OUT`` and, in ``OUT.run/``, what belongs to the run and not to the model."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from biounet.errors import UsageError
from biounet.images.writing import whole_file
from biounet.training.loop import Event

Existing = Literal["refuse", "resume", "overwrite"]

_STATE, _METRICS = "state.safetensors", "metrics.jsonl"
_LAST, _FACTS, _REPORT = "last.safetensors", "run.json", "report.html"


class RunFiles:
    """Where a run writes; without ``out`` it writes nothing, and every path is None."""

    def __init__(self, out: Path | None) -> None:
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
    def is_unfinished(self) -> bool:
        """Whether there is a run to go on with."""
        return self.state is not None and self.state.exists()

    def check(self, existing: Existing) -> None:
        """Refuse, before any work, what would replace a model or a run unasked. Changes nothing."""
        if self.out is None:
            return
        if self.out.is_dir():
            raise UsageError(f"--out {self.out}: is a folder; name a file, as model.safetensors")
        if existing == "refuse" and (self.out.exists() or self.is_unfinished):
            remedy = "--resume continues its run, " if self.is_unfinished else ""
            raise UsageError(f"--out {self.out}: is there already; {remedy}--overwrite starts anew")
        if existing == "resume" and self.out.exists() and not self.is_unfinished:
            raise UsageError(f"--out {self.out}: its run is finished; --overwrite starts anew")

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
                left += [self.folder / name for name in (_STATE, _METRICS, _LAST, _FACTS, _REPORT)]
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

    def write_facts(self, values: dict[str, Any]) -> None:
        """Write ``run.json``: what does not belong in a model file, as durations."""
        path = self._path(_FACTS)
        if path is not None:
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")

    def finish(self) -> None:
        """Take the state away: the run is over, and everything else is written."""
        if self.state is not None:
            self.state.unlink(missing_ok=True)

    def _path(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 60  # a line cut short by a kill
