"""Methods side by side: means, paired differences, and what is said of them."""

import json

import numpy as np
import pytest

from biounet.errors import UsageError
from biounet.evaluation.blocks import Scored
from biounet.evaluation.comparison import average_runs, compare_scores, verdicts
from biounet.evaluation.intervals import paired_difference
from biounet.evaluation.summary import summarise

HARD = np.array([0.81, 0.92, 0.77, 0.88, 0.95, 0.69, 0.84, 0.90])
NOISE = np.array([0.01, -0.01, 0.02, 0.0, -0.02, 0.01, 0.0, 0.01])


def scored(seg, *, wrong=None, count=None, blocks=()):
    """Images with these values of seg and, if given, of the pixel error."""
    images = []
    for index, value in enumerate(seg):
        scores = {"seg": value, "errors": {"merges": index}, "objects": {"true": 5, "predicted": 4}}
        if wrong is not None:
            scores["pixel_error"] = wrong[index]
        images.append((f"image {index}", scores))
    return Scored(images[:count], [{"seg": value} for value in blocks])


def test_each_method_has_the_summary_that_evaluate_gives():
    ours, theirs = scored(HARD), scored(HARD - 0.05 + NOISE)
    found = compare_scores({"ours": [ours], "theirs": [theirs]}, seed=3)
    assert found["methods"]["theirs"] == summarise(theirs.images, 3, blocks=[])
    assert found["interval_over"] == "images"
    assert found["errors"]["ours"] == {"merges": sum(range(8))}
    json.dumps(found, allow_nan=False)


def test_the_difference_is_paired():
    found = compare_scores({"ours": [scored(HARD)], "theirs": [scored(HARD - 0.05 + NOISE)]}, seed=3)
    (difference,) = found["differences"]
    expected = paired_difference(list(HARD), list(HARD - 0.05 + NOISE), np.random.default_rng(3))
    assert difference["methods"] == ["ours", "theirs"]
    assert difference["mean"]["seg"] == pytest.approx(0.05 - NOISE.mean())
    assert difference["interval"]["seg"] == pytest.approx([expected.low, expected.high])
    assert difference["better"]["seg"] == "ours"
    assert "objects" not in difference["mean"]  # more objects are neither better nor worse


def test_of_errors_the_lower_one_is_better():
    wrong = 1 - HARD
    methods = {"a": [scored(HARD, wrong=wrong)], "b": [scored(HARD, wrong=wrong + 0.1 + NOISE)]}
    (difference,) = compare_scores(methods)["differences"]
    assert difference["mean"]["pixel_error"] < 0
    assert (difference["better"]["pixel_error"], difference["probability_better"]["pixel_error"]) == ("a", 1.0)
    assert difference["better"]["seg"] is None
    assert difference["probability_better"]["errors"]["merges"] == 0.5


def test_what_is_said_names_the_better_method_first():
    methods = {"ours": [scored(HARD)], "theirs": [scored(HARD + 0.05 + NOISE)]}
    (sentence,) = verdicts(compare_scores(methods), [("seg",)])
    assert sentence.startswith(f"seg: theirs is better than ours by {0.05 + NOISE.mean():.4f} (95 % interval 0.0")
    assert sentence.endswith("over 8 images; theirs is better in 100.0% of the resamples)")


def test_what_is_said_where_nothing_is_shown():
    methods = {"ours": [scored(HARD)], "theirs": [scored(HARD + NOISE)]}
    (sentence,) = verdicts(compare_scores(methods), [("seg",)])
    assert sentence.startswith(f"seg: no difference is shown: ours - theirs is {-NOISE.mean():+.4f} (95 %")
    assert "theirs is better in " in sentence
    (sentence,) = verdicts(compare_scores({"a": [scored(HARD)], "b": [scored(HARD)]}), [("seg",)])
    assert sentence == "seg: a and b are equal on all of 8 images"


def test_a_score_that_is_nowhere_defined_is_not_spoken_of():
    nothing = scored([None] * 8)
    said = verdicts(compare_scores({"a": [nothing], "b": [nothing]}), [("seg",), ("pq",)])
    assert said == ["none of seg, pq is defined for 8 images, as where nothing is drawn; see the errors by name"]


def test_few_images_are_compared_over_blocks():
    blocks = np.linspace(0.5, 0.9, 16)
    ours = scored(HARD, count=3, blocks=blocks)
    theirs = scored(HARD - 0.1, count=3, blocks=blocks - 0.2 + 0.01 * np.sin(np.arange(16)))
    found = compare_scores({"ours": [ours], "theirs": [theirs]})
    (difference,) = found["differences"]
    assert found["interval_over"] == "blocks"
    assert difference["mean"]["seg"] == pytest.approx(0.1)  # over images, though the blocks differ by 0.2
    low, high = difference["interval"]["seg"]
    assert 0.09 < low < 0.1 < high < 0.11
    assert difference["interval"]["errors"]["merges"] is None
    assert "over blocks of 3 images, and of no others" in verdicts(found, [("seg",)])[0]
    assert "too little to compare" in verdicts(found, [("errors", "merges")])[0]


def test_runs_with_other_seeds_are_averaged_image_by_image():
    one, other = scored(HARD), scored([*(HARD[:-1] + 0.02), None])
    found = compare_scores({"ours": [one, other], "theirs": [scored(HARD)]})
    ours = found["methods"]["ours"]
    assert [image["seg"] for image in ours["images"]] == pytest.approx([*(HARD[:-1] + 0.01), HARD[-1]])
    assert [run["seg"] for run in ours["runs"]] == pytest.approx([HARD.mean(), HARD[:-1].mean() + 0.02])
    assert average_runs([one]) is one


def test_methods_on_other_images_cannot_be_compared():
    with pytest.raises(UsageError, match="two methods or more on the same images"):
        compare_scores({"a": [scored(HARD)], "b": [scored(HARD[:7])]})
    with pytest.raises(UsageError, match="two methods or more"):
        compare_scores({"a": [scored(HARD)]})


def test_more_objects_of_a_class_are_neither_better_nor_worse():
    def method(spurious):
        scores = {"seg": 0.9, "errors": {"merges": 0}, "objects": {"true": 5, "predicted": 5 + spurious}}
        cells = {"A": {"pq": 0.9 - spurious / 100, "objects": {"true": 5, "predicted": 5 + spurious}}}
        return [(str(k), {**scores, "classes": cells}) for k in range(8)]

    found = compare_scores({"many": [Scored(method(8), [])], "few": [Scored(method(0), [])]}, seed=0)
    (difference,) = found["differences"]
    assert difference["better"]["classes"]["A"] == {"pq": "few"}
