"""``biounet compare``: models and other programs' labels side by side on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biounet.cli import options
from biounet.cli.console import Console
from biounet.cli.evaluate import check_task, shown_paths
from biounet.words import counted

if TYPE_CHECKING:
    from biounet.workflows.compare import Method


_OF_TRAINING = ("budget", "steps", "seeds", "preset", "config", "set_")


def compare(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Data folder with images and annotations.")],
    labels: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="Label images from any program.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help="A model file; several with commas are averaged.")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Networks to train and compare, such as unet,fcn8s,patch_cnn.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Training time of each, such as 15min (the default).")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of steps instead of a time.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of trainings of each, with seeds from 0.")] = 1,
    preset: Annotated[str, typer.Option(help="paper or standard, for the training.")] = "standard",
    config: options.Config = None,
    set_: options.Set = None,
    only: Annotated[
        str | None,
        typer.Option("--only", "--validation", help="Images: 'slices 20-23' (from 0), a folder, or names."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables, page and predictions.")] = Path("comparison"),
    task: options.Task = None,
    ndim: options.Ndim = None,
    unlabelled: options.UnlabelledTruth = None,
    object_classes: options.ObjectClasses = True,
    warping: Annotated[bool, typer.Option(help="Compute the warping error, the one slow score.")] = True,
    cost: Annotated[bool, typer.Option(help="Measure seconds per megapixel and memory of the models.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    device: options.Device = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Score methods on the same held-back images, and say which is better and how surely."""
    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    from biounet.workflows.compare import Terms, check_methods
    from biounet.workflows.compare import compare as run

    check_task(task)
    given = [*_models(model or ()), *_labels(labels or ())]
    if methods is None:
        options.refuse_given(context, _OF_TRAINING, "how networks are trained, so they belong to --methods")
        check_methods(given)
    else:
        how = {
            "preset": preset,
            "config": config,
            "overrides": tuple(set_ or ()),
            "steps": steps,
            "budget": budget,
            "seeds": seeds,
            "validation": only,
            "task": task,
            "ndim": ndim,
            "unlabelled": unlabelled,
            "object_classes": object_classes,
            "device": device,
        }
        given = [*_trained(console, data, methods, out, given, how), *given]
    command = options.typed(context)
    terms = Terms(only, task, warping, seed, device, cost, command, unlabelled, object_classes, ndim)  # type: ignore[arg-type]
    found = run(data, given, out, terms, tell=console.note)
    show_comparison(console, found.result)
    for sentence in found.verdicts:
        console.result(sentence)
    console.note(f"{found.report}: the images on which methods differ most; images.csv and objects.csv beside it")
    console.finish({**found.result, "report": str(found.report)})


def show_comparison(console: Console, result: dict[str, Any]) -> None:
    """Every score of every method, mean with interval, and the objects' errors by name."""
    from biounet.workflows.compare_page import COST_HEADER, cost_cells, mean_and_interval

    methods = result["methods"]
    first = next(iter(methods.values()))
    rows = [
        [" ".join(path), *(mean_and_interval(summary, path) for summary in methods.values())]
        for path in shown_paths(console, first["mean"])
    ]
    count = len(result["names"])
    title = f"mean of {counted(count, 'image')} (95 % interval over {result['interval_over']})"
    console.table(title, ["score", *methods], rows)
    kinds = list(next(iter(result["errors"].values())))
    if costs := result["cost"]:
        shown = [[name, *cost_cells(cost)] for name, cost in costs.items()]
        console.table("cost of predicting the largest image", ["method", *COST_HEADER], shown)
    rows = [[name, *(f"{counts[kind]:g}" for kind in kinds)] for name, counts in result["errors"].items()]
    console.table("errors by name, all images together", ["method", *kinds], rows)


def _trained(
    console: Console, data: Path, methods: str, out: Path, others: Sequence[Method], how: dict[str, Any]
) -> list[Method]:
    """The networks named, trained or taken from an earlier call."""
    from biounet.cli.training_listener import TrainingListener
    from biounet.training.budget import parse_duration
    from biounet.workflows.compare import Modelled, check_labels, check_methods
    from biounet.workflows.train_methods import Training, train_methods

    names = [name.strip() for name in methods.split(",") if name.strip()]
    check_methods([*(Modelled(name, ()) for name in names), *others])
    check_labels(data, others, how["validation"], ndim=how["ndim"])
    budget = None if how["budget"] is None else parse_duration(how["budget"])
    with console.progress("training", None) as bar:
        listener = TrainingListener(console, bar)
        plan = Training(**{**how, "budget": budget})
        return list(train_methods(data, names, out, plan, tell=console.note, listen=listener))


def _labels(given: Sequence[str]) -> list[Method]:
    from biounet.workflows.compare import Labelled

    return [Labelled(name, Path(value)) for name, value in _named(given)]


def _models(given: Sequence[str]) -> list[Method]:
    from biounet.workflows.compare import Modelled

    return [Modelled(name, (_files(value),)) for name, value in _named(given)]


def _files(value: str) -> tuple[Path, ...]:
    """One file, or several with commas."""
    return (Path(value),) if Path(value).exists() else tuple(Path(part) for part in value.split(","))


def _named(given: Sequence[str]) -> list[tuple[str, str]]:
    """NAME=VALUE taken apart; without a name the file's or folder's own."""
    named = []
    for text in given:
        name, equals, value = text.partition("=")
        named.append((name, value) if equals and name and not Path(text).exists() else (Path(text).stem, text))
    return named
