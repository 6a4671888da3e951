import numpy as np
import pytest
from scipy import ndimage

from biounet.evaluation.simple_points import SimplePoints, neighbour_offsets


def patch_of(pattern, ndim):
    patch = np.zeros((3,) * ndim, bool)
    for bit, offset in enumerate(neighbour_offsets(ndim)):
        patch[tuple(1 + step for step in offset)] = pattern >> bit & 1
    return patch


def simple_by_labelling(patch):
    """The two topological numbers, counted by labelling the patch without its centre."""
    ndim = patch.ndim
    steps = np.abs(np.indices(patch.shape) - 1).sum(0)
    pieces, _ = ndimage.label(patch & (steps > 0) & (steps <= 2))
    foreground = len(set(pieces[(steps == 1) & (pieces > 0)].tolist()))
    _, background = ndimage.label(~patch & (steps > 0), np.ones((3,) * ndim))
    return foreground == 1 and background == 1


def test_all_patterns_in_2d():
    simple = SimplePoints(2)
    assert [simple[k] for k in range(256)] == [simple_by_labelling(patch_of(k, 2)) for k in range(256)]
    assert sum(simple.values()) == 116  # the number of deletable 3x3 patterns, known since Yokoi


def test_many_patterns_in_3d():
    rng = np.random.default_rng(0)
    simple = SimplePoints(3)
    seen = set()
    for share in np.linspace(0.02, 0.98, 400):
        pattern = sum(1 << bit for bit in range(26) if rng.random() < share)
        assert simple[pattern] == simple_by_labelling(patch_of(pattern, 3))
        seen.add(simple[pattern])
    assert seen == {True, False}


@pytest.mark.parametrize("ndim", [2, 3])
def test_alone_and_enclosed_points_are_not_simple(ndim):
    simple = SimplePoints(ndim)
    everything = (1 << 3**ndim - 1) - 1
    assert not simple[0]
    assert not simple[everything]
