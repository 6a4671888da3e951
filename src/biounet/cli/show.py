"""``biounet show``: a picture of what the network will see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biounet.cli import options
from biounet.cli.console import Console
from biounet.errors import UsageError


def show(
    data: Annotated[
        Path | None, typer.Argument(help="Folder with images and annotations, as it is; or --images and --masks.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The picture.")] = Path("samples.png"),
    preset: Annotated[str, typer.Option(help="paper or standard.")] = "standard",
    samples: Annotated[int, typer.Option(help="Number of samples.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the samples, as in training.")] = 0,
    images: options.Images = None,
    masks: options.Masks = None,
    skip_bad: options.SkipBad = False,
    task: options.Task = None,
    ndim: options.Ndim = None,
    channels: options.Channels = None,
    unlabelled: options.Unlabelled = None,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Write a picture of deformed samples with target and weight map side by side."""
    from biounet.datasets.layouts import find_dataset
    from biounet.settings import read_settings

    if samples < 1:
        raise UsageError(f"--samples {samples}: must be at least 1")
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out}: the picture is a PNG; name it as samples.png")
    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    values = {
        "data.task": task,
        "data.ndim": ndim,
        "data.channels": channels,
        "data.unlabelled": unlabelled,
    }
    settings = read_settings(preset, file=config, overrides=set_ or (), values=values)
    of = settings.data
    dataset = find_dataset(data, images=images, masks=masks, ndim=of.ndim, colours=of.colours, skip_bad=skip_bad)

    from biounet.workflows.show import show_samples

    statements = show_samples(dataset, out, settings=settings, samples=samples, seed=seed, skip_bad=skip_bad)
    for line in statements:
        console.note(line)
    console.result(f"{samples} samples in {out}")
    console.finish({"picture": str(out), "samples": samples, "statements": list(statements)})
