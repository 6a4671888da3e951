import json

import numpy as np
import pytest

from biounet.evaluation.blocks import block_scores
from biounet.evaluation.intervals import mean_with_interval
from biounet.evaluation.scores import evaluate_pair
from biounet.evaluation.summary import flatten, summarise


def pair(seed):
    rng = np.random.default_rng(seed)
    true = np.kron(np.arange(20).reshape(4, 5), np.ones((6, 6), int))
    true[rng.integers(0, 20) == true] = 0
    predicted = np.where(rng.random(true.shape) < 0.9 - 0.03 * seed, true, 0)
    return predicted, true


def scored(count):
    return [(f"image{k}", evaluate_pair(*pair(k), task="instances")) for k in range(count)]


def test_means_and_intervals_over_images():
    per_image = scored(7)
    summary = summarise(per_image, 0)
    json.dumps(summary, allow_nan=False)
    assert summary["images"][2] == {"name": "image2", **per_image[2][1]}
    assert summary["mean"].keys() == per_image[0][1].keys()
    for path, mean in flatten(summary["mean"]):
        values = [dict(flatten(scores))[path] for _, scores in per_image]
        assert mean == pytest.approx(np.mean(values))
        low, high = dict(_ends(summary["interval"]))[path]
        assert low <= mean <= high
    assert summary["interval_over"] == "images"
    assert summary["undefined"] == {}


def _ends(tree, path=()):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _ends(value, (*path, name))
        else:
            yield (*path, name), value


def test_seg_is_also_pooled_over_objects():
    one = {"seg": 0.9, "objects": {"true": 1, "predicted": 1}}
    many = {"seg": 0.5, "objects": {"true": 9, "predicted": 3}}
    empty = {"seg": None, "objects": {"true": 0, "predicted": 2}}
    summary = summarise([("a", one), ("b", many), ("c", empty)], 0)
    assert summary["pooled"]["seg"] == pytest.approx((0.9 + 9 * 0.5) / 10)
    assert summary["pooled"]["objects"] == 10
    assert summary["mean"]["seg"] == pytest.approx(0.7)
    assert summary["undefined"] == {"seg": 1}


def test_a_score_that_some_images_lack():
    rows = [{"seg": 1.0, "objects": {"true": 1}, "classes": {"cell": {"dice": 1.0}}}] * 6
    rows.append({"seg": 0.3, "objects": {"true": 1}, "classes": {"cell": {"dice": None}}})
    summary = summarise([(str(k), row) for k, row in enumerate(rows)], 0)
    assert summary["mean"]["classes"] == {"cell": {"dice": 1.0}}
    assert summary["undefined"] == {"classes": {"cell": {"dice": 1}}}
    assert summary["interval"]["classes"]["cell"]["dice"] == [1.0, 1.0]


def test_below_six_images_the_interval_is_over_blocks():
    per_image = scored(2)
    alone = summarise(per_image, 0)
    assert alone["interval_over"] == "blocks"
    assert {value for _, value in _ends(alone["interval"])} == {None}
    blocks = [scores for k in range(2) for scores in block_scores(*pair(k), 8, task="instances")]
    summary = summarise(per_image, 0, blocks=blocks)
    low, high = summary["interval"]["pixel_error"]
    assert low < summary["mean"]["pixel_error"] < high
    over = mean_with_interval([scores["pixel_error"] for scores in blocks], np.random.default_rng(0))
    assert high - low == pytest.approx(over.high - over.low, rel=0.1)
    assert summary["interval"]["errors"] == dict.fromkeys(("merges", "splits", "misses", "spurious"))
    assert summary["pooled"]["interval"] is None


def test_the_interval_over_blocks_is_moved_to_the_mean_over_images():
    counts = {"objects": {"true": 1, "predicted": 1}}
    image = {"seg": 0.5, **counts}
    parts = [0.60, 0.72, 0.75, 0.66, 0.70, 0.77, 0.71, 0.69]
    summary = summarise([("a", image)], 0, blocks=[{"seg": value, **counts} for value in parts])
    low, high = summary["interval"]["seg"]
    assert 0.43 < low < 0.5 < high < 0.57
    assert 0.6 < mean_with_interval(parts, np.random.default_rng(0)).low  # unmoved


def test_a_summary_of_nothing():
    summary = summarise([], 0)
    assert (summary["images"], summary["mean"], summary["pooled"]["seg"]) == ([], {}, None)


def test_equal_scores_have_equal_intervals_whatever_stands_beside_them():
    rows = [{"pq": v, "pq_by_iou": {"0.50": v}, "iou": v / 2} for v in (0.9, 0.4, 0.7, 0.8, 0.6, 0.95, 0.5)]
    rows = [{**row, "objects": {"true": 3, "predicted": 3}, "seg": 0.5} for row in rows]
    interval = summarise([(str(k), row) for k, row in enumerate(rows)], 0)["interval"]
    assert interval["pq"] == interval["pq_by_iou"]["0.50"]
    assert interval["iou"] == pytest.approx([end / 2 for end in interval["pq"]])
    alone = [(str(k), {name: row[name] for name in ("iou", "objects", "seg")}) for k, row in enumerate(rows)]
    assert summarise(alone, 0)["interval"]["iou"] == interval["iou"]


def test_an_interval_over_blocks_is_moved_before_it_is_cut_to_the_range():
    blocks = [{"seg": v, "errors": {"merges": 0}} for v in (0.7, 0.72, 0.7, 1.0, 0.71, 1.0)]
    image = {"seg": 0.2, "objects": {"true": 5, "predicted": 5}, "errors": {"merges": 0}}
    (low, high) = summarise([("a", image)], 0, blocks=blocks)["interval"]["seg"]
    over = mean_with_interval([scores["seg"] for scores in blocks], np.random.default_rng(0))
    assert over.high > 1
    assert (low, high) == pytest.approx((over.low - over.mean + 0.2, min(1, over.high - over.mean + 0.2)))
