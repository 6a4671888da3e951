import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from biounet.labels.blocks import Grid, MemoryStore, window
from biounet.labels.instances import InstanceSettings, SplitSettings, instances, mark
from biounet.labels.joined import join_instances, passes

SHAPES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 12), st.integers(1, 14), st.integers(1, 12)),
)
SPLITS = st.one_of(
    st.none(),
    st.builds(SplitSettings, st.just("probability"), st.just(0.75), st.integers(0, 6), st.integers(0, 4)),
    st.builds(SplitSettings, st.just("depth"), st.floats(0.5, 3), st.integers(0, 6), st.integers(0, 4)),
)
SETTINGS = st.builds(
    InstanceSettings, st.floats(0.3, 0.7), st.integers(0, 9), st.integers(0, 9), st.integers(0, 3), SPLITS
)


def noise_picture(seed, shape, smooth=1.0):
    picture = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), smooth)
    return ((picture - picture.min()) / max(np.ptp(picture), 1e-9)).astype(np.float32)


def reader(marks):
    return lambda start, stop: marks[window((0,) * marks.ndim, start, stop)]


@settings(max_examples=120, deadline=None)
@given(st.data(), SHAPES, st.integers(0, 10_000), SETTINGS)
def test_labels_are_those_of_the_whole_image_at_any_size_of_block(data, shape, seed, chosen):
    probability = noise_picture(seed, shape, data.draw(st.sampled_from([0.5, 1.0, 2.0])))
    whole = instances(probability, chosen)
    grid = Grid(shape, tuple(data.draw(st.integers(-(-n // 4), n)) for n in shape))
    visits = []
    joined = join_instances(
        reader(mark(probability, chosen)), grid, chosen, MemoryStore(), threads=2, told=lambda: visits.append(1)
    )
    np.testing.assert_array_equal(joined.read((0,) * len(shape), shape), whole)
    assert joined.count == whole.max()
    assert len(visits) == len(grid) * passes(chosen)


class KilledError(Exception):
    pass


class StoreKilledAfter(MemoryStore):
    def __init__(self, puts):
        super().__init__()
        self.left = puts

    def put(self, key, arrays):
        if self.left == 0:
            raise KilledError
        self.left -= 1
        super().put(key, arrays)


@pytest.mark.parametrize("every", [2, 7])  # a block is two puts
def test_interrupted_anywhere_the_same_store_gives_the_same_labels(every):
    probability = noise_picture(3, (30, 34))
    chosen = InstanceSettings(0.5, 4, 4, 1, SplitSettings("probability", 0.7, 4, 2))
    whole, starts = instances(probability, chosen), 0
    marks, grid, store = reader(mark(probability, chosen)), Grid((30, 34), (11, 12)), StoreKilledAfter(0)
    for _ in range(200):
        starts += 1
        store.left = every
        try:
            joined = join_instances(marks, grid, chosen, store)
            break
        except KilledError:
            continue
    assert starts > 5
    np.testing.assert_array_equal(joined.read((0, 0), (30, 34)), whole)
    assert whole.max() > 3
