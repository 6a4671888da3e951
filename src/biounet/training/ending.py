"""The end of a run: from weights to a model with its post-processing, scored on the held-back images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from biounet.model_file import Model
from biounet.planning.data import TrainingData
from biounet.planning.plan import Plan
from biounet.training.assemble import assemble_model, provenance
from biounet.training.batch_statistics import settle_batch_norm, steps_with_batch_statistics
from biounet.training.priors import best_share, take_back, takes_back
from biounet.training.state import TrainingState
from biounet.training.validate import Validator

Float32 = npt.NDArray[np.float32]
Weights = tuple[dict[str, torch.Tensor], int]  # by name, and the step that they are of


@dataclass(frozen=True, eq=False)
class Made:
    """A model, and what it says of the held-back images: probabilities (K, *spatial) of each, computed in fp32."""

    model: Model
    probabilities: Sequence[Float32]


def best_model(
    state: TrainingState,
    weights: Weights,
    data: TrainingData,
    plan: Plan,
    validator: Validator,
    *,
    tunes: bool = True,
) -> Made:
    """The model of these weights with the scores of the held-back images, on which its decision is tuned.

    That is the post-processing of instances, and of classes how far their weights are taken back. Without ``tunes`` it
    is that of the validations. ``state.average`` holds the weights afterwards.
    Batch statistics are settled also where these weights were never scored, as when a run is interrupted.
    """
    network, training = _settled(state, weights, data, plan, validator, tunes=tunes)
    found = validator.probabilities(network, precision="fp32")
    postprocessing = validator.tune(found) if tunes else validator.untuned
    training["validation_scores"] = validator.final_scores(found, postprocessing)
    return Made(assemble_model(network, data, plan, postprocessing=postprocessing, training=training), found)


def model_with(
    state: TrainingState,
    weights: Weights,
    data: TrainingData,
    plan: Plan,
    validator: Validator,
    *,
    postprocessing: Mapping[str, Any],
    tunes: bool = True,
) -> Model:
    """The model of these weights with this post-processing; otherwise as `best_model`."""
    network, training = _settled(state, weights, data, plan, validator, tunes=tunes)
    return assemble_model(network, data, plan, postprocessing=postprocessing, training=training)


def _settled(
    state: TrainingState, weights: Weights, data: TrainingData, plan: Plan, validator: Validator, *, tunes: bool
) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a model is made of, and where it comes from."""
    values, step = weights
    network = state.average
    network.load_state_dict(values)
    if step <= steps_with_batch_statistics(state.facts["steps"], plan.settings.training):
        settle_batch_norm(network, plan.sampler, seed=state.facts["seed"], precision=plan.precision)
    training = provenance(state, data, plan, step)
    share, of_classes = 0.0, data.meaning.task == "classes"
    tuned = tunes and (not of_classes or takes_back(network))
    if tuned and of_classes:
        truths, class_weights = [e.labels for e in validator.examples], plan.sampler.class_weights
        share = best_share(validator.probabilities(network), truths, class_weights)
        take_back(network.get_submodule("head"), class_weights, share)
    return network, training | {"class_weights_taken_back": share, "tuned_on": "held-back images" if tuned else None}
