"""Every image is held back once, what is like it with it, and nothing learnt from lies within reach of it."""

import numpy as np
import pytest

from biounet.datasets.examples import Example
from biounet.errors import UsageError
from biounet.geometry import unet_geometry
from biounet.planning.fold_split import fold_splits

GEOMETRY = unet_geometry(2)  # reaches 23 pixels each way


def examples(count, shape=(64, 64)):
    labels = np.zeros(shape, np.int32)
    labels[..., ::2] = 1
    return [Example(f"image {i}", np.zeros((1, *shape), np.uint8), labels.copy()) for i in range(count)]


def split(given, folds, *, sequence=False, groups=None):
    alone = [[i] for i in range(len(given))]
    return fold_splits(given, GEOMETRY, folds=folds, sequence=sequence, groups=groups or alone)


def names(given):
    return [int(example.name.split()[1]) for example in given]


@pytest.mark.parametrize("folds", [2, 3, 7, None])
def test_every_image_is_held_back_once_and_learnt_from_in_all_other_folds(folds):
    found = split(examples(7), folds)
    assert len(found) == (folds or 7)
    assert sorted(i for one in found for i in names(one.validation)) == list(range(7))
    for one in found:
        assert sorted(names(one.training) + names(one.validation)) == list(range(7))
    sizes = [len(one.validation) for one in found]
    assert max(sizes) - min(sizes) <= 1


def test_images_that_show_the_same_are_held_back_together():
    found = split(examples(5), None, groups=[[0, 3], [1], [2, 4]])
    assert [names(one.validation) for one in found] == [[0, 3], [1], [2, 4]]


def test_a_sequence_is_cut_into_runs_with_a_guard_on_either_side():
    found = split(examples(9), 3, sequence=True)
    assert [names(one.validation) for one in found] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert [names(one.training) for one in found] == [[4, 5, 6, 7, 8], [0, 1, 7, 8], [0, 1, 2, 3, 4]]
    assert found[1].reason == "image 3, image 4, image 5: fold 2 of 3, image 2, image 6 left out beside as a guard"


def test_a_short_sequence_gives_up_its_guards_before_its_training_images():
    assert names(split(examples(3), 3, sequence=True)[1].training) == [0, 2]


def test_of_fewer_images_than_folds_blocks_are_held_back_behind_guards_of_the_reach():
    found = split(examples(1, (30, 300)), 3)
    for fold, one in enumerate(found):
        judged = np.flatnonzero((one.validation[0].labels >= 0).all(0))
        learnt = np.flatnonzero((one.training[0].labels >= 0).all(0))
        assert judged.tolist() == list(range(100 * fold, 100 * fold + 100))
        distances = np.abs(judged[:, None] - learnt[None]).min()
        assert distances == 23 + 1
        assert len(learnt) == 200 - 23 * (1 if fold in (0, 2) else 2)


def test_a_guard_takes_at_most_half_of_the_room_and_says_so():
    found = split(examples(2, (20, 60)), 3)
    assert "image 0 from 0 to 20 on axis 1, 20 px beside as a guard (the network reaches 23" in found[0].reason
    assert "10 and 10 px beside as a guard (the network reaches 23, the image has no room for more)" in found[1].reason
    assert (found[1].training[0].labels >= 0).any()


@pytest.mark.parametrize(
    ("count", "folds", "said"), [(5, 6, "give 2 to 5"), (1, None, "blocks"), (5, 1, "give 2 to 5")]
)
def test_folds_that_there_are_too_few_images_for_are_refused(count, folds, said):
    with pytest.raises(UsageError, match=rf"--folds {folds or 'each'}: .*{said}"):
        split(examples(count), folds)


def test_doubles_are_counted_once_in_the_refusal():
    with pytest.raises(UsageError, match="5 images, 2 when those that show the same are counted once; give 2 to 2"):
        split(examples(5), 3, groups=[[0, 1, 2], [3, 4]])


def test_a_fold_without_anything_to_learn_from_is_refused():
    given = examples(3)
    given[1:] = [example.with_labels(np.zeros_like(example.labels)) for example in given[1:]]
    with pytest.raises(UsageError, match=r"without image 0 \(fold 1 of 3\) the other images show no object"):
        split(given, 3)
