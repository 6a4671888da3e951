import itertools
import warnings

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from biounet.evaluation.objects import ap, det, f1, matches, pq, seg
from biounet.evaluation.overlap import overlap

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ctc_metrics.metrics import det as ctc_det
    from ctc_metrics.metrics import seg as ctc_seg
    from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations, match


def challenge_scores(predicted, true, folder):
    """SEG and DET of py-ctcmetrics, from label files."""
    paths = [folder / "man_seg000.tif", folder / "mask000.tif"]
    for path, labels in zip(paths, (true, predicted), strict=True):
        tifffile.imwrite(path, labels.astype(np.uint16))
    ref, comp, mapped_ref, mapped_comp, iou = match(*map(str, paths))
    operations = count_acyclic_graph_correction_operations(None, None, [ref], [comp], [mapped_ref], [mapped_comp])
    return ctc_seg([ref], [iou]), ctc_det(**operations)


def random_pair(seed, shape=(48, 52)):
    """Labels of rectangles over rectangles, shifted, joined, cut, dropped and invented."""
    rng = np.random.default_rng(seed)
    true = np.zeros(shape, np.int32)
    for k in range(1, 14):
        corner = [rng.integers(0, n - 4) for n in shape]
        true[tuple(slice(c, c + rng.integers(2, 14)) for c in corner)] = k
    predicted = np.roll(true, rng.integers(-2, 3, 2), (0, 1)) * 3
    for k in rng.choice(np.arange(3, 40, 3), 4, replace=False):
        predicted[predicted == k] = rng.choice([0, 6, 9])
    predicted[:, :: rng.integers(7, 30)] = 0
    left = predicted[:, : rng.integers(1, 50)]
    left[left == 12] = 99
    return predicted, true


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_seg_and_det_equal_py_ctcmetrics(tmp_path_factory, seed):
    predicted, true = random_pair(seed)
    if not predicted.any():  # the oracle fails on empty results
        predicted[0, 0] = 1
    expected_seg, expected_det = challenge_scores(predicted, true, tmp_path_factory.mktemp("labels"))
    assert seg(predicted, true) == pytest.approx(expected_seg, abs=1e-12)
    assert det(predicted, true) == pytest.approx(expected_det, abs=1e-12)


def test_seg_and_det_equal_py_ctcmetrics_in_3d(tmp_path):
    rng = np.random.default_rng(0)
    true = np.kron(rng.integers(0, 9, (4, 5, 5)), np.ones((3, 4, 4), int))
    predicted = np.kron(rng.integers(0, 9, (6, 5, 10)), np.ones((2, 4, 2), int))
    predicted = np.where(rng.random(true.shape) < 0.7, true, predicted)
    expected_seg, expected_det = challenge_scores(predicted, true, tmp_path)
    assert 0 < seg(predicted, true) == pytest.approx(expected_seg, abs=1e-12)
    assert 0 < det(predicted, true) == pytest.approx(expected_det, abs=1e-12)


def test_seg_and_det_written_out():
    true = np.array([1, 1, 1, 1, 0, 2, 2, 0, 3, 3, 3, 3])
    predicted = np.array([8, 8, 8, 0, 0, 8, 8, 9, 7, 7, 5, 5])
    # 8 covers 1 (3 of 4 pixels) and 2, IoU 3/6 and 2/5; exactly half of 3 is not enough
    assert seg(predicted, true) == pytest.approx((3 / 6 + 2 / 5 + 0) / 3)
    # one split, one missing, three false: 9, 7 and 5
    assert det(predicted, true) == pytest.approx(1 - (5 + 10 + 3) / 30)


def test_det_is_never_below_zero():
    true = np.zeros(40, int)
    true[0] = 1
    predicted = np.arange(40)
    assert det(predicted, true) == 0.0


def test_ap_f1_and_pq_written_out():
    true = np.repeat([1, 2, 3, 0], [10, 10, 10, 10])
    predicted = np.repeat([4, 0, 5, 0, 6], [9, 1, 15, 5, 10])
    # 4: IoU 9/10 with 1; 5: 10/15 with 2; 3 is missed but for 5 pixels of 5; 6 is false
    assert ap(predicted, true, [0.5, 0.65, 0.7, 0.9, 0.95]) == {
        "0.50": 2 / 4, "0.65": 2 / 4, "0.70": 1 / 5, "0.90": 1 / 5, "0.95": 0 / 6,
    }  # fmt: skip
    assert f1(predicted, true, [0.5, 0.9]) == {"0.50": 4 / 6, "0.90": 2 / 6}
    assert pq(predicted, true, [0.5, 0.9]) == pytest.approx(
        {"0.50": (9 / 10 + 10 / 15) / (2 + 1 / 2 + 1 / 2), "0.90": (9 / 10) / (1 + 2 / 2 + 2 / 2)}
    )


