import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.errors import UsageError
from biounet.evaluation.blocks import block_scores, blocks_per_image, cut
from biounet.evaluation.scores import evaluate_pair


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=3), st.integers(1, 40))
def test_blocks_tile_the_array(shape, count):
    blocks = cut(shape, count)
    hits = np.zeros(shape, int)
    for block in blocks:
        assert hits[block].size > 0
        hits[block] += 1
    assert (hits == 1).all()
    assert len(blocks) >= min(count, hits.size)


def test_cut_written_out():
    assert cut((4, 9), 3) == [
        (slice(0, 4), slice(0, 3)), (slice(0, 4), slice(3, 6)), (slice(0, 4), slice(6, 9)),
    ]  # fmt: skip
    assert len(cut((100, 100), 4)) == 4


def test_blocks_per_image():
    assert [blocks_per_image(n) for n in (1, 2, 3, 5)] == [16, 8, 6, 4]
    with pytest.raises(UsageError, match=r"number of images \(=0\)"):
        blocks_per_image(0)
    with pytest.raises(UsageError, match=r"number of blocks \(=0\)"):
        cut((3, 3), 0)


@pytest.mark.parametrize("with_classes", [True, False])
def test_block_scores_are_scores_of_the_blocks(with_classes):
    rng = np.random.default_rng(0)
    true, predicted = (np.kron(rng.integers(0, 2, (4, 6)), np.ones((5, 5), int)) for _ in range(2))
    inside = rng.random((2, 20, 30) if with_classes else (20, 30))
    found = block_scores(predicted, true, 6, task="classes", probabilities=inside)
    assert len(found) == 6
    assert found[1] == evaluate_pair(
        predicted[:10, 10:20], true[:10, 10:20], task="classes", probabilities=inside[..., :10, 10:20]
    )
    assert "warping_error" not in block_scores(predicted, true, 2, task="classes", warping=False)[0]
