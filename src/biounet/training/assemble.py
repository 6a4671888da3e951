"""From trained weights to the content of a model file: nothing in it depends on time or place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from biounet.datasets.examples import image_digest
from biounet.datasets.selection import text_of
from biounet.inference.calibration import calibration_crops
from biounet.inference.packages import installed_version
from biounet.inference.torch_engine import TorchEngine
from biounet.model_file import Model
from biounet.networks.weight_standardisation import plain_weights
from biounet.planning.data import TrainingData
from biounet.planning.plan import Plan
from biounet.training.state import TrainingState

_GOLDEN_OUTPUT = 16  # pixels a side, at least


def best_weights(state: TrainingState) -> tuple[dict[str, torch.Tensor], int]:
    """The weights that scored best on the held-back images, and their step; the last before any score."""
    return (dict(state.best), state.best_step) if state.best else last_weights(state)


def last_weights(state: TrainingState) -> tuple[dict[str, torch.Tensor], int]:
    """A copy of the averaged weights as they are now, and their step."""
    return {name: value.detach().clone() for name, value in state.average.state_dict().items()}, state.step


def assemble_model(
    network: nn.Module,
    data: TrainingData,
    plan: Plan,
    *,
    postprocessing: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Model:
    """The model of a network with its weights, with a golden sample computed in fp32 on the CPU and crops for int8."""
    meaning = data.meaning
    description: Any = network.description
    model = Model(
        network=description,
        geometry=plan.geometry,
        weights={k: v.detach().cpu().contiguous().numpy().copy() for k, v in plain_weights(network).items()},
        normalisation=plan.normalisation,
        task=meaning.task,
        classes=meaning.class_names,
        values=tuple(int(v) for v in meaning.values),
        channels=data.channel_names,
        pixel_size_um=data.pixel_size_um,
        postprocessing=postprocessing,
        training=training,
    )
    crops = calibration_crops(plan.sampler.images)
    return replace(model.with_golden(*_golden(network, data.channels, plan)), calibration=crops)


def provenance(state: TrainingState, data: TrainingData, plan: Plan, step: int) -> dict[str, Any]:
    """How and on what a model was trained, as plain values; no dates, durations, paths or host names.

    ``score`` is that of this step, None where it is unknown. What is given as ``data.validation``, perhaps a path, is
    replaced by the names of the held-back images, or by their positions where names would choose others.
    ``objects``: how many were learnt from and held back, None for classes.
    """
    settings = {**state.facts["settings"], "data": dict(state.facts["settings"]["data"])}
    held_back = [e.name for e in plan.split.validation]
    if settings["data"]["validation"] is not None:
        chosen = {id(example) for example in plan.split.validation}
        positions = [index for index, example in enumerate(data.examples) if id(example) in chosen]
        settings["data"]["validation"] = text_of([example.name for example in data.examples], positions)
    return {
        "settings": settings,
        "seed": state.facts["seed"],
        "from": state.facts["from"],
        "steps": state.facts["steps"],
        "steps_done": state.step,
        "step": step,
        "score": state.best_score if step == state.best_step else None,
        "precision": plan.precision,
        "data_sha256": data.digest,
        "image_sha256": {e.name: image_digest(e.image) for e in data.examples},
        "statements": [*data.statements, *plan.statements],
        "training_images": [e.name for e in plan.split.training],
        "validation_images": held_back,
        "objects": _counts(plan) if data.meaning.task == "instances" else None,
        "versions": {name: installed_version(name) for name in ("biounet", "torch", "numpy")},
    }


def _counts(plan: Plan) -> dict[str, int]:
    sides = {"training": plan.split.training, "validation": plan.split.validation}
    return {side: sum(len(np.unique(e.labels[e.labels > 0])) for e in of) for side, of in sides.items()}


def _golden(network: nn.Module, channels: int, plan: Plan) -> tuple[Any, Any]:
    """A small random input and its logits in fp32 on the CPU."""
    size = plan.geometry.input_size((_GOLDEN_OUTPUT,) * plan.geometry.ndim)
    golden = np.random.default_rng(0).standard_normal((1, channels, *size)).astype(np.float32)
    device = next(network.parameters()).device
    logits = TorchEngine(network, device="cpu")(golden)
    network.to(device)
    return golden, logits