def test_default_thresholds():
    names = ["0.50", "0.55", "0.60", "0.65", "0.70", "0.75", "0.80", "0.85", "0.90", "0.95"]
    same = np.array([1, 2, 2])
    for scores in (ap(same, same), f1(same, same), pq(same, same)):
        assert scores == dict.fromkeys(names, 1.0)


def test_exactly_the_threshold_is_enough():
    true, predicted = np.repeat([1, 0], [11, 9]), np.repeat([1], [20])
    assert ap(predicted, true, [0.55, 0.6]) == {"0.55": 1.0, "0.60": 0.0}


def test_two_halves_match_one_object_once():
    true, predicted = np.array([1, 1, 1, 1]), np.array([2, 2, 3, 3])
    assert ap(predicted, true, [0.5]) == {"0.50": 1 / 2}
    assert f1(predicted, true, [0.5]) == {"0.50": 2 / 3}


def _best_by_trying(iou, threshold):
    """Most pairs, then most IoU, over all matchings."""
    rows, columns = iou.shape
    best = (0, 0.0)
    for chosen in itertools.product(range(columns + 1), repeat=rows):
        used = [c for c in chosen if c < columns]
        pairs = [(r, c) for r, c in enumerate(chosen) if c < columns]
        if len(set(used)) == len(used) and all(iou[p] >= threshold for p in pairs):
            best = max(best, (len(pairs), sum(iou[p] for p in pairs)))
    return best


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.75]))
def test_matching_is_optimal(seed, threshold):
    rng = np.random.default_rng(seed)
    true, predicted = np.sort(rng.integers(0, 5, 24)), np.sort(rng.integers(0, 5, 24))
    iou = np.zeros((5, 5))
    for t, p in itertools.product(range(1, 5), repeat=2):
        union = ((true == t) | (predicted == p)).sum()
        iou[t, p] = ((true == t) & (predicted == p)).sum() / max(union, 1)
    found = matches(overlap(predicted, true), threshold)
    assert len(set(found.true.tolist())) == len(set(found.predicted.tolist())) == len(found.true)
    count, total = _best_by_trying(iou[1:, 1:], threshold)
    assert (len(found.true), found.iou.sum()) == (count, pytest.approx(total))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.5, 0.6, 0.85]))
def test_matching_has_as_many_pairs_as_one_dense_assignment(seed, threshold):
    predicted, true = random_pair(seed)
    table = overlap(predicted, true)
    dense = np.zeros((len(table.true_ids), len(table.predicted_ids)))
    dense[table.pairs.true, table.pairs.predicted] = table.pairs.iou
    good = dense >= threshold
    assigned = linear_sum_assignment(-(good + dense / (2 * min(dense.shape))))
    assert len(matches(table, threshold).true) == good[assigned].sum()


def test_nothing_to_judge():
    empty, one = np.zeros(6, int), np.ones(6, int)
    assert (seg(one, empty), det(one, empty)) == (None, None)
    assert (seg(empty, one), det(empty, one)) == (0.0, 0.0)
    for score in (ap, f1, pq):
        assert score(empty, empty, [0.5]) == {"0.50": None}
        assert score(one, empty, [0.5]) == {"0.50": 0.0}
        assert score(empty, one, [0.5]) == {"0.50": 0.0}


def test_an_object_that_reaches_into_the_unknown_is_never_a_false_positive():
    true = np.array([[1, 1, 0, 0, 0, -1, -1, -1]] * 2)
    inside = np.array([[2, 2, 0, 3, 0, 0, 0, 0]] * 2)
    assert det(inside, true) == 1 - 1 / 10
    assert ap(inside, true, [0.5]) == {"0.50": 1 / 2}
    reaching = np.array([[2, 2, 0, 0, 3, 3, 3, 3]] * 2)
    assert det(reaching, true) == 1.0
    assert ap(reaching, true, [0.5]) == pq(reaching, true, [0.5]) == {"0.50": 1.0}
    all_under_unknown = np.array([[2, 2, 0, 0, 0, 0, 3, 3]] * 2)
    assert det(all_under_unknown, true) == 1.0


def test_an_object_that_reaches_into_the_unknown_can_match():
    true = np.array([1, 1, 1, -1, -1])
    assert seg(np.array([4, 4, 4, 4, 4]), true) == 1.0
    assert ap(np.array([4, 4, 4, 4, 4]), true, [0.95]) == {"0.95": 1.0}
