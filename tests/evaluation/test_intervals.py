import numpy as np
import pytest
from scipy import stats

from biounet.errors import UsageError
from biounet.evaluation.intervals import mean_with_interval, paired_difference

SCORES = [0.81, 0.92, 0.77, 0.88, 0.95, 0.69, 0.84, 0.90]


def test_interval_written_out():
    found = mean_with_interval(SCORES, np.random.default_rng(7))
    n, mean = len(SCORES), sum(SCORES) / len(SCORES)
    error = np.std(SCORES, ddof=1) / n**0.5
    t = []
    for chosen in np.random.default_rng(7).integers(0, n, (2000, n)):
        resample = [SCORES[i] for i in chosen]
        spread = np.std(resample, ddof=1)
        t.append(
            (np.mean(resample) - mean) / (spread / n**0.5) if spread > 1e-12 else np.sign(resample[0] - mean) * 1e9
        )
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - np.quantile(t, 0.975, method="nearest") * error)
    assert found.high == pytest.approx(mean - np.quantile(t, 0.025, method="nearest") * error)
    assert (found.count, found.undefined) == (8, 0)


def test_undefined_values_are_left_out_and_counted():
    rng = np.random.default_rng
    with_gaps = mean_with_interval([None, *SCORES, None], rng(0))
    plain = mean_with_interval(SCORES, rng(0))
    assert (with_gaps.mean, with_gaps.low, with_gaps.high) == (plain.mean, plain.low, plain.high)
    assert (with_gaps.count, with_gaps.undefined) == (8, 2)
    nothing = mean_with_interval([None, None], rng(0))
    assert (nothing.mean, nothing.low, nothing.count, nothing.undefined) == (None, None, 0, 2)


def test_fewer_than_six_values_have_no_interval():
    few = mean_with_interval(SCORES[:5], np.random.default_rng(0))
    assert few.mean == pytest.approx(np.mean(SCORES[:5]))
    assert (few.low, few.high) == (None, None)
    assert mean_with_interval(SCORES[:6], np.random.default_rng(0)).low is not None


def test_equal_values_have_an_interval_of_no_width():
    found = mean_with_interval([0.5] * 7, np.random.default_rng(0))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_the_interval_keeps_to_the_range_of_the_score():
    values = [0.99, 0.98, 1.0, 0.97, 1.0, 0.4]
    free = mean_with_interval(values, np.random.default_rng(0))
    bounded = mean_with_interval(values, np.random.default_rng(0), bounds=(0.0, 1.0))
    assert free.low < 0 == bounded.low
    assert free.high > 1 == bounded.high


def test_weights_of_zero_and_whole_weights():
    rng = np.random.default_rng
    weighted = mean_with_interval(SCORES, rng(0), weights=[1, 3, 2, 0, 1, 2, 1, 4])
    assert weighted.mean == pytest.approx(np.average(SCORES, weights=[1, 3, 2, 0, 1, 2, 1, 4]))
    assert weighted.low < weighted.mean < weighted.high
    equal = mean_with_interval(SCORES, rng(0), weights=[5] * 8)
    assert (equal.low, equal.high) == pytest.approx(
        (mean_with_interval(SCORES, rng(0)).low, mean_with_interval(SCORES, rng(0)).high)
    )
    assert mean_with_interval(SCORES, rng(0), weights=[0] * 8).mean is None


@pytest.mark.parametrize("weights", [[1.0], [1, 1, 1, 1, 1, 1, 1, -1]])
def test_weights_that_do_not_fit(weights):
    with pytest.raises(UsageError, match="must be 8 numbers of at least 0"):
        mean_with_interval(SCORES, np.random.default_rng(0), weights=weights)


def test_paired_difference():
    better = [score + 0.02 + 0.01 * (k % 3) for k, score in enumerate(SCORES)]
    found = paired_difference(better, SCORES, np.random.default_rng(0))
    assert found.mean == pytest.approx(np.mean(np.subtract(better, SCORES)))
    assert 0 < found.low < found.mean < found.high < 0.05  # pairing takes away the spread between images
    assert found.probability_better == 1.0
    assert paired_difference(SCORES, better, np.random.default_rng(0)).probability_better == 0.0
    reverse = paired_difference(SCORES, better, np.random.default_rng(0), lower_is_better=True)
    assert reverse.probability_better == 1.0


def test_paired_difference_of_equal_methods_and_with_gaps():
    same = paired_difference([*SCORES, None], [*SCORES, 0.5], np.random.default_rng(0))
    assert (same.mean, same.low, same.high, same.probability_better) == (0.0, 0.0, 0.0, 0.5)
    assert (same.count, same.undefined) == (8, 1)
    few = paired_difference([0.5, None], [0.4, 0.3], np.random.default_rng(0))
    assert few.mean == pytest.approx(0.1)
    assert (few.low, few.probability_better) == (None, None)


def test_pairs_of_different_length():
    with pytest.raises(UsageError, match="lengths 2 and 1"):
        paired_difference([0.1, 0.2], [0.3], np.random.default_rng(0))


