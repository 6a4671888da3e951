"""The page of an evaluation: scores with their intervals, the worst images first, errors by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from biounet.evaluation.comparison import HEADLINES, at
from biounet.evaluation.files import Evaluation, Pair
from biounet.evaluation.legend import read_run
from biounet.evaluation.scores import LOWER_IS_BETTER
from biounet.evaluation.summary import flatten
from biounet.inference.packages import installed_version
from biounet.report.methods import methods_of_scores
from biounet.report.page import Block, Code, Figure, Numbers, Section, Table, Text, write_page
from biounet.report.pictures import (
    ERROR_COLOURS,
    WRONG_CLASS,
    Picture,
    error_layer,
    heat,
    middle_plane,
    reduced,
    step_for,
    task_layer,
    to_rgb,
    wrong_class_layer,
)
from biounet.words import counted
from biounet.workflows.compare_page import mean_and_interval

MOST_PICTURES = 8
_SIDE = 1024  # pixels of a picture at most


def write_evaluation_page(path: Path, evaluation: Evaluation, predicted: Path, command: str) -> None:
    """Write the page, whole or not at all.

    ``predicted``: where the label images are; a ``run.json`` beside them says what made them. ``command``: what was
    typed.
    """
    result = evaluation.result
    order = _worst_first(evaluation)
    run = read_run(predicted if predicted.is_dir() else predicted.parent)
    sections = [
        Section("Scores", _scores(result)),
        Section("Images, the worst first", [_per_image(evaluation, order)]),
        Section("Pictures", _figures(evaluation, order)),
        Section("What was inferred", [Table("", ["statement"], [[line] for line in evaluation.statements])]),
        Section("How to repeat it", [Code(command, "Command"), _origin(run)]),
        Section("For the methods section", [Code(_methods(result, run), "Ready to paste", wraps=True)]),
    ]
    by = "object by object" if result["task"] == "instances" else "class by class"
    lead = f"{counted(len(order), 'image')}, compared with the truth {by}."
    write_page(path, title="biounet evaluation", lead=lead, sections=sections)


def _worst_first(evaluation: Evaluation) -> list[int]:
    """Images by the headline score, the worst first; those without one last."""
    path = HEADLINES[evaluation.meaning.task][0]
    values = [at(image, path) for image in evaluation.result["images"]]
    sign = 1 if path[0] in LOWER_IS_BETTER else -1
    return sorted(range(len(values)), key=lambda i: (values[i] is None, -sign * (values[i] or 0.0)))


def _scores(result: dict[str, Any]) -> list[Block]:
    headlines = HEADLINES[result["task"]]
    numbers: list[tuple[str, object, str]] = []
    for path in headlines:
        mean, ends = at(result["mean"], path), at(result["interval"], path)
        note = "" if ends is None else f"95 % interval {ends[0]:.3f} to {ends[1]:.3f}"
        numbers.append((" ".join(path), "–" if mean is None else f"{mean:.3f}", note))
    rows = [[" ".join(path), mean_and_interval(result, path)] for path, _ in flatten(result["mean"])]
    over = result["interval_over"]
    few = " Below six images these are blocks of them: the intervals tell of these images and of no others."
    note = f"The mean is over images, the interval a bootstrap over {over}.{few * (over == 'blocks')}"
    return [Numbers(numbers), Table("Mean and 95 % interval", ["score", "value"], rows, note)]


def _per_image(evaluation: Evaluation, order: Sequence[int]) -> Table:
    images = evaluation.result["images"]
    paths = list(HEADLINES[evaluation.meaning.task])
    paths += [path for path, _ in flatten(images[order[0]]) if path[0] in ("errors", "objects") and path not in paths]
    rows = [[images[i]["name"], *(at(images[i], path) for path in paths)] for i in order]
    names = [path[-1] if path[0] == "errors" else " ".join(path) for path in paths]
    return Table("", ["image", *names], rows, f"Ordered by {' '.join(paths[0])}.")


def _figures(evaluation: Evaluation, order: Sequence[int]) -> list[Block]:
    task = evaluation.meaning.task
    path = HEADLINES[task][0]
    figures = []
    for i in order[:MOST_PICTURES]:
        score = at(evaluation.result["images"][i], path)
        said = f"{' '.join(path)} " + ("undefined" if score is None else f"{score:.3f}")
        figures.append(_figure(evaluation.pairs[i], task, said))
    text = f"{len(figures)} of {counted(len(order), 'image')}, the worst first."
    if any(pair.image is None for pair in evaluation.pairs):
        text += " The truth came as label images alone; a data folder as TRUE shows the images too."
    return [Text(text), *figures]


def _figure(pair: Pair, task: str, score: str) -> Figure:
    true, ndim = pair.true, pair.true.ndim
    step = step_for(true, _SIDE)

    def seen(labels: Any) -> Any:
        return middle_plane(labels, ndim)[::step, ::step]

    image = np.zeros((1, *true.shape), np.uint8) if pair.image is None else pair.image
    layers: dict[str, Picture] = {"image": to_rgb(reduced(image, ndim, step))}
    if pair.probabilities is not None:
        maps = pair.probabilities
        layers["probability"] = heat(seen(1 - maps[0] if maps.ndim > ndim else maps), limits=(0.0, 1.0))
    instances = task == "instances"
    layers["truth"] = task_layer(seen(true), task)
    layers["prediction"] = task_layer(seen(pair.predicted), task)
    layers["errors"] = (
        error_layer(pair.predicted, true, step=step)
        if instances
        else wrong_class_layer(seen(pair.predicted), seen(true))
    )
    legend = ERROR_COLOURS if instances else WRONG_CLASS
    note = "Of the volume the middle plane is shown." if ndim == 3 else ""
    return Figure(f"{pair.name}: {score}", layers, note, shown=("image", "errors"), legend=legend)


def _origin(run: Mapping[str, Any]) -> Table:
    rows = [["version of biounet", installed_version("biounet")]]
    try:
        rows.append(["predicted by the model of SHA-256", str(run["model_sha256"])])
        if "engine" in run:  # compare averages models, and writes none
            rows.append(["engine", f"{run['engine']}, {run['precision']}"])
        rows += [[f"{name} that predicted", str(value)] for name, value in run["versions"].items() if value]
    except (KeyError, TypeError, AttributeError):
        rows = [*rows[:1], ["predicted by", "not known: no run.json of biounet beside the labels"]]
    return Table("Origin", ["what", "value"], rows)


def _methods(result: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """With how the labels came about, where the file beside them tells."""
    made_by = run.get("methods")
    return methods_of_scores(result, made_by if isinstance(made_by, str) else "")
