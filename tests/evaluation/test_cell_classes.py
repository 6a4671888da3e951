import numpy as np
import pytest

from biounet.evaluation.cell_classes import cell_class_scores, mean_class_pq
from biounet.evaluation.scores import evaluate_pair

TRUE = np.zeros((8, 24), np.int32)
TRUE[1:5, 1:5], TRUE[1:5, 7:11], TRUE[1:5, 13:17], TRUE[1:5, 19:23] = 1, 2, 3, 4
NAMES = ("glia", "neuron")
KINDS = {1: "glia", 2: "glia", 3: "neuron", 4: "neuron"}


def scores(predicted=TRUE, found=KINDS, true=TRUE, kinds=KINDS):
    return cell_class_scores(predicted, true, (found, kinds), NAMES)


def test_right_classes_score_one():
    assert [scores()[name][score] for name in NAMES for score in ("seg", "pq")] == [1, 1, 1, 1]
    assert scores()["glia"]["objects"] == {"true": 2, "predicted": 2}


def test_a_wrong_class_is_a_miss_in_one_and_spurious_in_the_other():
    found = scores(found={**KINDS, 2: "neuron"})
    assert (found["glia"]["seg"], found["glia"]["ap"]["0.50"]) == (0.5, 0.5)  # one hit, one miss
    assert (found["neuron"]["seg"], found["neuron"]["ap"]["0.50"]) == (1, 2 / 3)  # two hits, one spurious
    assert found["neuron"]["pq"] == pytest.approx(2 / 2.5)
    assert mean_class_pq(found) == pytest.approx((1 / 1.5 + 2 / 2.5) / 2)


def test_objects_without_class_in_the_truth_are_unknown():
    for dtype in (np.int32, np.uint16):
        found = scores(kinds={1: "glia", 3: "neuron", 4: "neuron"}, true=TRUE.astype(dtype))
        assert (found["glia"]["ap"]["0.50"], found["neuron"]["ap"]["0.50"]) == (1, 1)


def test_predicted_objects_without_class_are_in_no_class():
    assert scores(found={1: "glia"})["neuron"]["objects"] == {"true": 2, "predicted": 0}


def test_a_class_that_is_nowhere_has_no_score():
    none = scores(found=dict.fromkeys(KINDS, "glia"), kinds=dict.fromkeys(KINDS, "glia"))["neuron"]
    assert (none["seg"], none["pq"]) == (None, None)
    assert mean_class_pq({"neuron": none}) is None


def test_they_stand_under_classes_beside_the_others():
    found = evaluate_pair(TRUE, TRUE, task="instances", classes=NAMES, kinds=(KINDS, KINDS))
    assert list(found["classes"]) == list(NAMES)
    assert "classes" not in evaluate_pair(TRUE, TRUE, task="instances")
