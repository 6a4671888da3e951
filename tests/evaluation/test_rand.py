import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from skimage.metrics import adapted_rand_error, variation_of_information

from biounet.errors import DataError
from biounet.evaluation.overlap import overlap
from biounet.evaluation.rand import flooded, information_parts, rand_error, rand_parts, v_info, v_rand
from biounet.labels.components import components


def test_rand_written_out():
    true = np.array([1, 1, 1, 1, 2, 2, 0])
    predicted = np.array([5, 5, 5, 6, 6, 6, 6])
    # six pixels inside; overlaps 3, 1, 2; predicted 3 and 3; true 4 and 2
    parts = rand_parts(overlap(predicted, true))
    both, of_predicted, of_true = 9 + 1 + 4, 9 + 9, 16 + 4
    assert parts.score == pytest.approx(both / (0.5 * of_predicted + 0.5 * of_true), abs=1e-15)
    assert parts.split == both / of_true
    assert parts.merge == both / of_predicted
    assert rand_error(predicted, true) == 1 - parts.score


def test_information_written_out():
    true = np.array([1, 1, 1, 1, 2, 2, 0])
    predicted = np.array([5, 5, 5, 6, 6, 6, 6])
    parts = information_parts(overlap(predicted, true))
    h_true = -(4 / 6 * math.log(4 / 6) + 2 / 6 * math.log(2 / 6))
    h_predicted = math.log(2)
    h_both = -(3 / 6 * math.log(3 / 6) + 1 / 6 * math.log(1 / 6) + 2 / 6 * math.log(2 / 6))
    mutual = h_true + h_predicted - h_both
    assert parts.score == pytest.approx(mutual / (0.5 * h_true + 0.5 * h_predicted), abs=1e-12)
    assert parts.split == pytest.approx(mutual / h_predicted, abs=1e-12)
    assert parts.merge == pytest.approx(mutual / h_true, abs=1e-12)


def test_sizes_of_a_whole_slide_do_not_overflow():
    table = overlap(np.array([[1, 1, 2]]), np.array([[1, 2, 2]]))
    large = replace(table, counts=table.counts * 4_000_000_000)
    assert rand_parts(large).score == rand_parts(table).score


def test_splits_lower_the_split_part_and_merges_the_merge_part():
    two, one = np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])
    for parts in (v_rand(two, one), v_info(two, one)):
        assert parts.merge == 1
        assert parts.split < 1
    for parts in (v_rand(one, two), v_info(one, two)):
        assert parts.merge < 1
        assert parts.split == 1


def test_predicted_background_inside_a_true_segment_is_a_segment_for_each_pixel():
    true, predicted = np.array([1, 1, 1, 1]), np.array([3, 3, 0, 0])
    assert rand_error(predicted, true) == pytest.approx(1 - 2 * (4 + 1 + 1) / ((4 + 1 + 1) + 16))
    assert rand_error(np.array([3, 3, 4, 5]), true) == rand_error(predicted, true)
    ours, as_segments = information_parts(overlap(predicted, true)), np.array([3, 3, 4, 5])
    assert ours == information_parts(overlap(as_segments, true))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 12]))
def test_equal_to_scikit_image(seed, ids):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, ids, (12, 13)), rng.integers(1, ids + 1, (12, 13))
    table = overlap(predicted, true)
    # scikit-image leaves out the pairs of a pixel with itself: put them back into its sums.
    _, of_the_true, of_the_predicted = adapted_rand_error(true, predicted)
    inside = true > 0
    of_true = (np.bincount(true[inside]) ** 2).sum()
    both = of_the_true * (of_true - inside.sum()) + inside.sum()
    of_predicted = (both - inside.sum()) / of_the_predicted + inside.sum()
    assert rand_parts(table).score == pytest.approx(2 * both / (of_true + of_predicted), abs=1e-9)
    split, merge = variation_of_information(true, predicted, ignore_labels=[0])
    h_true = entropy(np.bincount(true[inside]), base=2)
    h_predicted = entropy(np.bincount(predicted[inside]), base=2)
    ours = information_parts(table)
    if h_true + h_predicted > 0:
        expected = (h_true + h_predicted - split - merge) / (h_true + h_predicted)
        assert ours.score == pytest.approx(expected, abs=1e-9)