def test_a_difference_over_blocks_is_moved_to_the_mean_over_images():
    better = [score + 0.02 + 0.01 * (k % 3) for k, score in enumerate(SCORES)]
    plain = paired_difference(better, SCORES, np.random.default_rng(0))
    moved = paired_difference(better, SCORES, np.random.default_rng(0), moved_to=plain.mean - 0.1)
    assert (moved.low, moved.mean, moved.high) == pytest.approx((plain.low - 0.1, plain.mean - 0.1, plain.high - 0.1))
    assert moved.probability_better == 0.0


def two_methods(rng, kind, count, effect):
    """Scores of two methods on the same images, which are hard or easy for both; a is better by ``effect``."""
    hard = rng.normal(0.8, 0.1, count)
    draw = {"normal": lambda: rng.normal(0, 0.03, count), "skewed": lambda: -rng.gamma(1.0, 0.03, count)}[kind]
    return list(hard + effect + draw()), list(hard + draw())


def covered_and_wrong(kind, count, effect, comparisons):
    """How often the paired interval and Student's hold the true difference, and the worse is called better."""
    rng = np.random.default_rng(7)
    pairs = [two_methods(rng, kind, count, effect) for _ in range(comparisons)]
    found = [paired_difference(a, b, rng) for a, b in pairs]
    covered = np.mean([difference.low <= effect <= difference.high for difference in found])
    p = stats.ttest_1samp([np.subtract(a, b) for a, b in pairs], effect, axis=1).pvalue
    return covered, np.mean(p >= 0.05), np.mean([difference.high < 0 for difference in found])


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_the_paired_interval_covers_the_true_difference(kind):
    covered, _, wrong = covered_and_wrong(kind, 10, 0.02, 400)
    assert 0.90 <= covered <= 0.98  # nominal 0.95; the standard error of this share is 0.011
    assert wrong <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, 10, 30])
@pytest.mark.parametrize("kind", ["normal", "skewed"])
@pytest.mark.parametrize("effect", [0.0, 0.02])
def test_the_paired_interval_covers_the_true_difference_often_tried(kind, count, effect):
    covered, students, wrong = covered_and_wrong(kind, count, effect, 2000)
    assert 0.91 <= covered <= 0.97
    assert covered >= students  # it is never the narrower one
    assert wrong <= 0.025


def test_without_pairing_the_interval_would_be_several_times_as_wide():
    rng = np.random.default_rng(7)
    a, b = two_methods(rng, "normal", 30, 0.02)
    paired = paired_difference(a, b, np.random.default_rng(0))
    shuffled = paired_difference(a, list(rng.permutation(b)), np.random.default_rng(0))
    assert paired.high - paired.low < (shuffled.high - shuffled.low) / 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, 10, 30])
@pytest.mark.parametrize("kind", ["normal", "skewed", "very skewed", "counts"])
def test_the_interval_covers_the_true_mean(kind, count):
    draw, mean = {
        "normal": (lambda rng: rng.normal(0.8, 0.05, count), 0.8),
        "skewed": (lambda rng: rng.beta(16, 4, count), 0.8),
        "very skewed": (lambda rng: rng.beta(9, 1, count), 0.9),
        "counts": (lambda rng: rng.poisson(1.5, count).astype(float), 1.5),
    }[kind]
    rng = np.random.default_rng(2024)
    bounds = (-np.inf, np.inf) if kind in ("normal", "counts") else (0.0, 1.0)
    found = [mean_with_interval(list(draw(rng)), rng, bounds=bounds) for _ in range(2000)]
    covered = np.mean([interval.low <= mean <= interval.high for interval in found])
    assert 0.91 <= covered <= 0.97  # nominal 0.95; the standard error of this share is 0.005


@pytest.mark.parametrize("values", [[0.9] * 5 + [0.3], [1.0] * 9 + [0.0], [0.9] * 5 + [0.3 + 1e-6]])
def test_an_outlier_among_equal_values_widens_the_interval_on_its_side(values):
    found = mean_with_interval(values, np.random.default_rng(0))
    error = np.std(values, ddof=1) / len(values) ** 0.5
    assert found.low < found.mean - 1.9 * error  # Student's t is above that for any number of values
    assert found.high > found.mean


def test_equal_methods_are_seldom_told_apart_where_most_images_tie():
    rng = np.random.default_rng(3)
    draws = {
        "rounded": lambda n: np.round(rng.normal(0, 1, n)),
        "counts": lambda n: (rng.poisson(0.3, n) - rng.poisson(0.3, n)).astype(float),
        "mostly zero": lambda n: rng.normal(0, 1, n) * (rng.random(n) > 0.7),
    }
    for draw in draws.values():
        found = [paired_difference(list(draw(10)), [0.0] * 10, rng) for _ in range(300)]
        assert np.mean([one.low > 0 or one.high < 0 for one in found]) < 0.09  # 5 % is meant; three standard errors


def test_the_interval_of_a_difference_is_never_narrower_than_students():
    better = [score + 0.02 + 0.01 * (k % 3) for k, score in enumerate(SCORES)]
    found = paired_difference(better, SCORES, np.random.default_rng(0))
    differences = np.subtract(better, SCORES)
    low, high = stats.t.interval(0.95, len(SCORES) - 1, differences.mean(), stats.sem(differences))
    assert found.low <= low + 1e-12
    assert found.high >= high - 1e-12
