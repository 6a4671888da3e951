import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from biounet.errors import DataError, UsageError
from biounet.samples.border_weights import (
    _colours,
    _digits,
    _squared_distance_within,
    band,
    border_weights,
    class_weights,
    weight_map,
)

TOLERANCE = 1e-4


def textbook(labels, w0=10.0, sigma=5.0, spacing=None):
    """One distance map for each cell, all sorted; no band."""
    ids = [i for i in np.unique(labels) if i > 0]
    if len(ids) < 2:
        return np.zeros(labels.shape)
    maps = np.sort([ndimage.distance_transform_edt(labels != i, sampling=spacing) for i in ids], axis=0)
    return np.where(labels == 0, w0 * np.exp(-((maps[0] + maps[1]) ** 2) / (2 * sigma**2)), 0)


def largest_difference(labels, **options):
    return np.abs(border_weights(labels, **options) - textbook(labels, **options)).max()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32), st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.floats(0.02, 1), st.floats(0.5, 12), st.floats(0.1, 20),
)  # fmt: skip
def test_scattered_pixels_as_cells_in_2d(seed, shape, density, sigma, w0):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < density, rng.integers(-1, 9, shape), 0)
    assert largest_difference(labels, w0=w0, sigma=sigma) <= TOLERANCE


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.int32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.sampled_from([-1, 0, 0, 1, 2, 3, 4, 1000]),
    ),
    st.integers(1, 8),
)
def test_touching_branched_and_broken_cells(small, factor):
    assert largest_difference(np.kron(small, np.ones((factor, factor), np.int32))) <= TOLERANCE


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32), hnp.array_shapes(min_dims=3, max_dims=3, max_side=12), st.floats(0.02, 1),
    st.floats(1, 6), st.sampled_from([None, (1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (0.7, 0.2, 0.3)]),
)  # fmt: skip
def test_3d_with_anisotropic_voxels(seed, shape, density, sigma, spacing):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < density, rng.integers(-1, 6, shape), 0)
    assert largest_difference(labels, sigma=sigma, spacing=spacing) <= TOLERANCE


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([None, (1.0, 2.0), (0.5, 0.5), (0.3, 0.1)]),
    st.sampled_from([1.0, 5.0, 20.0]),
)
def test_few_small_cells_in_a_large_plane(seed, spacing, sigma):
    rng = np.random.default_rng(seed)
    labels = np.zeros((120, 150), np.int32)
    for cell in range(1, int(rng.integers(2, 9))):
        y, x = rng.integers(0, 120), rng.integers(0, 150)
        labels[y : y + rng.integers(1, 12), x : x + rng.integers(1, 12)] = cell
    assert largest_difference(labels, spacing=spacing, sigma=sigma) <= TOLERANCE


def test_hundreds_of_cells_in_one_anothers_band():
    labels = np.zeros((45, 45), np.int32)
    labels[::3, ::3] = np.random.default_rng(0).permutation(225).reshape(15, 15) + 1
    assert largest_difference(labels) <= TOLERANCE
    assert largest_difference(labels, sigma=15.0) <= TOLERANCE  # beyond the short transform


def test_hundreds_of_cells_in_scattered_pieces():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((50, 50)) < 0.6, rng.integers(1, 600, (50, 50)), 0)
    assert _colours(np.array([[[0, 49], [0, 49]]] * 600), 24.7).tolist() == list(range(1, 601))
    assert largest_difference(labels) <= TOLERANCE


def test_cells_inside_one_another():
    labels = np.zeros((60, 60), np.int32)
    for cell, edge in enumerate((2, 12, 20, 28), start=1):
        labels[edge : 60 - edge, edge : 60 - edge] = cell
        labels[edge + 3 : 57 - edge, edge + 3 : 57 - edge] = 0
    assert largest_difference(labels) <= TOLERANCE


def test_arithmetic_written_out():
    weights = border_weights(np.array([[1, 0, 0, 0, 2, 0]]))
    gap = 10 * math.exp(-(4**2) / 50)  # 1 + 3, 2 + 2, 3 + 1
    beside = 10 * math.exp(-((1 + 5) ** 2) / 50)
    assert weights.dtype == np.float32
    assert weights[0].tolist() == pytest.approx([0, gap, gap, gap, 0, beside], rel=1e-6)


def test_zero_on_unknown_pixels_which_are_no_cells():
    weights = border_weights(np.array([[1, 0, -1, 0, 2]]))
    assert weights[0, 2] == 0
    assert weights[0, 1] == pytest.approx(10 * math.exp(-16 / 50), rel=1e-6)
    assert not border_weights(np.array([[1, 0, -1, -1]])).any()


def test_pieces_of_one_cell_are_one_cell():
    assert not border_weights(np.array([[3, 0, 3]])).any()


def test_cells_out_of_the_band_have_no_weight():
    labels = np.zeros((3, 60), np.int32)
    labels[1, 5], labels[1, 40] = 1, 2
    assert not border_weights(labels).any()
    assert not border_weights(labels, sigma=0.1).any()


