import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.errors import DataError, UsageError
from biounet.evaluation import object_errors, objects, pixels, rand
from biounet.evaluation.boundaries import warping_error
from biounet.evaluation.scores import evaluate_pair, inside_probability, segments_of
from biounet.labels.components import components

NAMES = {
    "pixel_error", "dice", "iou", "rand_error", "v_rand", "v_info", "warping_error",
    "seg", "det", "pq", "pq_by_iou", "ap", "f1", "errors", "objects",
}  # fmt: skip
IOU_NAMES = {f"0.{k}" for k in range(50, 100, 5)}


def random_pair(seed, ids=7, shape=(20, 24)):
    rng = np.random.default_rng(seed)
    pieces = [np.kron(rng.integers(0, ids, (5, 6)), np.ones((4, 4), int)) for _ in range(3)]
    true = np.where(rng.random(shape) < 0.97, pieces[0], pieces[1])
    return np.where(rng.random(shape) < 0.8, pieces[0], pieces[2]), true


def test_names_and_json():
    predicted, true = random_pair(0)
    scores = evaluate_pair(predicted, true, task="instances")
    assert set(scores) == NAMES
    assert set(evaluate_pair(predicted, true, task="instances", warping=False)) == NAMES - {"warping_error"}
    assert set(evaluate_pair(predicted, true, task="classes")) == NAMES | {"classes"}
    assert set(scores["errors"]) == {"merges", "splits", "misses", "spurious"}
    for name in ("ap", "f1", "pq_by_iou"):
        assert set(scores[name]) == IOU_NAMES
    assert scores["pq"] == scores["pq_by_iou"]["0.50"]
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


@pytest.mark.parametrize("seed", range(3))
def test_instances_are_scored_as_given(seed):
    predicted, true = random_pair(seed)
    scores = evaluate_pair(predicted, true, task="instances")
    assert scores == {
        "pixel_error": pixels.pixel_error(predicted, true),
        "dice": pixels.dice(predicted, true),
        "iou": pixels.iou(predicted, true),
        "rand_error": rand.rand_error(predicted, true),
        "v_rand": rand.v_rand(predicted, true).score,
        "v_info": rand.v_info(predicted, true).score,
        "warping_error": warping_error(predicted, true),
        "seg": objects.seg(predicted, true),
        "det": objects.det(predicted, true),
        "pq": objects.pq(predicted, true)["0.50"],
        "pq_by_iou": objects.pq(predicted, true),
        "ap": objects.ap(predicted, true),
        "f1": objects.f1(predicted, true),
        "errors": object_errors.object_errors(predicted, true),
        "objects": {"true": len(set(true[true > 0])), "predicted": len(set(predicted[predicted > 0]))},
    }


def test_classes_are_scored_by_class_and_by_component():
    true = np.array([[1, 1, 0, 2, 2], [1, 1, 0, 2, 2], [0, 0, 0, 0, 0]])
    predicted = np.array([[1, 1, 0, 2, 1], [1, 1, 0, 2, 1], [0, 0, 0, 1, 0]])
    scores = evaluate_pair(predicted, true, task="classes", classes=["outside", "cell", "nucleus"])
    cell, nucleus = 2 * 4 / (4 + 7), 2 * 2 / (4 + 2)
    assert scores["pixel_error"] == 3 / 15
    assert scores["classes"]["cell"]["dice"] == cell
    assert scores["dice"] == pytest.approx((cell + nucleus) / 2)
    assert scores["iou"] == pytest.approx((4 / 7 + 2 / 4) / 2)
    assert scores["objects"] == {"true": 2, "predicted": 2}
    assert scores["seg"] == pytest.approx((1 + 4 / 5) / 2)
    assert scores["v_rand"] == scores["v_info"] == 1.0
    assert scores["warping_error"] == 0.0


@pytest.mark.parametrize("task", ["instances", "classes"])
def test_a_perfect_prediction(task):
    _, true = random_pair(4)
    scores = evaluate_pair(true, true, task=task)
    assert {scores[name] for name in ("dice", "iou", "v_rand", "v_info", "seg", "det", "pq")} == {1.0}
    assert {scores[name] for name in ("pixel_error", "rand_error", "warping_error")} == {0.0}
    assert scores["errors"] == {"merges": 0, "splits": 0, "misses": 0, "spurious": 0}


