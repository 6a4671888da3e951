"""The command line: one file a command; the only place that prints or exits.

Exit codes: 0 done, 1 anything else, 2 usage, 3 bad data, 4 some inputs failed, 130 interrupted.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import typer

from biounet.errors import BiounetError

_INTERRUPTED = 130
_USAGE = 2
_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: list[str] | None = None) -> None:
    """Run ``biounet`` with these arguments (default: those of the process) and exit."""
    # Waiting threads that spin on make a step several times slower as soon as another program wants
    # a core, and ones that sleep at once cost a fifth alone; so they spin briefly. Same bits either way.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may hold any bytes
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["train"] and os.environ.get("RANK", "0") != "0":
        # of processes that a launcher started only the first speaks
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.exit(run(arguments))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; every error is one line on standard error."""
    from biounet.cli.app import make_app

    try:
        result = make_app()(arguments, prog_name="biounet", standalone_mode=False, obj=arguments)
    except (typer.Abort, KeyboardInterrupt):
        result = _INTERRUPTED
    except BiounetError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if (message := _usage(error)) is not None:
            return _fail(f"{message} (see {_command(arguments)} --help)", _USAGE) if message else _USAGE
        if isinstance(error, OSError) and error.errno in _FULL:
            return _fail(f"what there is to say or to keep cannot be written: {error.strerror}; make room for it", 1)
        if "-v" in arguments or "-vv" in arguments or "--verbose" in arguments:
            raise
        return _fail(f"unexpected {type(error).__name__}: {error}; -v shows where", 1)
    if result == _INTERRUPTED:
        return _fail("interrupted", _INTERRUPTED)
    return result if isinstance(result, int) else 0


def _command(arguments: list[str]) -> str:
    """The command whose help says more: the first word, where it is one."""
    import typer.main

    from biounet.cli.app import make_app

    commands = getattr(typer.main.get_command(make_app()), "commands", {})
    return f"biounet {arguments[0]}" if arguments and arguments[0] in commands else "biounet"


def _usage(error: Exception) -> str | None:
    """What typer says of a wrong option, "" where it showed the help instead; None for other errors.

    By its method, because the class has no public name: typer carries a click of its own.
    """
    told = getattr(error, "format_message", None)
    return None if told is None else str(told())


def _fail(text: str, code: int) -> int:
    line = " ".join(str(text).split())
    sys.stderr.write(f"biounet: {line}\n")
    return code
