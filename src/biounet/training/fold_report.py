"""The report of a cross-validation: what to expect on a new image, fold by fold and image by image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from biounet.model_file import Model
from biounet.report.methods import methods_text
from biounet.report.page import Code, Figure, Numbers, Section, Table, Text, write_page
from biounet.training.estimate import SCORE, in_words
from biounet.training.repeat import repeat_command
from biounet.training.report import SELECTION, settings_table, statements_table, versions_text

_TUNED = {
    "instances": "post-processing tuned on",
    "classes": "as much of the class weights taken back as is best for",
}


def write_fold_report(path: Path, model: Model, *, seconds: float, figures: Sequence[Figure]) -> None:
    """Write the page, whole or not at all. ``figures``: those of `fold_ending.fold_figures`."""
    sections = [
        Section("Estimate for a new image", [_result(model, seconds), Text("\n\n".join(_words(model)))]),
        Section("Folds", [_folds(model)]),
        Section("Held-back images", [_images(model), *figures]),
        Section("What was inferred and decided", [statements_table(model.training)]),
        Section("Settings", [settings_table(model.training)]),
        Section(
            "How to repeat it",
            [Code(repeat_command(model.training), "With the same data"), versions_text(model.training)],
        ),
        Section("For the methods section", [Code(methods_text(model), "Ready to paste", wraps=True)]),
    ]
    lead = f"This cross-validation in {model.training['folds']} folds is finished."
    write_page(path, title="biounet training", lead=lead, sections=sections)


def _result(model: Model, seconds: float) -> Numbers:
    found, training = model.training["estimate"], model.training
    interval = found["interval"][SCORE]
    sure = "no interval" if interval is None else f"95 %: {interval[0]:.3f} to {interval[1]:.3f}"
    mean = found["mean"][SCORE]
    return Numbers(
        [
            ("score", "undefined" if mean is None else f"{mean:.3f}", f"{SELECTION[model.task]}; {sure}"),
            ("folds", training["folds"], f"of {training['steps']} steps each"),
            ("time", f"{seconds:.0f} s", "since its start or resume"),
        ]
    )


def _words(model: Model) -> list[str]:
    made = "the ensemble of all members, whose probabilities are averaged: it"
    if model.training["refit"]:
        made = "one network more, trained on all images as long as each member, the last weights kept: it"
    return [
        *in_words(model.training["estimate"], of_score=SELECTION[model.task]),
        f"Each image was predicted by the one member that did not learn from it, with {_TUNED[model.task]} the images "
        f"of the other folds. The model is {made} "
        "learnt from every image, and cannot be judged on any of them. The best step of each fold was chosen on its "
        "own held-back images, which makes the estimate slightly optimistic.",
    ]


def _folds(model: Model) -> Table:
    found, steps = model.training["estimate"], model.training["member_steps"]
    names = list(found["mean"])
    rows = [
        [f"fold {fold}", ", ".join(_held(model, fold)), step, *(found["folds"][name][fold - 1] for name in names)]
        for fold, step in enumerate(steps, start=1)
    ]
    on_all = ", and the network of all images in all-images.safetensors.run" if model.training["refit"] else ""
    note = f"Each fold has a report of its own, in fold-1.safetensors.run and so on beside this page{on_all}."
    return Table("", ["fold", "held back", "best at step", *names], rows, note)


def _held(model: Model, fold: int) -> list[str]:
    return [image["name"] for image in model.training["estimate"]["images"] if image["fold"] == fold]


def _images(model: Model) -> Table:
    found = model.training["estimate"]
    names = list(found["mean"])
    rows = [[image["name"], image["fold"], *(image[name] for name in names)] for image in found["images"]]
    return Table("", ["image", "fold", *names], rows)
