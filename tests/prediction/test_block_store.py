import numpy as np
import pytest

from biounet.errors import DataError
from biounet.prediction.block_store import FolderStore

ARRAYS = {"ids": np.arange(12, dtype=np.int32).reshape(3, 4), "none": np.zeros((0, 2), np.float32), "one": np.array(7)}


@pytest.mark.parametrize("lasting", [True, False])
def test_what_is_put_is_read_whole_or_by_name(tmp_path, lasting):
    store = FolderStore(tmp_path / "blocks", lasting=lasting)
    assert not store.has("tiles/0-1")
    store.put("tiles/0-1", ARRAYS)
    assert store.has("tiles/0-1")
    found = store.get("tiles/0-1")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
    assert list(store.get("tiles/0-1", "one")) == ["one"]
    assert store.get("tiles/0-1", "one")["one"] == 7
    within = store.within("objects", lasting=lasting)
    within.put("a", ARRAYS)
    assert not store.has("a")
    store.clear()
    assert not store.has("tiles/0-1")
    assert not within.has("a")


def damages(data):
    """What a failure of power leaves: a file without content, zeros, a beginning; and one changed byte at the end."""
    return [b"", bytes(len(data)), data[:5], data[: len(data) // 2], data[:-1], data[:-1] + bytes([data[-1] ^ 1])]


def test_a_damaged_block_is_told_where_it_should_last_and_made_again_where_not(tmp_path):
    lasting, passing = FolderStore(tmp_path), FolderStore(tmp_path, lasting=False)
    lasting.put("a", ARRAYS)
    (file,) = tmp_path.iterdir()
    for damaged in damages(file.read_bytes()):
        file.write_bytes(damaged)
        assert not passing.has("a")
        with pytest.raises(DataError, match=r"a\.block: the block is damaged or gone .* delete it and run again"):
            lasting.get("a")
        passing.put("a", ARRAYS)
        assert passing.has("a")


def test_only_what_should_last_is_forced_to_the_disk(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr("os.fsync", forced.append)
    FolderStore(tmp_path, lasting=False).put("a", ARRAYS)
    assert not forced
    FolderStore(tmp_path).put("a", ARRAYS)
    assert forced
