"""``biounet evaluate``: pixel, object and boundary scores with their intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from biounet.cli import options
from biounet.cli.console import Console
from biounet.errors import UsageError
from biounet.words import counted

_SHOWN_IOU = ("0.50", "0.75", "0.90")  # the other thresholds with -v; JSON has them all


def evaluate(
    context: typer.Context,
    predicted: Annotated[Path, typer.Argument(help="Folder of NAME_labels.tif, or one file.")],
    true: Annotated[Path, typer.Argument(help="Data folder, folder of label images, or one file.")],
    only: Annotated[
        str | None, typer.Option(help="Only these images: 'slices 20-23' (from 0), a folder, or names.")
    ] = None,
    task: options.Task = None,
    ndim: options.Ndim = None,
    unlabelled: options.UnlabelledTruth = None,
    object_classes: options.ObjectClasses = True,
    csv: Annotated[Path | None, typer.Option(help="Folder for images.csv and objects.csv.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write scores and pictures of errors to this HTML file.")] = None,
    warping: Annotated[bool, typer.Option(help="Compute the warping error, the one slow score.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Score predicted labels against the truth, image by image and in the mean."""
    console = Console(as_json=json, verbosity=-1 if quiet else verbose)
    from biounet.evaluation.files import evaluate_files
    from biounet.evaluation.tables import write_tables
    from biounet.workflows.evaluate_page import write_evaluation_page

    check_task(task)
    found = evaluate_files(
        predicted,
        true,
        only=only,
        task=task,  # type: ignore[arg-type]
        ndim=ndim,
        unlabelled=unlabelled,
        object_classes=object_classes,
        warping=warping,
        seed=seed,
    )
    for line in found.statements:
        console.note(line)
    if csv is not None:
        write_tables(csv, found)
        console.note(f"{csv}: images.csv and objects.csv")
    if report is not None:
        write_evaluation_page(report, found, predicted, options.typed(context))
        console.note(f"{report}: scores and pictures, the worst images first")
    show_scores(console, found.result)
    console.finish(found.result)


def check_task(task: str | None) -> None:
    """Raise `UsageError` for a task that there is not."""
    if task not in (None, "instances", "classes"):
        raise UsageError(f"--task {task!r} is not known; choose instances or classes")


def show_scores(console: Console, result: dict[str, Any]) -> None:
    """The means with intervals as a table, then the objects' errors by name."""
    mean, interval = result["mean"], result["interval"]
    rows = []
    for path in shown_paths(console, mean):
        value, ends = _at(mean, path), _at(interval, path)
        if value is None:
            continue
        shown = "" if ends is None else f"{ends[0]:.4f} to {ends[1]:.4f}"
        left_out = _at(result["undefined"], path)
        used = len(result["images"]) - (left_out or 0)
        of = f" (of {counted(used, 'image')})" if left_out else ""
        rows.append([" ".join(path) + of, f"{value:.4f}", shown])
    count = len(result["images"])
    over = result["interval_over"]
    console.table(f"mean of {counted(count, 'image')}", ["score", "mean", f"95 % interval over {over}"], rows)
    pooled = result["pooled"]
    if pooled["seg"] is not None:
        console.result(f"seg over all {pooled['objects']} objects together: {pooled['seg']:.4f}")


def shown_paths(console: Console, mean: dict[str, Any]) -> list[tuple[str, ...]]:
    """Places in nested scores that a table shows: of IoU thresholds a few, all of them with -v."""
    by_iou = ("ap", "f1", "pq_by_iou")
    paths = _paths(mean)
    return [p for p in paths if p[0] not in by_iou or p[1] in _SHOWN_IOU or console.verbosity > 0]


def _paths(tree: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, value in tree.items():
        if isinstance(value, dict):
            found += _paths(value, (*prefix, name))
        else:
            found.append((*prefix, name))
    return found


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
