"""What to expect on a new image: scores of all held-back images of a cross-validation, with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biounet.evaluation.intervals import FEWEST_VALUES, mean_with_interval
from biounet.report.facts import held_back_in_words, seeds_in_words
from biounet.words import counted

Scores = dict[str, float | None]

SCORE = "score"  # what a task is judged by; "selection" inside a run
_BOUNDS = (0.0, 1.0)  # of every score here


@dataclass(frozen=True)
class Scored:
    """A held-back image, the fold (1, 2, ...) that held it back, and its scores by name."""

    name: str
    fold: int
    scores: Scores


def estimate(images: Sequence[Scored]) -> dict[str, Any]:
    """Means over all held-back images with their spread, as plain values.

    - ``images``: a dict of ``name``, ``fold`` and scores for each, None where undefined;
    - ``mean``: of each score over the images where it is defined;
    - ``interval``: [low, high], the 95 % bootstrap interval of the mean over images; None below six images;
    - ``folds``: for each score the mean of each fold's images;
    - ``between_folds``: the standard deviation of these means, None with fewer than two.
    """
    names = list(dict.fromkeys(name for image in images for name in image.scores))
    result: dict[str, Any] = {
        "images": [{"name": image.name, "fold": image.fold, **image.scores} for image in images],
        "mean": {},
        "interval": {},
        "folds": {},
        "between_folds": {},
    }
    for name in names:
        found = mean_with_interval([i.scores.get(name) for i in images], np.random.default_rng(0), bounds=_BOUNDS)
        means = [_mean(images, name, fold) for fold in sorted({image.fold for image in images})]
        defined = [mean for mean in means if mean is not None]
        result["mean"][name] = found.mean
        result["interval"][name] = None if found.low is None else [found.low, found.high]
        result["folds"][name] = means
        result["between_folds"][name] = float(np.std(defined, ddof=1)) if len(defined) > 1 else None
    return result


def in_words(found: dict[str, Any], *, of_score: str) -> tuple[str, ...]:
    """The estimate in two lines. ``of_score``: what the score is, as "mean of seg and pq"."""
    mean, interval = found["mean"], found["interval"][SCORE]
    over = held_back_in_words([image["name"] for image in found["images"]])
    if interval is None:
        sure = f"over {over}, too few for an interval ({FEWEST_VALUES} are needed)"
    else:
        sure = f"95 % interval {interval[0]:.3f} to {interval[1]:.3f} over {over}"
    others = ", ".join(f"{k} {v:.3f}" for k, v in mean.items() if k != SCORE and v is not None)
    means = [m for m in found["folds"][SCORE] if m is not None]
    spread = found["between_folds"][SCORE]
    lines = [f"estimate for a new image: score {_shown(mean[SCORE])} ({of_score}; {sure}); {others}"]
    if spread is not None:
        lines.append(
            f"between the folds: means from {min(means):.3f} to {max(means):.3f}, standard deviation {spread:.3f}"
        )
    return tuple(lines)


def judged_images(training: Mapping[str, Any]) -> Sequence[str]:
    """Names of the images that the score of a model file speaks of: those of the estimate, or those held back."""
    if "estimate" in training:
        return [image["name"] for image in training["estimate"]["images"]]
    return list(training.get("validation_images", ()))


def trained_in_words(training: Mapping[str, Any]) -> str:
    """How a model file was trained, and its scores on the images it speaks of, with the post-processing it has."""
    kept = training.get("step")
    steps = training.get("steps_done", training.get("steps", kept))
    if steps is None:
        return "it does not say how it was trained"
    said, seeds = f"trained {counted(steps, 'step')}", seeds_in_words(training)
    if training.get("refit"):
        said = f"{said} on all images, after {training['folds']} folds of as many ({seeds})"
    elif "folds" in training:
        said = f"{training['folds']} folds, each {said} ({seeds})"
    else:
        said += f" with {seeds}" + f", the weights of step {kept} kept" * (kept != steps)
    means = {
        name: _mean_of(values) for name, values in (training.get("validation_scores") or {}).items()
    } or training.get("estimate", {}).get("mean", {})
    scores = ", ".join(f"{name} {value:.3f}" for name, value in means.items() if value is not None)
    judged = held_back_in_words(judged_images(training))
    of = " of the folds" if "folds" in training else ""
    return f"{said}; on {judged}{of}: {scores}" if scores else said


def _mean(images: Sequence[Scored], name: str, fold: int) -> float | None:
    return _mean_of([image.scores.get(name) for image in images if image.fold == fold])


def _mean_of(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
