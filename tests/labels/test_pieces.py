import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from biounet.errors import UsageError
from biounet.labels.blocks import Cache, Grid, MemoryStore, window
from biounet.labels.pieces import find_pieces

SHAPES = st.one_of(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.tuples(st.integers(1, 8), st.integers(1, 9), st.integers(1, 8)),
)


def grid_of(data, shape):
    return Grid(shape, tuple(data.draw(st.integers(-(-n // 5), n)) for n in shape))


def pieces_of(mask, grid, **options):
    return find_pieces("p", lambda a, e: mask[window((0,) * mask.ndim, a, e)], grid, Cache(MemoryStore()), **options)


@settings(max_examples=150, deadline=None)
@given(st.data(), SHAPES, st.integers(0, 10_000), st.booleans())
def test_pieces_are_those_of_scipy_at_any_size_of_block(data, shape, seed, full):
    mask = np.random.default_rng(seed).random(shape) < (0.3 if full else 0.55)
    pieces = pieces_of(mask, grid_of(data, shape), full=full)
    structure = np.ones((3,) * mask.ndim) if full else None
    expected, count = ndimage.label(mask, structure)  # scipy numbers by first pixel, too
    np.testing.assert_array_equal(pieces.read((0,) * mask.ndim, shape), expected)
    assert pieces.count == count
    order = np.argsort(pieces.first)
    np.testing.assert_array_equal(pieces.size[order], np.bincount(expected.ravel(), minlength=count + 1)[1:])
    inside = np.zeros(shape, bool)
    inside[tuple(slice(1, -1) for _ in shape)] = True
    np.testing.assert_array_equal(pieces.at_edge[order], [(~inside & (expected == i + 1)).any() for i in range(count)])


def test_a_diagonal_across_the_corner_of_four_blocks_is_one_piece_by_corners_only():
    grid = Grid((4, 4), (2, 2))
    for mask in (np.eye(4, dtype=bool), np.eye(4, dtype=bool)[:, ::-1]):
        assert pieces_of(mask, grid).count == 4
        assert pieces_of(mask, grid, full=True).count == 1


def test_pieces_that_are_kept_are_numbered_by_first_pixel():
    mask = np.array([[1, 1, 0, 1, 0, 1, 1]], bool)
    pieces = pieces_of(mask, Grid((1, 7), (1, 3)))
    large = pieces.keep(pieces.size > 1, before=4)
    np.testing.assert_array_equal(large.read((0, 0), (1, 7)), [[5, 5, 0, 0, 0, 6, 6]])
    assert large.count == 2


def test_blocks_that_are_there_are_not_done_again():
    mask, store = np.ones((4, 4), bool), MemoryStore()
    asked = []

    def read(start, stop):
        asked.append(tuple(start))
        return mask[window((0, 0), start, stop)]

    grid = Grid((4, 4), (2, 4))
    assert find_pieces("p", read, grid, Cache(store)).count == 1
    assert find_pieces("p", read, grid, Cache(store)).count == 1
    assert asked == [(0, 0), (2, 0)]


def test_a_grid_covers_each_pixel_once_and_reads_across_blocks():
    grid = Grid((5, 7), (2, 3))
    counts = np.zeros((5, 7), int)
    for index in grid:
        counts[window((0, 0), *grid.bounds(index))] += 1
    assert (counts == 1).all()
    assert len(grid) == len(list(grid)) == 9
    array = np.arange(35).reshape(5, 7)
    found = grid.assemble(
        (1, 2), (5, 7), lambda index, part: array[window((0, 0), *grid.bounds(index))][part], np.int64
    )
    np.testing.assert_array_equal(found, array[1:5, 2:7])
    fewer = Grid((5, 7), (2, 3), fewer=(2, 2))
    assert [fewer.bounds(index) for index in fewer][-1] == ((2, 3), (5, 7))
    assert list(fewer.touched((4, 0), (5, 7))) == [(1, 0), (1, 1)]
    assert grid.widened((1, 2), (4, 6), 2) == ((0, 0), (5, 7))


def test_a_cache_keeps_what_was_used_last():
    store = MemoryStore()
    for key in "abc":
        store.put(key, {"x": np.full(10, ord(key), np.uint8)})
    cache = Cache(store, most_bytes=20)
    first = cache.get("a", "x")
    cache.get("b", "x")
    assert cache.get("a", "x") is first
    cache.get("c", "x")
    store.put("b", {"x": np.zeros(10, np.uint8)})
    assert cache.get("b", "x")[0] == 0  # was dropped, so it is read anew
    assert cache.get("c", "x")[0] == ord("c")


def test_impossible_grids_are_refused():
    with pytest.raises(UsageError, match="as many axes, at least 1 pixel"):
        Grid((4, 4), (2,))
    with pytest.raises(UsageError, match="as many axes, at least 1 pixel"):
        Grid((4, 0), (2, 2))
