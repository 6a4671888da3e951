import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biounet.errors import DataError, UsageError
from biounet.labels.targets import as_labels, carve, class_targets

blocks = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=5),
    elements=st.sampled_from([-1, 0, 1, 2, 3, 40]),
).map(lambda small: np.kron(small, np.ones((3,) * small.ndim, np.int32)))


def carved_pixel_by_pixel(labels, width):
    """The definition, written as loops."""
    result = labels.copy()
    for here in np.ndindex(labels.shape):
        for there in np.ndindex(labels.shape):
            distance = max(abs(a - b) for a, b in zip(here, there, strict=True))
            own, other = labels[here], labels[there]
            layers = (width + 1) // 2 if own < other else width // 2
            if own > 0 and other > 0 and own != other and distance <= layers:
                result[here] = 0
    return result


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int32, (5, 6), elements=st.integers(-1, 3)), st.integers(0, 4))
def test_carving_follows_its_definition_in_2d(labels, width):
    assert carve(labels, width).tolist() == carved_pixel_by_pixel(labels, width).tolist()


@settings(max_examples=10, deadline=None)
@given(hnp.arrays(np.int32, (3, 4, 3), elements=st.integers(-1, 3)), st.integers(0, 3))
def test_carving_follows_its_definition_in_3d(labels, width):
    assert carve(labels, width).tolist() == carved_pixel_by_pixel(labels, width).tolist()


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0, [1, 1, 1, 1, 7, 7, 7, 7]),
        (1, [1, 1, 1, 0, 7, 7, 7, 7]),
        (2, [1, 1, 1, 0, 0, 7, 7, 7]),
        (3, [1, 1, 0, 0, 0, 7, 7, 7]),
        (4, [1, 1, 0, 0, 0, 0, 7, 7]),
    ],
)
def test_the_line_is_as_wide_as_asked_and_the_lower_id_gives_more(width, expected):
    labels = np.array([[1, 1, 1, 1, 7, 7, 7, 7]] * 2)
    assert carve(labels, width).tolist() == [expected] * 2


def test_corners_count_as_contact():
    assert carve(np.array([[1, 0], [0, 2]]), 1).tolist() == [[0, 0], [0, 2]]


def test_unknown_stays_and_is_no_neighbour():
    labels = np.array([[1, 1, -1, 2, 2]])
    assert carve(labels, 2).tolist() == labels.tolist()


@settings(max_examples=40, deadline=None)
@given(blocks, st.integers(1, 4))
def test_no_two_instances_share_a_face_afterwards(labels, width):
    carved = carve(labels, width)
    for axis in range(labels.ndim):
        here, there = np.delete(carved, -1, axis), np.delete(carved, 0, axis)
        assert not ((here > 0) & (there > 0) & (here != there)).any()


@settings(max_examples=25, deadline=None)
@given(blocks, st.sampled_from([2, 4]), st.permutations([1, 2, 3, 40]))
def test_even_widths_do_not_depend_on_the_numbering(labels, width, ids):
    other = labels.copy()
    for old, new in zip([1, 2, 3, 40], ids, strict=True):
        other[labels == old] = new
    assert ((carve(labels, width) == 0) == (carve(other, width) == 0)).all()


def test_the_input_is_not_changed():
    labels = np.array([[1, 2]], np.int32)
    assert carve(labels, 1).tolist() == [[0, 2]]
    assert carve(labels, 0) is not labels
    assert labels.tolist() == [[1, 2]]


def test_negative_widths_are_refused():
    with pytest.raises(UsageError, match=r"width of the line between cells \(=-1\)"):
        carve(np.zeros((2, 2), np.int32), -1)


def test_every_instance_is_class_one():
    targets = class_targets(np.array([[-1, 0, 1, 900]]), task="instances")
    assert targets.tolist() == [[-1, 0, 1, 1]]
    assert targets.dtype == np.int32


def test_several_cell_classes():
    targets = class_targets(np.array([[-1, 0, 5, 9, 9, 3]]), task="instances", classes_of={5: 2, 9: 1, 3: -1})
    assert targets.tolist() == [[-1, 0, 2, 1, 1, -1]]


def test_classes_are_targets_already():
    assert class_targets(np.array([[0, 3, -1]]), task="classes").tolist() == [[0, 3, -1]]


def test_an_instance_without_class_is_refused():
    with pytest.raises(DataError, match="instance 9 has no class"):
        class_targets(np.array([[5, 9]]), task="instances", classes_of={5: 1})


def test_other_tasks_are_refused():
    with pytest.raises(UsageError, match=r"task \(='cells'\) must be 'instances' or 'classes'"):
        class_targets(np.zeros((1, 1), np.int32), task="cells")


def test_labels_must_be_integers_that_fit():
    assert as_labels(np.array([True, False])).tolist() == [1, 0]
    with pytest.raises(DataError, match="dtype float64; they must be integers"):
        carve(np.zeros((2, 2)))
    with pytest.raises(DataError, match="label 4294967295 does not fit"):
        as_labels(np.array([2**32 - 1], np.uint32))
    with pytest.raises(DataError, match="label -4294967297 does not fit"):
        as_labels(np.array([-(2**32) - 1], np.int64))  # would wrap to -1, unknown
