"""Scores of the held-back images: during a run to choose the best weights, after it to tune."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from biounet.evaluation.objects import seg
from biounet.evaluation.pixels import class_scores, dice, pixel_error
from biounet.images.examples import Example
from biounet.images.normalize import Normalisation
from biounet.inference.engines import TorchEngine
from biounet.inference.predict import plan_for, softmax
from biounet.inference.tiling import predict_tiled
from biounet.labels.components import components
from biounet.labels.instances import InstanceSettings, instances
from biounet.labels.tuning import tune

Float32 = npt.NDArray[np.float32]
_STARTING = InstanceSettings(give_back_px=1)


class Validator:
    """Callable that scores a network on examples; ``scores["selection"]`` is what the task is about.

    For instances that is `seg`, for classes the mean Dice over all classes. Unknown pixels count
    nowhere.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        normalisation: Normalisation,
        task: str,
        classes: int,
        precision: str,
    ) -> None:
        self.examples = examples
        self.images = [normalisation.apply(e.image) for e in examples]
        self.task = task
        self.classes = classes
        self.precision = precision

    def probabilities(self, network: nn.Module, *, precision: str | None = None) -> list[Float32]:
        """Probabilities (K, *spatial) of every example, on the device the network is on."""
        device = str(next(network.parameters()).device)
        engine = TorchEngine(network, device=device, precision=precision or self.precision)
        return [
            softmax(predict_tiled(engine, x, engine.geometry, plan=plan_for(x.shape[1:], engine))) for x in self.images
        ]

    def __call__(self, network: nn.Module) -> dict[str, float]:
        probabilities = self.probabilities(network)
        return mean_scores([self._scores(p, e.labels) for p, e in zip(probabilities, self.examples, strict=True)])

    def tune(self, network: nn.Module) -> dict[str, Any]:
        """Post-processing that scores best on the held-back images, as plain values."""
        if self.task != "instances":
            return {}
        cells = [1 - p[0] for p in self.probabilities(network, precision="fp32")]
        best = tune(cells, [e.labels for e in self.examples], _object_score)
        return asdict(best)

    def _scores(self, probabilities: Float32, labels: npt.NDArray[np.int32]) -> dict[str, float | None]:
        known = labels >= 0
        truth = np.where(labels > 0, 1, labels) if self.task == "instances" else labels
        chosen = np.take_along_axis(probabilities, np.maximum(truth, 0)[None].astype(np.int64), 0)[0]
        loss = float(-np.log(np.maximum(chosen[known], 1e-7)).mean()) if known.any() else None
        if self.task == "instances":
            predicted = instances(1 - probabilities[0], _STARTING)
            score = _object_score(predicted, labels)
            return {
                "selection": score,
                "loss": loss,
                "seg": score,
                "dice": dice(predicted, labels),
            }
        predicted = probabilities.argmax(0).astype(np.int32)
        by_class = class_scores(predicted, labels, [str(k) for k in range(self.classes)])
        values = [s["dice"] for s in by_class.values() if s["dice"] is not None]
        return {
            "selection": float(np.mean(values)) if values else None,
            "loss": loss,
            "dice": dice(predicted, labels),
            "pixel_error": pixel_error(predicted, labels),
        }


def mean_scores(scores: Sequence[dict[str, float | None]]) -> dict[str, float]:
    """Mean of every score over the images where it is defined; 0 where it is nowhere."""
    result = {}
    for name in scores[0]:
        values = [s[name] for s in scores]
        defined = [v for v in values if v is not None]
        result[name] = float(np.mean(defined)) if defined else 0.0
    return result


def _object_score(predicted: npt.NDArray[np.int32], true: npt.NDArray[np.int32]) -> float:
    """`seg`; where there is no true object, 1 for an empty prediction and 0 otherwise."""
    score = seg(predicted, true)
    if score is None:
        return float(not components((predicted > 0) & (true >= 0)).any())
    return score