def test_spacing_is_the_unit_of_sigma():
    labels = np.random.default_rng(1).integers(-1, 4, (25, 25)).astype(np.int32)
    np.testing.assert_allclose(
        border_weights(labels, sigma=1.5, spacing=(0.3, 0.3)), border_weights(labels, sigma=5.0), atol=1e-5
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    hnp.array_shapes(min_dims=2, max_dims=3, max_side=30),
    st.floats(0, 0.1),
    st.integers(1, 64),
    st.booleans(),
)
def test_the_short_distance_transform_is_exact_within_its_radius(seed, shape, density, radius, square):
    outside = np.random.default_rng(seed).random(shape) >= density
    pixel = np.ones(len(shape)) if square else np.array([2.5, 0.4, 1.0][-len(shape) :])
    radii = np.floor(radius / pixel).astype(int).tolist()
    found = _squared_distance_within(outside, pixel, radii)
    assert found.dtype == (np.uint16 if square else np.float32)
    true = np.full(shape, np.inf)
    if not outside.all():
        true = ndimage.distance_transform_edt(outside, sampling=pixel) ** 2
    near = true <= radius**2
    np.testing.assert_allclose(found[near], true[near], rtol=1e-6)
    assert (found[~near] > radius**2).all()


@pytest.mark.parametrize("count", range(2, 70))
def test_any_two_colours_differ_in_a_digit(count):
    digits = np.array(_digits(count))
    assert (digits[:, 0] == 0).all()
    assert len({tuple(column) for column in digits[:, 1:].T}) == count
    assert digits[:, 1:].min(initial=1) == 1


def test_few_distance_maps_are_enough():
    assert [sum(int(t.max()) for t in _digits(count)) for count in (2, 4, 6, 9, 27, 81)] == [
        2,
        4,
        5,
        6,
        9,
        12,
    ]


def test_the_band_of_the_paper():
    assert band(10, 5) == pytest.approx(24.7, abs=0.01)
    assert 10 * math.exp(-(band(10, 5) ** 2) / 50) == pytest.approx(5e-5)
    assert band(0, 5) == 0


def test_class_weights_have_mean_one_over_the_annotated_pixels():
    counts = np.array([600, 300, 100])
    weights = class_weights(counts)
    assert weights.tolist() == pytest.approx([1000 / 1800, 1000 / 900, 1000 / 300])
    assert (weights * counts).sum() / counts.sum() == pytest.approx(1)


def test_an_absent_class_weighs_nothing():
    assert class_weights([30, 0, 10]).tolist() == pytest.approx([40 / 60, 0, 2])


@pytest.mark.parametrize("counts", [[0, 0], [], [[1, 2]]])
def test_counts_of_nothing_are_refused(counts):
    with pytest.raises(DataError, match="hold no annotated pixel"):
        class_weights(counts)


def test_the_two_readings_of_the_formula():
    labels = np.array([[1, 0, 0, 0, 2, -1]], np.int32)
    targets = np.array([[1, 0, 0, 0, 1, -1]], np.int32)
    term = math.exp(-16 / 50)
    multiply = weight_map(labels, targets, [0.5, 2.0], w0=10, sigma=5, reading="multiply")
    total = weight_map(labels, targets, [0.5, 2.0], w0=10, sigma=5, reading="sum")
    assert multiply[0].tolist() == pytest.approx([2, *[0.5 + 10 * term] * 3, 2, 0], rel=1e-6)
    assert total[0].tolist() == pytest.approx([12, *[10.5 + term] * 3, 12, 0], rel=1e-6)
    assert multiply.dtype == total.dtype == np.float32


def test_class_models_have_no_border_term():
    weights = weight_map(None, np.array([[0, 2, -1, 1]], np.int32), [1.0, 2.0, 3.0])
    assert weights.tolist() == [[1, 3, 0, 2]]


def test_what_cannot_be_meant_is_refused():
    labels = np.zeros((4, 4), np.int32)
    with pytest.raises(UsageError, match="labels of 2 or 3 axes, got 1"):
        border_weights(labels[0])
    with pytest.raises(UsageError, match=r"spacing \(=\(1.0,\)\) must give 2 positive numbers"):
        border_weights(labels, spacing=(1.0,))
    with pytest.raises(UsageError, match=r"sigma \(=0\) > 0"):
        border_weights(labels, sigma=0)
    with pytest.raises(UsageError, match=r"w0 \(=-1\) >= 0"):
        border_weights(labels, w0=-1)
    with pytest.raises(DataError, match="dtype float32; they must be integers"):
        border_weights(np.zeros((4, 4), np.float32))
    with pytest.raises(UsageError, match=r"reading \(='plus'\)"):
        weight_map(labels, labels, [1.0, 1.0], reading="plus")
    with pytest.raises(DataError, match=r"class 3 has no weight: classes are 0\.\.1"):
        weight_map(labels, labels + 3, [1.0, 1.0])
