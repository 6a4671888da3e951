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
from biounet.training.priors import best_share, take_back
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
    """The model of these weights with the scores of the held-back images, on which its post-processing is tuned.

    Without ``tunes`` post-processing is that of the validations. ``state.average`` holds the weights afterwards.
    Batch statistics are settled also where these weights were never scored, as when a run is interrupted.
    """
    network, training = _settled(state, weights, data, plan, validator)
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
) -> Model:
    """The model of these weights with this post-processing; ``state.average`` holds the weights afterwards."""
    network, training = _settled(state, weights, data, plan, validator)
    return assemble_model(network, data, plan, postprocessing=postprocessing, training=training)


def _settled(
    state: TrainingState, weights: Weights, data: TrainingData, plan: Plan, validator: Validator
) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a model is made of, and where it comes from."""
    values, step = weights
    network = state.average
    network.load_state_dict(values)
    if step <= steps_with_batch_statistics(state.facts["steps"], plan.settings.training):
        settle_batch_norm(network, plan.sampler, seed=state.facts["seed"], precision=plan.precision)
    training = provenance(state, data, plan, step)
    training["class_weights_taken_back"] = _take_back_class_weights(network, data, plan, validator)
    return network, training


def _take_back_class_weights(network: nn.Module, data: TrainingData, plan: Plan, validator: Validator) -> float:
    """For classes: the plan's share, or as much as the held-back images want (see `priors`); the share of it."""
    head = getattr(network, "head", None)
    if data.meaning.task != "classes" or head is None or getattr(head, "bias", None) is None:
        return 0.0
    weights = plan.sampler.class_weights
    share = plan.taken_back
    if share is None:
        share = best_share(validator.probabilities(network), [e.labels for e in validator.examples], weights)
    take_back(head, weights, share)
    return share