def test_probabilities_enter_the_rand_error_only():
    true = np.array([[1, 1, 0, 1, 1]])
    labels = np.array([[1, 1, 1, 1, 1]])
    inside = np.array([[0.9, 0.9, 0.6, 0.9, 0.9]], np.float32)
    without = evaluate_pair(labels, true, task="classes")
    for probabilities in (
        inside,
        np.stack([1 - inside, inside]),
        np.stack([1 - inside, inside / 2, inside / 2]),
    ):
        scores = evaluate_pair(labels, true, task="classes", probabilities=probabilities)
        assert scores.pop("rand_error") == 0.0
        assert scores == {name: value for name, value in without.items() if name != "rand_error"}
    assert without["rand_error"] > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["instances", "classes"]), st.booleans())
def test_nothing_under_unknown_changes_any_score(seed, task, with_probabilities):
    rng = np.random.default_rng(seed)
    predicted, true = random_pair(seed, 3 if task == "classes" else 8)
    unknown = np.kron(rng.random((5, 6)) < rng.choice([0.1, 0.5, 0.9]), np.ones((4, 4), bool))
    true = np.where(unknown, -1, true)
    inside = rng.random(true.shape).astype(np.float32)

    def scores(labels, probabilities):
        return evaluate_pair(
            labels,
            true,
            task=task,
            classes=list("abcdefgh"),
            probabilities=probabilities if with_probabilities else None,
        )

    first = scores(predicted, inside)
    for other in (np.zeros_like(predicted), rng.integers(0, 8, true.shape), rng.permuted(predicted)):
        changed = np.where(unknown, rng.random(true.shape).astype(np.float32), inside)
        assert scores(np.where(unknown, other, predicted), changed) == first


@pytest.mark.parametrize("task", ["instances", "classes"])
def test_what_lies_mostly_under_unknown_is_no_false_positive(task):
    true = np.zeros((8, 12), int)
    true[1:4, 1:4] = 1
    true[:, 7:] = -1
    predicted = true.copy()
    predicted[:, 7:] = 0
    alone = evaluate_pair(predicted, true, task=task)
    predicted[5:8, 6:12] = 2 if task == "instances" else 1  # 3 of 18 pixels are known background
    scores = evaluate_pair(predicted, true, task=task)
    for name in ("seg", "det", "pq", "ap", "f1", "errors"):
        assert scores[name] == alone[name]


def test_nothing_known_and_nothing_there():
    for true in (np.full((4, 5), -1), np.zeros((4, 5), int)):
        scores = evaluate_pair(np.zeros((4, 5), int), true, task="instances")
        for name in ("dice", "iou", "rand_error", "v_rand", "v_info", "seg", "det", "pq"):
            assert scores[name] is None
        assert set(scores["ap"].values()) == {None}
        assert scores["errors"] == {"merges": 0, "splits": 0, "misses": 0, "spurious": 0}
        json.dumps(scores, allow_nan=False)
    nothing = evaluate_pair(np.ones((4, 5), int), np.full((4, 5), -1), task="classes")
    assert (nothing["pixel_error"], nothing["warping_error"]) == (None, None)


def test_volumes_and_narrow_types():
    rng = np.random.default_rng(1)
    true = np.kron(rng.integers(0, 4, (2, 3, 3)), np.ones((3, 4, 4), int))
    predicted = np.roll(true, 1, 2)
    scores = evaluate_pair(predicted, true, task="instances")
    assert 0 < scores["seg"] < 1
    assert evaluate_pair(predicted.astype(np.uint8), true.astype(np.uint16), task="instances") == scores


def test_segments():
    labels = np.array([[1, 2, 0, 2], [-1, 0, 0, 2]], np.int32)
    assert segments_of(labels, "classes").tolist() == [[1, 1, 0, 2], [-1, 0, 0, 2]]
    assert segments_of(labels, "instances") is labels
    mask = np.array([[1, 0, 1]])
    assert np.array_equal(segments_of(mask, "classes"), components(mask))


def test_arguments_that_do_not_fit():
    labels = np.zeros((3, 4), int)
    with pytest.raises(UsageError, match=r'task \(=\'semantic\'\) must be "instances" or "classes"'):
        evaluate_pair(labels, labels, task="semantic")
    with pytest.raises(DataError, match=r"probabilities have shape \(4, 3\), labels \(3, 4\)"):
        inside_probability(np.zeros((4, 3)), (3, 4))
    with pytest.raises(DataError, match=r"shape \(3, 4\), true labels \(4, 3\)"):
        evaluate_pair(labels, labels.T, task="instances")
