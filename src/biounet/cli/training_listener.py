"""What the command line says of a training: lines, a bar, and the JSON object at its end."""

from __future__ import annotations

from typing import Any

from biounet.cli.console import Bar, Console

_KEPT = 0.95  # of the smoothed loss at every step


class TrainingListener:
    """Turns the events of a training, or of the folds of a cross-validation, into lines, a bar, and the JSON object."""

    def __init__(self, console: Console, bar: Bar) -> None:
        self.console = console
        self.bar = bar
        self.summary: dict[str, Any] = {}
        self._fold = 0  # whose event is heard; 0 outside folds
        self._name = ""  # of that fold
        self._steps = 0  # of all folds together
        self._said: set[str] = set()  # of all folds together
        self._done: dict[int, int] = {}  # steps, loss and score of each fold
        self._loss: dict[int, float] = {}
        self._score: dict[int, str] = {}

    def __call__(self, event: Any) -> None:
        getattr(self, f"_{type(event).__name__.lower()}")(event)

    def _infold(self, event: Any) -> None:
        self._fold, self._name = event.fold, event.name
        self(event.event)
        self._fold = 0

    def _planned(self, event: Any) -> None:
        """All that was decided and not said before; of other folds than the first only where they begin."""
        self._done[self._fold] = event.resumed_at
        if self._fold == 0:
            self._steps = event.steps
        for line in event.statements if self._fold < 2 else event.statements[-1:]:
            if self._fold == 0 or line not in self._said:
                self.console.note(self._named(line))
        self._said.update(event.statements if self._fold == 0 else ())

    def _noted(self, event: Any) -> None:
        self.console.note(self._named(event.text))

    def _stepdone(self, event: Any) -> None:
        fold = self._fold
        before = self._loss.get(fold, event.loss)
        self._loss[fold] = event.loss if event.step == 1 else _KEPT * before + (1 - _KEPT) * event.loss
        self._done[fold] = event.step
        done = sum(steps for of, steps in self._done.items() if fold == 0 or of > 0)
        said = self._named(f"loss {self._loss[fold]:.3f} {self._score.get(fold, '')}")
        self.bar.update(done, self._steps, said)

    def _validated(self, event: Any) -> None:
        loss = self._loss.get(self._fold, 0.0)
        if self.bar.shown:
            self.bar.add_row(self._row(event, loss))
            return
        scores = "  ".join(f"{k} {v:.4f}" for k, v in event.scores.items() if k != "selection")
        self._score[self._fold] = f"held back {event.scores['selection']:.3f}"
        best = "  (best so far)" if event.is_best else ""
        line = f"step {event.step}/{event.steps}  loss {loss:.4f}  held back: {scores}{best}"
        self.console.news(self._named(line))

    def _row(self, event: Any, loss: float) -> dict[str, str]:
        """A validation in the live table."""
        fold = {"fold": self._name.removeprefix("fold ")} if self._fold else {}
        scores = {f"held back {k}": f"{v:.4f}" for k, v in event.scores.items() if k != "selection"}
        return {**fold, "step": str(event.step), "loss": f"{loss:.4f}", **scores, "best": "*" * event.is_best}

    def _finished(self, event: Any) -> None:
        how = "interrupted at" if event.interrupted else "finished"
        after = f"{how} step {event.step} of {event.steps} after {event.seconds:.0f} s"
        if self._fold:
            self.console.news(self._named(after))
            return
        self.bar.end_table()
        folds = event.model.training.get("folds")
        each = (
            "" if folds is None else f" in each of {folds} folds" + " and on all images" * event.model.training["refit"]
        )
        self.console.note(
            f"{how} step {event.step} of {event.steps}{each} after {event.seconds:.0f} s: {event.out}"
            + ("; --resume goes on" if event.interrupted else "")
        )
        known = event.model.training
        self.summary = {
            "model": str(event.out),
            "sha256": event.model.sha256,
            "step": event.step,
            "steps": event.steps,
            "seconds": event.seconds,
            "interrupted": event.interrupted,
            "score": known["score"],
            "task": event.model.task,
            "classes": list(event.model.classes),
            "statements": known["statements"],
            **{key: known[key] for key in ("folds", "refit", "estimate") if key in known},
        }

    def _named(self, line: str) -> str:
        """The line, with the fold that it is about."""
        return f"{self._name}: {line}" if self._fold else line
