"""``biounet train``: a folder of annotated images in, a model file out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biounet.cli import options
from biounet.cli.console import Bar, Console
from biounet.errors import UsageError

if TYPE_CHECKING:
    from biounet.images.layouts import Dataset
    from biounet.settings import Settings


def train(
    out: Annotated[Path, typer.Option("--out", help="The model file, as model.safetensors.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder with images and annotations, as it is, or a file or pattern; or --images and --masks."
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="paper or standard.")] = "standard",
    network: Annotated[str, typer.Option(help="unet, fcn8s, fcn16s, fcn32s or patch_cnn.")] = "unet",
    from_: Annotated[
        Path | None, typer.Option("--from", help="A model file to go on from, with a fresh schedule.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Time to train for, as 15min (the default).")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps instead of a time: repeats bit for bit.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with its time, memory and disk; train nothing.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of initialisation, samples and dropout.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run of --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a finished model.")] = False,
    validation: Annotated[
        str | None, typer.Option(help="Images held back: 'slices 20-23', a folder, or names.")
    ] = None,
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
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Train a model; the best one by the held-back images goes to --out."""
    from biounet.images.layouts import find_dataset
    from biounet.settings import read_settings
    from biounet.training.budget import parse_duration

    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    _refuse_both(steps=steps, budget=budget)
    _refuse_both(resume=resume or None, overwrite=overwrite or None)
    given = {
        "network.name": None if network == "unet" else network,
        "data.task": task,
        "data.ndim": ndim,
        "data.channels": None if channels is None else channels.split(","),
        "data.unlabelled": unlabelled,
        "data.validation": validation,
    }
    settings = read_settings(preset, file=config, overrides=set_ or (), values=given)
    of = settings.data
    dataset = find_dataset(data, images=images, masks=masks, ndim=of.ndim, colours=of.colours, skip_bad=skip_bad)
    seconds = None if budget is None else parse_duration(budget)
    if dry_run:
        _rehearse(console, dataset, settings, steps, seconds, seed, from_, device)
        return
    existing = "resume" if resume else "overwrite" if overwrite else "refuse"
    known = {"seed": seed, "start_from": from_, "device": device, "skip_bad": skip_bad}
    _run(console, dataset, out, settings=settings, steps=steps, budget=seconds, existing=existing, **known)


def _refuse_both(**options: object) -> None:
    """Raise `UsageError` where two options that exclude each other are both given."""
    if all(value is not None for value in options.values()):
        raise UsageError(f"{' and '.join(f'--{name}' for name in options)} exclude each other; give one")


def _rehearse(
    console: Console,
    dataset: Dataset,
    settings: Settings,
    steps: int | None,
    budget: float | None,
    seed: int,
    start_from: Path | None,
    device: str,
) -> None:
    from biounet.training.train import rehearse

    planned = rehearse(
        dataset, settings=settings, steps=steps, budget=budget, seed=seed, start_from=start_from, device=device
    )
    for line in planned.statements:
        console.note(line)
    console.finish({"steps": planned.steps, "statements": list(planned.statements)})


def _run(console: Console, *arguments: Any, **options: Any) -> None:
    from biounet.training.train import train as run

    with console.progress("training", None) as bar:
        listener = TrainingListener(console, bar)
        try:
            run(*arguments, **options, listen=listener)
        finally:
            if listener.summary:  # also of an interrupted run, which leaves a model
                console.finish(listener.summary)


class TrainingListener:
    """Turns the events of a training into lines, a bar, and the JSON object."""

    def __init__(self, console: Console, bar: Bar) -> None:
        self.console = console
        self.bar = bar
        self.summary: dict[str, Any] = {}
        self._loss = 0.0
        self._score = ""

    def __call__(self, event: Any) -> None:
        getattr(self, f"_{type(event).__name__.lower()}")(event)

    def _planned(self, event: Any) -> None:
        for line in event.statements:
            self.console.note(line)

    def _noted(self, event: Any) -> None:
        self.console.note(event.text)

    def _stepdone(self, event: Any) -> None:
        self._loss = event.loss if event.step == 1 else 0.95 * self._loss + 0.05 * event.loss
        self.bar.update(event.step, event.steps, f"loss {self._loss:.3f} {self._score}")

    def _validated(self, event: Any) -> None:
        scores = "  ".join(f"{k} {v:.4f}" for k, v in event.scores.items() if k != "selection")
        self._score = f"held back {event.scores['selection']:.3f}"
        best = "  (best so far)" if event.is_best else ""
        self.console.news(f"step {event.step}/{event.steps}  loss {self._loss:.4f}  held back: {scores}{best}")

    def _finished(self, event: Any) -> None:
        self.console.note(
            f"{'interrupted at' if event.interrupted else 'finished'} step {event.step} of {event.steps} "
            f"after {event.seconds:.0f} s: {event.out}" + ("; --resume goes on" if event.interrupted else "")
        )
        self.summary = {
            "model": str(event.out),
            "sha256": event.model.sha256,
            "step": event.step,
            "steps": event.steps,
            "seconds": event.seconds,
            "interrupted": event.interrupted,
            "score": event.model.training["score"],
            "task": event.model.task,
            "classes": list(event.model.classes),
            "statements": event.model.training["statements"],
        }
