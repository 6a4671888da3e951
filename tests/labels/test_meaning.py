import numpy as np
import pytest

from biounet.errors import DataError, UsageError
from biounet.labels.meaning import encode, infer_meaning


def mask(*rows):
    return np.array(rows, np.int32)


def cells(count, *, first=1, value=None):
    """A row of separate cells with ids from ``first``, or all of one value."""
    labels = np.zeros((3, 4 * count + 1), np.int32)
    for k in range(count):
        labels[1, 4 * k + 1 : 4 * k + 3] = first + k if value is None else value
    return labels


@pytest.mark.parametrize("value", [1, 255, 7])
def test_two_values_in_all_masks_are_classes(value):
    meaning = infer_meaning([cells(5, value=value), cells(2, value=value)])
    assert (meaning.task, meaning.values, meaning.class_count) == ("classes", (0, value), 2)
    assert meaning.reason == f"values 0, {value} are classes: there are no others in 2 masks"


def test_masks_that_say_yes_in_two_ways_are_refused():
    masks = [cells(5, value=255), cells(2, value=1), cells(2, value=255)]
    with pytest.raises(DataError, match="it is 1 in 1 and 255 in 2: probably the same in two ways"):
        infer_meaning(masks)
    assert infer_meaning(masks, task="classes").values == (0, 1, 255)
    assert infer_meaning([*masks, mask([0, 1, 0, 255, 0, 1, 0, 255])]).values == (0, 1, 255)  # both in one image


def test_few_values_shared_by_separate_pieces_are_classes():
    tissue = mask([1, 0, 2, 0, 1, 1, 0, 2], [1, 0, 2, 0, 0, 0, 3, 2])
    meaning = infer_meaning([tissue])
    assert (meaning.task, meaning.values) == ("classes", (0, 1, 2, 3))
    assert "separate pieces share them, 1.7 per value and image in 1 mask" in meaning.reason


def test_the_same_few_values_in_every_image_are_classes():
    anatomy = mask([0, 1, 1, 2, 2, 0])
    assert infer_meaning([anatomy] * 3).values == (0, 1, 2)
    assert "the same in each of 3 masks" in infer_meaning([anatomy] * 3).reason
    assert infer_meaning([anatomy] * 2).task == "instances"  # two images with two cells each look so, too


def test_one_value_per_piece_are_instances():
    meaning = infer_meaning([cells(5), cells(3), cells(4)])
    assert (meaning.task, meaning.values, meaning.class_count) == ("instances", (), 2)
    assert meaning.reason == "values are ids of single objects (instances): 1.0 pieces per value and image in 3 masks"


def test_many_values_are_instances_however_broken():
    broken = np.concatenate([cells(40), cells(40)])
    meaning = infer_meaning([broken])
    assert meaning.task == "instances"
    assert "40 different values in 1 mask" in meaning.reason


def test_a_single_nucleus_does_not_decide_for_its_folder():
    assert infer_meaning([cells(1), cells(6), cells(1)]).task == "instances"


def test_specks_do_not_make_classes():
    def with_specks(count):
        labels = np.zeros((20, 20 * count), np.int32)
        for k in range(count):
            labels[2:12, 20 * k + 2 : 20 * k + 12] = k + 1
            labels[15, 20 * k + 4], labels[17, 20 * k + 4] = k + 1, k + 1
        return labels

    assert infer_meaning([with_specks(3), with_specks(5)]).task == "instances"


def test_unknown_is_no_value():
    labels = [np.where(cells(3, value=255) > 0, 255, -1).astype(np.int32), cells(3, value=255)]
    assert infer_meaning(labels).values == (0, 255)


def test_what_the_data_set_declares_decides():
    meaning = infer_meaning([cells(3)], declared=(0, 1, 2, 3, 4))
    assert (meaning.task, meaning.values) == ("classes", (0, 1, 2, 3, 4))
    assert meaning.reason.endswith("declared by the data set")
    with pytest.raises(DataError, match="label values 3 are not among the declared classes 0, 1, 2"):
        infer_meaning([cells(3)], declared=(0, 2, 1))


def test_the_task_that_was_asked_for_decides():
    assert infer_meaning([cells(3), cells(2)], task="classes").values == (0, 1, 2, 3)
    assert infer_meaning([cells(3), cells(2)], task="instances").task == "instances"
    with pytest.raises(UsageError, match="task 'objects' is unknown; choose instances or classes"):
        infer_meaning([cells(3)], task="objects")


def test_instances_asked_for_where_values_are_classes_are_the_separate_pieces():
    binary = cells(3, value=255)
    binary[0, 0] = -1
    meaning = infer_meaning([binary], task="instances")
    assert meaning.pieces
    assert "every separate piece is an object" in meaning.reason
    assert encode(binary, meaning)[0, 0] == -1
    assert np.array_equal(np.maximum(encode(binary, meaning), 0), cells(3))


@pytest.mark.parametrize("labels", [[], [np.zeros((3, 3), np.int32)], [np.full((3, 3), -1, np.int32)]])
def test_no_annotation_is_refused(labels):
    with pytest.raises(DataError, match="no annotation was given|masks are empty"):
        infer_meaning(labels)


def test_classes_are_numbered_in_the_order_of_values_and_unknown_stays():
    meaning = infer_meaning([mask([0, 255, 0, 255])])
    encoded = encode(mask([0, 255, -1, 255]), meaning)
    assert encoded.tolist() == [[0, 1, -1, 1]]
    assert encoded.dtype == np.int32
    three = infer_meaning([mask([5, 0, 9, 0, 5, 0, 9])])
    assert encode(mask([9, 5, 0]), three).tolist() == [[2, 1, 0]]


def test_values_that_are_no_class_are_named():
    meaning = infer_meaning([mask([0, 255, 0, 255])])
    for value in (1, 300):
        with pytest.raises(DataError, match=f"label values {value} are no class; the classes are 0, 255"):
            encode(mask([0, value, 255]), meaning)


def test_instance_ids_are_untouched():
    labels = mask([0, 70, -1, 3, 0, 12])
    assert np.array_equal(encode(labels, infer_meaning([labels, cells(4)])), labels)


def test_a_set_fully_drawn_with_one_value_still_has_a_background_class():
    assert infer_meaning([mask([255, 255])]).values == (0, 255)
