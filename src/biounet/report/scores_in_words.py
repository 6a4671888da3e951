"""Scores in sentences, for the methods section of an article."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from biounet.report.facts import held_back_in_words

_SCORES = {
    "seg": "SEG (mean intersection over union of the objects; Maška et al. 2014)",
    "pq": "panoptic quality (at an intersection over union of 0.5; Kirillov et al. 2019)",
    "class_pq": "panoptic quality, mean over the classes",
    "dice": "{dice} (Dice 1945)",
    "pixel_error": "pixel error",
}

_DICE = {
    "instances": "Dice coefficient of the foreground",
    "classes": "Dice coefficient, mean over the classes but the first",
}
_TUNED = {"instances": "post-processing", "classes": "how far class weights are taken back"}  # on held-back images


def scores_of_training(task: str, known: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on the scores that a model file states, of held-back images or of a cross-validation."""
    if "folds" in known:
        yield from _cross_validated(task, known)
        return
    scores = known.get("validation_scores") or {}
    held = len(known.get("validation_images", ()))
    said = [f"{what} {_spread(scores[name])}" for name, what in _scored(task).items() if name in scores]
    if not said:
        return
    spread = "mean ± standard deviation over images" if held > 1 else "one image, so without a spread"
    chosen = f"Weights and {_TUNED[task]}" if known.get("tuned_on") else "The weights"
    yield (
        f"On the held-back {'images' if held > 1 else 'image'} the result was: {'; '.join(said)} ({spread}). "
        f"{chosen} were chosen there, so this is no independent test."
    )


def _cross_validated(task: str, known: Mapping[str, Any]) -> Iterator[str]:
    """Means of the cross-validation with their intervals."""
    found = known["estimate"]
    if said := means_in_words(task, found):
        yield (
            f"Over the {held_back_in_words([image['name'] for image in found['images']])} of all folds the result was: "
            f"{'; '.join(said)}."
        )
        if known.get("tuned_on"):
            yield f"For each fold {_TUNED[task]} was chosen on the images of the others."


def _scored(task: str) -> dict[str, str]:
    """What each score is called."""
    return {name: what.format(dice=_DICE[task]) for name, what in _SCORES.items()}


def means_in_words(task: str, found: Mapping[str, Any]) -> list[str]:
    """Each score that is defined with its mean and interval."""
    said = []
    for name, what in _scored(task).items():
        if (mean := found["mean"].get(name)) is not None:
            interval = found["interval"].get(name)
            sure = "" if interval is None else f" (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
            said.append(f"{what} {mean:.3f}{sure}")
    return said


def _spread(values: Sequence[float | None]) -> str:
    defined = [value for value in values if value is not None]
    if not defined:
        return "undefined"
    mean = f"{statistics.fmean(defined):.3f}"
    return mean if len(defined) < 2 else f"{mean} ± {statistics.stdev(defined):.3f}"
