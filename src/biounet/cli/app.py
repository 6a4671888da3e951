"""All commands put together. Imports no torch: each command imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Callable

import typer

from biounet.cli import check, compare, demo, evaluate, export, predict, show, train

_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "check": check.check,
    "train": train.train,
    "predict": predict.predict,
    "evaluate": evaluate.evaluate,
    "compare": compare.compare,
    "show": show.show,
    "export": export.export,
}


def make_app() -> typer.Typer:
    """The application ``biounet``."""
    app = typer.Typer(
        name="biounet",
        help="Image segmentation from a few annotated images: the U-Net paper, exactly, without seams.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, command in _COMMANDS.items():
        app.command(name)(command)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"biounet {version('biounet')}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Image segmentation from a few annotated images: the U-Net paper, exactly, without seams."""
