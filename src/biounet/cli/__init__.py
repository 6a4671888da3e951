"""The command line: one file a command; the only place that prints or exits.

Exit codes: 0 done, 1 anything else, 2 usage, 3 bad data, 4 some inputs failed, 130 interrupted.
"""

from __future__ import annotations

import sys

from biounet.errors import BiounetError

_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> None:
    """Run ``biounet`` with these arguments (default: those of the process) and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; every error is one line on standard error."""
    import click

    from biounet.cli.app import make_app

    try:
        result = make_app()(arguments, prog_name="biounet", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.Abort:
        return _INTERRUPTED
    except click.ClickException as error:
        return _fail(f"{error.format_message()} (see biounet --help)", 2)
    except BiounetError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if "-v" in arguments or "-vv" in arguments or "--verbose" in arguments:
            raise
        return _fail(f"unexpected {type(error).__name__}: {error}; -v shows where", 1)
    return int(result) if isinstance(result, int) else 0


def _fail(text: str, code: int) -> int:
    line = " ".join(str(text).split())
    sys.stderr.write(f"biounet: {line}\n")
    return code
