"""Which blocks hold all of the objects wanted: against pieces of the whole array, for random blocks."""

import numpy as np
import pytest
from scipy import ndimage

from biounet.labels.blocks import Grid
from biounet.labels.components import components
from biounet.labels.reaching import blocks_wanted


@pytest.mark.parametrize("shape", [(40, 50), (9, 14, 12)])
@pytest.mark.parametrize("seed", range(6))
def test_asked_until_none_is_left_every_piece_is_whole(shape, seed):
    rng = np.random.default_rng(seed)
    cells = ndimage.gaussian_filter(rng.random(shape), 1.0)
    cells = cells > np.quantile(cells, 0.6)
    block = tuple(int(n) for n in rng.integers(3, 9, len(shape)))
    grid = Grid(shape, block, tuple(max(1, n // b) for n, b in zip(shape, block, strict=True)))
    inside = np.zeros(shape, bool)
    start = [int(rng.integers(0, n - 3)) for n in shape]
    inside[tuple(slice(a, a + 3) for a in start)] = True
    margin, hop = int(rng.integers(1, 4)), int(rng.integers(0, 2)) * 2

    def part(array, index):
        return array[tuple(map(slice, *grid.bounds(index)))]

    there = {index for index in grid if part(inside, index).any()}
    while new := blocks_wanted(
        grid,
        lambda index: part(cells, index),
        there.__contains__,
        lambda a, e: inside[tuple(map(slice, a, e))],
        margin=margin,
        neighbours=hop,
    ):
        assert not new & there
        there |= new
    pieces = components(cells)
    wanted = np.isin(pieces, np.unique(pieces[inside & cells])) & cells
    if hop:
        near = ndimage.maximum_filter(wanted.astype(np.uint8), 2 * hop + 1, mode="constant") > 0
        wanted = np.isin(pieces, np.unique(pieces[near & cells])) & cells
    reached = ndimage.maximum_filter(wanted.astype(np.uint8), 2 * margin + 1, mode="constant") > 0
    needed = {index for index in grid if part(reached | inside, index).any()}
    if hop:  # pixels near a piece are looked at whether or not a piece is there
        assert needed <= there
    else:
        assert there == needed


def test_nothing_wanted_needs_nothing():
    """And a piece in a part of the grid leaves the rest alone."""
    cells = np.zeros((40, 40), bool)
    cells[3, 2:25] = True
    grid, inside = Grid((40, 40), (10, 10)), np.zeros((40, 40), bool)

    def ask(there, row):
        inside[:] = False
        inside[row, 0:5] = True
        return blocks_wanted(
            grid,
            lambda index: cells[tuple(map(slice, *grid.bounds(index)))],
            there.__contains__,
            lambda a, e: inside[tuple(map(slice, a, e))],
            margin=1,
        )

    assert ask({(0, 0)}, 5) == set()
    assert ask({(0, 0)}, 3) == {(0, 1)}
    assert ask({(0, 0), (0, 1)}, 3) == {(0, 2)}
    assert ask({(0, 0), (0, 1), (0, 2)}, 3) == set()