def test_close_to_scikit_image_on_an_image_of_usual_size():
    rng = np.random.default_rng(3)
    true = np.kron(np.arange(64).reshape(8, 8), np.ones((64, 64), int))
    predicted = np.roll(true, (5, 3), (0, 1)) + 1
    predicted[rng.random(true.shape) < 0.01] = 70
    expected = 1 - adapted_rand_error(true, predicted)[0]
    assert v_rand(predicted, true).score == pytest.approx(expected, abs=1e-4)


def _cells(seed, shape=(40, 44)):
    """Random cells parted by a border, as the components of an image of random pieces."""
    rng = np.random.default_rng(seed)
    seeds = rng.integers(0, 40, (12, 2))
    yx = np.stack(np.mgrid[: shape[0], : shape[1]], -1)[:, :, None]
    order = np.sort(((yx - seeds) ** 2).sum(-1) ** 0.5, axis=-1)
    return components(order[..., 1] - order[..., 0] > 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_perfect_prediction_scores_exactly_one(seed):
    true = _cells(seed)
    ids = np.random.default_rng(seed).permutation(5000)[: true.max() + 1] + 1
    renamed = np.where(true > 0, ids[true], 0)
    assert v_rand(renamed, true) == (1.0, 1.0, 1.0)
    assert v_info(renamed, true) == (1.0, 1.0, 1.0)
    assert rand_error(renamed, true) == 0.0


def test_a_broad_predicted_border_costs_nothing_after_thinning():
    true = np.zeros((20, 31), int)
    true[:, :15], true[:, 16:] = 1, 2
    predicted = np.where((np.arange(31) > 11) & (np.arange(31) < 19), 0, true)
    assert rand_error(predicted, true) > 0.05
    assert v_rand(predicted, true).score == 1.0
    assert v_info(predicted, true).score == 1.0


@pytest.mark.parametrize("shape", [(9, 12), (5, 6, 7)])
def test_flooding_gives_each_border_pixel_inside_to_a_nearest_cell(shape):
    rng = np.random.default_rng(5)
    true = rng.integers(-1, 3, shape)
    predicted = np.where(rng.random(shape) < 0.06, rng.integers(1, 50, shape), 0)
    result = flooded(predicted, true)
    assert (result[true > 0] > 0).all()
    assert (result[true < 0] == 0).all()
    assert np.array_equal(result[(true == 0)], predicted[true == 0])
    cells = np.argwhere((predicted > 0) & (true >= 0))
    for here in np.argwhere((true > 0) & (predicted == 0)):
        distance = ((cells - here) ** 2).sum(-1)
        nearest = {predicted[tuple(cell)] for cell in cells[distance == distance.min()]}
        assert result[tuple(here)] in nearest


def test_without_cells_and_without_truth():
    nothing, something = np.zeros((3, 4), int), np.ones((3, 4), int)
    assert v_rand(something, nothing) == (None, None, None)
    assert v_info(something, nothing) == (None, None, None)
    assert rand_error(something, nothing) is None
    assert v_rand(nothing, something).score == pytest.approx(2 * 12 / (12 + 144))
    assert v_info(something, something).score == 1.0


def test_best_threshold_of_probabilities():
    true = np.array([[1, 1, 0, 2, 2]])
    inside = np.array([[0.9, 0.9, 0.55, 0.9, 0.65]])
    assert rand_error(inside, true, thresholds=[0.5]) == 1 - rand_parts(overlap(np.ones((1, 5), int), true)).score
    assert rand_error(inside, true, thresholds=[0.5, 0.6, 0.7]) == 0.0
    assert rand_error(inside, true) == 0.0
    assert rand_error(inside, np.zeros((1, 5), int)) is None


def test_probabilities_of_another_shape():
    with pytest.raises(DataError, match=r"inside class have shape \(2, 4\), true labels \(4,\).*one class alone"):
        rand_error(np.zeros((2, 4)), np.ones(4, int))
