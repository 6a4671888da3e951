"""The report of one training run: how it went, what it rests on, and what it makes of held-back images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.datasets.examples import Example
from biounet.inference.predict import segment
from biounet.model_file import Model
from biounet.report.methods import methods_text
from biounet.report.page import Block, Code, Curve, Figure, Numbers, Section, Table, Text, write_page
from biounet.report.pictures import ERROR_COLOURS, WRONG_CLASS, error_layer, heat, task_layer, to_rgb, wrong_class_layer
from biounet.settings import dotted
from biounet.training.repeat import repeat_command
from biounet.training.validate import Validator

_RELOAD_S = 20  # seconds after which a browser reads the page of a run under way again
_SMOOTHING = 0.02  # share of the run that the smoothed loss looks back over
SELECTION = {"instances": "mean of seg and pq", "classes": "mean Dice over classes"}  # what the best is chosen by

Float32 = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Progress:
    """How far a run came. ``metrics``: lines of ``metrics.jsonl``; ``seconds``: since its start or resume.

    Where it is not ``interrupted`` before its last step, nothing improved any more.
    """

    metrics: Sequence[Mapping[str, Any]]
    step: int
    steps: int
    seconds: float
    interrupted: bool = False


def write_report(path: Path, model: Model, progress: Progress, figures: Sequence[Figure]) -> None:
    """Write the page, whole or not at all. ``figures``: those of `held_back_figures`."""
    how = "finished"
    if progress.interrupted:
        how = f"interrupted at step {progress.step} of {progress.steps}; --resume goes on"
    elif progress.step < progress.steps:
        how = f"finished early, at step {progress.step} of {progress.steps}, as the score did not improve any more"
    sections = [
        *_sections(model.training, model.task, progress, figures),
        Section("For the methods section", [Code(methods_text(model), "Ready to paste", wraps=True)]),
    ]
    write_page(path, title="biounet training", lead=f"This training run is {how}.", sections=sections)


def write_running_report(
    path: Path, training: Mapping[str, Any], task: str, progress: Progress, figures: Sequence[Figure]
) -> None:
    """Write the page of a run that is under way, whole or not at all; a browser that shows it reads it again and again.

    ``training``: what the model file would know by now, see `assemble.provenance`. ``figures``: those of
    `running_figures`.
    """
    lead = (
        f"This training run was at step {progress.step} of {progress.steps} when this page was written; it is "
        "written anew after validations, and once more at the end."
    )
    sections = _sections(training, task, progress, figures)
    write_page(path, title="biounet training", lead=lead, sections=sections, reload_s=_RELOAD_S)


def _sections(training: Mapping[str, Any], task: str, progress: Progress, figures: Sequence[Figure]) -> list[Section]:
    return [
        Section("Result", [_result(training, task, progress)]),
        Section("Course", _curves(progress.metrics, SELECTION[task])),
        Section("Held-back images", _pictures(figures, training)),
        Section("What was inferred and decided", [statements_table(training)]),
        Section("Settings", [settings_table(training)]),
        Section("How to repeat it", [Code(repeat_command(training), "With the same data"), versions_text(training)]),
    ]


def running_figures(validator: Validator, ndim: int) -> list[Figure]:
    """The first held-back images as `held_back_figures`, by what the last validation computed."""
    return [
        _figure(e, p, validator.untuned_labels(p), validator.task, ndim)
        for e, p in zip(validator.examples, validator.seen, strict=False)
    ]


def held_back_figures(model: Model, examples: Sequence[Example], probabilities: Sequence[Float32]) -> list[Figure]:
    """Image, truth, prediction, probability and errors of each example, layers to look at.

    ``probabilities``: (K, *spatial) for each. Of a volume the middle plane is shown.
    """
    return [
        _figure(e, p, segment(model, p), model.task, model.ndim) for e, p in zip(examples, probabilities, strict=True)
    ]


def _figure(example: Example, probabilities: Float32, found: npt.NDArray[np.int32], task: str, ndim: int) -> Figure:
    instances = task == "instances"
    layers = {
        "image": to_rgb(example.image, ndim),
        "probability": heat(1 - probabilities[0], limits=(0.0, 1.0)),
        "truth": task_layer(example.labels, task),
        "prediction": task_layer(found, task),
        "errors": error_layer(found, example.labels) if instances else wrong_class_layer(found, example.labels),
    }
    legend = ERROR_COLOURS if instances else WRONG_CLASS
    return Figure(example.name, layers, shown=("image", "prediction"), legend=legend)


def smoothed(values: Sequence[float], share: float = _SMOOTHING) -> list[float]:
    """Exponential average over about ``share`` of all values; early on the mean of those seen."""
    horizon = max(1.0, share * len(values))
    result: list[float] = []
    for index, value in enumerate(values):
        before = result[-1] if result else value
        result.append(before + (value - before) * max(1 / horizon, 1 / (index + 1)))
    return result


def _result(training: Mapping[str, Any], task: str, progress: Progress) -> Numbers:
    score = training["score"]
    held_back = len(training["validation_images"])
    seconds = [line["seconds"] for line in progress.metrics if line["event"] == "StepDone"]
    pace = f"{median(seconds):.2g} s a step" if seconds else ""
    return Numbers(
        [
            (
                "score",
                ("not scored" + " yet" * bool(held_back)) if score is None else f"{score:.3f}",
                f"{SELECTION[task]}, {held_back} held back",
            ),
            ("best at step", training["step"], f"of {progress.steps}"),
            ("time", f"{progress.seconds:.0f} s", pace),
        ]
    )


def _curves(metrics: Sequence[Mapping[str, Any]], selection: str) -> list[Block]:
    steps = [line for line in metrics if line["event"] == "StepDone"]
    scored = [line for line in metrics if line["event"] == "Validated"]
    if not steps:
        return [Text("No step was done.")]
    at = [line["step"] for line in steps]
    losses = [line["loss"] for line in steps]
    blocks: list[Block] = [
        Curve("Loss", at, {"loss": losses, "smoothed": smoothed(losses)}, "step", "weighted cross-entropy"),
        Curve("Learning rate", at, {"learning rate": [line["learning_rate"] for line in steps]}, "step"),
    ]
    if scored:
        series = {
            selection if name == "selection" else name: [line["scores"][name] for line in scored]
            for name in scored[0]["scores"]
            if name != "loss"
        }
        at = [line["step"] for line in scored]
        blocks.insert(1, Curve("Scores of the held-back images", at, series, "step"))
        loss = {"loss": [line["scores"]["loss"] for line in scored]}
        blocks.insert(2, Curve("Loss on the held-back images", at, loss, "step", "cross-entropy, unweighted"))
    return blocks


def _pictures(figures: Sequence[Figure], training: Mapping[str, Any]) -> list[Block]:
    names = training["validation_images"]
    if not names:
        return [Text("Nothing was held back: see what was decided, below.")]
    overlapping = sorted(set(names) & set(training["training_images"]))
    by = "the best weights" if "validation_scores" in training else "the weights of the last validation, not tuned yet"
    said = f"Predicted by {by}. {len(figures)} of {len(names)} are shown."
    if overlapping:
        said += f"\n\nParts of the same images were learnt from: {', '.join(overlapping)}; see what was decided, below."
    return [Text(said), *figures]


def statements_table(training: Mapping[str, Any]) -> Table:
    """What was inferred and decided, a row for each statement."""
    return Table("", ["statement"], [[str(text)] for text in training["statements"]])


def versions_text(training: Mapping[str, Any]) -> Text:
    """What computed the model, and how exactly it can be repeated."""
    versions = ", ".join(f"{name} {version}" for name, version in training["versions"].items())
    return Text(
        f"Computed by {versions}. The same machine, versions and thread count give the same weights, bit for bit."
    )


def settings_table(training: Mapping[str, Any]) -> Table:
    """Every setting, the seed, the precision and the hash of the data."""
    rows = [[name, str(value)] for name, value in dotted(training["settings"])]
    extra = [[name, str(training[name])] for name in ("seed", "precision", "data_sha256")]
    return Table("", ["setting", "value"], rows + extra)
