"""Options that several commands share, declared once."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from biounet.errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Results, warnings and errors only.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; twice, still more.")]
Config = Annotated[Path | None, typer.Option("--config", help="A TOML or JSON file of settings.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as network.width=32; repeatable."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Images = Annotated[Path | None, typer.Option("--images", help="Folder or stack of images.")]
Masks = Annotated[Path | None, typer.Option("--masks", help="Folder or stack of annotations.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out pairs that cannot be used.")]
Task = Annotated[str | None, typer.Option("--task", help="instances or classes, instead of inferring it.")]
Ndim = Annotated[int | None, typer.Option("--ndim", min=2, max=3, help="2 or 3, instead of inferring it.")]
Channels = Annotated[
    str | None, typer.Option("--channels", help="Channels by name or by position from 0, with commas.")
]
ObjectClasses = Annotated[
    bool, typer.Option("--object-classes/--no-object-classes", help="Whether names of drawn objects are classes.")
]
UnlabelledTruth = Annotated[
    str | None,
    typer.Option("--unlabelled", help="What is not drawn: background or unknown, instead of as the model learnt it."),
]
Unlabelled = Annotated[
    str | None, typer.Option("--unlabelled", help="What is not drawn: background (default) or unknown.")
]


def refuse_given(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Raise `UsageError` where any of these options stands on the command line, though it means nothing there."""
    given = [name for name in names if _is_given(context, name)]
    if given:
        raise UsageError(f"{', '.join('--' + name.rstrip('_').replace('_', '-') for name in given)}: {why}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def typed(context: typer.Context) -> str:
    """The command as it was typed, to be said in a report."""
    return shlex.join(["biounet", *(context.obj or [])])
