import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biounet.images.stored import Cache, Chunked, Mapped, Whole


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_chunks_of_any_size_give_the_same_part(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    chunk = tuple(data.draw(st.integers(1, 10)) for _ in shape)
    array = np.arange(np.prod(shape)).reshape(shape)

    def decode(position):
        return array[tuple(slice(at * step, (at + 1) * step) for at, step in zip(position, chunk, strict=True))]

    stored = Chunked(shape, array.dtype, chunk, decode, Cache(data.draw(st.sampled_from([0, 50, 10**6]))))
    for _ in range(3):
        start = [data.draw(st.integers(0, size - 1)) for size in shape]
        index = tuple(slice(low, data.draw(st.integers(low + 1, size))) for low, size in zip(start, shape, strict=True))
        assert np.array_equal(stored.read(index), array[index])


def test_the_last_chunks_are_held_up_to_a_number_of_bytes():
    cache, decoded = Cache(30), []

    def get(key, size=10):
        return cache.get(key, lambda: (decoded.append(key), np.full(size, key, np.uint8))[1])

    for key in (1, 2, 3, 1, 4, 2):
        assert (get(key) == key).all()
        assert cache.held <= 30
    assert decoded == [1, 2, 3, 4, 2]  # 2 went when 4 came, 1 having been used again
    get(5, 100)
    assert cache.held == 100  # the last one stays whatever its size
    get(5)
    assert decoded == [1, 2, 3, 4, 2, 5]


@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_values_are_copied(tmp_path, order):
    array = np.asarray(np.arange(24, dtype=">u2").reshape(4, 6), order=order)
    (tmp_path / "x").write_bytes(bytes(5) + array.tobytes(order="A"))
    stored = Mapped(tmp_path / "x", 5, (4, 6), array.dtype, order == "F")
    part = stored.read((slice(1, 3), slice(2, 6)))
    assert np.array_equal(part, array[1:3, 2:6])
    assert part.base is None
    part[:] = 0
    assert np.array_equal(stored.read((slice(0, 4), slice(0, 6))), array)


def test_a_whole_array_is_loaded_once_when_it_is_wanted():
    loads = []
    stored = Whole((3, 4), np.dtype("u1"), lambda: (loads.append(1), np.ones((3, 4), np.uint8))[1])
    assert loads == []
    for _ in range(2):
        assert stored.read((slice(0, 2), slice(1, 3))).shape == (2, 2)
    assert loads == [1]
    with pytest.raises(ValueError, match=r"declares the shape \(3, 5\) and holds \(3, 4\)"):
        Whole((3, 5), np.dtype("u1"), lambda: np.ones((3, 4))).read((slice(0, 1), slice(0, 1)))
