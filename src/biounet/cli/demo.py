"""``biounet demo``: the whole story on a built-in sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from biounet.cli import options
from biounet.cli.console import Console


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="Folder for all results.")] = Path("biounet-demo"),
    budget: Annotated[str, typer.Option(help="Time for the training.")] = "3min",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of sample and training.")] = 0,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Make a sample of touching cells, train, segment an unseen image, score it, write a report."""
    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    from biounet.cli.training_listener import TrainingListener
    from biounet.training.budget import parse_duration
    from biounet.workflows.demo import next_commands, run_demo

    seconds = parse_duration(budget)
    with console.progress("training", None) as bar:
        listener = TrainingListener(console, bar)
        command = options.typed(context)
        how: dict[str, Any] = {"seed": seed, "budget": seconds, "device": device, "command": command}
        found = run_demo(out, tell=console.note, listen=listener, **how)
    scores, otsu = found.scores, found.otsu
    console.result(f"mean object IoU (seg) on the unseen image: {scores['seg']:.3f}")
    console.result(f"the same by Otsu's threshold with a watershed: {otsu['seg']:.3f}")
    console.result(f"report: {found.report}   (all of it in {found.folder}, {found.seconds:.0f} s)")
    console.result("next, with images of your own:")
    for line in next_commands(found.folder):
        console.result(f"  {line}")
    console.finish(
        {
            "folder": str(found.folder),
            "report": str(found.report),
            "model": str(found.model),
            "seconds": found.seconds,
            "scores": scores,
            "otsu": otsu,
        }
    )
