"""Where the command line speaks: results on standard output, everything else on standard error.

With ``--json`` standard output carries one JSON object and nothing else. Progress shows on a
terminal only; NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_PIPE_WIDTH = 10_000


class Console:
    """Output of one command. ``verbosity``: -1 quiet (results and errors only), 0, 1 or more."""

    def __init__(self, *, as_json: bool = False, verbosity: int = 0) -> None:
        self.as_json = as_json
        self.verbosity = verbosity
        self._err = _plain_console(stderr=True)
        self._out = _plain_console()

    def note(self, text: str, *, level: int = 0) -> None:
        """A line about what is going on."""
        if self.verbosity >= level:
            self._err.print(text)

    def news(self, text: str) -> None:
        """A line about progress: on a terminal, or with -v in a pipe too."""
        self.note(text, level=0 if self._err.is_terminal else 1)

    def warn(self, text: str) -> None:
        """A line that matters even when quiet."""
        self._err.print(f"warning: {text}", style="yellow")

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> None:
        """A table of results for people; the JSON carries them for programs. ``words``: no column is of numbers."""
        if self.as_json:
            return
        table = Table(title=title, title_justify="left")
        for index, name in enumerate(header):
            table.add_column(name, justify="left" if words or index == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._out.print(table)

    def result(self, text: str) -> None:
        """A line of results for people."""
        if not self.as_json:
            self._out.print(text)

    def finish(self, values: dict[str, Any]) -> None:
        """The one JSON object, with ``--json``."""
        if self.as_json:
            sys.stdout.write(json.dumps(values, allow_nan=False, default=str) + "\n")
            sys.stdout.flush()

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Bar]:
        """A bar with the time left on a terminal; nothing in a pipe or when quiet."""
        shown = self._err.is_terminal and self.verbosity >= 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        with Progress(*columns, console=self._err, disable=not shown, transient=True) as progress:
            yield Bar(progress, progress.add_task(what, total=total, detail=""))


def _plain_console(*, stderr: bool = False) -> RichConsole:
    """A console that prints names as they are, brackets and colons too, and in a pipe never wraps them."""
    console = RichConsole(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


class Bar:
    """One progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, total: int, detail: str = "") -> None:
        """Set how much is done, of how much, and a few words beside it."""
        self._progress.update(self._task, completed=done, total=total, detail=detail)
