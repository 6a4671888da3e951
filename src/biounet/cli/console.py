"""Where the command line speaks: results on standard output, everything else on standard error.

With ``--json`` standard output carries one JSON object and nothing else. Progress shows on a
terminal only; NO_COLOR is honoured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

_PIPE_WIDTH = 10_000
_LIVE_ROWS = 12  # of a table that grows


class Console:
    """Output of one command. ``verbosity``: -1 quiet (results, warnings and errors only), 0, 1 or more."""

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
        """A bar with the time left on a terminal, and a table above it that stays; nothing in a pipe or when quiet."""
        shown = self._err.is_terminal and self.verbosity >= 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        progress = Progress(*columns, console=self._err, disable=not shown)
        bar = Bar(progress, progress.add_task(what, total=total, detail=""))
        if not shown:
            yield bar
            return
        try:
            with Live(bar, console=self._err, transient=True):
                yield bar
        finally:
            bar.end_table()


def _plain_console(*, stderr: bool = False) -> RichConsole:
    """A console that prints names as they are, brackets and colons too, and in a pipe never wraps them."""
    console = RichConsole(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


class Bar:
    """One progress bar, and a table that grows above it. ``shown``: whether there is a terminal to show them."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress = progress
        self._task = task
        self.shown = not progress.disable
        self.rows: list[Mapping[str, str]] = []

    def update(self, done: int, total: int, detail: str = "") -> None:
        """Set how much is done, of how much, and a few words beside it."""
        self._progress.update(self._task, completed=done, total=total, detail=detail)

    def add_row(self, cells: Mapping[str, str]) -> None:
        """A row of the table, by the names of its columns."""
        self.rows.append(cells)

    def end_table(self) -> None:
        """Leave the table where it is; the next row begins another."""
        if self.rows:
            self._progress.console.print(self.table())
            self.rows.clear()

    def table(self, most: int | None = None) -> Table:
        """All rows, or the last ``most``."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        table = Table()
        for name in names:
            table.add_column(name, justify="right")
        for row in self.rows if most is None else self.rows[-most:]:
            table.add_row(*(row.get(name, "") for name in names))
        return table

    def __rich__(self) -> RenderableType:
        return Group(self.table(_LIVE_ROWS), self._progress) if self.rows else self._progress
