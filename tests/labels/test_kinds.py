import numpy as np
import pytest

from biounet.errors import DataError
from biounet.labels.kinds import cell_classes, class_image, classes_of, ids_of, object_classes, object_probabilities

LABELS = np.array([[0, 3, 3, -1], [7, 7, 0, 9]], np.int32)
KINDS = {3: "glia", 7: "neuron"}


def test_names_in_order_numbers_first():
    assert cell_classes([{1: "10", 2: "b"}, {1: "2", 2: "a"}, {}]) == ("2", "10", "a", "b")
    with pytest.raises(DataError, match="17 different names of objects .0, 1, 10, 11, ....*object_classes=false"):
        cell_classes([{i: str(i) for i in range(17)}])


def test_classes_of_ids_and_pixels():
    assert ids_of(LABELS) == [3, 7, 9]
    classes = classes_of(LABELS, KINDS, ("glia", "neuron"))
    assert classes == {3: 1, 7: 2, 9: -1}
    assert class_image(LABELS, classes).tolist() == [[0, 1, 1, -1], [2, 2, 0, -1]]
    assert class_image(np.zeros((2, 2), np.int32), {}).tolist() == [[0, 0], [0, 0]]


def test_an_object_has_the_class_of_the_highest_mean_not_of_most_pixels():
    labels = np.array([[1, 1, 1, 2]], np.int32)
    probabilities = np.array([[[0.2, 0.2, 0.2, 0.2]], [[0.5, 0.5, 0.0, 0.1]], [[0.3, 0.3, 0.8, 0.7]]], np.float32)
    np.testing.assert_allclose(object_probabilities(labels, probabilities)[1], [0.2, 1 / 3, 1.4 / 3], rtol=1e-6)
    assert object_classes(labels, probabilities).tolist() == [0, 2, 2]


def test_background_never_wins_and_equals_go_to_the_first():
    labels = np.array([[1]], np.int32)
    assert object_classes(labels, np.array([[[0.6]], [[0.2]], [[0.2]]], np.float32)).tolist() == [0, 1]
    assert object_classes(np.zeros((1, 1), np.int32), np.ones((3, 1, 1), np.float32)).tolist() == [0]
