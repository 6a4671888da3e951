"""``biounet train``: a folder of annotated images in, a model file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biounet.cli import options
from biounet.cli.console import Console
from biounet.cli.training_listener import TrainingListener
from biounet.errors import UsageError

if TYPE_CHECKING:
    from biounet.datasets.layouts import Dataset


DataArgument = Annotated[
    Path | None,
    typer.Argument(help="Folder with images and annotations, as it is, or a file or pattern; or --images and --masks."),
]

FoldsOption = Annotated[
    str | None,
    typer.Option(
        "--folds",
        help="Cross-validation: a number of folds, or each to leave out one image at a time. The model is their "
        "ensemble, or with --refit a single network; --budget is shared, --steps are those of each fold.",
    ),
]

RefitOption = Annotated[
    bool,
    typer.Option(
        "--refit",
        help="With --folds: then train one network on all images, which becomes the model instead of their ensemble.",
    ),
]

ProcessesOption = Annotated[
    int, typer.Option("--processes", min=1, help="Processes that share each step; on cuda each takes a GPU.")
]
TensorBoardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write events for TensorBoard into the run folder.")
]


def train(
    out: Annotated[Path, typer.Option("--out", help="The model file, such as model.safetensors.")],
    data: DataArgument = None,
    preset: Annotated[str, typer.Option(help="paper or standard.")] = "standard",
    network: Annotated[str, typer.Option(help="unet, fcn8s, fcn16s, fcn32s or patch_cnn.")] = "unet",
    from_: Annotated[
        Path | None, typer.Option("--from", help="A model file to continue from, with a fresh schedule.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Training time, such as 15min (the default).")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps instead of a time: repeats bit for bit.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with its time, memory and disk; train nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of initialisation, samples and dropout.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run of --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished model.")] = False,
    validation: Annotated[
        str | None, typer.Option(help="Held-back (validation) images: 'slices 20-23' (from 0), a folder, or names.")
    ] = None,
    folds: FoldsOption = None,
    refit: RefitOption = False,
    images: options.Images = None,
    masks: options.Masks = None,
    skip_bad: options.SkipBad = False,
    task: options.Task = None,
    ndim: options.Ndim = None,
    channels: options.Channels = None,
    unlabelled: options.Unlabelled = None,
    config: options.Config = None,
    set_: options.Set = None,
    device: options.Device = "auto",
    processes: ProcessesOption = 1,
    tensorboard: TensorBoardOption = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train a model; the best one by the held-back images goes to --out."""
    from biounet.datasets.layouts import find_dataset
    from biounet.settings import read_settings
    from biounet.training.budget import parse_duration

    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    _refuse_both(steps=steps, budget=budget)
    _refuse_both(resume=resume or None, overwrite=overwrite or None)
    given = {
        "network.name": None if network == "unet" else network,
        "data.task": task,
        "data.ndim": ndim,
        "data.channels": channels,
        "data.unlabelled": unlabelled,
        "data.validation": validation,
    }
    settings = read_settings(preset, file=config, overrides=set_ or (), values=given)
    of = settings.data
    dataset = find_dataset(data, images=images, masks=masks, ndim=of.ndim, colours=of.colours, skip_bad=skip_bad)
    seconds = None if budget is None else parse_duration(budget)
    how: dict[str, Any] = {"settings": settings, "folds": _parse_folds(folds), "refit": refit}
    how |= {"steps": steps, "budget": seconds, "start_from": from_, "seed": seed, "device": device}
    if dry_run:
        _rehearse(console, dataset, processes=processes, skip_bad=skip_bad, **how)
        return
    existing = "resume" if resume else "overwrite" if overwrite else "refuse"
    _run(
        console, dataset, out, existing=existing, skip_bad=skip_bad, processes=processes, tensorboard=tensorboard, **how
    )


def _refuse_both(**options: object) -> None:
    """Raise `UsageError` where two options that exclude each other are both given."""
    if all(value is not None for value in options.values()):
        raise UsageError(f"{' and '.join(f'--{name}' for name in options)} exclude each other; give one")


def _parse_folds(text: str | None) -> int | str | None:
    if text is None or text == "each":
        return text
    if not text.isdecimal():
        raise UsageError(f"--folds {text!r}: give a number from 2 on, or each to leave out one image at a time")
    return int(text)


def _rehearse(console: Console, dataset: Dataset, *, processes: int, **options: Any) -> None:
    from biounet.training.train import rehearse

    if processes > 1:
        raise UsageError(f"--dry-run and --processes {processes}: steps are timed in one process; give one of them")
    planned = rehearse(dataset, **options)
    for line in planned.statements:
        console.result(line)
    console.finish({"steps": planned.steps, "statements": list(planned.statements)})


def _run(console: Console, dataset: Dataset, out: Path, *, tensorboard: bool, **options: Any) -> None:
    from biounet.training.run_files import RunFiles
    from biounet.training.tensorboard import TensorBoard
    from biounet.training.train import train as run

    folder = RunFiles(out).tensorboard
    board = TensorBoard(folder) if tensorboard and folder is not None else None
    with console.progress("training", None) as bar:
        listener = TrainingListener(console, bar)

        def listen(event: Any) -> None:
            listener(event)
            if board is not None:
                board(event)

        try:
            run(dataset, out, **options, listen=listen)
        finally:
            if listener.summary:  # also of an interrupted run, which leaves a model
                console.finish(listener.summary)
