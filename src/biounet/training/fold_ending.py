"""The end of a cross-validation: every image judged by the model that did not learn from it, and one model of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from biounet.inference.ensembles import joined
from biounet.inference.torch_engine import TorchEngine, torch_network
from biounet.labels.tuning import Tuner
from biounet.model_file import Model
from biounet.report.page import Figure
from biounet.training.estimate import SCORE, Scored, estimate, in_words
from biounet.training.fold_job import FoldJob
from biounet.training.priors import best_of, share_scores, take_back, takes_back, without_weights
from biounet.training.report import SELECTION, held_back_figures
from biounet.training.validate import MOST_PICTURES, Validator, object_score

Float32 = npt.NDArray[np.float32]
Probabilities = Sequence[Sequence[Float32]]  # (K, *spatial) of each image that each fold held back


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What the folds say of the images that they held back.

    ``postprocessing`` and ``taken_back``, the share of the class weights (see `priors`): of the model of all, tuned on
    all these images; ``scores`` are those with what was tuned on the images of the other folds alone, and so are
    ``probabilities`` of classes. ``tuned``: whether there was anything to tune.
    """

    probabilities: Probabilities
    scores: Sequence[Scored]
    postprocessing: Mapping[str, Any]
    taken_back: float
    tuned: bool
    of_score: str


def held_out(job: FoldJob, models: Sequence[Model], device: str) -> HeldOut:
    """Predict and score what each fold held back, in fp32, by the model of that fold."""
    validators = [job.validator(fold, model) for fold, model in enumerate(models)]
    probabilities = [
        validator.probabilities(torch_network(model).to(device))
        for validator, model in zip(validators, models, strict=True)
    ]
    task, taken_back = job.data.meaning.task, 0.0
    chosen, final = _tuned(validators, probabilities) if task == "instances" else ([{} for _ in validators], {})
    tuned = task == "instances" or takes_back(torch_network(models[0]))
    if tuned and task == "classes":
        probabilities, taken_back = _without_weights(job, validators, probabilities)
    scores = [
        Scored(example.name, fold, _renamed(values))
        for fold, (validator, found, settings) in enumerate(zip(validators, probabilities, chosen, strict=True), 1)
        for example, values in zip(validator.examples, validator.scores_of_each(found, settings), strict=True)
    ]
    return HeldOut(probabilities, scores, final, taken_back, tuned, SELECTION[task])


def model_of_folds(
    job: FoldJob, models: Sequence[Model], found: HeldOut, said: Sequence[str], *, on_all: Model | None = None
) -> Model:
    """The ensemble of the folds' models, or the model trained ``on_all`` images after them, with the estimate.

    ``said``: statements about the folds.
    """
    first, images = models[0].training, [example.name for example in job.data.examples]
    estimated = estimate(found.scores)
    common = [text for text in first["statements"] if not text.startswith("held back: ")]
    scores = {name: [image[name] for image in estimated["images"]] for name in estimated["mean"] if name != SCORE}
    training = {
        **first,
        "seed": job.seed,
        "folds": len(models),
        "refit": on_all is not None,
        "members": [model.sha256 for model in models],
        "member_steps": [model.training["step"] for model in models],
        "steps_done": max(model.training["steps_done"] for model in models),
        "step": job.steps,
        "score": estimated["mean"][SCORE],
        "estimate": estimated,
        "validation_scores": scores,
        "class_weights_taken_back": found.taken_back,
        "tuned_on": "held-back images of all folds" if found.tuned else None,
        "training_images": images,
        "validation_images": [],  # none that no member learnt from
        "objects": _objects(job) if first["objects"] is not None else None,
        "statements": [*common, *said, *in_words(estimated, of_score=found.of_score)],
    }
    if on_all is not None:
        made = _taken_back(on_all, job.class_weights(None), found.taken_back)
        return replace(made, training=training, postprocessing=found.postprocessing)
    members = [_taken_back(m, job.class_weights(fold), found.taken_back) for fold, m in enumerate(models)]
    return joined(members, training=training, postprocessing=found.postprocessing)


def fold_figures(job: FoldJob, models: Sequence[Model], found: HeldOut) -> list[Figure]:
    """The first image that each fold held back, as its model sees it, for some folds."""
    figures = []
    for split, model, probabilities in list(zip(job.splits, models, found.probabilities, strict=True))[:MOST_PICTURES]:
        figures += held_back_figures(model, split.validation[:1], probabilities[:1])
    return figures


def _tuned(
    validators: Sequence[Validator], probabilities: Probabilities
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Post-processing for the images of each fold, from those of all the others; and from all images."""
    truths = [example.labels for validator in validators for example in validator.examples]
    tuner = Tuner([1 - p[0] for found in probabilities for p in found], truths, object_score)
    return [asdict(tuner.best(images)) for images in _of_others(validators)], asdict(tuner.best())


def _without_weights(
    job: FoldJob, validators: Sequence[Validator], probabilities: Probabilities
) -> tuple[list[list[Float32]], float]:
    """Probabilities of classes with as much of the class weights taken back as the images of the other folds want.

    And the share that all images want.
    """
    weights = [job.class_weights(fold) for fold in range(len(validators))]
    scores = [
        share_scores(p, example.labels, of_fold)
        for validator, found, of_fold in zip(validators, probabilities, weights, strict=True)
        for p, example in zip(found, validator.examples, strict=True)
    ]
    shares = [best_of([scores[index] for index in images]) for images in _of_others(validators)]
    return [
        [without_weights(p, of_fold, share) for p in found]
        for found, of_fold, share in zip(probabilities, weights, shares, strict=True)
    ], best_of(scores)


def _of_others(validators: Sequence[Validator]) -> list[list[int]]:
    """For each fold the numbers of the images of all other folds, as they come one after the other."""
    fold_of = [fold for fold, validator in enumerate(validators) for _ in validator.examples]
    return [[index for index, of in enumerate(fold_of) if of != fold] for fold in range(len(validators))]


def _taken_back(model: Model, class_weights: Sequence[float], share: float) -> Model:
    """The model with so much of its class weights taken back, and its golden sample computed anew."""
    if share == 0:
        return model
    assert model.golden is not None
    network, (golden, _) = torch_network(model), model.golden
    take_back(network.head, class_weights, share)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return replace(model, weights=weights, sha256="").with_golden(golden, TorchEngine(network, device="cpu")(golden))


def _renamed(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Scores under the names of an estimate; the loss is no score."""
    kept = {name: value for name, value in values.items() if name not in ("selection", "loss")}
    return {SCORE: values["selection"], **kept}


def _objects(job: FoldJob) -> dict[str, int]:
    return {"training": sum(len(np.unique(e.labels[e.labels > 0])) for e in job.data.examples)}
