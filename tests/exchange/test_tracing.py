import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from biounet.datasets.outlines import Outline, fill, paint
from biounet.exchange import tracing
from biounet.exchange.tracing import trace

LABELS = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))


def filled(labels):
    """The objects' outlines filled again, each by itself; overlaps would show as wrong sums."""
    result = np.zeros(labels.shape, np.int64)
    for traced in trace(labels):
        box, inside = fill([ring.astype(float) for piece in traced.pieces for ring in piece], labels.shape)
        result[box] += traced.id * inside
    return result


@given(LABELS)
def test_outlines_filled_again_give_the_same_pixels(labels):
    """Random labels of few values are full of holes, touching objects, single pixels and diagonal contacts."""
    assert np.array_equal(filled(labels), labels)


@given(LABELS)
def test_pieces_are_valid_polygons_of_the_same_area(labels):
    for traced in trace(labels):
        polygons = [shapely.Polygon(piece[0], piece[1:]) for piece in traced.pieces]
        assert all(polygon.is_valid for polygon in polygons)
        assert shapely.MultiPolygon(polygons).is_valid
        assert sum(polygon.area for polygon in polygons) == (labels == traced.id).sum()


def test_a_square_has_four_corners_clockwise_from_the_top_left():
    labels = np.zeros((5, 6), np.int32)
    labels[1:3, 2:5] = 7
    (traced,) = trace(labels)
    assert traced.id == 7
    assert [ring.tolist() for ring in traced.pieces[0]] == [[[1, 2], [1, 5], [3, 5], [3, 2]]]


def test_a_hole_is_a_second_ring_the_other_way_round():
    labels = np.ones((3, 3), np.int32)
    labels[1, 1] = 0
    (traced,) = trace(labels)
    outer, hole = traced.pieces[0]
    assert len(outer) == len(hole) == 4
    assert shapely.LinearRing(outer).is_ccw != shapely.LinearRing(hole).is_ccw


def test_pixels_that_meet_at_a_corner_are_two_pieces_but_holes_that_do_stay_one_object():
    diagonal = np.array([[1, 0], [0, 1]], np.int32)
    (traced,) = trace(diagonal)
    assert len(traced.pieces) == 2
    holes = np.ones((4, 4), np.int32)
    holes[1, 1] = holes[2, 2] = 0
    (traced,) = trace(holes)
    assert [len(piece) for piece in traced.pieces] == [3]


@pytest.mark.parametrize("labels", [np.zeros((4, 4), np.int32), np.zeros((0, 3), np.int32), -np.ones((2, 2), np.int32)])
def test_nothing_drawn_has_no_outline(labels):
    assert list(trace(labels)) == []


def test_chunks_cut_no_object_in_two(monkeypatch):
    labels = np.arange(64, dtype=np.int32).reshape(8, 8) % 5
    whole = list(trace(labels))
    monkeypatch.setattr(tracing, "_CORNERS_AT_ONCE", 3)
    parts = list(trace(labels))
    assert [t.id for t in parts] == [t.id for t in whole] == [1, 2, 3, 4]
    assert all(
        np.array_equal(a, b)
        for s, t in zip(parts, whole, strict=True)
        for a, b in zip(s.pieces[0], t.pieces[0], strict=True)
    )


def test_painted_in_the_order_of_their_ids_labels_come_back_whole():
    labels = np.random.default_rng(0).integers(1, 4, (12, 15)).astype(np.int32)
    outlines = [Outline(tuple(r.astype(float) for p in t.pieces for r in p)) for t in trace(labels)]
    assert np.array_equal(paint(outlines, labels.shape).labels, labels)
