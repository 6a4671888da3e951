import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import points_in_poly

from biounet.datasets.outlines import Outline, Place, fill, kind_of, masked, paint
from biounet.errors import DataError
from biounet.images.image import Header

SQUARE = np.array([(1, 1), (1, 4), (4, 4), (4, 1)], float)


def whole(rings, shape):
    mask = np.zeros(shape, int)
    box, inside = fill(rings, shape)
    mask[box] += inside
    return mask


def test_pixels_whose_centre_lies_inside():
    assert whole([SQUARE], (5, 6)).tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    assert np.array_equal(whole([SQUARE + 0.4], (5, 6)), whole([SQUARE], (5, 6)))


def test_a_centre_on_an_edge_belongs_to_what_lies_right_of_it_or_below():
    ring = SQUARE + 0.5
    assert np.array_equal(whole([ring], (6, 6)), whole([SQUARE], (6, 6)))
    left, right = SQUARE.copy(), SQUARE.copy()
    left[1:3, 1] = right[[0, 3], 1] = 2.5  # a common edge through the centres of a column
    both = whole([left], (5, 6)) + whole([right], (5, 6))
    assert np.array_equal(both, whole([SQUARE], (5, 6)))


def test_rings_inside_rings_are_holes_whichever_way_they_run():
    hole = np.array([(2, 2), (2, 3), (3, 3), (3, 2)], float)
    for inner in (hole, hole[::-1]):
        mask = whole([SQUARE, inner], (5, 5))
        assert (mask.sum(), mask[2, 2]) == (8, 0)


def test_what_lies_outside_the_image_is_cut_off():
    assert whole([SQUARE * 100 - 150], (7, 9)).all()
    assert whole([SQUARE + 50], (7, 9)).sum() == 0
    assert whole([SQUARE - 2], (7, 9)).sum() == 4
    assert whole([], (3, 3)).sum() == 0


@given(st.lists(st.tuples(*[st.integers(-20, 100)] * 2), min_size=3, max_size=8), st.booleans())
def test_the_same_pixels_as_a_point_in_polygon_test(points, backwards):
    """An independent implementation, on polygons that may cross themselves; odd numbers avoid ties.

    They are others for y than for x, or a diagonal would run through the centres of pixels.
    """
    ring = np.array(points, float) / (8.0123, 8.0271) + (0.0617 * np.pi, 0.0731 * np.e)
    ring = ring[::-1] if backwards else ring
    centres = np.stack(np.mgrid[:10, :12], -1).reshape(-1, 2) + 0.5
    assert np.array_equal(whole([ring], (10, 12)).ravel(), points_in_poly(centres, ring))


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e9])
def test_points_that_are_none_are_refused(bad):
    ring = SQUARE.copy()
    ring[2, 1] = bad
    with pytest.raises(DataError, match="no numbers or lie absurdly far away"):
        fill([ring], (5, 5))


def test_the_later_outline_lies_on_top_and_classes_are_kept_by_id():
    found = paint([Outline((SQUARE,), "a"), Outline((SQUARE + 2,)), Outline((SQUARE + 9,), "b")], (8, 8))
    assert (found.labels[1, 1], found.labels[3, 3]) == (1, 2)
    assert found.kinds == {1: "a"}
    assert found.notes == ("1 of 3 objects have no pixel of their own (too small, outside, or under others)",)
    assert found.complete is None


def test_region_ignore_and_background_say_what_is_known():
    region = np.array([(0, 0), (0, 4), (8, 4), (8, 0)], float)
    outlines = [Outline((region,), "region"), Outline((SQUARE,)), Outline((SQUARE + 1,), "background")]
    found = paint([*outlines, Outline((SQUARE + np.array([0, 2]),), "ignore")], (8, 8))
    assert set(np.unique(found.labels[:, 4:])) == {-1}
    assert found.labels[:5, :4].tolist() == [
        [0, 0, 0, 0],
        [0, 1, 1, -1],
        [0, 1, 0, -1],
        [0, 1, 0, -1],
        [0, 0, 0, 0],
    ]
    assert found.complete[:, :4].all()


def test_parts_that_overlap_are_one_object_without_a_hole():
    assert paint([Outline((SQUARE, SQUARE + 1), united=True)], (6, 6)).labels.sum() == 14
    assert paint([Outline((SQUARE, SQUARE + 1))], (6, 6)).labels.sum() == 10


def test_a_mask_has_the_size_of_the_image():
    assert paint([masked(np.eye(4, dtype=bool))], (4, 4)).labels.tolist() == np.eye(4, dtype=int).tolist()
    with pytest.raises(DataError, match="an object drawn on 4 x 4 pixels, the image has 4 x 5"):
        paint([masked(np.eye(4, dtype=bool))], (4, 5))


def test_of_a_mask_the_box_around_the_object_is_kept():
    whole = np.zeros((200, 300), bool)
    whole[20:23, 7:9] = True
    whole[21, 8] = False
    outline = masked(whole)
    assert outline.mask.shape == (3, 2)
    assert np.array_equal(paint([outline], whole.shape).labels, whole)
    assert paint([masked(whole & False)], whole.shape).labels.max() == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Region*", "region"), ("IGNORE", "ignore"), (" Tumor ", "Tumor"), ("", ""), ("background", "background")],
)
def test_names_of_classes(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("axes", "shape", "place", "planes"),
    [
        ("TZCYX", (2, 3, 4, 9, 9), Place(z=2, t=1), [5]),
        ("TZCYX", (2, 3, 4, 9, 9), Place(z=2), [2, 5]),
        ("TZCYX", (2, 3, 4, 9, 9), Place(t=1), [3, 4, 5]),
        ("TZCYX", (2, 3, 4, 9, 9), Place(z=4, t=0), [6]),  # beyond the last
        ("TZCYX", (2, 3, 4, 9, 9), Place(stack=4 * 4 + 1), [4]),
        ("IYXC", (5, 9, 9, 3), Place(stack=4), [4]),
        ("TYX", (5, 9, 9), Place(z=3), [3]),
        ("TYX", (5, 9, 9), Place(z=0, t=3), [3]),
        ("ZYX", (5, 9, 9), Place(z=3), [3]),
        ("ZYX", (5, 9, 9), Place(), None),
    ],
)
def test_the_planes_of_a_stack(axes, shape, place, planes):
    header = Header(axes, shape, np.dtype(np.uint8), 0, lambda: None)
    found = place.planes(header)
    assert (found if found is None else list(found)) == planes
