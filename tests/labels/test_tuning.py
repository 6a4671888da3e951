"""The search for settings: finds what a picture needs, prefers the plain, same result every time."""

import numpy as np
import pytest

from biounet.errors import UsageError
from biounet.labels.components import components
from biounet.labels.instances import InstanceSettings, instances
from biounet.labels.targets import carve
from biounet.labels.tuning import Tuner, median_object_px, object_sizes_px, tune
from biounet.samples.synthetic import synthetic_cells


def share_of_equal_pixels(found, truth):
    return float((found == truth).mean())


def count_score(found, truth):
    return -abs(int(found.max()) - int(truth.max()))


def test_a_perfect_probability_keeps_the_plain_settings():
    _, truth = synthetic_cells((64, 64), seed=1, diameter_px=20)
    sparse = np.where(truth % 2 == 1, truth, 0)
    probability = (sparse > 0).astype(np.float32)
    found = instances(probability, InstanceSettings())
    assert tune([probability], [found], share_of_equal_pixels) == InstanceSettings()


def test_a_carved_line_is_given_back():
    _, truth = synthetic_cells((96, 96), seed=2, diameter_px=24)
    carved = carve(truth, 2)
    numbered = instances((carved > 0).astype(np.float32), InstanceSettings(give_back_px=2))
    settings = tune([(carved > 0).astype(np.float32)], [numbered], share_of_equal_pixels)
    assert settings.give_back_px == 2
    assert settings.split is None


def test_the_size_of_specks_is_found_on_two_pictures():
    rng = np.random.default_rng(0)
    truths, probabilities = [], []
    for seed in (3, 4):
        _, cells = synthetic_cells((96, 96), seed=seed, diameter_px=24, cells=6)
        truth = components(cells > 0)
        truths.append(truth)
        probability = np.where(truth > 0, 0.95, 0.2).astype(np.float32)
        probability[(rng.random(truth.shape) < 0.02) & (truth == 0)] = 0.99
        probabilities.append(probability)
    settings = tune(probabilities, truths, count_score)
    assert settings.smallest_px > 1
    assert all(instances(p, settings).max() == t.max() for p, t in zip(probabilities, truths, strict=True))
    assert tune(probabilities, truths, count_score) == settings


def test_images_left_out_of_a_search_have_no_say_in_it():
    """Also not by the size of their objects: among small specks and cells of 24 px stands one of 90 px."""
    rng = np.random.default_rng(0)
    truths = [components(synthetic_cells((96, 96), seed=seed, diameter_px=24, cells=6)[1] > 0) for seed in (3, 4)]
    y, x = np.mgrid[:96, :96]
    truths += [(np.hypot(y - 48, x - 48) < 45).astype(np.int32)] * 20
    probabilities = [np.where(truth > 0, 0.95, 0.2).astype(np.float32) for truth in truths]
    for probability, truth in zip(probabilities, truths, strict=True):
        probability[(rng.random(truth.shape) < 0.02) & (truth == 0)] = 0.99
    alone = tune(probabilities[:2], truths[:2], count_score)
    assert alone.smallest_px > 1
    tuner = Tuner(probabilities, truths, count_score)
    assert tuner.best() != alone
    assert tuner.best([0, 1]) == alone


def test_touching_cells_are_split_where_that_scores_better():
    y, x = np.mgrid[:40, :80]
    distances = np.stack([np.hypot(y - 20, x - c) for c in (24, 54)])
    truth = np.where(distances.min(0) < 17, distances.argmin(0) + 1, 0).astype(np.int32)
    probability = np.where(truth > 0, 0.99, 0.01).astype(np.float32)
    settings = tune([probability], [truth], count_score)
    assert settings.split is not None
    assert settings.split.seeds == "depth"
    assert instances(probability, settings).max() == 2


def test_a_score_that_is_not_a_number_never_wins():
    truth = np.zeros((8, 8), np.int32)
    truth[2:5, 2:5] = 1
    probability = np.where(truth > 0, 0.55, 0.1).astype(np.float32)

    def score(found, _):
        return float("nan") if found.max() else 0.5

    assert tune([probability], [truth], score).threshold == 0.6


def test_without_objects_the_defaults_come_back():
    empty = np.zeros((8, 8), np.int32)
    assert tune([np.zeros((8, 8), np.float32)], [empty], share_of_equal_pixels) == InstanceSettings()


def test_median_size_over_all_truths():
    first = np.array([[1, 1, 1, 0], [-1, 5, 5, 5]], np.int32)
    second = np.array([[2, 0, 0, 0]], np.int32)
    assert median_object_px([first, second]) == 3
    assert median_object_px([second * 0]) == 0


def test_pairs_must_match():
    with pytest.raises(UsageError, match=r"probabilities of shapes \[\(2, 2\)\] and truths of shapes \[\(2, 3\)\]"):
        tune([np.zeros((2, 2), np.float32)], [np.zeros((2, 3), np.int32)], count_score)
    with pytest.raises(UsageError, match="at least one pair"):
        tune([], [], count_score)


def test_the_median_object_of_huge_ids_takes_no_memory_by_id():
    """Ids of other programs may be hashes: two billion of them would take 16 GB as a table."""
    labels = np.zeros((64, 64), np.int32)
    labels[:4, :4], labels[10:20, 10:12], labels[30, 30] = 5, 2**31 - 1, 7
    assert object_sizes_px(labels).tolist() == [16, 1, 20]
    assert median_object_px([labels, np.zeros((3, 3), np.int32)]) == 16
