"""Scores of the held-back images: during a run to choose the best weights, after it to tune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from biounet.datasets.examples import Example
from biounet.evaluation.cell_classes import cell_class_scores, mean_class_pq
from biounet.evaluation.objects import false_positives, matching_scores, seg_of
from biounet.evaluation.overlap import Overlap, overlap
from biounet.evaluation.pixels import class_scores, dice, pixel_error
from biounet.images.normalize import Normalisation
from biounet.inference.predict import instance_settings, plan_for, softmax
from biounet.inference.tiling import predict_tiled
from biounet.inference.torch_engine import TorchEngine
from biounet.labels.instances import InstanceSettings, instances
from biounet.labels.kinds import class_image, classes_of, object_classes
from biounet.labels.tuning import median_object_px, tune

Float32 = npt.NDArray[np.float32]
MOST_PICTURES = 4  # images whose probabilities are kept to be shown
_SPECK_SHARE = 0.1  # of the median object: what is smaller is dropped until the settings are tuned


class Validator:
    """Callable that scores a network on examples; ``scores["selection"]`` is what the task is about.

    For instances that is the mean of `seg` and `pq` (the first alone forgives spurious objects); of several
    ``cell_classes`` `pq` is the mean over the classes, of objects whose class is right. For classes it is the
    mean Dice over all classes. Unknown pixels count nowhere.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        normalisation: Normalisation,
        task: str,
        classes: int,
        precision: str,
        *,
        cell_classes: tuple[str, ...] = (),
    ) -> None:
        self.examples = examples
        self.images = [normalisation.apply(e.image) for e in examples]
        self.task = task
        self.classes = classes
        self.precision = precision
        self.cell_classes = cell_classes if len(cell_classes) > 1 else ()
        speck = round(_SPECK_SHARE * median_object_px([e.labels for e in examples])) if task == "instances" else 0
        self.seen: list[Float32] = []  # probabilities of the first images, as the last call computed them
        self.starting = InstanceSettings(smallest_px=speck, fill_holes_px=speck, give_back_px=1)

    @property
    def untuned(self) -> dict[str, Any]:
        """Post-processing of the validations, as plain values."""
        return asdict(self.starting) if self.task == "instances" else {}

    def probabilities(
        self, network: nn.Module, *, precision: str | None = None, first: int | None = None
    ) -> list[Float32]:
        """Probabilities (K, *spatial) of every example, or the ``first`` few, on the device the network is on."""
        device = str(next(network.parameters()).device)
        engine = TorchEngine(network, device=device, precision=precision or self.precision)
        with np.errstate(invalid="ignore"):  # of a network that diverged
            return [self._predict(engine, image) for image in self.images[:first]]

    def __call__(self, network: nn.Module) -> dict[str, float]:
        """Mean scores over the examples; NaN where the network computes no numbers."""
        probabilities = self.probabilities(network)
        self.seen = probabilities[:MOST_PICTURES]
        if not all(np.isfinite(p).all() for p in probabilities):
            return {"selection": math.nan, "loss": math.nan}
        return mean_scores([self._scores(p, e) for p, e in zip(probabilities, self.examples, strict=True)])

    def untuned_labels(self, probabilities: Float32) -> npt.NDArray[np.int32]:
        """Objects, or classes, of one image as the validations make them."""
        if self.task == "instances":
            return instances(1 - probabilities[0], self.starting)
        return np.asarray(probabilities.argmax(0), np.int32)

    def tune(self, probabilities: Sequence[Float32]) -> dict[str, Any]:
        """Post-processing that scores best with these probabilities of the examples, as plain values."""
        if self.task != "instances":
            return {}
        best = tune([1 - p[0] for p in probabilities], [e.labels for e in self.examples], object_score)
        return asdict(best)

    def final_scores(
        self, probabilities: Sequence[Float32], postprocessing: Mapping[str, Any]
    ) -> dict[str, list[float | None]]:
        """Scores of every example by name, in their order, with this post-processing; None where undefined."""
        scored = self.scores_of_each(probabilities, postprocessing)
        names = [name for name in scored[0] if name not in ("selection", "loss")] if scored else []
        return {name: [one[name] for one in scored] for name in names}

    def scores_of_each(
        self, probabilities: Sequence[Float32], postprocessing: Mapping[str, Any]
    ) -> list[dict[str, float | None]]:
        """Scores of every example, in their order, "selection" and "loss" too, with this post-processing."""
        settings = instance_settings(postprocessing) if self.task == "instances" else None
        return [self._scores(p, e, settings) for p, e in zip(probabilities, self.examples, strict=True)]

    @staticmethod
    def _predict(engine: TorchEngine, image: Float32) -> Float32:
        plan = plan_for(image.shape[1:], engine)
        return softmax(predict_tiled(engine, image, engine.geometry, plan=plan))

    def _scores(
        self, probabilities: Float32, example: Example, settings: InstanceSettings | None = None
    ) -> dict[str, float | None]:
        labels = example.labels
        known = labels >= 0
        truth = self._classes(example)
        chosen = np.take_along_axis(probabilities, np.maximum(truth, 0)[None].astype(np.int64), 0)[0]
        loss = float(-np.log(np.maximum(chosen[known], 1e-7)).mean()) if known.any() else None
        if self.task == "instances":
            predicted = instances(1 - probabilities[0], settings or self.starting)
            table = overlap(predicted, labels)
            scores = {
                "selection": _score_of(table),
                "loss": loss,
                "seg": seg_of(table),
                "pq": matching_scores(table, (0.5,))["pq"]["0.50"],
                "dice": dice(predicted, labels),
            }
            return scores | self._class_scores(predicted, probabilities, example, scores["seg"])
        predicted = probabilities.argmax(0).astype(np.int32)
        by_class = class_scores(predicted, labels, [str(k) for k in range(self.classes)])
        values = [s["dice"] for s in by_class.values()]
        return {
            "selection": _mean(values),
            "loss": loss,
            "dice": _mean(values[1:]),  # as `evaluation.scores` has it: without the background
            "pixel_error": pixel_error(predicted, labels),
        }

    def _classes(self, example: Example) -> npt.NDArray[np.int32]:
        """The class of each pixel."""
        if self.task == "classes":
            return example.labels
        if not self.cell_classes:
            return np.minimum(example.labels, 1)
        return class_image(example.labels, classes_of(example.labels, example.kinds, self.cell_classes))

    def _class_scores(
        self, predicted: npt.NDArray[np.int32], probabilities: Float32, example: Example, seg: float | None
    ) -> dict[str, float | None]:
        """`class_pq`, and the selection by it, where objects have classes."""
        if not self.cell_classes:
            return {}
        found = object_classes(predicted, probabilities)
        kinds = {i: self.cell_classes[found[i] - 1] for i in range(1, len(found))}
        by_class = cell_class_scores(predicted, example.labels, (kinds, example.kinds), self.cell_classes)
        class_pq = mean_class_pq(by_class)
        if seg is None or class_pq is None:
            return {"class_pq": class_pq}
        return {"class_pq": class_pq, "selection": (seg + class_pq) / 2}


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of those that are defined."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def mean_scores(scores: Sequence[dict[str, float | None]]) -> dict[str, float]:
    """Mean of every score over the images where it is defined; 0 where it is nowhere."""
    result = {}
    for name in scores[0]:
        mean = _mean([s[name] for s in scores])
        result[name] = 0.0 if mean is None else mean
    return result


def object_score(predicted: npt.NDArray[np.int32], true: npt.NDArray[np.int32]) -> float:
    """What post-processing is tuned by: mean of `seg` and `pq`."""
    return _score_of(overlap(predicted, true))


def _score_of(table: Overlap) -> float:
    """Mean of `seg` and `pq`; where there is no true object, 0 for a predicted one that is wrong, 1 otherwise."""
    seg, pq = seg_of(table), matching_scores(table, (0.5,))["pq"]["0.50"]
    if seg is None or pq is None:
        return float(false_positives(table, np.zeros(0, np.intp)) == 0)
    return (seg + pq) / 2
