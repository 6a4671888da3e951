import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from biounet.datasets.examples import Example
from biounet.geometry import pointwise_geometry
from biounet.images.normalize import Normalisation
from biounet.training.validate import Validator, mean_scores, object_score


class Threshold(nn.Module):
    """Knows the class of a pixel by its normalised intensity: as many classes as ``levels`` and one more."""

    def __init__(self, *levels, sharpness=50.0):
        super().__init__()
        self.geometry = pointwise_geometry()
        self.levels = nn.Parameter(torch.tensor(levels))
        self.sharpness = sharpness

    def forward(self, x):
        margins = [torch.zeros_like(x), *(self.sharpness * (x - level) for level in self.levels)]
        return torch.cat([sum(margins[: k + 1]) for k in range(len(margins))], dim=1)


def example(labels, image=None, name="a"):
    labels = np.array(labels, np.int32)
    return Example(name, (labels if image is None else np.array(image))[None].astype(np.float32), labels)


def validator(*examples, task="instances", classes=2):
    return Validator(examples, Normalisation("percentile"), task, classes, "fp32")


TWO = [[0, 1, 1, 0, 0, 0, 0, 0, 2, 2]] * 4  # so wide a gap is no line to be given back


def test_objects_that_are_found_exactly_score_one():
    scores = validator(example(TWO, np.minimum(TWO, 1)))(Threshold(0.5))
    assert scores["selection"] == scores["seg"] == scores["dice"] == 1
    assert scores["loss"] == pytest.approx(0, abs=1e-6)


def test_unknown_pixels_count_nowhere():
    labels = np.pad(TWO, [(0, 0), (0, 8)])
    labels[:, -1] = -1
    image = np.minimum(np.maximum(labels, 0), 1)
    image[1, -1] = 1  # wrong, but nobody knows
    scores = validator(example(labels, image))(Threshold(0.5))
    assert scores["dice"] == 1
    assert scores["loss"] == pytest.approx(0, abs=1e-6)


def test_scores_of_classes_by_arithmetic():
    """Truth 3 x class 0, 2 x class 1, 1 x class 2; one pixel of class 0 is taken for class 1."""
    truth = [[0, 0, 0], [1, 1, 2]]
    scores = validator(example(truth, [[0, 0, 1], [1, 1, 2]]), task="classes", classes=3)(Threshold(0.25, 0.75))
    assert scores["selection"] == pytest.approx((4 / 5 + 4 / 5 + 1) / 3)
    assert scores["dice"] == pytest.approx((4 / 5 + 1) / 2)  # as `evaluate` says: background is none of them
    assert scores["pixel_error"] == pytest.approx(1 / 6)


def test_the_loss_is_the_mean_of_minus_the_logarithm_over_known_pixels():
    labels = [[0, 1], [-1, -1]]
    scores = validator(example(labels, [[0.0, 1.0], [1.0, 0.0]]))(Threshold(0.5, sharpness=2.0))
    assert scores["loss"] == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-5)


@pytest.mark.parametrize(("drawn", "expected"), [(0, 1.0), (1, 0.0)])
def test_an_image_without_objects_is_right_when_nothing_is_found(drawn, expected):
    image = np.zeros((4, 4))
    image[0, 0] = 1.0
    scores = validator(example(np.zeros((4, 4)), image))(Threshold(0.5 if drawn else 2.0))
    assert scores["selection"] == expected


@pytest.mark.parametrize(("labels", "class_pq"), [(np.zeros((4, 10)), None), (TWO, 0.0)])
def test_where_nothing_is_found_the_classes_of_true_objects_count(labels, class_pq):
    one = replace(example(labels, np.zeros((4, 10))), kinds={1: "glia", 2: "neuron"})
    found = Validator([one], Normalisation("percentile"), "instances", 3, "fp32", cell_classes=("glia", "neuron"))
    scores = found.scores_of_each(found.probabilities(Threshold(2.0, 3.0)), found.untuned)[0]
    assert scores["class_pq"] == class_pq
    assert scores["selection"] == (1.0 if class_pq is None else 0.0)


def test_a_network_that_computes_no_numbers_has_scores_that_are_none():
    scores = validator(example(TWO))(Threshold(float("nan")))
    assert math.isnan(scores["selection"])
    assert math.isnan(scores["loss"])


def test_means_leave_out_what_is_not_defined():
    assert mean_scores([{"a": 1.0, "b": None}, {"a": 0.0, "b": None}, {"a": None, "b": None}]) == {"a": 0.5, "b": 0.0}


def test_postprocessing_is_tuned_on_the_held_back_images():
    """Specks of one pixel beside cells of 36: the tuned settings drop them, classes need none."""
    labels = np.zeros((16, 32), int)
    labels[2:8, 2:8], labels[2:8, 12:18] = 1, 2
    image = (labels > 0).astype(float)
    for row, column in [(11, 5), (13, 20), (5, 25)]:
        image[row, column] = 1
    held = validator(example(labels, image), example(labels, image, name="b"))
    assert held.tune(held.probabilities(Threshold(0.5))).keys() >= {"threshold", "smallest_px", "split"}
    assert validator(example(TWO), task="classes").tune([]) == {}


def test_the_first_few_probabilities_are_those_of_the_first_examples():
    held = validator(example(TWO), example(np.array(TWO)[:2], name="b"))
    first = held.probabilities(Threshold(0.5), first=1)
    assert [p.shape for p in first] == [(2, 4, 10)]
    assert np.array_equal(first[0], held.probabilities(Threshold(0.5))[0])


def test_final_scores_are_of_each_image_with_the_settings_given():
    one = [[0, 3, 3, 0, 0, 0, 0, 0, 0, 0]] * 4
    found = validator(example(TWO, np.minimum(TWO, 1)), example(one, np.minimum(one, 1)))
    probabilities = found.probabilities(Threshold(0.5))
    settings = {"threshold": 0.5, "smallest_px": 0, "fill_holes_px": 0, "give_back_px": 0, "split": None}
    assert found.final_scores(probabilities, settings) == {"seg": [1, 1], "pq": [1, 1], "dice": [1, 1]}
    dropped = found.final_scores(probabilities, settings | {"smallest_px": 9})  # every object has 8 pixels
    assert dropped["seg"] == [0, 0]


def test_a_prediction_that_reaches_into_the_unknown_is_not_wrong_where_nothing_is_true():
    true = np.zeros((10, 10), np.int32)
    true[:, 7:] = -1
    reaching, alone = np.zeros((2, 10, 10), np.int32)
    reaching[4, 5:9], alone[4, 1:3] = 1, 1
    assert object_score(np.zeros_like(true), true) == 1
    assert object_score(reaching, true) == 1
    assert object_score(alone, true) == 0
