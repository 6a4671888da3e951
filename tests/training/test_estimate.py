"""Means and spreads over held-back images, with numbers that can be checked by hand."""

import pytest

from biounet.training.estimate import SCORE, Scored, estimate, in_words, judged_images, trained_in_words


def scored(*values, per_fold=2):
    return [Scored(f"i{k}", k // per_fold + 1, {SCORE: v, "seg": v}) for k, v in enumerate(values)]


def test_means_over_images_of_folds_and_between_folds():
    found = estimate(scored(0.2, 0.4, 0.6, 0.8))
    assert found["mean"][SCORE] == pytest.approx(0.5)
    assert found["folds"][SCORE] == pytest.approx([0.3, 0.7])
    assert found["between_folds"][SCORE] == pytest.approx(0.4 / 2**0.5)  # of two values d apart: d / sqrt(2)
    assert found["interval"][SCORE] is None
    assert found["images"][3] == {"name": "i3", "fold": 2, SCORE: 0.8, "seg": 0.8}


def test_the_interval_needs_six_images_holds_the_mean_and_is_the_same_every_time():
    values = (0.5, 0.6, 0.55, 0.7, 0.65, 0.6)
    low, high = estimate(scored(*values))["interval"][SCORE]
    assert low < 0.6 < high
    assert estimate(scored(*values))["interval"][SCORE] == [low, high]
    assert estimate(scored(*values[:5]))["interval"][SCORE] is None


def test_undefined_scores_are_left_out():
    found = estimate(scored(None, 0.4, None, None))
    assert found["mean"][SCORE] == pytest.approx(0.4)
    assert found["folds"][SCORE] == [pytest.approx(0.4), None]
    assert found["between_folds"][SCORE] is None


def test_in_words_mean_interval_count_and_spread_of_the_folds():
    first, second = in_words(estimate(scored(0.5, 0.6, 0.55, 0.7, 0.65, 0.6)), of_score="mean of seg and pq")
    assert first.startswith("estimate for a new image: score 0.600 (mean of seg and pq; 95 % interval 0.")
    assert "over 6 held-back images); seg 0.600" in first
    assert second == "between the folds: means from 0.550 to 0.625, standard deviation 0.043"


def test_few_images_have_no_interval_and_blocks_are_not_called_images():
    assert (
        "over 2 held-back images, too few for an interval (6 are needed)"
        in in_words(estimate(scored(0.5, 0.6)), of_score="x")[0]
    )
    blocks = [Scored("a", fold, {SCORE: 0.5}) for fold in (1, 2, 3)]
    assert "over 3 held-back blocks of 1 image, too few" in in_words(estimate(blocks), of_score="x")[0]


def test_images_that_a_score_speaks_of():
    assert judged_images({"validation_images": ["a"]}) == ["a"]
    assert judged_images({"validation_images": [], "estimate": {"images": [{"name": "b"}]}}) == ["b"]
    assert judged_images({}) == []


def test_how_a_model_was_trained_in_words():
    one = {"steps": 80, "step": 47, "seed": 3, "score": 0.728, "validation_images": ["a"]}
    assert trained_in_words(one) == "trained 80 steps with seed 3, the weights of step 47 kept"
    scores = {"seg": [0.787], "pq": [0.7989], "dice": [None]}
    assert trained_in_words({**one, "steps_done": 60, "validation_scores": scores}) == (
        "trained 60 steps with seed 3, the weights of step 47 kept; on 1 held-back image: seg 0.787, pq 0.799"
    )
    assert trained_in_words({"step": 9, "seed": 3}) == "trained 9 steps with seed 3"
    assert trained_in_words({}) == "it does not say how it was trained"
    folds = {"steps": 80, "seed": 3, "folds": 2, "estimate": estimate(scored(0.2, 0.4, 0.6, 0.8))}
    assert trained_in_words(folds) == (
        "2 folds, each trained 80 steps (seeds 3 to 4); on 4 held-back images of the folds: score 0.500, seg 0.500"
    )
    blocks = estimate([Scored("a", fold, {SCORE: 0.5}) for fold in (1, 2)])
    assert trained_in_words({**folds, "refit": True, "estimate": blocks}) == (
        "trained 80 steps on all images, after 2 folds of as many (seed 5, of the folds 3 to 4); "
        "on 2 held-back blocks of 1 image of the folds: score 0.500"
    )
